"""Exact quantiles of every feature, while its activations stream by three times.

Every float32 is turned into a 32-bit integer with the same order, and the wanted ranks are found digit by digit: each
pass counts the next digit of the activations that share the digits found so far. Nothing is approximate, and counts do
not depend on the order of the activations.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from loradash_assets.compute.arrays import ranges
from loradash_assets.compute.statistics import parts

_BITS = (12, 10, 10)  # of the digit found in each pass, the highest first
_INFINITE = 8  # so many first digits at either end hold only infinities and NaN
_SIGN = np.int32(-(1 << 31))


class QuantileCounter:
    """The smallest activation that at least a share p of the finite ones does not exceed, for each p of `shares`.

    That is numpy's method "inverted_cdf", with p * n taken exactly: always a recorded value. `shares` ascend. Memory: a
    counter for each value of a digit, 4096 per feature in the first pass and 1024 per feature and share later.
    """

    def __init__(self, features: int, shares: Sequence[Fraction]) -> None:
        self._shares = shares
        self._passes = 0  # done
        self._unknown = 32  # bits of a key
        # Of each feature, the shares whose digits so far are the same are counted together, in the first one's row.
        self._counts = np.zeros((features, 1, 1 << _BITS[0]), np.int64)  # (features, rows, digits)
        self._rows = np.zeros((features, len(shares)), np.int64)
        self._ranks = np.zeros((features, len(shares)), np.int64)  # of each share, from 1, among what its row counts
        self._keys = np.zeros((features, len(shares)), np.uint32)  # the digits found, the others 0
        self._bounds = np.zeros((features, 2 * len(shares)), np.float32)  # rows count from one bound up to another
        self._empty = np.zeros(features, np.bool_)

    def update(self, activations: NDArray[np.float32]) -> None:
        """Take in activations (features, tokens), in the first pass."""
        for rows, part in parts(activations):
            index = (_ordered(part) >> np.uint32(32 - _BITS[0])).astype(np.intp)
            index += np.arange(index.shape[0])[:, None] << _BITS[0]
            counts = self._counts[rows]
            counts += np.bincount(index.ravel(), minlength=counts.size).reshape(counts.shape)

    def update_sorted(self, rows: slice, ascending: NDArray[np.float32]) -> None:
        """Take in features' activations (rows, tokens), each row in ascending order, in a later pass."""
        bits = _BITS[self._passes]
        for feature, values in enumerate(ascending, rows.start):
            counts = self._counts[feature]
            starts, ends = np.searchsorted(values, self._bounds[feature]).reshape(2, -1)
            lengths = ends - starts
            digits = _ordered(values[ranges(starts, lengths)]) >> np.uint32(self._unknown - bits)
            index = (digits & np.uint32((1 << bits) - 1)) + np.repeat(np.arange(starts.size) << bits, lengths)
            counts += np.bincount(index, minlength=counts.size).reshape(counts.shape)

    def next_pass(self) -> bool:
        """End the pass; return whether another is needed."""
        if self._passes == 0:
            self._rank()
        self._unknown -= _BITS[self._passes]
        self._keys |= self._find().astype(np.uint32) << np.uint32(self._unknown)
        self._passes += 1
        if self._passes == len(_BITS):
            return False
        first = np.diff(self._keys, axis=1, prepend=~self._keys[:, :1]) != 0
        self._rows = np.maximum.accumulate(np.where(first, np.arange(len(self._shares)), 0), axis=1)
        first &= ~self._empty[:, None]
        # A row that another one counts for, or that has nothing to count, is from a bound up to itself.
        ends = self._keys + (first.astype(np.uint32) << np.uint32(self._unknown))
        self._bounds = np.concatenate([_activations(self._keys), _activations(ends)], axis=1)
        self._counts = np.zeros((*self._keys.shape, 1 << _BITS[self._passes]), np.int64)
        return True

    def _rank(self) -> None:
        """Turn shares into ranks, from 1, among the finite activations."""
        finite = self._counts[:, 0]
        finite[:, :_INFINITE] = finite[:, -_INFINITE:] = 0
        counts = finite.sum(axis=1)
        self._empty = counts == 0
        for feature, count in enumerate(counts.tolist()):
            self._ranks[feature] = [max(1, -(-share.numerator * count // share.denominator)) for share in self._shares]

    def _find(self) -> NDArray[np.int64]:
        """The digit of each share, (features, shares); its rank becomes the one among what has that digit."""
        digits = np.zeros(self._ranks.shape, np.int64)
        for feature, counts in enumerate(self._counts):
            upto = np.cumsum(counts, axis=1)  # (rows, digits)
            for share, row in enumerate(self._rows[feature]):
                digit = int(np.searchsorted(upto[row], self._ranks[feature, share]))
                digit = min(digit, counts.shape[1] - 1)  # beyond the last one where nothing is finite
                digits[feature, share] = digit
                self._ranks[feature, share] -= upto[row, digit] - counts[row, digit]
        return digits

    def result(self) -> NDArray[np.float64]:
        """The quantiles, (features, shares), once all passes are done; 0 where nothing is finite."""
        return np.where(self._empty[:, None], np.float32(0), _activations(self._keys)).astype(np.float64)


def _ordered(activations: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Integers in the order of the activations, -0.0 as 0.0; infinities and NaN lie at both ends."""
    bits = (activations + np.float32(0)).view(np.int32)
    turned = bits >> 31
    turned |= _SIGN
    turned ^= bits
    return turned.view(np.uint32)


def _activations(keys: NDArray[np.uint32]) -> NDArray[np.float32]:
    """The inverse of `_ordered`."""
    return np.where(keys >> np.uint32(31) == 1, keys ^ np.uint32(1 << 31), ~keys).view(np.float32)
