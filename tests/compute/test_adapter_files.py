"""An adapter's files looked into without torch: pickles refused, damage named, layers told from tensor names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

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


def test_names_come_from_the_header_alone(adapter: Path) -> None:
    header = {"__metadata__": {"format": "pt"}, "b.lora_A.weight": {}, "a.lora_B.weight": {}}
    (adapter / SAFETENSORS).write_bytes(_header(json.dumps(header).encode()))
    assert tensor_names(adapter / SAFETENSORS) == ["b.lora_A.weight", "a.lora_B.weight"]


def test_layers_are_those_of_the_linear_modules() -> None:
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
    assert layers([f"{prefix}model.embed_tokens.lora_embedding_A"]) == []


def test_a_layer_is_the_first_number_of_a_name() -> None:
    assert layer_of("model.layers.7.experts.3.up_proj") == 7
    assert layer_of("lm_head") == -1
    assert layer_of("model.layers.²") == -1
