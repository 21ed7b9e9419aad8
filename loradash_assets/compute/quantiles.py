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

from loradash_assets.compute.statistics import column_slices, row_slices

_BITS = (12, 10, 10)  # of the digit found in each pass, the highest first
_INFINITE = 8  # so many first digits at either end hold only infinities and NaN
_SIGN = np.int32(-(1 << 31))


class QuantileCounter:
    """The smallest activation that at least a share p of the finite ones does not exceed, for each p of `shares`.

    That is numpy's method "inverted_cdf", with p * n taken exactly: always a recorded value. Memory: a counter for each
    value of a digit, 4096 per feature in the first pass and 1024 per feature and share later.
    """

    def __init__(self, features: int, shares: Sequence[Fraction]) -> None:
        self._features = features
        self._shares = shares
        self._counts = np.zeros((features, 1 << _BITS[0]), np.int64)  # (rows, digits)
        self._tables: list[NDArray[np.int32]] = []  # of each pass done: its row and digit -> the next pass's row, or -1
        # Both (features, shares): the row that counts a share's next digit, and its rank among what that row counts.
        self._rows = np.repeat(np.arange(features)[:, None], len(shares), axis=1)
        self._ranks = np.zeros((features, len(shares)), np.int64)
        self._keys = np.zeros((features, len(shares)), np.uint32)  # the digits found
        self._empty = np.zeros(features, np.bool_)

    def update(self, activations: NDArray[np.float32]) -> None:
        """Take in activations (features, tokens)."""
        for columns in column_slices(activations.shape[1]):
            part = activations[:, columns]
            for features in row_slices(slice(0, self._features), part.shape[1]):
                self._count(features, _ordered(part[features]))

    def _count(self, features: slice, keys: NDArray[np.uint32]) -> None:
        shift = 32 - _BITS[0]
        index = (keys >> shift).astype(np.intp)
        index += np.arange(features.start, features.stop)[:, None] << _BITS[0]
        keys, index = keys.ravel(), index.ravel()
        for table, bits in zip(self._tables, _BITS[1:], strict=False):
            row = table.ravel().take(index)
            found = np.flatnonzero(row >= 0)
            shift -= bits
            keys = keys[found]
            index = (row[found].astype(np.intp) << bits) + ((keys >> shift) & np.uint32((1 << bits) - 1))
        each = self._counts.shape[0] // self._features
        counts = self._counts[features.start * each : features.stop * each]
        index -= features.start * each * counts.shape[1]
        counts += np.bincount(index, minlength=counts.size).reshape(counts.shape)

    def next_pass(self) -> bool:
        """End the pass; return whether another is needed."""
        done = len(self._tables)
        if done == 0:
            self._rank()
        digits = self._find()
        self._keys = (self._keys << np.uint32(_BITS[done])) | digits.astype(np.uint32)
        table = np.full(self._counts.shape, -1, np.int32)
        following = np.arange(digits.size).reshape(digits.shape)
        for place in range(digits.shape[1])[::-1]:  # of shares with the same digits the first one's row counts for all
            table[self._rows[:, place], digits[:, place]] = following[:, place]
        self._rows = table[self._rows, digits].astype(np.int64)
        self._tables.append(table)
        if len(self._tables) == len(_BITS):
            return False
        self._counts = np.zeros((digits.size, 1 << _BITS[done + 1]), np.int64)
        return True

    def _rank(self) -> None:
        """Turn shares into ranks, from 1, among the finite activations."""
        self._counts[:, :_INFINITE] = self._counts[:, -_INFINITE:] = 0
        counts = self._counts.sum(axis=1)
        self._empty = counts == 0
        for feature, count in enumerate(counts.tolist()):
            self._ranks[feature] = [max(1, -(-share.numerator * count // share.denominator)) for share in self._shares]

    def _find(self) -> NDArray[np.int64]:
        """The digit of each share, (features, shares); its rank becomes the one among what has that digit."""
        upto = np.cumsum(self._counts, axis=1)  # (rows, digits)
        digits = np.zeros(self._ranks.shape, np.int64)
        for place in range(digits.shape[1]):
            rows = upto[self._rows[:, place]]  # (features, digits)
            digit = (rows < self._ranks[:, place, None]).sum(axis=1)
            digits[:, place] = np.minimum(digit, rows.shape[1] - 1)  # beyond the last one where nothing is finite
            before = np.take_along_axis(rows, np.maximum(digits[:, place, None] - 1, 0), axis=1)[:, 0]
            self._ranks[:, place] -= np.where(digits[:, place] > 0, before, 0)
        return digits

    def result(self) -> NDArray[np.float64]:
        """The quantiles, (features, shares), once all passes are done; 0 where nothing is finite."""
        bits = np.where(self._keys >> np.uint32(31) == 1, self._keys ^ np.uint32(1 << 31), ~self._keys)
        values = bits.astype(np.uint32).view(np.float32)
        return np.where(self._empty[:, None], np.float32(0), values).astype(np.float64)


def _ordered(activations: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Integers in the order of the activations, -0.0 as 0.0; infinities and NaN lie at both ends."""
    bits = (activations + np.float32(0)).view(np.int32)
    turned = bits >> 31
    turned |= _SIGN
    turned ^= bits
    return turned.view(np.uint32)
