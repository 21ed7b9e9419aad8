"""Parquet files that are written and read a group of rows at a time, so that no more than a group is in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

GROUP_BYTES = 1 << 20  # about what a group's rows take as Python objects


class RowGroups:
    """Writes a table row by row, in groups that depend on nothing but the rows; `layout` is for `ParquetWriter`."""

    def __init__(self, file: Path, schema: pa.Schema, **layout: Any) -> None:
        self._schema = schema
        self._writer = pq.ParquetWriter(file, schema, **layout)
        self._columns: dict[str, list[Any]] = {name: [] for name in schema.names}
        self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._flush()
        self._writer.close()

    def add(self, row: Mapping[str, Any], size: int) -> None:
        """Take in a row that takes about `size` bytes as Python objects."""
        for name, column in self._columns.items():
            column.append(row[name])
        self._bytes += size
        if self._bytes >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        table = pa.table(self._columns, schema=self._schema)
        if table.num_rows:
            self._writer.write_table(table, row_group_size=table.num_rows)
        self._columns = {name: [] for name in self._columns}
        self._bytes = 0


def row_groups(file: Path, columns: Sequence[str], dictionaries: Sequence[str] = ()) -> Iterator[pa.Table]:
    """Yield some columns of a file, row group by row group, at least one; `dictionaries` keep each text once."""
    with pq.ParquetFile(file, read_dictionary=list(dictionaries)) as parquet:
        groups = [[group] for group in range(parquet.num_row_groups)] or [[]]
        for group in groups:
            yield parquet.read_row_groups(group, columns=list(columns))
