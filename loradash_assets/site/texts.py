"""Whole examples, as the model read them, for the page to show around a token."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from loradash_assets.site.page import Text

ROWS_AT_A_TIME = 64


def read_texts(prompts: Path, examples: Collection[int]) -> dict[int, Text]:
    """Return these examples (dataset rows) of a file in the PROMPTS schema, by row, ascending.

    An example that the file does not have is left out. Memory: those that are returned, and 64 of the file.
    """
    wanted = np.array(sorted(examples), np.int32)
    texts: dict[int, Text] = {}
    with pq.ParquetFile(prompts) as file:
        for batch in file.iter_batches(ROWS_AT_A_TIME, columns=["example", "token_ids", "tokens"]):
            here = np.isin(batch["example"].to_numpy(), wanted)
            for row in batch.filter(pa.array(here)).to_pylist():
                # Most tokens come again: one string for all of them takes a fraction of the memory.
                texts[row["example"]] = Text(tuple(map(sys.intern, row["tokens"])), tuple(row["token_ids"]))
    return texts
