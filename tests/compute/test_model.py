"""The base model: what is refused before or while it is loaded, and what its configuration says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, LlamaConfig, OPTConfig, Phi3Config, PretrainedConfig

from loradash_assets.compute.errors import ModelError
from loradash_assets.compute.model import (
    choose_device,
    has_length_dependent_positions,
    load_config,
    load_model,
    load_tokenizer,
    max_positions,
    model_facts,
    package_file,
)
from tests.projects import save_base

CPU = torch.device("cpu")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    save_base(tmp_path / "base")
    return tmp_path / "base"


def _load(directory: Path) -> torch.nn.Module:
    return load_model(directory, dtype="auto", device=CPU, trust_remote_code=False)


def test_a_model_loads_in_evaluation_mode_and_in_the_dtype_asked_for(base: Path) -> None:
    assert not _load(base).training
    model = load_model(base, dtype="bfloat16", device=CPU, trust_remote_code=False)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert model_facts(base, trust_remote_code=False) == {
        "architecture": "LlamaForCausalLM",
        "layers": 3,
        "hidden_size": 16,
        "dtype": "float32",
        "max_positions": 512,
    }


def test_missing_tensors_are_refused_by_name_not_drawn_at_random(base: Path) -> None:
    tensors = load_file(base / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 tensors: model\.layers\.1\.mlp\.up_proj\.weight"):
        _load(base)


def test_a_truncated_file_is_refused_by_name(base: Path) -> None:
    file = base / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model\.base_model: cannot load the weights in .*base"):
        _load(base)


def test_a_pickle_is_never_loaded(base: Path, tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (Path.touch, (tmp_path / "attacked",))

    torch.save({"x": Attack()}, base / "pytorch_model.bin")
    (base / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot load the weights"):
        _load(base)
    assert not (tmp_path / "attacked").exists()


def test_code_that_comes_with_the_model_does_not_run(base: Path, tmp_path: Path) -> None:
    (base / "modeling.py").write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'attacked')!r}).touch()\n")
    config = json.loads((base / "config.json").read_text())
    remote = {"AutoConfig": "modeling.Config", "AutoModelForCausalLM": "modeling.Model"}
    (base / "config.json").write_text(json.dumps({**config, "model_type": "unheard_of", "auto_map": remote}))
    with pytest.raises(ModelError, match="cannot use"):
        load_config(base, trust_remote_code=False)
    assert not (tmp_path / "attacked").exists()


def test_an_adapter_beside_the_base_model_is_refused(base: Path) -> None:
    """The library would put it on the model without a word."""
    (base / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere", "peft_type": "LORA"}')
    with pytest.raises(ModelError, match=r"holds an adapter_config\.json"):
        load_config(base, trust_remote_code=False)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"model_type": "no_such"}', "{}"])
def test_a_configuration_that_cannot_be_used_is_refused_by_name(base: Path, content: str | None) -> None:
    (base / "config.json").unlink()
    if content is not None:
        (base / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"model\.base_model: cannot use .*base"):
        load_config(base, trust_remote_code=False)


def test_a_tokenizer_that_is_missing_or_damaged_is_refused_by_name(base: Path) -> None:
    assert load_tokenizer(base, trust_remote_code=False).is_fast
    (base / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="tokenizer"):
        load_tokenizer(base, trust_remote_code=False)
    for file in base.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match="tokenizer"):
        load_tokenizer(base, trust_remote_code=False)


def _rope(**parameters: object) -> LlamaConfig:
    return LlamaConfig(rope_parameters={"rope_theta": 10_000.0, "factor": 2.0, **parameters})


LONG = {"rope_type": "longrope", "short_factor": [1.0] * 48, "long_factor": [2.0] * 48, "rope_theta": 1e4}


@pytest.mark.parametrize(
    ("config", "dependent"),
    [
        (LlamaConfig(), False),
        (GPT2Config(), False),
        (_rope(rope_type="linear"), False),
        (_rope(rope_type="yarn"), False),
        (_rope(rope_type="dynamic"), True),
        (Phi3Config(rope_parameters={**LONG, "original_max_position_embeddings": 4096}), True),
    ],
)
def test_positions_that_depend_on_the_length(config: PretrainedConfig, dependent: bool) -> None:
    assert has_length_dependent_positions(config) is dependent


def test_positions_are_found_under_every_name() -> None:
    assert max_positions(GPT2Config(n_positions=64)) == 64
    assert max_positions(OPTConfig(max_position_embeddings=32)) == 32
    assert max_positions(PretrainedConfig()) is None


def test_a_device_that_is_not_there_is_refused_by_name() -> None:
    assert choose_device("cpu") == CPU
    if not torch.backends.mps.is_available():
        with pytest.raises(ModelError, match=r"model\.device: 'mps' is not available here"):
            choose_device("mps")


def test_a_model_that_the_devices_have_no_room_for_is_refused(base: Path) -> None:
    """Weights on disk would be read anew for every batch."""
    options: dict[str, Any] = {"dtype": "auto", "device": CPU, "trust_remote_code": False}
    assert load_model(base, **options, device_map="auto").device == CPU
    partly = {"model.embed_tokens": "cpu", "model.layers": "disk", "model.norm": "cpu", "lm_head": "cpu"}
    with pytest.raises(ModelError, match=r"model\.device_map: the GPUs here have no room for the whole model"):
        load_model(base, **options, device_map={**partly, "model.rotary_emb": "cpu"})


def test_files_of_python_packages_are_found_without_importing_them() -> None:
    assert package_file("package://torch/version.py").is_file()
    for reference, reason in (("no_such_package/x", "not installed"), ("torch/none.gguf", "no file"), ("/x", "''")):
        with pytest.raises(ModelError, match=reason):
            package_file(f"package://{reference}")


@pytest.mark.parametrize(
    ("quantisation", "package"),
    [
        ({"quant_method": "gptq", "bits": 4}, "pip install optimum"),
        ({"quant_method": "awq", "bits": 4}, "pip install gptqmodel"),
        ({"quant_method": "compressed-tensors"}, "pip install compressed-tensors"),
    ],
)
def test_a_quantisation_whose_package_is_missing_is_refused_naming_it(
    base: Path, quantisation: dict[str, object], package: str
) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": quantisation}))
    with pytest.raises(ModelError, match=rf"model\.base_model: .*base needs a package .* not installed: .*{package}"):
        _load(base)
