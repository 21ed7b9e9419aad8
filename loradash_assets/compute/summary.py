"""A view's statistics: one row per feature, over every token that it is given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loradash_assets.compute.arrays import lists, optional, table
from loradash_assets.compute.density import DensityCounter
from loradash_assets.compute.explained import ExplainedVariance, Groups
from loradash_assets.compute.histogram import HistogramCounter
from loradash_assets.compute.moments import MomentCounter
from loradash_assets.compute.quantiles import QuantileCounter
from loradash_assets.compute.statistics import RangeCounter, Ranges, column_slices, parts, tiles
from loradash_assets.compute.views import View
from loradash_assets.schema import DENSITY_MULTIPLES, QUANTILE_SHARES, STATISTICS


@dataclass(frozen=True)
class TokenGroups:
    """What might explain an activation without the context: the token, and its position in its example."""

    token: Groups
    position: Groups

    def among(self, numbers: NDArray[np.int64]) -> TokenGroups:
        """Return the same for features that see only the tokens `numbers` (n,)."""
        return TokenGroups(self.token.among(numbers), self.position.among(numbers))


class Summary:
    """The statistics of one view; `filtered` says whether it is given only the tokens that lists may hold.

    The first pass finds ranges, the second moments and histograms, the third densities. Quantiles take these three;
    explained variance takes the second and as many more as its sums need to stay small. What only counts activations
    between bounds has them sorted first, tile by tile: numpy's vectorised sort is faster than looking each one up.
    """

    def __init__(self, view: View, bins: int, groups: TokenGroups, *, filtered: bool = False) -> None:
        self.view = view
        self._bins = bins
        self._groups = groups
        self._filtered = filtered
        self._ranges = RangeCounter(view.features)
        self._quantiles = QuantileCounter(view.features, QUANTILE_SHARES)
        self._ranged: _Ranged | None = None

    def update(self, numbers: NDArray[np.int64], activations: NDArray[np.float32]) -> None:
        """Take in a chunk of this pass."""
        if activations.size == 0:
            return
        if self._ranged is None:
            self._ranges.update(activations)
            self._quantiles.update(activations)
        else:
            self._ranged.update(numbers, activations)

    def next_pass(self) -> bool:
        """End the pass; return whether another is needed."""
        if self._ranged is None:
            self._quantiles.next_pass()
            self._ranged = _Ranged(self._ranges.result(), self._quantiles, self._bins, self._groups)
            return True
        return self._ranged.next_pass()

    def table(self) -> pa.Table:
        """Return the STATISTICS rows, once all passes are done."""
        assert self._ranged is not None
        assert self._ranged.density is not None
        ranges, moments, histogram = self._ranged.ranges, self._ranged.moments, self._ranged.histogram.result()
        columns = {
            **self.view.labels,
            "basis": np.full(self.view.features, self.view.basis),
            "filtered": np.full(self.view.features, self._filtered),
            "count": ranges.count,
            "non_finite": ranges.non_finite,
            "min": ranges.low,
            "max": ranges.high,
            "mean": moments.mean,
            "std": moments.std,
            "skewness": optional(moments.skewness),
            "kurtosis": optional(moments.kurtosis),
            "quantiles": lists(self._quantiles.result()),
            "density": lists(self._ranged.density.result()),
            "rms_effect": self.view.labels["effect_scale"] * np.hypot(moments.mean, moments.std),
            "token_omega_squared": optional(self._ranged.token.result()),
            "position_omega_squared": optional(self._ranged.position.result()),
            "bin_edges": lists(histogram.edges),
            "total_counts": lists(histogram.total),
            "positive_counts": lists(histogram.positive),
            "negative_counts": lists(histogram.negative),
        }
        return table(columns, STATISTICS)


class _Ranged:
    """The statistics that need the ranges, from the second pass on."""

    def __init__(self, ranges: Ranges, quantiles: QuantileCounter, bins: int, groups: TokenGroups) -> None:
        self.ranges = ranges
        self._quantiles = quantiles
        self._features = slice(0, ranges.count.size)
        self._counter = MomentCounter(ranges)
        self.histogram = HistogramCounter(ranges, bins)
        self.token = ExplainedVariance(ranges, groups.token)
        self.position = ExplainedVariance(ranges, groups.position)
        self.density: DensityCounter | None = None
        self._quantiles_missing = True
        self._unfinished = [self.token, self.position]

    def update(self, numbers: NDArray[np.int64], activations: NDArray[np.float32]) -> None:
        if self.density is None:
            self._first(numbers, activations)
            return
        if self._quantiles_missing:
            for rows, part in parts(activations):
                ascending = np.sort(part, axis=1)
                self._quantiles.update_sorted(rows, ascending)
                self.density.update(rows, ascending)
        for columns in column_slices(numbers.size):
            for explained in self._unfinished:
                located = explained.locate(numbers[columns])
                for tile in tiles(activations[:, columns], self.ranges, explained.rows):
                    explained.update(tile, located)

    def _first(self, numbers: NDArray[np.int64], activations: NDArray[np.float32]) -> None:
        """All that the second pass is for, on the same tiles."""
        for columns in column_slices(numbers.size):
            by_token, by_position = (each.locate(numbers[columns]) for each in (self.token, self.position))
            for tile in tiles(activations[:, columns], self.ranges, self._features):
                self._counter.update(tile)
                self._quantiles.update_sorted(tile.rows, tile.ascending)
                self.histogram.update(tile.rows, tile.ascending)
                self.token.update(tile, by_token)
                self.position.update(tile, by_position)

    def next_pass(self) -> bool:
        if self.density is None:
            self.moments = self._counter.result()
            self.density = DensityCounter(self.ranges, self.moments.std, DENSITY_MULTIPLES)
        if self._quantiles_missing:
            self._quantiles_missing = self._quantiles.next_pass()
        self._unfinished = [explained for explained in self._unfinished if explained.next_pass(self.moments)]
        return bool(self._unfinished) or self._quantiles_missing
