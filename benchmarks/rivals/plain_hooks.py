"""Plain hooks: batches by length through PEFT's model without its head, torch.topk merged batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.rivals.adapted import (
    Best,
    adapted_model,
    batches,
    directions,
    feature_names,
    padded,
    token_numbers,
    without_head,
)
from benchmarks.rivals.contract import Job, Record, Top, run


def load(job: Job) -> Record:
    """Load the model and put a hook on the input of every adapted module."""
    model = adapted_model(job)
    body, layers, read = without_head(model), model.get_base_model(), directions(job)
    seen: dict[str, torch.Tensor] = {}
    for name, A in read.items():
        layers.get_submodule(name).register_forward_pre_hook(_product(name, A, seen))

    @torch.inference_mode()
    def record(token_ids: Sequence[np.ndarray], directory: Path) -> Top:
        del directory  # nothing but the result is kept
        names = feature_names(read)
        best = Best(len(names), job.k)
        for batch in batches(token_ids):
            ids, mask = padded([token_ids[example] for example in batch])
            body(input_ids=ids, attention_mask=mask.long(), use_cache=False)
            activations = torch.cat([seen[name] for name in read], dim=-1)[mask]  # (tokens, features)
            best.update(activations.T, token_numbers(token_ids, batch))
        return best.top(names)

    return record


def _product(name: str, A: torch.Tensor, seen: dict[str, torch.Tensor]) -> Any:
    def hook(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        seen[name] = args[0] @ A.T  # (batch, seq, rank)

    return hook


if __name__ == "__main__":
    run(load)
