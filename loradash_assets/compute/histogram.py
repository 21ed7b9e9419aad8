"""The histogram of every feature, in the bins of `numpy.histogram`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loradash_assets.compute.statistics import Ranges, Tile

_NEAR = 2.0**-26  # times the number of bins: rounding moves no place by more


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
        first, last = self._edges[:, 0], self._edges[:, -1]
        self._slope = ranges.unit * (bins / (last - first))
        self._offset = (ranges.centre - first) * (bins / (last - first))
        self._total = np.zeros((ranges.count.size, bins), np.int64)
        self._above = np.zeros(ranges.count.size, np.int64)
        self._below = np.zeros(ranges.count.size, np.int64)

    def update(self, tile: Tile) -> None:
        """Take in a tile."""
        rows = tile.rows
        index = self._index(tile)
        index += np.arange(index.shape[0])[:, None] * self._bins
        counted = index.ravel() if tile.finite is None else index[tile.finite]
        shape = self._total[rows].shape
        self._total[rows] += np.bincount(counted, minlength=int(np.prod(shape))).reshape(shape)
        for place in range(index.shape[0]):
            values = tile.values[place] if tile.finite is None else tile.values[place][tile.finite[place]]
            self._above[rows.start + place] += np.count_nonzero(values > 0)
            self._below[rows.start + place] += np.count_nonzero(values < 0)

    def _index(self, tile: Tile) -> NDArray[np.int64]:
        """The bin of every activation, (rows, tokens): computed, and looked up where that comes near an edge."""
        place = tile.z * self._slope[tile.rows, None]
        place += self._offset[tile.rows, None]
        index = place.astype(np.int64)
        place -= index
        place -= 0.5
        near = np.abs(place, out=place) > 0.5 - _NEAR * self._bins
        np.minimum(index, self._bins - 1, out=index)
        if not near.any():
            return index
        for row in np.flatnonzero(near.any(axis=1)):
            edges = self._edges[tile.rows.start + row]
            found = np.searchsorted(edges, tile.values[row, near[row]].astype(np.float64), side="right") - 1
            index[row, near[row]] = np.clip(found, 0, self._bins - 1)
        return index

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
