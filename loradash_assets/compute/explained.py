"""How much of a feature's variance one property of the token explains alone: omega squared of a one-way layout.

With groups g of n_g tokens, N tokens in all: SS_total is the sum of (a - mean)**2, SS_between that of
n_g * (mean_g - mean)**2, MS_within is (SS_total - SS_between) / (N - groups), and

    omega squared = (SS_between - (groups - 1) * MS_within) / (SS_total + MS_within)

(Hays, Statistics for Psychologists, 1963). Unlike SS_between / SS_total it does not count as explained what groups of
few tokens fit by chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from loradash_assets.compute.arrays import blocks, gather
from loradash_assets.compute.moments import Moments
from loradash_assets.compute.statistics import Ranges, Tile

CELLS = 1 << 24  # sums kept at a time: features * groups beyond that take more passes
_BITS = 37  # z is rounded to multiples of 2**-37: a tile's sums are exact in float64
_WHOLE = 62  # bits of a sum over all tokens


@dataclass(frozen=True)
class Groups:
    """A partition of tokens: `of` (tokens of all prompts,) is each one's group by its number."""

    of: NDArray[np.int32]
    tokens: int  # how many of them the features see
    places: NDArray[np.int32] | None = None  # the groups' numbers among those that the features see

    @classmethod
    def by(cls, values: NDArray[np.integer]) -> Groups:
        """Group all tokens by a property of each, (tokens,): small numbers from 0 on, such as ids and positions."""
        occurs = _occurs(values)
        return cls(gather(np.cumsum(occurs, dtype=np.int32) - np.int32(1), values), values.size)

    def among(self, numbers: NDArray[np.int64]) -> Groups:
        """Return the same groups for features that see only the tokens `numbers` (n,)."""
        seen = np.flatnonzero(_occurs(gather(self.of, numbers)))
        places = np.full(int(self.of.max(initial=-1)) + 1, -1, np.int32)
        places[seen] = np.arange(seen.size)
        return Groups(self.of, numbers.size, places)

    @cached_property
    def count(self) -> int:
        """How many groups there are."""
        return int((self.of if self.places is None else self.places).max(initial=-1)) + 1

    def locate(self, numbers: NDArray[np.int64]) -> Located:
        """Return where these tokens belong."""
        groups = self.of[numbers]
        which = (groups if self.places is None else self.places[groups]).astype(np.intp)
        if self.count <= numbers.size:
            return Located(slice(None), self.count, which)
        here, which = _numbered(which)
        return Located(here, here.size, which)


def _numbered(values: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """As `np.unique` with the inverse, in time that grows with the values' number and the largest, without a sort."""
    occurs = _occurs(values)
    return np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[values]


def _occurs(values: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether each number from 0 to the largest is among the values."""
    occurs = np.zeros(int(values.max(initial=-1)) + 1, np.bool_)
    for block in blocks(values.size):
        occurs[values[block]] = True
    return occurs


class Located:
    """Some tokens' groups: the `size` `groups` that may occur among them, and which of these each has, (tokens,)."""

    def __init__(self, groups: NDArray[np.int64] | slice, size: int, which: NDArray[np.int64]) -> None:
        self.groups = groups
        self.size = size
        self._which = which
        self._indices: dict[int, NDArray[np.int64]] = {1: which}

    def index(self, rows: int) -> NDArray[np.int64]:
        """Return row * size + which, (rows * tokens,)."""
        if rows not in self._indices:
            self._indices[rows] = (np.arange(rows)[:, None] * self.size + self._which).ravel()
        return self._indices[rows]

    def count(self, kept: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """Return how many of the tokens, or of those `kept` (tokens,), each group has, (size,)."""
        return np.bincount(self._which if kept is None else self._which[kept], minlength=self.size)


class ExplainedVariance:
    """Omega squared of every feature for one partition of the tokens, from the second pass on.

    Each pass takes in as many features as CELLS allows, `rows`. What is added up are integers, z in units of 2**-37 (of
    more where there are over 2**25 tokens). As the variance of z is at least 2 / n, rounding z so changes no sum of
    squares by more than about sqrt(n) * 2**-37 of itself.
    """

    def __init__(self, ranges: Ranges, groups: Groups) -> None:
        self._ranges = ranges
        self._groups = groups
        self._bits = min(_BITS, _WHOLE - groups.tokens.bit_length())
        self._omega = np.full(ranges.count.size, np.nan)
        self.rows = slice(0, 0)
        self._next_rows()

    def _next_rows(self) -> None:
        features = min(max(1, CELLS // max(1, self._groups.count)), self._omega.size - self.rows.stop)
        self.rows = slice(self.rows.stop, self.rows.stop + features)
        self._sums = np.zeros((features, self._groups.count), np.int64)
        self._seen = np.zeros(self._groups.count, np.int64)
        self._missing: dict[int, NDArray[np.int64]] = {}  # per feature that has any: not finite, (groups,)

    def locate(self, numbers: NDArray[np.int64]) -> Located:
        """Take note of tokens (tokens,), at most a tile's, and return where they belong: `update` needs that."""
        located = self._groups.locate(numbers)
        self._seen[located.groups] += located.count()
        return located

    def update(self, tile: Tile, located: Located) -> None:
        """Take in what a tile has of this pass's features."""
        first, last = max(tile.rows.start, self.rows.start), min(tile.rows.stop, self.rows.stop)
        if first >= last:
            return
        here = slice(first - tile.rows.start, last - tile.rows.start)
        weights = tile.multiples(self._bits)[here]
        sums = np.bincount(located.index(last - first), weights.ravel(), (last - first) * located.size)
        own = self._sums[first - self.rows.start : last - self.rows.start]
        own[:, located.groups] += sums.reshape(last - first, -1).astype(np.int64)
        if tile.finite is not None:
            for feature, finite in zip(range(first, last), tile.finite[here], strict=True):
                missing = self._missing.setdefault(feature, np.zeros_like(self._seen))
                missing[located.groups] += located.count(~finite)

    def next_pass(self, moments: Moments) -> bool:
        """End the pass; return whether there are features left."""
        for feature in range(self.rows.start, self.rows.stop):
            counts = self._seen - self._missing.get(feature, 0)
            sums = self._sums[feature - self.rows.start] * 2.0**-self._bits
            spread = float(moments.std[feature] / self._ranges.unit[feature])
            self._omega[feature] = omega_squared(sums, counts, spread)
        self._next_rows()
        return self.rows.stop > self.rows.start

    def result(self) -> NDArray[np.float64]:
        """Omega squared, (features,), once all passes are done; NaN where `omega_squared` is."""
        return self._omega


def omega_squared(sums: NDArray[np.float64], counts: NDArray[np.int64], std: float) -> float:
    """Omega squared from each group's sum and number of values, (groups,), and the standard deviation of all values.

    At least 0: a negative estimate says no more than "nothing". NaN where it is not defined: where the variance is 0,
    or no group has two values.
    """
    some = counts > 0
    sums, counts = sums[some], counts[some]
    n, groups = int(counts.sum()), counts.size
    if std == 0 or n == groups:
        return np.nan
    total = n * std**2
    between = min(float((counts * (sums / counts - sums.sum() / n) ** 2).sum()), total)
    within = (total - between) / (n - groups)
    return max(0.0, (between - (groups - 1) * within) / (total + within))
