"""Which directions of an adapter lie in one space, so that a cosine between them means something.

What a module reads, or what it writes, is compared with

- what all layers read from the residual stream, if it does that (known by the module's name) and is as wide;
- what all layers write to the residual stream, likewise;
- in the hidden space of its layer's MLP: what gate and up write, and what down reads;
- the same of its own module otherwise, and always for an expert.
"""

from __future__ import annotations

from collections.abc import Hashable

from loradash_assets.compute.directions import Kind, ModuleDirections
from loradash_assets.compute.experts import NO_EXPERT
from loradash_assets.schema import OUTSIDE_LAYERS

INTO_HIDDEN = ("gate_proj", "up_proj")  # these write the MLP's hidden space
OUT_OF_HIDDEN = ("down_proj",)  # these read it
# By the last part of a module's name, in the architectures of transformers.
RESIDUAL: dict[Kind, set[str]] = {
    "read": {
        *("q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value", "Wqkv", "wqkv", "W_pack", "c_attn"),
        *("q_a_proj", "kv_a_proj_with_mqa", "in_proj", "in_proj_qkvz", "in_proj_ba"),
        *("gate_proj", "up_proj", "gate_up_proj", "c_fc", "fc1", "fc_in", "dense_h_to_4h", "w1", "w3"),
        *("lm_head", "embed_out"),
    },
    "write": {
        *("o_proj", "out_proj", "dense", "wo", "down_proj", "c_proj", "fc2", "fc_out", "dense_4h_to_h", "w2"),
        *("embed_tokens", "embed_in", "embed_positions", "word_embeddings", "wte", "wpe"),
    },
}


def space_of(module: ModuleDirections, kind: Kind) -> Hashable:
    """Return the space of what a module reads or writes: equal for those that are compared."""
    width = module.of(kind).shape[1]
    if module.expert == NO_EXPERT:
        hidden = OUT_OF_HIDDEN if kind == "read" else INTO_HIDDEN
        if module.projection in hidden and module.layer != OUTSIDE_LAYERS:
            return "hidden", module.layer, width
        if module.projection.rpartition(".")[2] in RESIDUAL[kind]:
            return "residual", kind, width
    return module.layer, module.projection, kind
