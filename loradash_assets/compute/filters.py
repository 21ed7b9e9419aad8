"""Which tokens lists and samples leave out, and how many those are; the statistics of the others.

A token is left out for its id or for its position, so tokens with the same context are left out together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from loradash_assets.compute.errors import DatasetError
from loradash_assets.compute.passes import Consumer
from loradash_assets.compute.tokens import TokenIndex
from loradash_assets.compute.views import View

ALL = "all"


def left_out(
    index: TokenIndex,
    ids: NDArray[np.int32],
    *,
    special_tokens: Collection[int],
    first_positions: int,
    token_ids: Collection[int],
) -> dict[str, NDArray[np.bool_]]:
    """Which tokens are left out, (tokens,) each: by reason, those that leave out nothing aside, and under `all` by any.

    ids: (tokens,); special_tokens and token_ids are ids. Without any reason the result is empty.
    """
    reasons = {
        "special_tokens": np.isin(ids, list(special_tokens)),
        "first_positions": index.positions() < first_positions,
        "token_ids": np.isin(ids, list(token_ids)),
    }
    wanted = {"special_tokens": special_tokens, "first_positions": first_positions, "token_ids": token_ids}
    found = {reason: mask for reason, mask in reasons.items() if wanted[reason]}
    return {**found, ALL: np.any(list(found.values()), axis=0)} if found else {}


def counts(masks: Mapping[str, NDArray[np.bool_]]) -> dict[str, int]:
    """How many tokens each mask of `left_out` has."""
    return {reason: int(np.count_nonzero(mask)) for reason, mask in masks.items()}


def check_token_ids(token_ids: Collection[int], vocabulary: int) -> None:
    """Raise DatasetError if an id is not below `vocabulary`, the number of ids of the tokenizer."""
    beyond = sorted(set(token_ids) - set(range(vocabulary)))
    if beyond:
        raise DatasetError(f"tables.exclude_token_ids: {beyond[0]}: the tokenizer's ids run from 0 to {vocabulary - 1}")


class Kept:
    """A consumer that gets only some of the tokens: those of `mask`, (tokens,)."""

    def __init__(self, consumer: Consumer, mask: NDArray[np.bool_]) -> None:
        self._consumer = consumer
        self._mask = mask

    @property
    def view(self) -> View:
        """What it reads."""
        return self._consumer.view

    def update(self, numbers: NDArray[np.int64], activations: NDArray[np.float32]) -> None:
        """Take in a chunk of this pass: (tokens,), (features of the view, tokens)."""
        here = np.flatnonzero(self._mask[numbers])
        self._consumer.update(numbers[here], activations.take(here, axis=1))

    def next_pass(self) -> bool:
        """End this pass; return whether another is needed."""
        return self._consumer.next_pass()
