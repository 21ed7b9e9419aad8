"""What the methods share that is theirs to choose freely: PEFT's model, batches by length, and torch.topk merged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file

from benchmarks.rivals.contract import BATCH_TOKENS, NO_TOKEN, Job, Top

if TYPE_CHECKING:
    from peft import PeftModel

PREFIX, END = "base_model.model.", ".lora_A.weight"


def directions(job: Job) -> dict[str, torch.Tensor]:
    """Return A of every adapted module, (rank, in) float32, by the module's name in the base model."""
    tensors = load_file(job.adapter / "adapter_model.safetensors")
    return {
        name.removeprefix(PREFIX).removesuffix(END): tensor.float()
        for name, tensor in tensors.items()
        if name.endswith(END)
    }


def adapted_model(job: Job) -> PeftModel:
    """Load base model and adapter in float32."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(job.model, dtype=torch.float32)
    return PeftModel.from_pretrained(base, str(job.adapter)).eval()


def without_head(model: PeftModel) -> torch.nn.Module:
    """Return what computes the hidden states; the logits are not asked for."""
    base: Any = model.get_base_model()
    return base.base_model


def feature_names(read: Mapping[str, torch.Tensor]) -> list[str]:
    """Return MODULE.COMPONENT in the order of the modules."""
    return [f"{name}.{component}" for name, A in read.items() for component in range(len(A))]


def batches(token_ids: Sequence[np.ndarray]) -> Iterator[list[int]]:
    """Yield examples that run together, shortest first, at most BATCH_TOKENS with their padding."""
    batch: list[int] = []
    for example in sorted(range(len(token_ids)), key=lambda example: len(token_ids[example])):
        if batch and len(token_ids[example]) * (len(batch) + 1) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(example)
    yield batch


def padded(examples: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask of real tokens, both (batch, seq), padded on the right."""
    ids = torch.zeros(len(examples), max(map(len, examples)), dtype=torch.int64)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    for row, example in enumerate(examples):
        ids[row, : len(example)] = torch.from_numpy(example)
        mask[row, : len(example)] = True
    return ids, mask


def token_numbers(token_ids: Sequence[np.ndarray], batch: Sequence[int]) -> torch.Tensor:
    """Return the global numbers of a batch's tokens, example after example."""
    first = [0, *accumulate(map(len, token_ids))]
    return torch.cat([torch.arange(first[example], first[example + 1]) for example in batch])


class Best:
    """The best k of both polarities, merged batch by batch with torch.topk."""

    def __init__(self, features: int, k: int) -> None:
        self._k = k
        self._scores = torch.zeros(features, 2, k)  # ± activation: both polarities look for the highest, above 0
        self._tokens = torch.full((features, 2, k), NO_TOKEN)

    def update(self, activations: torch.Tensor, numbers: torch.Tensor) -> None:
        """Take in activations (features, tokens) of the tokens with these numbers (tokens,)."""
        for side, sign in enumerate((1, -1)):
            scores, places = torch.topk(sign * activations, min(self._k, len(numbers)), dim=1)
            scores = torch.cat([self._scores[:, side], scores], dim=1)
            tokens = torch.cat([self._tokens[:, side], numbers[places]], dim=1)
            self._scores[:, side], kept = torch.topk(scores, self._k, dim=1)
            self._tokens[:, side] = tokens.gather(1, kept)

    def top(self, names: Sequence[str]) -> Top:
        """Return what is kept by now."""
        none = self._scores == 0  # a zero has no polarity
        values = self._scores * torch.tensor([1.0, -1.0])[:, None]
        return Top(names, values.numpy(), self._tokens.masked_fill(none, NO_TOKEN).numpy())
