"""Statistics of every feature over every token: range, mean, standard deviation and histogram.

Two passes: `RangeCounter` finds each feature's range, `MomentCounter` then sums relative to it. What is added up are
integers, so the result does not depend on how the tokens were cut into chunks or in which order these came, to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_TILE = 1 << 16  # activations worked on at a time, so that the float64 copies stay in the cache
_SLICE_BITS = 26  # sums of up to 2**27 integers below 2**26 are exact in float64


@dataclass(frozen=True)
class Ranges:
    """Per feature, all (features,): finite activations, others, and the lowest and highest finite one (0 if none)."""

    count: NDArray[np.int64]
    non_finite: NDArray[np.int64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Mean and population standard deviation, (features,); histogram edges, (features, bins + 1), and counts."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    edges: NDArray[np.float64]
    total: NDArray[np.int64]  # (features, bins), as the two below
    positive: NDArray[np.int64]
    negative: NDArray[np.int64]


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


class MomentCounter:
    """The second pass: sums and histogram, given the first pass over the same activations.

    Sums: every activation is placed in its feature's range, z = (x - centre) / 2**e with |z| < 1, in float64; z and
    z * z are rounded to multiples of 2**-52 and added as integers. The error of the mean is so at most that of
    rounding each x - centre to float64, and there is no cancellation in the standard deviation however far the
    activations lie from zero.

    Histogram: the bins of `numpy.histogram` with range (min, max) in float64: equal widths, closed on the left, the
    last one on both sides. A feature with only one value c gets c ± 0.5, as there, or ± |c| * 2**-20 where that is more
    (0.5 is nothing beside 1e30); one without finite activations gets -0.5 to 0.5, all counts 0.
    """

    def __init__(self, ranges: Ranges, bins: int) -> None:
        features = ranges.count.size
        self._ranges = ranges
        self._bins = bins
        self._centre = (ranges.low + ranges.high) / 2
        reach = np.maximum(ranges.high - self._centre, self._centre - ranges.low)
        self._exponent = np.frexp(reach)[1]
        self._sums = np.zeros((4, features), np.int64)  # of z: high and low slices; of z * z: likewise
        self._edges = _edges(ranges, bins)
        self._counts = np.zeros((features, bins, 3), np.int64)  # negative, zero, positive

    def update(self, activations: NDArray[np.float32]) -> None:
        """Take in activations (features, tokens), tokens < 2**27."""
        features, tokens = activations.shape
        rows = max(1, _TILE // max(1, tokens))
        for first in range(0, features, rows):
            for column in range(0, tokens, _TILE):
                self._add(slice(first, first + rows), activations[first : first + rows, column : column + _TILE])

    def _add(self, rows: slice, activations: NDArray[np.float32]) -> None:
        finite = np.isfinite(activations)
        everything = bool(finite.all())
        centre = self._centre[rows, None]
        # The centre stands in for what is not finite: it adds nothing to the sums, and has no bin.
        values = activations.astype(np.float64) if everything else np.where(finite, activations, centre)
        z = np.ldexp(values - centre, -self._exponent[rows, None])
        self._sums[0:2, rows] += _slices(z)
        self._sums[2:4, rows] += _slices(z * z)
        self._count(rows, values, None if everything else finite)

    def _count(self, rows: slice, values: NDArray[np.float64], finite: NDArray[np.bool_] | None) -> None:
        """Add to the histogram; the index is computed, then put right where rounding missed an edge by one bin."""
        edges = self._edges[rows]  # (rows, bins + 1)
        first, last = edges[:, :1], edges[:, -1:]
        index = ((values - first) * (self._bins / (last - first))).astype(np.int64)  # (rows, tokens)
        np.clip(index, 0, self._bins - 1, out=index)
        at = index + np.arange(edges.shape[0])[:, None] * (self._bins + 1)
        flat = edges.ravel()
        index -= (values < flat[at]) & (index > 0)
        index += (values >= flat[at + 1]) & (index < self._bins - 1)
        index += np.arange(edges.shape[0])[:, None] * self._bins
        index *= 3
        index += 1
        index += values > 0
        index -= values < 0
        counted = index.ravel() if finite is None else index[finite]
        shape = self._counts[rows].shape
        self._counts[rows] += np.bincount(counted, minlength=int(np.prod(shape))).reshape(shape)

    def result(self) -> Moments:
        """Mean, deviation and histogram; 0 where a feature has no finite activation."""
        count = np.maximum(self._ranges.count, 1).tolist()
        highs, lows, square_highs, square_lows = self._sums.tolist()
        scale = 1 << 2 * _SLICE_BITS
        z_mean = np.zeros(len(count))
        z_variance = np.zeros(len(count))
        for i, n in enumerate(count):  # in Python's integers: exact until the one division
            total = (highs[i] << _SLICE_BITS) + lows[i]
            squares = (square_highs[i] << _SLICE_BITS) + square_lows[i]
            z_mean[i] = total / (n * scale)
            z_variance[i] = max(0, n * squares * scale - total * total) / (n * n * scale * scale)
        mean = np.clip(self._centre + np.ldexp(z_mean, self._exponent), self._ranges.low, self._ranges.high)
        std = np.ldexp(np.sqrt(z_variance), self._exponent)
        negative, zero, positive = np.moveaxis(self._counts, 2, 0)
        return Moments(mean, std, self._edges, negative + zero + positive, positive, negative)


def _slices(z: NDArray[np.float64]) -> NDArray[np.int64]:
    """Sums over tokens of |z| <= 1 in two exact parts, (2, features): multiples of 2**-26, and of 2**-52."""
    scaled = z * (1 << _SLICE_BITS)
    high = np.rint(scaled)
    low = np.rint((scaled - high) * (1 << _SLICE_BITS))
    return np.stack((high.sum(axis=1), low.sum(axis=1))).astype(np.int64)


def _edges(ranges: Ranges, bins: int) -> NDArray[np.float64]:
    constant = ranges.low == ranges.high
    half = np.where(constant, np.maximum(0.5, np.abs(ranges.high) * 2.0**-20), 0.0)
    return np.linspace(ranges.low - half, ranges.high + half, bins + 1, axis=1)
