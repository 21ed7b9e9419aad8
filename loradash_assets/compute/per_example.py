"""The most extreme tokens of every feature, of which at most m are of one example."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loradash_assets.compute.tokens import TokenIndex
from loradash_assets.compute.topk import TopK, TopTokens

_ABOVE_ZERO = np.nextafter(np.float32(0), np.float32(1))


class PerExampleTopK:
    """What walking the full ranking gives, if a token is skipped whose example has `limit` entries already.

    That is the ranking of every example's own `limit` most extreme tokens. An example's tokens must come in one chunk;
    the result depends on neither the chunks nor their order. Ranks and ties are those of TopK.
    """

    def __init__(self, features: int, k: int, limit: int, index: TokenIndex) -> None:
        self._topk = TopK(features, k)
        self._k = k
        self._limit = limit
        self._index = index

    def update(self, activations: NDArray[np.float32], token_numbers: NDArray[np.int64]) -> None:
        """Take in activations (features, tokens) of tokens (tokens,), whole examples; no token may come twice."""
        if activations.size == 0:
            return
        order = np.argsort(token_numbers, kind="stable")
        numbers = token_numbers[order]
        values = activations.take(order, axis=1)
        values[~np.isfinite(values)] = 0  # never ranked
        prompts = self._index.prompts_of(numbers)
        starts = np.flatnonzero(np.concatenate(([True], prompts[1:] != prompts[:-1])))  # (examples,)
        self._topk.update(self._limited(values, starts), numbers)

    def result(self) -> TopTokens:
        """What is kept by now."""
        return self._topk.result()

    def _limited(self, values: NDArray[np.float32], starts: NDArray[np.intp]) -> NDArray[np.float32]:
        """`values`, with 0 for all but each example's most extreme; 0 also where none could enter the ranking."""
        limited = np.zeros_like(values)
        bounds = np.append(starts, values.shape[1])
        for sign, lowest in zip((np.float32(1), np.float32(-1)), self._topk.lowest_scores(), strict=True):
            scores = sign * values
            peaks = np.maximum.reduceat(scores, starts, axis=1)  # (features, examples)
            if starts.size >= self._k:  # k examples, each with a token at least as extreme as the k-th peak
                lowest = np.maximum(lowest, np.partition(peaks, -self._k, axis=1)[:, -self._k])
            entering = peaks >= np.maximum(lowest, _ABOVE_ZERO)[:, None]
            for example in np.flatnonzero(entering.any(axis=0)):
                rows, span = np.flatnonzero(entering[:, example]), slice(bounds[example], bounds[example + 1])
                kept = _highest(scores[rows, span], self._limit)
                limited[rows, span] = np.where(kept, values[rows, span], limited[rows, span])
        return limited


def _highest(scores: NDArray[np.float32], limit: int) -> NDArray[np.bool_]:
    """The `limit` highest scores > 0 of each row, (rows, tokens); of equal ones, the first."""
    if scores.shape[1] <= limit:
        return scores > 0
    last = np.partition(scores, -limit, axis=1)[:, -limit, None]
    above, ties = scores > last, scores == last
    room = limit - np.count_nonzero(above, axis=1)[:, None]
    return (above | (ties & (np.cumsum(ties, axis=1) <= room))) & (scores > 0)
