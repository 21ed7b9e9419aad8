"""Pearson correlations between features, while activations stream by.

Activations are rounded to integers, so that every sum is exact and depends neither on chunks nor on how a matrix
product is split among threads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loradash_assets.compute.moments import MomentCounter
from loradash_assets.compute.statistics import RangeCounter, column_slices, tiles

_BITS = 20  # a feature's largest distance from its mean has so many
_TILE = 1 << 12  # tokens: products of two such integers add up to at most 2**52, exact in float64
_HALF = 32  # sums are kept in two parts, of which the lower has so many bits


class Centres:
    """Each feature's mean and largest distance from it, found in two passes; what is not finite does not count."""

    def __init__(self, features: int) -> None:
        self._features = slice(0, features)
        self._counter = RangeCounter(features)
        self._moments: MomentCounter | None = None

    def update(self, activations: NDArray[np.float32]) -> None:
        """Take in activations (features, tokens)."""
        if self._moments is None:
            self._counter.update(activations)
            return
        for columns in column_slices(activations.shape[1]):
            for tile in tiles(activations[:, columns], self._ranges, self._features):
                self._moments.update(tile)

    def next_pass(self) -> bool:
        """End the pass; the second is the last."""
        if self._moments is None:
            self._ranges = self._counter.result()
            self._moments = MomentCounter(self._ranges)
            return True
        self._mean = self._moments.result().mean
        reach = np.maximum(self._ranges.high - self._mean, self._mean - self._ranges.low)
        self._scale = np.ldexp(1.0, _BITS - np.frexp(reach)[1])
        return False

    def integers(self, activations: NDArray[np.float32]) -> NDArray[np.float64]:
        """Distances from the mean, (features, tokens), as integers |q| <= 2**20; 0 for what is not finite."""
        mean = self._mean[:, None]
        finite = np.isfinite(activations) if self._ranges.non_finite.any() else True
        q = np.subtract(np.where(finite, activations, mean), mean, dtype=np.float64)
        q *= self._scale[:, None]
        return np.rint(q, out=q)


class Products:
    """Sums over tokens of q_i and q_j, and of q_i * q_j, for features i of one block and j of another, or the same.

    Rounding q adds to a feature of n tokens a variance of at most n * 2**-43 of its own: where outliers hold nearly all
    of the variance, correlations are good to six digits at 10**7 tokens, otherwise to float32's last.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self._sums = np.zeros(rows), np.zeros(columns)
        self._upper = np.zeros((rows, columns), np.int64)
        self._lower = np.zeros((rows, columns), np.int64)
        self._tokens = 0

    def update(self, first: NDArray[np.float64], second: NDArray[np.float64]) -> None:
        """Take in integers (rows, tokens) and (columns, tokens), at most 4096 tokens."""
        for sums, part in zip(self._sums, (first, second), strict=True):
            sums += part.sum(axis=1)
        product = (first @ second.T).astype(np.int64)
        self._upper += product >> _HALF
        product &= (1 << _HALF) - 1
        self._lower += product
        self._tokens += first.shape[1]

    def covariances(self) -> NDArray[np.float64]:
        """Return the sums of products of distances from the means, (rows, columns)."""
        products = self._upper * 2.0**_HALF + self._lower
        return products - np.outer(*self._sums) / max(1, self._tokens)


def token_slices(tokens: int) -> list[slice]:
    """Cut tokens into stretches for `Products`."""
    return [slice(first, first + _TILE) for first in range(0, tokens, _TILE)]
