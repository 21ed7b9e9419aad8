"""How often every feature fires strongly: the share of tokens beyond multiples of its standard deviation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loradash_assets.compute.statistics import Ranges, above, next_above


class DensityCounter:
    """The last pass: finite activations with |a| > m * std, counted exactly, for each m of `multiples`.

    The distance is from zero and not from the mean: zero is where a feature writes nothing. m * std is in float64.
    """

    def __init__(self, ranges: Ranges, std: NDArray[np.float64], multiples: Sequence[int]) -> None:
        self._ranges = ranges
        beyond = above(std[:, None] * np.array(multiples, np.float64))  # (features, multiples)
        # In ascending order, of each feature: values from here to there are finite and not strong, for each multiple.
        self._from = next_above(-beyond)
        self._to = beyond
        self._weak = np.zeros(beyond.shape, np.int64)

    def update(self, rows: slice, ascending: NDArray[np.float32]) -> None:
        """Take in features' activations (rows, tokens), each row in ascending order."""
        for feature, values in enumerate(ascending, rows.start):
            self._weak[feature] += np.searchsorted(values, self._to[feature])
            self._weak[feature] -= np.searchsorted(values, self._from[feature])

    def result(self) -> NDArray[np.float64]:
        """The shares, (features, multiples); 0 where nothing is finite."""
        count = self._ranges.count[:, None]
        return (count - self._weak) / np.maximum(count, 1)
