"""Tiny adapted models, and what they give on every token of a fixed tree of prompts: see `reference` for how.

A token of a causal model depends on the tokens up to it, so each prefix of the tree needs one float64 pass, and any
prompts that are cut from the tree find their reference there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)

from benchmarks import reference
from loradash_assets.compute.catalogue import read_modules, write_catalogue
from loradash_assets.compute.features import AdaptedModule
from loradash_assets.compute.model import load_model
from tests.projects import save_adapter, save_base

LONGEST = 20
COMMON: dict[str, Any] = {"vocab_size": 400, "max_position_embeddings": 512, "initializer_range": 0.2}
GATED: dict[str, Any] = {
    **COMMON,
    **{"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2},
}
EXPERTS: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2}


@dataclass(frozen=True)
class Kind:
    """A base model and its adapter; `strength` is ‖scaling · B A‖ / ‖W‖ (Frobenius) of every adapted weight."""

    config: Callable[[], PretrainedConfig]
    strength: float
    lora: dict[str, Any] = field(default_factory=dict[str, Any])
    dtype: str = "float32"


KINDS = {
    "weak": Kind(lambda: LlamaConfig(**GATED), 0.01),
    "conv1d": Kind(
        lambda: GPT2Config(**COMMON, n_embd=16, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2),
        0.1,
        {"r": 4, "target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True},
    ),
    "strong dora": Kind(lambda: Qwen2Config(**GATED), 1.0, {"r": 2, "use_dora": True}),
    "experts": Kind(
        lambda: MixtralConfig(**GATED, **EXPERTS),
        0.3,
        {
            "r": 2,
            "target_modules": ["q_proj"],
            "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
        },
    ),
    "embeddings": Kind(
        lambda: LlamaConfig(**GATED), 0.3, {"r": 2, "target_modules": ["embed_tokens", "lm_head", "q_proj"]}
    ),
    "strong in bfloat16": Kind(lambda: LlamaConfig(**GATED), 1.0, {"r": 2}, "bfloat16"),
}


def _trunks() -> list[list[int]]:
    """Prompts that share their beginnings in many ways, with runs of one token, and with the padding token 0."""
    random = np.random.default_rng(0)
    grown = [random.integers(3, 60, LONGEST).tolist() for _ in range(6)]
    grown += [[7] * LONGEST, [0] * LONGEST]
    for stem, length in [(0, 1), (0, 7), (0, 7), (1, 12), (2, 19), (6, 3), (6, 15), (7, 1), (7, 4), (9, 9), (10, 11)]:
        grown.append(grown[stem][:length] + random.integers(0, 60, LONGEST - length).tolist())
    return [*grown, [3, *grown[0][1:]], [4, *grown[0][1:]]]


TRUNKS = _trunks()
PREFIXES = {
    tuple(trunk[: length + 1]): number * LONGEST + length
    for number, trunk in reversed(list(enumerate(TRUNKS)))
    for length in range(LONGEST)
}  # -> place in the tree


@dataclass(frozen=True)
class Made:
    """A kind on disk: base model, adapter and catalogue."""

    kind: Kind
    directory: Path

    @property
    def base(self) -> Path:
        """Where the base model is."""
        return self.directory / "base"

    @property
    def adapter(self) -> Path:
        """Where the adapter is."""
        return self.directory / "adapter"

    @cached_property
    def modules(self) -> list[AdaptedModule]:
        """What is recorded, in order."""
        return read_modules(self.directory)

    def load(self) -> PreTrainedModel:
        """Return the base model as a recording loads it."""
        return load_model(self.base, dtype="auto", device=torch.device("cpu"), trust_remote_code=False)

    @cached_property
    def exact(self) -> np.ndarray:
        """(features, places of the tree) in float64, NaN where an expert does not see the token."""
        return self._activations(float64=True)

    @cached_property
    def peft(self) -> np.ndarray:
        """The same by PEFT's own forward in the model's type."""
        return self._activations(float64=False)

    def _activations(self, *, float64: bool) -> np.ndarray:
        model = reference.load_adapted(self.base, self.adapter, float64=float64)
        found = reference.activations(model, self.adapter, TRUNKS, float64=float64)
        assert set(found) == {module.name for module in self.modules}
        rows: list[np.ndarray] = []
        for module in self.modules:
            row = np.full((module.rank, len(TRUNKS) * LONGEST), np.nan)
            row[:, found[module.name].tokens] = found[module.name].values.T
            rows.append(row)
        return np.concatenate(rows)


def make(directory: Path, kind: Kind) -> Made:
    """Save a kind's base model, adapter and catalogue in `directory`."""
    made = Made(kind, directory)
    save_base(made.base, kind.config())
    if kind.dtype != "float32":
        AutoModelForCausalLM.from_pretrained(made.base).to(getattr(torch, kind.dtype)).save_pretrained(made.base)
    save_adapter(made.adapter, made.base, **kind.lora)
    _scale(made)
    write_catalogue(made.adapter, made.base, directory, allow_pickle=False, trust_remote_code=False, rank=None)
    return made


@torch.no_grad()
def _scale(made: Made) -> None:
    """Give every update the kind's strength."""
    base = AutoModelForCausalLM.from_pretrained(made.base, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(made.adapter))
    for name, layer in model.named_modules():
        if isinstance(layer, LoraLayer):
            adapted: Any = layer
            weight = adapted.get_param() if hasattr(adapted, "get_param") else adapted.get_base_layer().weight
            factor = made.kind.strength * weight.norm() / adapted.get_delta_weight("default").norm()
            for side, parameter in adapted.named_parameters():
                if side in {"lora_B.default.weight", "lora_embedding_B.default"}:
                    parameter.mul_(factor)
            assert np.isclose(adapted.get_delta_weight("default").norm(), made.kind.strength * weight.norm()), name
    model.save_pretrained(str(made.adapter))


def places(examples: Sequence[Sequence[int]]) -> np.ndarray:
    """Return each token's place in the tree, (tokens,)."""
    return np.array([PREFIXES[tuple(ids[: end + 1])] for ids in examples for end in range(len(ids))])
