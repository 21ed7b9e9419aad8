"""A GGUF checkpoint made on the spot, converted: the weights that transformers reads from it, and the file no more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from loradash_assets.compute.errors import ModelError
from loradash_assets.compute.gguf import convert_gguf
from loradash_assets.compute.model import load_config, load_model, load_tokenizer
from tests.projects import tiny_tokenizer

HIDDEN, INNER, LAYERS, HEADS, KEY_HEADS = 64, 96, 2, 4, 2
NAMES = {
    "attn_q": (HIDDEN, HIDDEN),
    "attn_k": (HIDDEN * KEY_HEADS // HEADS, HIDDEN),
    "attn_v": (HIDDEN * KEY_HEADS // HEADS, HIDDEN),
    "attn_output": (HIDDEN, HIDDEN),
    "ffn_gate": (INNER, HIDDEN),
    "ffn_up": (INNER, HIDDEN),
    "ffn_down": (HIDDEN, INNER),
}


def _write(file: Path, *, tied: bool) -> dict[str, np.ndarray]:
    """Write a Llama with weights in Q8_0, and return them as the file's reader should see them."""
    vocabulary = tiny_tokenizer()
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(vocabulary))
    _add_tokenizer(writer, vocabulary)
    random = np.random.default_rng(0)
    kept: dict[str, np.ndarray] = {}
    shapes = {"token_embd": (len(vocabulary), HIDDEN)} | ({} if tied else {"output": (len(vocabulary), HIDDEN)})
    for layer in range(LAYERS):
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in NAMES.items()}
    for name, shape in shapes.items():
        raw = quantize(random.normal(size=shape).astype(np.float32), gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(f"{name}.weight", raw, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        kept[name] = dequantize(raw, gguf.GGMLQuantizationType.Q8_0)
    norms = ["output_norm", *(f"blk.{layer}.{part}_norm" for layer in range(LAYERS) for part in ("attn", "ffn"))]
    for name in norms:
        kept[name] = random.normal(size=HIDDEN).astype(np.float32)
        writer.add_tensor(f"{name}.weight", kept[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return kept


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Any) -> None:
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(sorted(model["vocab"], key=model["vocab"].__getitem__))
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in model["vocab"]])
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)


@pytest.mark.parametrize("tied", [True, False])
def test_the_converted_model_has_the_files_weights_and_needs_the_file_no_more(tmp_path: Path, tied: bool) -> None:
    source = tmp_path / "tiny.gguf"
    kept = _write(source, tied=tied)
    reference = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=source.name, dtype=torch.float32)
    expected = {name: weight.clone() for name, weight in reference.state_dict().items()}
    tokens = AutoTokenizer.from_pretrained(tmp_path, gguf_file=source.name)("Anna has 3 apples 世")["input_ids"]

    convert_gguf(source, tmp_path / "model")
    source.unlink()

    assert not {"quantization_config"} & load_config(tmp_path / "model", trust_remote_code=False).to_dict().keys()
    model = load_model(tmp_path / "model", dtype="auto", device=torch.device("cpu"), trust_remote_code=False)
    state = model.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], weight) for name, weight in expected.items())
    assert {weight.dtype for weight in state.values()} == {torch.float32}
    np.testing.assert_array_equal(state["model.embed_tokens.weight"].numpy(), kept["token_embd"])
    np.testing.assert_array_equal(state["model.layers.1.mlp.down_proj.weight"].numpy(), kept["blk.1.ffn_down"])
    assert ("lm_head.weight" in load_file(tmp_path / "model" / "model.safetensors")) == (not tied)
    assert load_tokenizer(tmp_path / "model", trust_remote_code=False)("Anna has 3 apples 世")["input_ids"] == tokens


@pytest.mark.parametrize("bytes_kept", [0, 3, 40, 5_000])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, bytes_kept: int) -> None:
    source = tmp_path / "tiny.gguf"
    _write(source, tied=True)
    source.write_bytes(source.read_bytes()[:bytes_kept])
    with pytest.raises(ModelError, match=r"model\.base_model: cannot read .*tiny\.gguf"):
        convert_gguf(source, tmp_path / "model")
