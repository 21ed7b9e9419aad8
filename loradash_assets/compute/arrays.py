"""Columns of tables from numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_BLOCK = 1 << 20


def ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """starts[0], starts[0] + 1, ... (lengths[0] numbers), then starts[1], ...: (sum of lengths,)."""
    before = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum()), dtype=np.int64) + np.repeat(starts - before, lengths)


def blocks(size: int) -> list[slice]:
    """Cut so many elements into stretches: numpy makes an index int64 first, which is 8 bytes for each of these."""
    return [slice(start, min(start + _BLOCK, size)) for start in range(0, size, _BLOCK)]


def gather(values: NDArray[Any], places: NDArray[np.integer]) -> NDArray[Any]:
    """values[places], both one-dimensional, without a copy of a large index."""
    gathered = np.empty(places.size, values.dtype)
    for block in blocks(places.size):
        gathered[block] = values[places[block]]
    return gathered


def lists(rows: NDArray[Any]) -> pa.Array:
    """A list column from (rows, length)."""
    offsets = np.arange(rows.shape[0] + 1, dtype=np.int32) * np.int32(rows.shape[1])
    return pa.ListArray.from_arrays(pa.array(offsets), np.ravel(rows))


def no_lists(rows: int) -> pa.Array:
    """A list column of rows that are all empty."""
    return lists(np.empty((rows, 0), np.int8))


def optional(values: NDArray[np.float64]) -> pa.Array:
    """A column from (rows,), null where a value is NaN."""
    return pa.array(values, mask=np.isnan(values))


def table(columns: Mapping[str, NDArray[Any] | pa.Array], schema: pa.Schema) -> pa.Table:
    """Return a table of `schema` from its columns by name, each cast to its type."""
    arrays = [pa.array(columns[column.name]).cast(column.type) for column in schema]
    return pa.Table.from_arrays(arrays, schema=schema)
