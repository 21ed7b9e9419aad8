"""Reading a layer's recording again and again, chunk by chunk, for everything that is made from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from loradash_assets.compute.views import View
from loradash_assets.schema import Basis

Chunk = tuple[NDArray[np.int64], NDArray[np.float32]]


@dataclass(frozen=True)
class Block:
    """Features of a layer that see the same tokens: a slice of its features, in their order.

    `routed` if they see only some tokens: those that the router of a mixture of experts sends to their expert.
    """

    features: slice
    routed: bool = False


class LayerRecording(Protocol):
    """What was recorded of one layer."""

    @property
    def blocks(self) -> Sequence[Block]:
        """The blocks, which together hold every feature once, in order."""
        ...

    def chunks(self) -> Iterator[Sequence[Chunk]]:
        """Yield one Chunk per block: token numbers (tokens,) and activations (features of the block, tokens).

        Can be called again and again. Every token that a block sees comes exactly once, whole examples in each chunk;
        chunks, and examples inside a chunk, may come in any order.
        """
        ...


class Consumer(Protocol):
    """Something made from a view of a block, in as many passes over the recording as it needs."""

    @property
    def view(self) -> View:
        """What it reads."""
        ...

    def update(self, numbers: NDArray[np.int64], activations: NDArray[np.float32]) -> None:
        """Take in a chunk of this pass: (tokens,), (features of the view, tokens)."""
        ...

    def next_pass(self) -> bool:
        """End this pass; return whether another is needed."""
        ...


def run_passes(recording: LayerRecording, consumers: Mapping[int, Sequence[Consumer]], tokens: int) -> None:
    """Give every consumer of a block, by the block's place, as many passes as it needs.

    Raises ValueError where a block that sees every token did not see `tokens`.
    """
    waiting = {place: list(of_block) for place, of_block in consumers.items()}
    while any(waiting.values()):
        seen = dict.fromkeys(waiting, 0)
        for chunks in recording.chunks():
            for place, of_block in waiting.items():
                seen[place] += chunks[place][0].size
                _give(chunks[place], of_block)
        for place, count in seen.items():
            if count != tokens and not recording.blocks[place].routed:
                raise ValueError(f"{count} tokens are recorded, but the prompts have {tokens}")
        waiting = {place: [each for each in of_block if each.next_pass()] for place, of_block in waiting.items()}


def _give(chunk: Chunk, consumers: Sequence[Consumer]) -> None:
    numbers, recorded = chunk
    viewed: dict[Basis, NDArray[np.float32]] = {}
    for consumer in consumers:
        view = consumer.view
        if view.basis not in viewed:
            viewed[view.basis] = view.of(recorded)
        consumer.update(numbers, viewed[view.basis])
