"""A view's extreme tokens, with their contexts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loradash_assets.compute.arrays import ranges, table
from loradash_assets.compute.prefixes import first_occurrences
from loradash_assets.compute.tokens import TokenIndex
from loradash_assets.compute.topk import TopK
from loradash_assets.compute.views import View
from loradash_assets.schema import POLARITIES, TOP_TOKENS


@dataclass(frozen=True)
class PromptTokens:
    """The prompts token by token: all (tokens,), in the order of the token numbers."""

    index: TokenIndex
    ids: pa.Array
    texts: pa.Array
    prefixes: NDArray[np.int64]
    first: NDArray[np.bool_]  # the first token with its context
    occurrences: NDArray[np.int64]  # how many tokens have its context

    @classmethod
    def of(cls, prompts: pa.Table) -> PromptTokens:
        """Read a table of the PROMPTS schema."""
        columns = [prompts.column(name).combine_chunks() for name in ("token_ids", "tokens", "prefixes")]
        ids, texts, prefixes = (column.flatten() for column in columns)
        prefix_of = prefixes.to_numpy()
        return cls(TokenIndex.of_prompts(prompts), ids, texts, prefix_of, *first_occurrences(prefix_of))

    def among(self, numbers: NDArray[np.int64]) -> PromptTokens:
        """Return the same tokens for features that see only `numbers` (n,): contexts are counted among these."""
        numbers = np.sort(numbers)
        seen, counts = first_occurrences(self.prefixes[numbers])
        first, occurrences = np.zeros_like(self.first), np.zeros_like(self.occurrences)
        first[numbers], occurrences[numbers] = seen, counts
        return replace(self, first=first, occurrences=occurrences)


class Listing:
    """The extreme tokens of one view: ranked in the first pass, their contexts' activations collected in the second."""

    def __init__(self, view: View, prompts: PromptTokens, *, top_k: int, window: int, distinct: bool) -> None:
        self.view = view
        self._prompts = prompts
        self._window = window
        self._distinct = distinct
        self._topk = TopK(view.features, top_k)
        self._contexts: Contexts | None = None

    def update(self, numbers: NDArray[np.int64], activations: NDArray[np.float32]) -> None:
        """Take in a chunk: rank in the first pass, collect contexts in the second."""
        if self._contexts is not None:
            self._contexts.update(numbers, activations)
            return
        if self._distinct:
            first = self._prompts.first[numbers]
            numbers, activations = numbers[first], activations[:, first]
        self._topk.update(activations, numbers)

    def next_pass(self) -> bool:
        """End the pass; the second is the last."""
        if self._contexts is not None:
            return False
        top = self._topk.result()
        numbers = np.stack((top.positive.numbers, top.negative.numbers), axis=1)  # (features, polarity, k)
        values = np.stack((top.positive.values, top.negative.values), axis=1)
        features, self._polarities, self._ranks = np.nonzero(numbers >= 0)  # (entries,)
        self._values = values[numbers >= 0]
        self._contexts = Contexts(self._prompts, features, numbers[numbers >= 0], self._window)
        return True

    def table(self) -> pa.Table:
        """Return the TOP_TOKENS rows, in the order of features, polarities and ranks, once all passes are done."""
        assert self._contexts is not None
        contexts = self._contexts
        once = np.ones(self._ranks.size, np.int32)
        columns = {
            **{name: self.view.labels[name][contexts.features] for name in ("layer", "projection", "component")},
            "polarity": np.array(POLARITIES)[self._polarities],
            "rank": self._ranks + 1,
            "activation": self._values,
            "occurrences": self._prompts.occurrences[contexts.numbers] if self._distinct else once,
            **contexts.columns(),
        }
        return table(columns, TOP_TOKENS)


class Contexts:
    """Tokens of features with what surrounds them, whose activations are collected while the recording streams by.

    features, numbers: (entries,), row in the view and token number of each entry; window: tokens on each side.
    """

    def __init__(
        self, prompts: PromptTokens, features: NDArray[np.intp], numbers: NDArray[np.int64], window: int
    ) -> None:
        self.features = features
        self.numbers = numbers
        self._prompts = prompts
        self._starts, stops = prompts.index.windows(numbers, window)  # (entries,)
        self._lengths = stops - self._starts
        self._offsets = np.concatenate(([0], np.cumsum(self._lengths)))  # (entries + 1,)
        self._activations = np.zeros(self._offsets[-1], np.float32)

    def update(self, numbers: NDArray[np.int64], activations: NDArray[np.float32]) -> None:
        """Fill in what this chunk has, (tokens,) and (features, tokens): a context never leaves its example, nor an
        example its chunk. A token that the features do not see reads 0, and so does one that is not finite: it is
        counted and fails a check.
        """
        if numbers.size == 0:
            return
        order = np.argsort(numbers, kind="stable")
        here = self._entries_near(numbers[order])
        wanted = ranges(self._starts[here], self._lengths[here])  # token numbers
        place = np.minimum(np.searchsorted(numbers, wanted, sorter=order), numbers.size - 1)
        columns = order[place]
        values = activations[np.repeat(self.features[here], self._lengths[here]), columns]
        known = (numbers[columns] == wanted) & np.isfinite(values)
        targets = ranges(self._offsets[here], self._lengths[here])
        self._activations[targets[known]] = values[known]

    def _entries_near(self, ascending: NDArray[np.int64]) -> NDArray[np.intp]:
        """The entries whose own token is among the numbers."""
        place = np.minimum(np.searchsorted(ascending, self.numbers), ascending.size - 1)
        return np.flatnonzero(ascending[place] == self.numbers)

    def columns(self) -> dict[str, NDArray[np.generic] | pa.Array]:
        """Return the TOP_TOKENS columns that say which token it is and what surrounds it."""
        prompts = self._prompts
        examples, positions = prompts.index.locate(self.numbers)
        texts = prompts.texts.take(pa.array(ranges(self._starts, self._lengths)))
        offsets = pa.array(self._offsets, pa.int32())
        return {
            "example": examples,
            "position": positions,
            "token_id": prompts.ids.take(pa.array(self.numbers)),
            "token": prompts.texts.take(pa.array(self.numbers)),
            "target_position": self.numbers - self._starts,
            "context": pa.ListArray.from_arrays(offsets, texts),
            "context_activations": pa.ListArray.from_arrays(offsets, self._activations),
        }
