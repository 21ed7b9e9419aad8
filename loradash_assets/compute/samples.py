"""A view's samples beside its extremes: tokens drawn from equal intervals of each feature's range, and from all.

Every listed token of an interval is as likely as another to be drawn, without replacement; with distinct contexts that
is every context, however often it occurs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loradash_assets.compute.arrays import table
from loradash_assets.compute.intervals import IntervalSampler, by_tier
from loradash_assets.compute.listing import Contexts, Listed
from loradash_assets.compute.priorities import LowestPriorities, priorities
from loradash_assets.compute.statistics import RangeCounter, Ranges
from loradash_assets.compute.views import View
from loradash_assets.schema import SAMPLES

FROM_ALL = -1  # the interval of a token that was drawn from all


@dataclass(frozen=True)
class SampleSizes:
    """How many intervals, tokens of each, and tokens of all."""

    intervals: int
    interval_samples: int
    random_samples: int

    @property
    def any(self) -> bool:
        """Whether anything is to be drawn."""
        return self.intervals > 0 or self.random_samples > 0


class Samples:
    """The samples of one view: ranges in the first pass, draws in the second, contexts' activations in the third."""

    def __init__(self, view: View, listed: Listed, sizes: SampleSizes, *, seed: int, window: int) -> None:
        self.view = view
        self._listed = listed
        self._sizes = sizes
        self._seed = seed
        self._window = window
        self._counter = RangeCounter(view.features)
        self._ranges: Ranges | None = None
        self._intervals: IntervalSampler | None = None
        self._random = LowestPriorities(view.features, sizes.random_samples)
        self._columns: dict[str, NDArray[Any]] = {}
        self._contexts: Contexts | None = None

    def update(self, numbers: NDArray[np.int64], activations: NDArray[np.float32]) -> None:
        """Take in a chunk of this pass."""
        if self._contexts is not None:
            self._contexts.update(numbers, activations)
            return
        here = self._listed.among(numbers)
        if self._ranges is None:
            self._counter.update(activations if here is None else activations.take(here, axis=1))
        else:
            self._draw(numbers, activations, np.arange(numbers.size) if here is None else here)

    def _draw(self, numbers: NDArray[np.int64], activations: NDArray[np.float32], here: NDArray[np.intp]) -> None:
        if self._sizes.random_samples:
            drawn = priorities(numbers[here], self._seed, "all")
            near = np.flatnonzero(drawn < self._random.bounds().max(initial=0))
            if near.size:
                self._draw_from_all(numbers[here[near]], drawn[near], activations, here[near])
        if self._intervals is not None:
            drawn = priorities(numbers[here], self._seed, "intervals")
            order = by_tier(drawn)
            values = activations.take(here[order], axis=1)
            if self._ranges is not None and self._ranges.non_finite.any():
                values[~np.isfinite(values)] = np.nan
            self._intervals.update(numbers[here[order]], drawn[order], values)

    def _draw_from_all(
        self,
        numbers: NDArray[np.int64],
        drawn: NDArray[np.uint64],
        activations: NDArray[np.float32],
        here: NDArray[np.intp],
    ) -> None:
        """Offer each feature the finite activations of lowest priority among the columns `here`."""
        wanted = self._sizes.random_samples
        looked_at = min(wanted, here.size)
        while True:
            first = np.argpartition(drawn, looked_at - 1)[:looked_at]
            first = first[np.argsort(drawn[first])]
            values = activations[:, here[first]]
            finite = np.isfinite(values)
            if looked_at == here.size or (np.count_nonzero(finite, axis=1) >= wanted).all():
                break
            looked_at = min(2 * looked_at, here.size)
        features, columns = np.nonzero(finite & (np.cumsum(finite, axis=1) <= wanted))
        self._random.update(features, drawn[first[columns]], numbers[first[columns]], values[features, columns])

    def next_pass(self) -> bool:
        """End the pass; the third is the last."""
        if self._contexts is not None:
            return False
        if self._ranges is None:
            self._ranges = self._counter.result()
            if self._sizes.intervals:
                self._intervals = IntervalSampler(self._ranges, self._sizes.intervals, self._sizes.interval_samples)
            return True
        self._collect(self._ranges)
        return True

    def _collect(self, ranges: Ranges) -> None:
        """Put the draws together, by feature, interval and draw, with those from all last."""
        features, draws = np.nonzero(self._random.numbers >= 0)
        parts: list[dict[str, NDArray[Any]]] = [
            {
                "feature": features,
                "interval": np.full(features.size, FROM_ALL),
                "low": ranges.low[features],
                "high": ranges.high[features],
                "count": ranges.count[features],
                "draw": draws + 1,
                "number": self._random.numbers[features, draws],
                "activation": self._random.values[features, draws],
            }
        ]
        if (sampler := self._intervals) is not None:
            owners, draws = np.nonzero(sampler.drawn.numbers >= 0)
            features, intervals = np.divmod(owners, self._sizes.intervals)
            part: dict[str, NDArray[Any]] = {
                "feature": features,
                "interval": intervals,
                "low": sampler.edges[features, intervals],
                "high": sampler.edges[features, intervals + 1],
                "count": sampler.counts()[features, intervals],
                "draw": draws + 1,
                "number": sampler.drawn.numbers[owners, draws],
                "activation": sampler.drawn.values[owners, draws],
            }
            parts.insert(0, part)
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        order = np.argsort(columns["feature"], kind="stable")
        self._columns = {name: column[order] for name, column in columns.items()}
        features, numbers = self._columns["feature"], self._columns["number"]
        scales = np.maximum(np.abs(ranges.low), np.abs(ranges.high))  # those of the view's lists
        self._contexts = Contexts(self._listed.prompts, features, numbers, self._window, scales)

    def table(self) -> pa.Table:
        """Return the SAMPLES rows, in the order of features, intervals and draws, once all passes are done."""
        if not self._sizes.any:
            return SAMPLES.empty_table()
        assert self._contexts is not None
        contexts = self._contexts
        columns = {
            **{name: self.view.labels[name][contexts.features] for name in ("layer", "projection", "component")},
            **self._columns,
            "occurrences": self._listed.occurrences(contexts.numbers),
            **contexts.columns(),
        }
        return table(columns, SAMPLES)
