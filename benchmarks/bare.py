"""The baseline of what runs the model: its bare backbone, without adapter or head, over the batches of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from loradash_assets.compute.batching import Plan

Tokens = NDArray[np.integer]


class BareForward:
    """Runs a base model's backbone over all that a plan runs, which must share no prefixes.

    A mask says where there is padding, as is usual; if they are not `masked`, batches go without one.
    """

    def __init__(self, base: Any, examples: Sequence[Tokens], plan: Plan, *, masked: bool = True) -> None:
        self._body = base.base_model
        self._masked = masked
        self._batches = [
            _padded([examples[plan.segments[segment].example] for segment in batch]) for batch in plan.batches
        ]

    @torch.inference_mode()
    def __call__(self, upto: int | None = None) -> None:
        """Run all batches, or the first `upto`."""
        for ids, mask in self._batches[:upto]:
            self._body(input_ids=ids, attention_mask=mask if self._masked else None, use_cache=False)


def _padded(rows: Sequence[Tokens]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, (batch, seq) int64, padded on the right."""
    tensors = [torch.from_numpy(row.astype(np.int64)) for row in rows]
    ones = [torch.ones_like(row) for row in tensors]
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(tensors, batch_first=True), pad(ones, batch_first=True)
