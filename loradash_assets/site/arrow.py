"""Columns of our tables as the page holds them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def row_bounds(lists: pa.ListArray) -> Iterator[tuple[int, int]]:
    """Yield where each row of a list column starts and ends among the flattened values."""
    return pairwise([0, *np.cumsum(lists.value_lengths().to_numpy()).tolist()])


def shortest(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return each float32 as the float64 whose decimal form is the float32's shortest one (0.1, not 0.1000000015)."""
    return pa.array(values).cast(pa.string()).cast(pa.float64()).to_numpy()
