"""What a recording needs to know of a model, found out on a few tokens: what its states depend on, and if it has pasts.

A pass over so few tokens takes as long as reading the model's weights, so all questions share what they can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import DummyLayer, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from loradash_assets.compute.pasts import NO_PAST, Body, Forward, Past, Tokens

TOKENS = 32
TOLERANCE = {torch.bfloat16: 5e-2, torch.float16: 1e-2}  # relative
TOLERANCE_WIDER = 1e-4
TOLERANCE_IN_BATCH = 1e-3  # rows of one batch go through the same kernels, whatever the dtype
KEYS_AND_VALUES = {DynamicLayer, DynamicSlidingWindowLayer, DummyLayer}  # a dummy's are those of a layer before it


class Probe:
    """Questions to a model: `run` makes a call of its body and returns the states, (batch, seq, hidden).

    `tokens` (n,), n > 4 for pasts, and others that are made from them run. `vocabulary` is how many token ids there
    are, `dtype` the type that the model computes in.
    """

    def __init__(
        self,
        run: Callable[[Forward], torch.Tensor],
        body: Body,
        tokens: NDArray[np.int64],
        vocabulary: int,
        dtype: torch.dtype,
    ) -> None:
        self._run = run
        self._body = body
        self._tolerance = TOLERANCE.get(dtype, TOLERANCE_WIDER)
        self._x = tokens
        self._begun = max(1, len(tokens) // 2)
        self._goes_on = np.concatenate([tokens[: self._begun], (tokens[self._begun :] + 1) % vocabulary])
        start = len(tokens) // 4
        self._y = tokens[start : start + max(2, 3 * len(tokens) // 8)]  # short: the rows beside it are padded to it

    @cached_property
    def _whole(self) -> torch.Tensor:
        """The states of x, of x that goes on differently half way, and of y, each in one piece."""
        return self._run(self._body.forward([self._x, self._goes_on, self._y]))

    @torch.no_grad()
    def is_prefix_determined(self) -> bool:
        """Whether a token's states depend on the tokens up to it and nothing else, up to rounding.

        Runs a prefix alone, and in a batch of two longer examples that go on differently. Only then may equal prefixes
        be counted as one context.
        """
        alone = _finite(self._run(self._body.forward([self._x[: self._begun]]))[0])  # (length, hidden)
        first, second = _finite(self._whole[:2, : self._begun])
        return bool(
            (alone - first).norm() <= self._tolerance * alone.norm()
            and (first - second).norm() <= TOLERANCE_IN_BATCH * alone.norm()
        )

    @torch.no_grad()
    def problem_with_pasts(self) -> str | None:
        """Say why a prefix that examples share cannot run once for all of them, or None if it can.

        It can if states are the same up to rounding, token by token, where tokens run in three pieces instead of one:
        alone, and beside rows whose past is longer, shorter or none. Windows that are longer than the probe are not
        probed: there a model relies on transformers' masks.
        """
        try:
            if others := {type(layer) for layer in DynamicCache(config=self._body.config).layers} - KEYS_AND_VALUES:
                return f"it has layers of another kind: {', '.join(sorted(kind.__name__ for kind in others))}"
            worst = max(self._differences())
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a model's own code may raise anything given a cache that it did not make
            return f"{type(error).__name__}: {error}"
        if not worst <= self._tolerance:  # NaN is a problem too
            return f"after a past its states differ by {worst:.1g} of themselves"
        return None

    def _differences(self) -> Iterator[float]:
        x, y = self._x, self._y
        first, second, half = len(x) // 4, 2 * len(x) // 3, len(y) // 2
        whole_x, _, whole_y = self._whole
        heads, (past_x, past_y) = self._cut([x[:first], y[:half]], [NO_PAST] * 2, [0, 1])
        middle, (nested,) = self._cut([x[first:second]], [past_x], [0])
        ends, _ = self._cut([y, x[second:], y[half:]], [NO_PAST, nested, past_y], [])
        for part, whole in (
            (heads[0], whole_x[:first]),
            (heads[1], whole_y[:half]),
            (middle[0], whole_x[first:second]),
            (ends[0], whole_y[: len(y)]),
            (ends[1], whole_x[second:]),
            (ends[2], whole_y[half : len(y)]),
        ):
            yield _difference(part[: len(whole)], whole)

    def _cut(
        self, rows: Sequence[Tokens], pasts: Sequence[Past], keep: Sequence[int]
    ) -> tuple[torch.Tensor, list[Past]]:
        forward = self._body.forward(rows, pasts, keep)
        return self._run(forward), forward.kept()


def _difference(part: torch.Tensor, whole: torch.Tensor) -> float:
    """The largest ‖difference‖ / ‖state‖ of a token: (tokens, hidden) each."""
    part, whole = part.float(), whole.float()
    return float(((part - whole).norm(dim=-1) / whole.norm(dim=-1)).max())


def _finite(states: torch.Tensor) -> torch.Tensor:
    """Return the states in float32, those that are not finite as 0: where they are is a question of its own."""
    return states.float().nan_to_num(0.0, 0.0, 0.0)
