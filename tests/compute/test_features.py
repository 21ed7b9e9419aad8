"""The catalogue against what PEFT puts on a real model, and every adapter that does not fit refused by name.

The base models here have no weights on disk: an adapter is checked against shapes alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, LlamaConfig, PretrainedConfig

from loradash_assets.compute.adapter_files import CONFIG, SAFETENSORS, layers, tensor_names
from loradash_assets.compute.errors import AdapterError
from loradash_assets.compute.features import Catalogue, projection_counts, projection_names, read_catalogue
from loradash_assets.schema import FEATURES
from tests.projects import save_adapter, save_base, tiny_tokenizer

Q = "base_model.model.model.layers.1.self_attn.q_proj"


def _llama(hidden: int = 16, layers: int = 3) -> PretrainedConfig:
    sizes: dict[str, Any] = {
        "hidden_size": hidden,
        "intermediate_size": 24,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
    }
    return LlamaConfig(vocab_size=len(tiny_tokenizer()), num_key_value_heads=2, max_position_embeddings=64, **sizes)


def _gpt2() -> PretrainedConfig:
    return GPT2Config(vocab_size=len(tiny_tokenizer()), n_embd=16, n_layer=2, n_head=4, n_positions=64)


def _read(adapter: Path, base: PretrainedConfig | None = None, **options: Any) -> Catalogue:
    settings: dict[str, Any] = {"allow_pickle": False, "trust_remote_code": False, **options}
    return read_catalogue(adapter, base or _llama(), **settings)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("base")
    save_base(directory, _llama())
    return directory


@pytest.fixture
def adapter(tmp_path: Path, base: Path) -> Path:
    save_adapter(tmp_path / "adapter", base)
    return tmp_path / "adapter"


def _change_config(adapter: Path, **fields: Any) -> None:
    config = json.loads((adapter / CONFIG).read_text())
    (adapter / CONFIG).write_text(json.dumps({**config, **fields}))


def _change_tensors(adapter: Path, **changes: torch.Tensor | None) -> None:
    tensors = {**load_file(adapter / SAFETENSORS), **changes}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, adapter / SAFETENSORS)


OPTIONS: dict[str, dict[str, Any]] = {
    "rank 1": {},
    "patterns": {
        "r": 4,
        "lora_alpha": 6,
        "rank_pattern": {"q_proj": 2, "1.mlp.up_proj": 3},
        "alpha_pattern": {"v_proj": 5},
    },
    "rslora": {"r": 4, "lora_alpha": 6, "use_rslora": True, "rank_pattern": {"q_proj": 9}},
    "dora": {"r": 2, "use_dora": True},
    "one layer": {"target_modules": ["q_proj"], "layers_to_transform": [1]},
    "head": {"target_modules": ["lm_head", "q_proj"]},
    "saved whole": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "biases": {"bias": "all"},
    "tokens": {"trainable_token_indices": [1, 2]},
    "gaussian": {"init_lora_weights": "gaussian"},
}


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_catalogue_is_what_peft_puts_on_the_model(tmp_path: Path, base: Path, options: dict[str, Any]) -> None:
    save_adapter(tmp_path, base, **options)
    catalogue = _read(tmp_path)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(tmp_path))
    expected = {name: m for name, m in model.get_base_model().named_modules() if isinstance(m, LoraLayer)}
    assert {module.name for module in catalogue.modules} == set(expected)
    for module in catalogue.modules:
        layer: Any = expected[module.name]
        assert (module.rank, module.scaling) == (layer.r["default"], layer.scaling["default"])
        np.testing.assert_array_equal(module.A, layer.lora_A["default"].weight.detach().numpy())
        np.testing.assert_array_equal(module.B, layer.lora_B["default"].weight.detach().numpy())
        assert module.variant == ("dora" if options.get("use_dora") else "lora")
    assert catalogue.base_model_name == str(base)
    assert layers(tensor_names(tmp_path / SAFETENSORS)) == sorted({module.layer for module in catalogue.modules})
    assert [module.layer for module in catalogue.modules] == sorted(module.layer for module in catalogue.modules)


def test_patterns_and_rslora_give_the_scalings_of_the_paper(tmp_path: Path, base: Path) -> None:
    save_adapter(tmp_path, base, **OPTIONS["patterns"])
    first = {
        module.projection: (module.rank, module.scaling) for module in _read(tmp_path).modules if module.layer == 1
    }
    assert first["q_proj"] == (2, 3.0)
    assert first["up_proj"] == (3, 2.0)
    assert first["v_proj"] == (4, 1.25)
    assert first["k_proj"] == (4, 1.5)
    save_adapter(tmp_path, base, **OPTIONS["rslora"])
    second = {module.projection: module.scaling for module in _read(tmp_path).modules}
    assert (second["k_proj"], second["q_proj"]) == (3.0, 2.0)


def test_the_table_has_a_row_for_each_component(tmp_path: Path, base: Path) -> None:
    save_adapter(tmp_path, base, r=2, rank_pattern={"q_proj": 3})
    catalogue = _read(tmp_path)
    table = catalogue.table()
    assert table.schema == FEATURES
    rows = table.to_pylist()
    assert [row["feature"] for row in rows] == list(range(3 * (3 + 6 * 2)))
    assert projection_counts(catalogue)["q_proj"] == 9
    tensors = load_file(tmp_path / SAFETENSORS)
    for row in rows:
        A, B = (tensors[f"base_model.model.{row['module']}.lora_{side}.weight"].double() for side in "AB")
        assert (row["rank"], row["in_features"], row["out_features"]) == (*A.shape, B.shape[0])
        norms = (A[row["component"]].norm().item(), B[:, row["component"]].norm().item())
        np.testing.assert_allclose((row["read_norm"], row["write_norm"]), norms, rtol=1e-12)


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_weights_of_fewer_bits_are_read_exactly(tmp_path: Path, base: Path, dtype: torch.dtype) -> None:
    save_adapter(tmp_path, base, r=2, target_modules=["embed_tokens", "q_proj"])
    _change_tensors(tmp_path, **{name: tensor.to(dtype) for name, tensor in load_file(tmp_path / SAFETENSORS).items()})
    tensors = load_file(tmp_path / SAFETENSORS)
    for module in _read(tmp_path).modules:
        name = "lora_embedding_A" if module.layer == -1 else "lora_A.weight"
        np.testing.assert_array_equal(module.A, tensors[f"base_model.model.{module.name}.{name}"].float().numpy())


def test_gpt2s_two_c_proj_are_kept_apart(tmp_path: Path) -> None:
    save_base(tmp_path / "base", _gpt2())
    save_adapter(tmp_path / "all", tmp_path / "base", fan_in_fan_out=True)
    modules = _read(tmp_path / "all", _gpt2()).modules
    names = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    assert [module.projection for module in modules] == ["c_attn", "attn.c_proj", "c_fc", "mlp.c_proj"] * 2
    assert [module.name for module in modules] == [
        f"transformer.h.{layer}.{name}" for layer in (0, 1) for name in names
    ]
    assert [module.A.shape[1] for module in modules[:4]] == [16, 16, 16, 64]
    assert [module.B.shape[0] for module in modules[:4]] == [48, 16, 64, 16]
    save_adapter(tmp_path / "one", tmp_path / "base", target_modules=r".*mlp\.c_proj", fan_in_fan_out=True)
    assert {module.projection for module in _read(tmp_path / "one", _gpt2()).modules} == {"mlp.c_proj"}


def test_a_name_is_the_shortest_suffix_that_is_unique_in_its_layer_of_the_model() -> None:
    modules = ["m", "m.0.a.up", "m.0.a.e.3.up", "m.0.a.e.4.up", "m.0.up.q", "m.1.up", "head", "m.embed"]
    names = {"m.0.a.up": "a.up", "m.0.a.e.3.up": "e.3.up", "m.0.up.q": "q", "m.1.up": "up", "head": "head"}
    assert projection_names(list(names), modules) == names


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
def test_embeddings_are_outside_the_layers_and_read_one_token_at_a_time(tmp_path: Path, base: Path) -> None:
    save_adapter(tmp_path, base, r=3, target_modules=["embed_tokens", "q_proj"])
    catalogue = _read(tmp_path)
    module = catalogue.modules[0]
    assert (module.layer, module.projection, module.name) == (-1, "embed_tokens", "model.embed_tokens")
    tensors = load_file(tmp_path / SAFETENSORS)
    prefix = "base_model.model.model.embed_tokens.lora_embedding"
    np.testing.assert_array_equal(module.A, tensors[f"{prefix}_A"].numpy())
    np.testing.assert_array_equal(module.B, tensors[f"{prefix}_B"].numpy())
    assert module.A.shape == (3, len(tiny_tokenizer()))
    row = catalogue.table().to_pylist()[1]
    assert (row["in_features"], row["out_features"], row["rank"]) == (len(tiny_tokenizer()), 16, 3)
    assert catalogue.unrecorded == {}
    assert layers(tensor_names(tmp_path / SAFETENSORS)) == [-1, 0, 1, 2]


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
def test_the_head_is_outside_the_layers_with_or_without_its_own_weights(tmp_path: Path, base: Path) -> None:
    save_adapter(tmp_path, base, target_modules=["lm_head"])
    (module,) = _read(tmp_path).modules
    assert (module.layer, module.projection, module.name) == (-1, "lm_head", "lm_head")
    saved = [name for name in tensor_names(tmp_path / SAFETENSORS) if ".lora_" not in name]
    assert saved
    _change_tensors(tmp_path, **dict.fromkeys(saved))
    assert len(_read(tmp_path).modules) == 1
    _change_tensors(tmp_path, **dict.fromkeys(saved, torch.ones(3, 3)))
    with pytest.raises(AdapterError, match=r"lm_head.* has shape \(3, 3\)"):
        _read(tmp_path)


def test_a_wrong_base_is_refused_naming_tensor_and_shapes(adapter: Path) -> None:
    shapes = r"has shape \(1, 16\), adapter_config\.json and the base model need \(1, 32\)"
    with pytest.raises(AdapterError, match=rf"q_proj\.lora_A\.weight {shapes}"):
        _read(adapter, _llama(hidden=32))
    with pytest.raises(AdapterError, match=r"layers\.2\..* belongs to no module of the base model .*\(and \d+ more\)"):
        _read(adapter, _llama(layers=2))
    with pytest.raises(AdapterError, match=r"layers\.3\..* is missing"):
        _read(adapter, _llama(layers=4))
    _change_config(adapter, target_modules=["q_proj", "no_such"])
    with pytest.raises(AdapterError, match="belongs to no module"):
        _read(adapter)
    _change_config(adapter, target_modules=["c_attn"])
    with pytest.raises(AdapterError, match="does not fit the base model"):
        _read(adapter)


@pytest.mark.parametrize(
    ("name", "tensor", "reason"),
    [
        (f"{Q}.lora_A.weight", None, "is missing"),
        (f"{Q}.lora_B.weight", None, "is missing"),
        (f"{Q}.lora_C.weight", torch.ones(1), "belongs to no module"),
        ("base_model.model.model.norm.weight", torch.ones(16), "belongs to no module"),
        (f"{Q}.lora_A.weight", torch.ones(2, 16), r"has shape \(2, 16\), adapter_config.json and .* need \(1, 16\)"),
        (f"{Q}.lora_B.weight", torch.ones(16), r"has shape \(16,\)"),
        (f"{Q}.lora_A.weight", torch.ones((1, 16), dtype=torch.int8), "holds torch.int8, not floating-point numbers"),
        (f"{Q}.lora_A.weight", torch.full((1, 16), torch.nan), "holds NaN or infinity"),
        (f"{Q}.lora_A.weight", torch.full((1, 16), torch.nan).to(torch.float8_e5m2), "holds NaN or infinity"),
        (f"{Q}.lora_B.weight", torch.full((16, 1), torch.inf), "holds NaN or infinity"),
    ],
)
def test_a_tensor_that_is_wrong_is_refused_by_name(
    adapter: Path, name: str, tensor: torch.Tensor | None, reason: str
) -> None:
    _change_tensors(adapter, **{name: tensor})
    with pytest.raises(AdapterError, match=rf"{name.replace('.', '[.]')} {reason}"):
        _read(adapter)


def test_weights_that_are_no_tensors_are_refused_by_name(adapter: Path) -> None:
    (adapter / SAFETENSORS).unlink()
    for weights in ({"a.lora_A.weight": 1}, [torch.ones(1)]):
        torch.save(weights, adapter / "adapter_model.bin")
        with pytest.raises(AdapterError, match=r"the weights in .*adapter are no mapping from names to tensors"):
            _read(adapter, allow_pickle=True)


def test_truncated_weights_are_refused_by_name(adapter: Path) -> None:
    content = (adapter / SAFETENSORS).read_bytes()
    for kept in (0, 5, 100, len(content) - 1):
        (adapter / SAFETENSORS).write_bytes(content[:kept])
        with pytest.raises(AdapterError, match=r"cannot read the weights in .*adapter"):
            _read(adapter)


def test_another_rank_than_asked_for_is_refused_naming_the_module(tmp_path: Path, base: Path) -> None:
    save_adapter(tmp_path, base, r=2, rank_pattern={"1.mlp.up_proj": 3})
    with pytest.raises(AdapterError, match=r"adapter\.rank: model\.layers\.1\.mlp\.up_proj has rank 3, not 2"):
        _read(tmp_path, rank=2)
    save_adapter(tmp_path, base, r=2)
    assert len(_read(tmp_path, rank=2).modules) == 21


def test_a_pickle_is_refused_unless_allowed(adapter: Path) -> None:
    torch.save(load_file(adapter / SAFETENSORS), adapter / "adapter_model.bin")
    (adapter / SAFETENSORS).unlink()
    with pytest.raises(AdapterError, match=r"adapter\.allow_pickle"):
        _read(adapter)
    assert len(_read(adapter, allow_pickle=True).modules) == 21


def test_no_weights_of_the_base_are_needed_and_its_configuration_stays(adapter: Path, base: Path) -> None:
    config = AutoConfig.from_pretrained(base)
    before = config.to_dict()
    _change_config(adapter, base_model_name_or_path="/named/by/the/adapter")
    assert _read(adapter, config).base_model_name == "/named/by/the/adapter"
    assert config.to_dict() == before


def test_dora_on_8_bits_is_refused_with_the_way_out(tmp_path: Path, base: Path) -> None:
    config = AutoConfig.from_pretrained(base)
    config.quantization_config = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    save_adapter(tmp_path, base, use_dora=True)
    with pytest.raises(AdapterError, match=r"sets use_dora, .* 8 bits; name the base model itself, or one in 4 bits"):
        _read(tmp_path, config)
    save_adapter(tmp_path, base)
    assert len(_read(tmp_path, config).modules) == 21
