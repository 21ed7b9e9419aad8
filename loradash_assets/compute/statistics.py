"""What every statistic of a feature begins with: its range, found in a first pass, and its activations placed in it.

All that is added up over tokens are integers, so that no statistic depends on how the tokens were cut into chunks or
in which order these came, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

TILE = 1 << 16  # activations worked on at a time, so that the float64 copies stay in the cache


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


def column_slices(tokens: int) -> list[slice]:
    """Cut a chunk's tokens into stretches that a tile can hold."""
    return [slice(first, min(first + TILE, tokens)) for first in range(0, tokens, TILE)]


def row_slices(rows: slice, tokens: int) -> list[slice]:
    """Cut features into tiles of this many tokens, at least 1."""
    step = max(1, TILE // tokens)
    return [slice(first, min(first + step, rows.stop)) for first in range(rows.start, rows.stop, step)]


def tiles(activations: NDArray[np.float32], ranges: Ranges, rows: slice) -> Iterator[Tile]:
    """Yield the tiles of these features, of activations (features, tokens) with at most TILE tokens, at least 1."""
    for part in row_slices(rows, activations.shape[1]):
        values, centre = activations[part], ranges.centre[part, None]
        finite = np.isfinite(values) if ranges.non_finite[part].any() else None
        # A power of two: dividing by it, as multiplying by its inverse, rounds nothing.
        z = np.subtract(values if finite is None else np.where(finite, values, centre), centre, dtype=np.float64)
        z *= 1 / ranges.unit[part, None]
        yield Tile(part, values, z, finite)
