"""Tiny random models of the causal architectures that the coverage table measures, two layers each.

Where a width is free, outputs are multiples of 32 and inputs of 64: bitsandbytes multiplies no others in 4 bits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig

VOCABULARY = 96
COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2_NAMES: dict[str, Any] = {"n_embd": 64, "n_inner": 128, "n_layer": 2, "n_head": 4, "n_positions": 128}
EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
}
MAMBA: dict[str, Any] = {"mamba_d_state": 8, "mamba_d_conv": 4, "mamba_expand": 2}


@dataclass(frozen=True)
class Architecture:
    """A transformers model type, the configuration that makes it tiny, and what adapters of it name."""

    label: str
    model_type: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    names: dict[str, Any] = field(default_factory=lambda: COMMON)
    experts: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()  # instead of "all-linear", which PEFT or loradash refuses (column "plain" shows it)

    def config(self, *, tied: bool) -> PretrainedConfig:
        """Return the configuration, with the output embeddings tied to the input's or not."""
        from transformers import AutoConfig

        special = {name: COMMON[name] for name in ("vocab_size", "pad_token_id", "bos_token_id", "eos_token_id")}
        return AutoConfig.for_model(
            self.model_type, **{**special, **self.names, **self.options}, tie_word_embeddings=tied
        )


FUSED = ("experts.gate_up_proj", "experts.down_proj")
DEEPSEEK: dict[str, Any] = {
    "kv_lora_rank": 64,
    "q_lora_rank": 64,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 32,
    "v_head_dim": 16,
    "num_key_value_heads": 4,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "n_shared_experts": 1,
}

GPT_OSS: dict[str, Any] = {
    "head_dim": 16,
    "sliding_window": 8,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
}
JAMBA: dict[str, Any] = {
    "mamba_dt_rank": 64,
    "mamba_d_state": 32,
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "expert_layer_period": 2,
    "expert_layer_offset": 1,
}
FALCON_H1: dict[str, Any] = {
    "mamba_d_ssm": 64,
    "mamba_d_state": 16,
    "mamba_n_heads": 32,
    "mamba_d_head": 2,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 16,
    "head_dim": 16,
}
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")

ARCHITECTURES = (
    Architecture("Llama", "llama"),
    Architecture("Mistral", "mistral", {"sliding_window": 8}),
    Architecture("Qwen2", "qwen2"),
    Architecture("Qwen3", "qwen3", {"head_dim": 16}),
    Architecture("Gemma 2", "gemma2", {"head_dim": 16, "sliding_window": 8}),
    Architecture("Gemma 3 (text)", "gemma3_text", {"head_dim": 16, "sliding_window": 8}),
    Architecture("Phi-3", "phi3"),
    Architecture("Phi", "phi", {"num_key_value_heads": 4}),
    Architecture("GPT-2", "gpt2", names=GPT2_NAMES),
    Architecture("GPT-NeoX", "gpt_neox"),
    Architecture("GPT-J", "gptj", {"rotary_dim": 8}, names=GPT2_NAMES),
    Architecture("OPT", "opt", {"ffn_dim": 128, "word_embed_proj_dim": 64}),
    Architecture("Falcon", "falcon", {"num_kv_heads": 2, "new_decoder_architecture": True, "ffn_hidden_size": 128}),
    Architecture("BLOOM", "bloom", {"n_layer": 2, "n_head": 4}),
    Architecture("StableLM", "stablelm"),
    Architecture("OLMo 2", "olmo2"),
    Architecture("Starcoder2", "starcoder2", {"sliding_window": 8}),
    Architecture("SmolLM3", "smollm3", {"no_rope_layers": [1, 0]}),
    Architecture("GLM-4", "glm4", {"head_dim": 16}),
    Architecture("Cohere", "cohere"),
    Architecture("Granite", "granite"),
    Architecture("Qwen3-MoE", "qwen3_moe", {**EXPERTS, "head_dim": 16}, experts=FUSED),
    Architecture("Mixtral", "mixtral", {**EXPERTS, "sliding_window": 8}, experts=FUSED),
    Architecture("OLMoE", "olmoe", EXPERTS, experts=FUSED),
    Architecture("DeepSeek-V3", "deepseek_v3", {**EXPERTS, **DEEPSEEK}, experts=FUSED),
    Architecture("gpt-oss", "gpt_oss", {**EXPERTS, **GPT_OSS}, experts=FUSED),
    Architecture("Mamba", "mamba", {"state_size": 16, "time_step_rank": 64}, targets=("in_proj", "x_proj")),
    Architecture(
        "Jamba", "jamba", {**EXPERTS, **MAMBA, **JAMBA}, experts=FUSED, targets=(*ATTENTION, "in_proj", "x_proj")
    ),
    Architecture("Falcon-H1", "falcon_h1", {**MAMBA, **FALCON_H1}, targets=(*ATTENTION, *MLP, "in_proj")),
)
