"""How often every feature fires strongly: the share of tokens beyond multiples of its standard deviation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loradash_assets.compute.statistics import Ranges, column_slices, row_slices


class DensityCounter:
    """The last pass: finite activations with |a| > m * std, counted exactly, for each m of `multiples`.

    The distance is from zero and not from the mean: zero is where a feature writes nothing. m * std is in float64.
    """

    def __init__(self, ranges: Ranges, std: NDArray[np.float64], multiples: Sequence[int]) -> None:
        self._ranges = ranges
        wide = std[:, None] * np.array(multiples, np.float64)
        bounds = np.minimum(wide, np.finfo(np.float32).max).astype(np.float32)
        # The highest float32 that is not above: a float32 exceeds the one iff it exceeds the other.
        self._bounds: NDArray[np.float32] = np.where(bounds > wide, np.nextafter(bounds, np.float32(-1)), bounds)
        self._counts = np.zeros((std.size, len(multiples)), np.int64)

    def update(self, activations: NDArray[np.float32]) -> None:
        """Take in activations (features, tokens)."""
        features = slice(0, self._counts.shape[0])
        for columns in column_slices(activations.shape[1]):
            part = activations[:, columns]
            for rows in row_slices(features, part.shape[1]):
                self._count(rows, np.abs(part[rows]))

    def _count(self, rows: slice, sizes: NDArray[np.float32]) -> None:
        if self._ranges.non_finite[rows].any():
            sizes[~np.isfinite(sizes)] = 0
        for place in range(self._counts.shape[1]):
            above = sizes > self._bounds[rows, place, None]
            self._counts[rows, place] += [np.count_nonzero(row) for row in above]

    def result(self) -> NDArray[np.float64]:
        """The shares, (features, multiples); 0 where nothing is finite."""
        return self._counts / np.maximum(self._ranges.count, 1)[:, None]
