"""The k highest positive and the k lowest negative activations of every feature, kept while activations stream by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BLOCK = 256  # tokens; a block whose peak stays under a feature's k-th value is never looked at again
_HITS = 1 << 13  # blocks looked at together, so that their copies stay small
_TILE = 1 << 18  # activations whose highest and lowest are taken while they are still in the cache
_ABOVE_ZERO = np.nextafter(np.float32(0), np.float32(1))


@dataclass(frozen=True)
class Ranking:
    """Tokens per feature, most extreme first: values and token numbers, both (features, k).

    Where a feature has fewer than k tokens of the polarity, the rest has number -1 and value 0.
    """

    values: NDArray[np.float32]
    numbers: NDArray[np.int64]


@dataclass(frozen=True)
class TopTokens:
    """The rankings of both polarities."""

    positive: Ranking
    negative: Ranking


class TopK:
    """The k highest > 0 and k lowest < 0 activations of each feature; equal to a full sort in every position.

    Order: by value, then by token number. NaN, infinities and zeros are never ranked. The result depends on neither
    the chunks nor their order. Memory: features * k entries, and what one chunk's candidates need.
    """

    def __init__(self, features: int, k: int) -> None:
        self._positive = _Side(features, k, sign=1)
        self._negative = _Side(features, k, sign=-1)

    def update(self, activations: NDArray[np.float32], token_numbers: NDArray[np.int64]) -> None:
        """Take in activations (features, tokens) of tokens (tokens,); no token may come twice."""
        if activations.size == 0:
            return
        body = token_numbers.size - token_numbers.size % _BLOCK
        if body:
            self._update(activations[:, :body], token_numbers[:body])
        if body < token_numbers.size:
            tail = np.zeros((activations.shape[0], _BLOCK), np.float32)  # zeros are never ranked
            tail[:, : token_numbers.size - body] = activations[:, body:]
            self._update(tail, np.resize(token_numbers[body:], _BLOCK))

    def _update(self, activations: NDArray[np.float32], token_numbers: NDArray[np.int64]) -> None:
        """`update` for whole blocks."""
        peaks, troughs = _extremes(activations)
        if not (np.isfinite(peaks).all() and np.isfinite(troughs).all()):
            activations = np.where(np.isfinite(activations), activations, np.float32(0))
            peaks, troughs = _extremes(activations)
        blocks = activations.reshape(activations.shape[0], -1, _BLOCK)
        numbers = token_numbers.reshape(-1, _BLOCK)
        self._positive.update(blocks, numbers, peaks)
        self._negative.update(blocks, numbers, np.negative(troughs))

    def result(self) -> TopTokens:
        """What is kept by now."""
        return TopTokens(self._positive.ranking(), self._negative.ranking())

    def lowest_scores(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """|activation| of the k-th token of each polarity, (features,) each; 0 where there are fewer than k."""
        return self._positive.lowest_scores(), self._negative.lowest_scores()


class _Side:
    """One polarity; a *score* is sign * activation, so that both polarities look for the highest."""

    def __init__(self, features: int, k: int, sign: int) -> None:
        self._k = k
        self._sign = np.float32(sign)
        self._scores = np.zeros((features, k), np.float32)
        self._numbers = np.full((features, k), -1, np.int64)

    def ranking(self) -> Ranking:
        values = np.where(self._numbers >= 0, self._sign * self._scores, np.float32(0))
        return Ranking(values, self._numbers.copy())

    def lowest_scores(self) -> NDArray[np.float32]:
        return self._scores[:, -1]

    def update(self, blocks: NDArray[np.float32], numbers: NDArray[np.int64], peaks: NDArray[np.float32]) -> None:
        """Take in blocks (features, blocks, block) of tokens (blocks, block) with peak scores (features, blocks)."""
        bounds = self._bounds(blocks, peaks, int(numbers.min()))  # (features,)
        features, hits = np.nonzero(peaks >= bounds[:, None])
        for first in range(0, features.size, _HITS):
            owners, places = features[first : first + _HITS], hits[first : first + _HITS]
            scores = self._sign * blocks[owners, places]  # (hits, block)
            hit, within = np.nonzero(scores >= bounds[owners][:, None])
            self._merge(owners[hit], scores[hit, within], numbers[places[hit], within])

    def _bounds(
        self, blocks: NDArray[np.float32], peaks: NDArray[np.float32], lowest_number: int
    ) -> NDArray[np.float32]:
        """The lowest score per feature, (features,), that can still enter its ranking."""
        kth, full = self._scores[:, -1], self._numbers[:, -1] >= 0
        # A later token never beats an equal earlier one; without this, ties would be candidates for ever.
        beaten = full & (self._numbers[:, -1] < lowest_number)
        with np.errstate(over="ignore"):  # above the largest float32 nothing can enter: infinity says so
            bounds = np.where(beaten, np.nextafter(kth, np.float32(np.inf)), kth)
        if peaks.shape[1] >= self._k:  # k blocks, each with a score at least as high as the k-th highest peak
            bounds = np.maximum(bounds, np.partition(peaks, -self._k, axis=1)[:, -self._k])
        elif peaks.shape[1] * _BLOCK >= self._k:
            for feature in np.flatnonzero(~full & (peaks.max(axis=1) > 0)):
                scores = self._sign * blocks[feature].ravel()
                bounds[feature] = max(bounds[feature], np.partition(scores, -self._k)[-self._k])
        return np.maximum(bounds, _ABOVE_ZERO)

    def _merge(self, features: NDArray[np.int64], scores: NDArray[np.float32], numbers: NDArray[np.int64]) -> None:
        touched = np.unique(features)
        kept, slot = np.nonzero(self._numbers[touched] >= 0)
        owners = np.concatenate((touched[kept], features))
        scores = np.concatenate((self._scores[touched[kept], slot], scores))
        numbers = np.concatenate((self._numbers[touched[kept], slot], numbers))
        order = np.lexsort((numbers, -scores, owners))
        owners, scores, numbers = owners[order], scores[order], numbers[order]
        ranks = np.arange(owners.size) - np.searchsorted(owners, owners)
        best = ranks < self._k
        self._scores[owners[best], ranks[best]] = scores[best]
        self._numbers[owners[best], ranks[best]] = numbers[best]


def _extremes(activations: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Highest and lowest activation of every block, both (features, blocks); NaN where the block has one."""
    features, tokens = activations.shape
    starts = np.arange(0, tokens, _BLOCK)
    peaks = np.empty((features, starts.size), np.float32)
    troughs = np.empty_like(peaks)
    step = max(1, _TILE // tokens)
    for first in range(0, features, step):
        rows = slice(first, first + step)
        np.maximum.reduceat(activations[rows], starts, axis=1, out=peaks[rows])
        np.minimum.reduceat(activations[rows], starts, axis=1, out=troughs[rows])
    return peaks, troughs
