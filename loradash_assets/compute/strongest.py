"""Each feature's strongest partners, kept while pairs are given block by block."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Strongest:
    """The `k` partners of each feature with the highest |value|, then the lowest number; k < features.

    `partners` and `values` are (features, k), strongest first, once every pair has been given.
    """

    def __init__(self, features: int, k: int) -> None:
        self.partners = np.full((features, k), features, np.int32)
        self.values = np.full((features, k), np.nan, np.float32)

    def update(self, rows: slice, columns: slice, values: NDArray[np.float32]) -> None:
        """Take in the values (rows, columns) of features with others; a feature's own does not count."""
        k = self.partners.shape[1]
        numbers = np.arange(columns.start, columns.stop, dtype=np.int32)
        partners = np.hstack((self.partners[rows], np.broadcast_to(numbers, values.shape)))
        together = np.hstack((self.values[rows], values))
        own = partners == np.arange(rows.start, rows.stop)[:, None]
        order = np.lexsort((partners, -np.abs(np.where(own, np.nan, together))), axis=1)[:, :k]  # NaN comes last
        self.partners[rows] = np.take_along_axis(partners, order, axis=1)
        self.values[rows] = np.take_along_axis(together, order, axis=1)
