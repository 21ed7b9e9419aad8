"""The histogram of every feature, in the bins of `numpy.histogram`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loradash_assets.compute.statistics import Ranges, above, at_least


@dataclass(frozen=True)
class Histograms:
    """Edges (features, bins + 1) and counts (features, bins)."""

    edges: NDArray[np.float64]
    total: NDArray[np.int64]
    positive: NDArray[np.int64]
    negative: NDArray[np.int64]


class HistogramCounter:
    """The second pass: the bins of `numpy.histogram` with range (min, max) in float64.

    Equal widths, closed on the left, the last one on both sides. A feature with only one value c gets c ± 0.5, as
    there, or ± |c| * 2**-20 where that is more (0.5 is nothing beside 1e30); one without finite activations gets -0.5
    to 0.5, all counts 0.
    """

    def __init__(self, ranges: Ranges, bins: int) -> None:
        self._bins = bins
        self._edges = _edges(ranges, bins)
        # Finite activations < these are below the first edge, ..., not above the last one, below zero, not above zero.
        zero = np.zeros((ranges.count.size, 1))
        self._bounds = np.hstack(
            [at_least(self._edges[:, :-1]), above(self._edges[:, -1:]), at_least(zero), above(zero)]
        )
        self._total = np.zeros((ranges.count.size, bins), np.int64)
        self._above = np.zeros(ranges.count.size, np.int64)
        self._below = np.zeros(ranges.count.size, np.int64)

    def update(self, rows: slice, ascending: NDArray[np.float32]) -> None:
        """Take in features' activations (rows, tokens), each row in ascending order."""
        for feature, values in enumerate(ascending, rows.start):
            before = np.searchsorted(values, self._bounds[feature])
            first, last, negative, not_positive = before[[0, -3, -2, -1]]
            self._total[feature] += np.diff(before[:-2])
            self._below[feature] += negative - first
            self._above[feature] += last - not_positive

    def result(self) -> Histograms:
        """The counts; only the bin that zero falls into holds activations of both signs."""
        total, edges = self._total, self._edges
        # (features, 1): -1 where all bins lie above zero, the last bin where all lie below.
        zero = np.minimum((edges <= 0).sum(axis=1) - 1, self._bins - 1)[:, None]
        bins = np.arange(self._bins)
        positive = np.where(bins > zero, total, 0)
        negative = np.where(bins < zero, total, 0)
        positive += np.where(bins == zero, self._above[:, None] - positive.sum(axis=1, keepdims=True), 0)
        negative += np.where(bins == zero, self._below[:, None] - negative.sum(axis=1, keepdims=True), 0)
        return Histograms(edges, total.copy(), positive, negative)


def _edges(ranges: Ranges, bins: int) -> NDArray[np.float64]:
    constant = ranges.low == ranges.high
    half = np.where(constant, np.maximum(0.5, np.abs(ranges.high) * 2.0**-20), 0.0)
    return np.linspace(ranges.low - half, ranges.high + half, bins + 1, axis=1)
