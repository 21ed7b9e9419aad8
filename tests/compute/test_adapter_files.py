"""An adapter's files looked into without torch: pickles refused, damage named, layers told from tensor names."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from loradash_assets.compute.adapter_files import (
    CONFIG,
    PICKLE,
    SAFETENSORS,
    layer_of,
    layers,
    tensor_names,
    weights_file,
)
from loradash_assets.compute.errors import AdapterError


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    (tmp_path / CONFIG).write_text("{}")
    return tmp_path


def test_a_pickle_is_refused_naming_the_option(adapter: Path) -> None:
    torch.save({"a.lora_A.weight": torch.ones(1, 1)}, adapter / PICKLE)
    with pytest.raises(AdapterError, match=r"adapter\.allow_pickle"):
        weights_file(adapter, allow_pickle=False)
    assert weights_file(adapter, allow_pickle=True) == adapter / PICKLE
    assert tensor_names(adapter / PICKLE) == ["a.lora_A.weight"]


def test_safetensors_win_over_a_pickle(adapter: Path) -> None:
    (adapter / PICKLE).touch()
    (adapter / SAFETENSORS).touch()
    assert weights_file(adapter, allow_pickle=True) == adapter / SAFETENSORS


def test_missing_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"has no adapter_config\.json"):
        weights_file(tmp_path, allow_pickle=False)
    (tmp_path / CONFIG).write_text("{}")
    with pytest.raises(AdapterError, match=r"has no adapter_model\.safetensors"):
        weights_file(tmp_path, allow_pickle=True)


def test_a_file_in_place_of_the_directory_is_refused_with_the_way_out(adapter: Path) -> None:
    with pytest.raises(AdapterError, match=r"adapter_config\.json is a file; name the directory that holds"):
        weights_file(adapter / CONFIG, allow_pickle=False)


def test_a_directory_of_adapters_is_refused_naming_them(tmp_path: Path) -> None:
    for name in ("checkpoint-20", "checkpoint-10", "logs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / CONFIG).touch()
    (tmp_path / "logs" / CONFIG).unlink()
    message = (
        f"adapter.path: {tmp_path} has no adapter_config.json, but directories with one: checkpoint-10, checkpoint-20; "
        "name one of them"
    )
    with pytest.raises(AdapterError, match=re.escape(message)):
        weights_file(tmp_path, allow_pickle=False)
    for number in range(30, 60, 10):
        (tmp_path / f"checkpoint-{number}").mkdir()
        (tmp_path / f"checkpoint-{number}" / CONFIG).touch()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / CONFIG).touch()
    with pytest.raises(AdapterError, match="checkpoint-50 and 1 more; name one of them"):
        weights_file(tmp_path, allow_pickle=False)


@pytest.mark.parametrize("name", ["model.safetensors", "model-00001-of-00002.safetensors", "pytorch_model.bin"])
def test_a_whole_model_is_refused_with_the_way_out(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").touch()
    (tmp_path / name).touch()
    with pytest.raises(AdapterError, match=r"holds a whole model and no adapter_config\.json; .* the adapter itself"):
        weights_file(tmp_path, allow_pickle=False)


def test_a_pickle_that_runs_code_or_is_damaged_is_refused_even_if_pickles_are_allowed(adapter: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (Path.touch, (adapter / "attacked",))

    torch.save({"x": Attack()}, adapter / PICKLE)
    with pytest.raises(AdapterError, match="cannot read"):
        tensor_names(adapter / PICKLE)
    assert not (adapter / "attacked").exists()
    for content in (b"", b"no pickle"):
        (adapter / PICKLE).write_bytes(content)
        with pytest.raises(AdapterError, match="cannot read"):
            tensor_names(adapter / PICKLE)


def _header(content: bytes, length: int | None = None) -> bytes:
    return (len(content) if length is None else length).to_bytes(8, "little") + content


@pytest.mark.parametrize(
    "content",
    [b"", b"\x05", _header(b'{"a": {}'), _header(b"{}", 2**63), _header(b"[1]"), _header(b"7"), _header(b"\xff\xff")],
)
def test_a_damaged_header_is_refused_by_name(adapter: Path, content: bytes) -> None:
    (adapter / SAFETENSORS).write_bytes(content)
    with pytest.raises(AdapterError, match=r"adapter_model\.safetensors is not a valid safetensors file"):
        tensor_names(adapter / SAFETENSORS)


def test_the_names_of_a_file_that_is_still_being_written_are_not_taken(adapter: Path) -> None:
    tensors = {"b.lora_A.weight": np.ones((2, 3), np.float32), "a.lora_B.weight": np.ones((3, 2), np.float32)}
    save_file(tensors, adapter / SAFETENSORS, metadata={"format": "pt"})
    assert set(tensor_names(adapter / SAFETENSORS)) == set(tensors)
    whole = (adapter / SAFETENSORS).read_bytes()
    for length in (0, 8, 20, len(whole) - 1):
        (adapter / SAFETENSORS).write_bytes(whole[:length])
        with pytest.raises(AdapterError, match="is not a valid safetensors file"):
            tensor_names(adapter / SAFETENSORS)


def test_layers_are_those_of_the_adapted_modules() -> None:
    prefix = "base_model.model."
    names = [
        f"{prefix}model.layers.11.mlp.experts.3.up_proj.lora_A.weight",
        f"{prefix}model.layers.2.self_attn.q_proj.lora_A.weight",
        f"{prefix}model.layers.2.self_attn.q_proj.lora_B.weight",
        f"{prefix}transformer.h.0.attn.c_proj.lora_A.weight",
        f"{prefix}lm_head.lora_A.weight",
        f"{prefix}model.layers.5.mlp.up_proj.weight",  # a module saved whole
    ]
    assert layers(names) == [-1, 0, 2, 11]


def test_embeddings_have_layers_and_biases_or_what_was_saved_whole_do_not() -> None:
    prefix = "base_model.model."
    assert layers([f"{prefix}model.embed_tokens.lora_embedding_{side}" for side in "AB"]) == [-1]
    names = [
        f"{prefix}model.layers.3.self_attn.q_proj.base_layer.bias",
        f"{prefix}model.layers.4.self_attn.q_proj.lora_B.bias",
        f"{prefix}model.layers.5.self_attn.q_proj.lora_magnitude_vector",
        f"{prefix}model.embed_tokens.base_layer.weight",
        f"{prefix}model.embed_tokens.token_adapter.trainable_tokens_delta",
        f"{prefix}lm_head.weight",
    ]
    assert layers(names) == []


def test_a_layer_is_the_first_number_of_a_name() -> None:
    assert layer_of("model.layers.7.experts.3.up_proj") == 7
    assert layer_of("lm_head") == -1
    assert layer_of("model.layers.²") == -1
