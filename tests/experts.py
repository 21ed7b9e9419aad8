"""Tiny models with a mixture of experts, and their adapters, for tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.nn.functional import silu
from transformers import (
    DeepseekV2Config,
    DeepseekV3Config,
    GptOssConfig,
    GraniteMoeConfig,
    MixtralConfig,
    OlmoeConfig,
    PhimoeConfig,
    PretrainedConfig,
    Qwen3MoeConfig,
)

VOCABULARY = 400
ATTENTION: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
TOKENS: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "max_position_embeddings": 512}
COMMON: dict[str, Any] = {**ATTENTION, **TOKENS, "vocab_size": VOCABULARY, "num_key_value_heads": 2}
FOUR: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 24}
SMALL_HEADS: dict[str, Any] = {"head_dim": 4}
LATENT: dict[str, Any] = {
    **COMMON,
    **{"intermediate_size": 24, "moe_intermediate_size": 12, "num_key_value_heads": 4, "first_k_dense_replace": 1},
    **{"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "n_group": 2, "topk_group": 1},
    **{"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 4},
}


def halves(gate_up: torch.Tensor) -> torch.Tensor:
    """The usual gate: the first half through SiLU times the second."""
    gate, up = gate_up.chunk(2, dim=-1)
    return silu(gate) * up


def alternating(gate_up: torch.Tensor) -> torch.Tensor:
    """GPT-OSS: gate and up take turns, both are clamped."""
    gate, up = gate_up[:, ::2].clamp(max=7.0), gate_up[:, 1::2].clamp(-7.0, 7.0)
    return gate * torch.sigmoid(1.702 * gate) * (up + 1)


@dataclass(frozen=True)
class Family:
    """A kind of model, and what its experts compute."""

    config: PretrainedConfig
    gate: Callable[[torch.Tensor], torch.Tensor] = halves
    transposed: bool = False
    experts: str = "mlp.experts"

    @property
    def both(self) -> list[str]:
        """The names of both adapted parameters."""
        return [f"{self.experts}.{name}" for name in ("gate_up_proj", "down_proj")]


FAMILIES: dict[str, Family] = {
    "mixtral": Family(MixtralConfig(**COMMON, **FOUR)),
    "qwen3": Family(
        Qwen3MoeConfig(**COMMON, **SMALL_HEADS, num_experts=8, num_experts_per_tok=3, moe_intermediate_size=12)
    ),
    "olmoe": Family(OlmoeConfig(**COMMON, num_experts=8, num_experts_per_tok=2, intermediate_size=12)),
    "deepseek 3": Family(DeepseekV3Config(**LATENT)),
    "deepseek 2": Family(DeepseekV2Config(**LATENT, topk_method="greedy")),
    "gpt-oss": Family(GptOssConfig(**COMMON, **FOUR, **SMALL_HEADS), alternating, transposed=True),
    "granite": Family(GraniteMoeConfig(**COMMON, **FOUR), experts="block_sparse_moe.experts"),
    "phi": Family(PhimoeConfig(**COMMON, **FOUR)),
}


@dataclass(frozen=True)
class Old:
    """How a model was built when every expert was a module."""

    block: str  # the module that held the experts
    names: tuple[str, str, str]  # of gate, up and down
    experts: int
    inner: int


OLD = {
    "mixtral": Old("block_sparse_moe", ("w1", "w3", "w2"), 4, 24),
    "qwen3": Old("mlp", ("gate_proj", "up_proj", "down_proj"), 8, 12),
    "olmoe": Old("mlp", ("gate_proj", "up_proj", "down_proj"), 8, 12),
}


def save_old_adapter(directory: Path, old: Old, dropout: float = 0.0) -> dict[str, torch.Tensor]:
    """Save an adapter of rank 2 for every expert, and for `q_proj`, as PEFT did then; return its tensors."""
    hidden = 16
    shapes = dict(zip(old.names, [(hidden, old.inner), (hidden, old.inner), (old.inner, hidden)], strict=True))
    torch.manual_seed(3)
    tensors: dict[str, torch.Tensor] = {}
    for layer in range(2):
        modules = {f"{old.block}.experts.{e}.{name}": shapes[name] for e in range(old.experts) for name in shapes}
        for name, (wide, out) in {**modules, "self_attn.q_proj": (hidden, hidden)}.items():
            prefix = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{prefix}.lora_A.weight"] = 0.3 * torch.randn(2, wide)
            tensors[f"{prefix}.lora_B.weight"] = 0.3 * torch.randn(out, 2)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "old",
        "r": 2,
        "lora_alpha": 3,
        "lora_dropout": dropout,
        "bias": "none",
        "fan_in_fan_out": False,
        "target_modules": ["q_proj", *old.names],
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, directory / "adapter_model.safetensors")
    return tensors
