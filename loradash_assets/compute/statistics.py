"""What every statistic of a feature begins with: its range, found in a first pass, and its activations placed in it.

All that is added up over tokens are integers, so that no statistic depends on how the tokens were cut into chunks or
in which order these came, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

TILE = 1 << 16  # activations worked on at a time, so that the float64 copies stay in the cache
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Ranges:
    """Per feature, all (features,): finite activations, others, and the lowest and highest finite one (0 if none)."""

    count: NDArray[np.int64]
    non_finite: NDArray[np.int64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @cached_property
    def centre(self) -> NDArray[np.float64]:
        """The middle of the range, (features,)."""
        return (self.low + self.high) / 2

    @cached_property
    def unit(self) -> NDArray[np.float64]:
        """The power of two, (features,), above every distance from the centre."""
        reach = np.maximum(self.high - self.centre, self.centre - self.low)
        return np.ldexp(1.0, np.frexp(reach)[1])


class RangeCounter:
    """The first pass: counts and ranges."""

    def __init__(self, features: int) -> None:
        self._tokens = 0
        self._non_finite = np.zeros(features, np.int64)
        self._low = np.full(features, np.inf)
        self._high = np.full(features, -np.inf)

    def update(self, activations: NDArray[np.float32]) -> None:
        """Take in activations (features, tokens)."""
        if activations.size == 0:
            return
        self._tokens += activations.shape[1]
        low, high = activations.min(axis=1), activations.max(axis=1)
        for feature in np.flatnonzero(~(np.isfinite(low) & np.isfinite(high))):
            finite = activations[feature][np.isfinite(activations[feature])]
            self._non_finite[feature] += activations.shape[1] - finite.size
            low[feature] = finite.min(initial=np.inf)
            high[feature] = finite.max(initial=-np.inf)
        np.minimum(self._low, low, out=self._low)
        np.maximum(self._high, high, out=self._high)

    def result(self) -> Ranges:
        """What is known by now."""
        count = self._tokens - self._non_finite
        seen = count > 0
        # Adding 0 turns -0.0, which ties with 0.0 and so may or may not win, into 0.0.
        low, high = np.where(seen, self._low, 0.0) + 0.0, np.where(seen, self._high, 0.0) + 0.0
        return Ranges(count, self._non_finite.copy(), low, high)


@dataclass(frozen=True)
class Tile:
    """A few features on a few tokens of a chunk, small enough for the cache.

    `z` is (value - centre) / unit of the feature's range, in float64: |z| <= 1, far from rounding errors however far
    the activations lie from zero. Where an activation is not finite, the centre stands in: z = 0, which adds nothing.
    """

    rows: slice  # of the features
    values: NDArray[np.float32]  # (rows, tokens)
    z: NDArray[np.float64]  # (rows, tokens)
    finite: NDArray[np.bool_] | None  # (rows, tokens); None if everything is
    _multiples: dict[int, NDArray[np.float64]] = field(default_factory=dict)

    @cached_property
    def ascending(self) -> NDArray[np.float32]:
        """Every feature's values in ascending order, (rows, tokens), NaN last."""
        return np.sort(self.values, axis=1)

    def multiples(self, bits: int) -> NDArray[np.float64]:
        """`z` in units of 2**-bits, rounded to whole ones, (rows, tokens)."""
        if bits not in self._multiples:
            self._multiples[bits] = np.rint(self.z * 2.0**bits)
        return self._multiples[bits]


def column_slices(tokens: int) -> list[slice]:
    """Cut a chunk's tokens into stretches that a tile can hold."""
    return [slice(first, min(first + TILE, tokens)) for first in range(0, tokens, TILE)]


def row_slices(rows: slice, tokens: int) -> list[slice]:
    """Cut features into tiles of this many tokens, at least 1."""
    step = max(1, TILE // tokens)
    return [slice(first, min(first + step, rows.stop)) for first in range(rows.start, rows.stop, step)]


def parts(activations: NDArray[np.float32]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield activations (features, tokens) as many at a time as a tile holds, with the features' rows."""
    for columns in column_slices(activations.shape[1]):
        part = activations[:, columns]
        for rows in row_slices(slice(0, part.shape[0]), part.shape[1]):
            yield rows, part[rows]


def at_least(bounds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The lowest float32 that is not below each bound, never -inf: what is not below the one is not below the other."""
    within = np.clip(bounds, -_LARGEST, _LARGEST).astype(np.float32)
    return np.where(within < bounds, next_above(within), within)


def above(bounds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The lowest float32 above each bound, never -inf: what is not below it lies above the bound."""
    lowest = at_least(bounds)
    return np.where(lowest > bounds, lowest, next_above(lowest))


def next_above(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The lowest float32 above each; infinity above the largest finite one."""
    with np.errstate(over="ignore"):
        return np.nextafter(values, np.float32(np.inf))


def tiles(activations: NDArray[np.float32], ranges: Ranges, rows: slice) -> Iterator[Tile]:
    """Yield the tiles of these features, of activations (features, tokens) with at most TILE tokens, at least 1."""
    for part in row_slices(rows, activations.shape[1]):
        values, centre = activations[part], ranges.centre[part, None]
        finite = np.isfinite(values) if ranges.non_finite[part].any() else None
        # A power of two: dividing by it, as multiplying by its inverse, rounds nothing.
        z = np.subtract(values if finite is None else np.where(finite, values, centre), centre, dtype=np.float64)
        z *= 1 / ranges.unit[part, None]
        yield Tile(part, values, z, finite)
