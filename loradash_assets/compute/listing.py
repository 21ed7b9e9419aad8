"""A view's extreme tokens, with their contexts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loradash_assets.compute.arrays import no_lists, ranges, table
from loradash_assets.compute.minimap import Minimaps
from loradash_assets.compute.per_example import PerExampleTopK
from loradash_assets.compute.prompt_tokens import PromptTokens
from loradash_assets.compute.topk import TopK
from loradash_assets.compute.views import View
from loradash_assets.schema import POLARITIES, TOP_TOKENS


@dataclass(frozen=True)
class Listed:
    """The tokens that a list or sample may hold: all, or those of `kept` (tokens,); `distinct`: contexts once."""

    prompts: PromptTokens
    distinct: bool = False
    kept: NDArray[np.bool_] | None = None

    @property
    def is_every(self) -> bool:
        """Whether it is every token."""
        return not self.distinct and self.kept is None

    def among(self, numbers: NDArray[np.int64]) -> NDArray[np.intp] | None:
        """The places of the listed ones among `numbers`; None if all are."""
        if self.is_every:
            return None
        listed = np.ones(numbers.size, np.bool_) if self.kept is None else self.kept[numbers]
        if self.distinct:
            repeats = self.prompts.repeats
            listed = listed & repeats.first[repeats.places(numbers)]
        return np.flatnonzero(listed)

    def occurrences(self, numbers: NDArray[np.int64]) -> NDArray[np.int32]:
        """How many tokens each listed one stands for."""
        repeats = self.prompts.repeats
        return repeats.counts[repeats.places(numbers)] if self.distinct else np.ones(numbers.size, np.int32)


class Listing:
    """The extreme tokens of one view: ranked in the first pass, what surrounds them collected in the second.

    Minimaps are scaled by the most extreme token that the list may hold, of either polarity; without `minimaps` they
    are empty.
    """

    def __init__(
        self,
        view: View,
        listed: Listed,
        *,
        top_k: int,
        window: int,
        max_per_example: int | None = None,
        minimaps: bool = True,
    ) -> None:
        self.view = view
        self._listed = listed
        self._window = window
        self._with_minimaps = minimaps
        index = listed.prompts.index
        self._topk = (
            TopK(view.features, top_k)
            if max_per_example is None
            else PerExampleTopK(view.features, top_k, max_per_example, index)
        )
        self._contexts: Contexts | None = None

    def update(self, numbers: NDArray[np.int64], activations: NDArray[np.float32]) -> None:
        """Take in a chunk: rank in the first pass, collect contexts in the second."""
        if self._contexts is not None:
            self._contexts.update(numbers, activations)
            return
        here = self._listed.among(numbers)
        if here is not None:
            numbers, activations = numbers[here], activations.take(here, axis=1)
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
        scales = np.abs(values[:, :, 0]).max(axis=1) if self._with_minimaps else None
        self._contexts = Contexts(self._listed.prompts, features, numbers[numbers >= 0], self._window, scales)
        return True

    def table(self) -> pa.Table:
        """Return the TOP_TOKENS rows, in the order of features, polarities and ranks, once all passes are done."""
        assert self._contexts is not None
        contexts = self._contexts
        columns = {
            **{name: self.view.labels[name][contexts.features] for name in ("layer", "projection", "component")},
            "polarity": np.array(POLARITIES)[self._polarities],
            "rank": self._ranks + 1,
            "activation": self._values,
            "occurrences": self._listed.occurrences(contexts.numbers),
            **contexts.columns(),
        }
        return table(columns, TOP_TOKENS)


class Contexts:
    """Tokens of features with what surrounds them, whose activations are collected while the recording streams by.

    features, numbers: (entries,), row in the view and token number of each entry; window: tokens on each side; scales:
    those of their minimaps, (features,), or None for none.
    """

    def __init__(
        self,
        prompts: PromptTokens,
        features: NDArray[np.intp],
        numbers: NDArray[np.int64],
        window: int,
        scales: NDArray[np.floating] | None,
    ) -> None:
        self.features = features
        self.numbers = numbers
        self._prompts = prompts
        self._starts, stops = prompts.index.windows(numbers, window)  # (entries,)
        self._lengths = stops - self._starts
        self._offsets = np.concatenate(([0], np.cumsum(self._lengths)))  # (entries + 1,)
        self._activations = np.zeros(self._offsets[-1], np.float32)
        self._minimaps = None if scales is None else Minimaps(prompts.index, features, numbers, scales)

    def update(self, numbers: NDArray[np.int64], activations: NDArray[np.float32]) -> None:
        """Fill in what this chunk has, (tokens,) and (features, tokens): a context never leaves its example, nor an
        example its chunk. A token that the features do not see reads 0, and so does one that is not finite: it is
        counted and fails a check.
        """
        if numbers.size == 0:
            return
        order = np.argsort(numbers, kind="stable")
        ascending = numbers[order]
        if self._minimaps is not None:
            self._minimaps.update(ascending, order, activations)
        here = self._entries_near(ascending)
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
        texts = prompts.texts.take(ranges(self._starts, self._lengths))
        offsets = pa.array(self._offsets, pa.int32())
        return {
            "example": examples,
            "position": positions,
            "token_id": prompts.ids[self.numbers],
            "token": prompts.texts.take(self.numbers),
            "target_position": self.numbers - self._starts,
            "context": pa.ListArray.from_arrays(offsets, texts),
            "context_activations": pa.ListArray.from_arrays(offsets, self._activations),
            "minimap": no_lists(self.numbers.size) if self._minimaps is None else self._minimaps.column(),
        }
