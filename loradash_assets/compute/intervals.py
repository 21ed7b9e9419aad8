"""Equal-width intervals between each feature's lowest and highest activation: their counts, and a sample of each."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from loradash_assets.compute.priorities import LowestPriorities
from loradash_assets.compute.statistics import Ranges

# Tokens are looked at by rising priority: of all possible ones the lowest 1/1024, then up to 8, 64, 512 and 1024.
_PRIORITY_BITS = 10
_TIERS = np.array([(bits.bit_length() + 2) // 3 for bits in range(1 << _PRIORITY_BITS)], np.uint8)


def by_tier(priorities: NDArray[np.uint64]) -> NDArray[np.intp]:
    """An order, (tokens,) -> (tokens,), in which those that are surely drawn before others come before them."""
    return np.argsort(_tiers(priorities), kind="stable")


def _tiers(priorities: NDArray[np.uint64]) -> NDArray[np.uint8]:
    return _TIERS[priorities >> np.uint64(64 - _PRIORITY_BITS)]


class IntervalSampler:
    """Samples of `size` tokens of each interval, of tokens that come with their priorities.

    An interval holds its lower bound; the highest one holds its upper bound too, and so everything of a feature that
    has one value only. Memory: features * intervals * size entries.
    """

    def __init__(self, ranges: Ranges, intervals: int, size: int) -> None:
        features = ranges.count.size
        self._features = np.arange(features)
        self._intervals = intervals
        self._total = ranges.count
        # Not numpy.linspace: it rounds differently where any other feature has one value only.
        steps = (ranges.high - ranges.low) / intervals
        self.edges = np.arange(intervals + 1) * steps[:, None] + ranges.low[:, None]  # (features, intervals + 1)
        self.edges[:, -1] = ranges.high
        # Activations are float32: comparing them with the next float32 up is comparing them with the edge itself.
        self._bounds = _up(self.edges)
        self._bounds[:, 0], self._bounds[:, -1] = -np.inf, np.inf
        self._from = np.zeros((features, intervals), np.int64)  # activations in this interval or a higher one
        self.drawn = LowestPriorities(features * intervals, size)

    def update(
        self, numbers: NDArray[np.int64], priorities: NDArray[np.uint64], activations: NDArray[np.float32]
    ) -> None:
        """Take in tokens in the order of `by_tier`, (tokens,); activations: (features, tokens), NaN for infinity."""
        for feature in self._features:
            row = activations[feature]
            for interval in range(1, self._intervals):
                self._from[feature, interval] += np.count_nonzero(row >= self._bounds[feature, interval])
        ends = np.searchsorted(_tiers(priorities), np.arange(_TIERS[-1] + 1), side="right")
        for start, stop in pairwise([0, *ends.tolist()]):
            part = slice(start, stop)
            if start < stop and not self._draw(numbers[part], priorities[part], activations[:, part]):
                return

    def counts(self) -> NDArray[np.int64]:
        """How many tokens each interval has, (features, intervals)."""
        above = np.concatenate((self._from[:, 1:], np.zeros((self._features.size, 1), np.int64)), axis=1)
        return np.concatenate((self._total[:, None], self._from[:, 1:]), axis=1) - above

    def _draw(
        self, numbers: NDArray[np.int64], priorities: NDArray[np.uint64], activations: NDArray[np.float32]
    ) -> bool:
        """`update` for a part of the tokens; False if neither these nor any of higher priority can be drawn."""
        limits = self.drawn.bounds()
        open_ = limits.reshape(-1, self._intervals) > priorities.min()
        if not open_.any():
            return False
        first, last = _longest_run(~open_)
        # Most activations lie in intervals from which nothing can be drawn any more, next to one another.
        low, high = self._bounds[self._features, first], self._bounds[self._features, last]
        low[first == last], high[first == last] = np.inf, np.inf
        outside = (activations < low[:, None]) | (activations >= high[:, None])
        features, columns = np.divmod(np.flatnonzero(outside), numbers.size)
        values = activations[features, columns]
        owners = features * self._intervals
        for interval in range(1, self._intervals):
            owners += values >= self._bounds[features, interval]
        entering = priorities[columns] < limits[owners]
        columns = columns[entering]
        self.drawn.update(owners[entering], priorities[columns], numbers[columns], values[entering])
        return True


def _up(edges: NDArray[np.float64]) -> NDArray[np.float32]:
    nearest = edges.astype(np.float32)
    return np.where(nearest < edges, np.nextafter(nearest, np.float32(np.inf)), nearest)


def _longest_run(mask: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First column and last + 1 of each row's longest run of true, (rows, columns) -> (rows,), (rows,)."""
    first = np.zeros(mask.shape[0], np.intp)
    last = np.zeros_like(first)
    length = np.zeros_like(first)
    for column in range(mask.shape[1]):
        length = np.where(mask[:, column], length + 1, 0)
        longer = length > last - first
        last[longer] = column + 1
        first[longer] = column + 1 - length[longer]
    return first, last
