"""What a forward pass gives: activations of features that see every token, and of experts on the tokens they see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Routed:
    """Activations of one module's experts, which all have the same features; only of tokens that an expert sees.

    The columns of expert e are offsets[e]:offsets[e + 1], in the order of their tokens.
    """

    offsets: NDArray[np.int64]  # (experts + 1,)
    tokens: NDArray[np.int32]  # (columns,), index of the token among those of the batch or chunk
    values: NDArray[np.float32]  # (features of an expert, columns)


@dataclass(frozen=True)
class Recorded:
    """Activations of a batch or chunk: `dense` (features, tokens), `routed` by the module that holds the experts."""

    dense: NDArray[np.float32]
    routed: Mapping[str, Routed]

    @property
    def tokens(self) -> int:
        """How many tokens it has."""
        return self.dense.shape[1]

    def take(self, columns: NDArray[np.int64]) -> Recorded:
        """Return the tokens at `columns` (tokens,), in this order; a token may be taken several times, or never."""
        if np.array_equal(columns, np.arange(self.tokens)):  # a long example by itself, of which no copy is made
            return self
        routed = {owner: _taken(of_owner, columns, self.tokens) for owner, of_owner in self.routed.items()}
        return Recorded(self.dense[:, columns], routed)


@dataclass(frozen=True)
class Pending:
    """A forward pass that was started: `result` waits for its activations, if it is still running on a GPU.

    `pasts` are what later passes need of the rows that were to be kept, in their order; opaque outside the model.
    """

    result: Callable[[], Recorded]
    pasts: Sequence[Any] = ()


def joined(parts: Sequence[Recorded]) -> Recorded:
    """Return batches, which all have the same features, as one, tokens in the order of the batches."""
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0, *(part.tokens for part in parts)])
    routed = {owner: _joined([part.routed[owner] for part in parts], starts) for owner in parts[0].routed}
    return Recorded(np.concatenate([part.dense for part in parts], axis=1), routed)


def _joined(parts: Sequence[Routed], starts: NDArray[np.int64]) -> Routed:
    counts = np.array([np.diff(part.offsets) for part in parts])  # (parts, experts)
    experts = np.concatenate([np.repeat(np.arange(of_part.size), of_part) for of_part in counts])  # (columns,)
    order = np.argsort(experts, kind="stable")
    tokens = np.concatenate([part.tokens + start for part, start in zip(parts, starts, strict=False)])
    return Routed(
        offsets=np.concatenate([[0], np.cumsum(counts.sum(axis=0))]).astype(np.int64),
        tokens=tokens[order].astype(np.int32),
        values=np.concatenate([part.values for part in parts], axis=1)[:, order],
    )


def _taken(routed: Routed, columns: NDArray[np.int64], tokens: int) -> Routed:
    order = np.argsort(columns, kind="stable")  # new tokens, those that stand for the same old one side by side
    counts = np.bincount(columns, minlength=tokens)  # (old tokens,)
    copies = counts[routed.tokens]  # (old columns,)
    old = np.repeat(np.arange(routed.tokens.size), copies)  # (new columns,)
    copy = np.arange(old.size) - np.repeat(np.cumsum(copies) - copies, copies)  # the how manieth of its old column
    new_tokens = order[(np.cumsum(counts) - counts)[routed.tokens[old]] + copy]
    of_column = np.repeat(np.arange(routed.offsets.size - 1), np.diff(routed.offsets))  # expert, (old columns,)
    by_expert = np.lexsort((new_tokens, of_column[old]))
    return Routed(
        offsets=np.searchsorted(of_column[old][by_expert], np.arange(routed.offsets.size)).astype(np.int64),
        tokens=new_tokens[by_expert].astype(np.int32),
        values=routed.values[:, old[by_expert]],
    )
