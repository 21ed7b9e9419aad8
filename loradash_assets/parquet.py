"""Reading the small tables of a build, hundreds of them, quickly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def read_parquet(file: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return a file's table, or some of its columns.

    `pyarrow.parquet.read_table` looks at a file as a dataset with partitions, which takes longer than to read it.
    """
    with pq.ParquetFile(file) as parquet:
        return parquet.read(None if columns is None else list(columns), use_threads=False)
