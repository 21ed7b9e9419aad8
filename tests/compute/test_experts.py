"""The catalogue of experts: their names and order, adapters from before experts were fused, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, Llama4TextConfig, PretrainedConfig

from annotation_server.keys import FeatureKey, format_key, parse_key
from loradash_assets.compute.adapter_files import SAFETENSORS, layers, tensor_names
from loradash_assets.compute.catalogue import read_modules, write_catalogue
from loradash_assets.compute.errors import AdapterError
from loradash_assets.compute.experts import blocks, experts_per_token
from loradash_assets.compute.features import Catalogue, read_catalogue
from loradash_assets.compute.forward import AdaptedModel
from loradash_assets.compute.model import load_config, load_model
from tests.experts import COMMON, FAMILIES, FOUR, OLD, VOCABULARY, save_old_adapter
from tests.projects import save_adapter, save_base

# PEFT writes these patterns when it converts an old adapter, and then looks for them among the modules only
pytestmark = pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys did not match:RuntimeWarning")


def _read(directory: Path) -> Catalogue:
    base = load_config(directory / "base", trust_remote_code=False)
    return read_catalogue(directory / "adapter", base, allow_pickle=False, trust_remote_code=False)


def _save(directory: Path, config: PretrainedConfig, **options: Any) -> Path:
    save_base(directory / "base", config)
    targets: dict[str, Any] = {"target_modules": ["q_proj"], **options}
    save_adapter(directory / "adapter", directory / "base", **targets)
    return directory


def test_what_sees_every_token_comes_first_then_expert_by_expert(tmp_path: Path) -> None:
    family = FAMILIES["mixtral"]
    _save(tmp_path, family.config, target_parameters=["gate.weight", *family.both], target_modules=["o_proj", "q_proj"])
    catalogue = _read(tmp_path)
    names = ["q_proj", "o_proj", "gate"]
    names += [f"experts.{expert}.{name}" for expert in range(4) for name in ("gate_up_proj", "down_proj")]
    assert [(module.layer, module.projection) for module in catalogue.modules] == [
        (layer, name) for layer in range(2) for name in names
    ]
    first = catalogue.modules[: len(names)]
    assert [module.name for module in first[2:5]] == [
        "model.layers.0.mlp.gate",
        "model.layers.0.mlp.experts.0.gate_up_proj",
        "model.layers.0.mlp.experts.0.down_proj",
    ]
    assert [module.expert for module in first] == [-1, -1, -1, 0, 0, 1, 1, 2, 2, 3, 3]
    assert [(*module.A.shape, *module.B.shape) for module in first[2:5]] == [
        (1, 16, 4, 1),
        (1, 16, 48, 1),
        (1, 24, 16, 1),
    ]
    for module in first:
        key = FeatureKey(None, module.layer, module.projection, None, "positive")
        assert parse_key(format_key(key)) == key


def test_a_layers_blocks_follow_from_its_features(tmp_path: Path) -> None:
    family = FAMILIES["mixtral"]
    rows = _read(_save(tmp_path / "both", family.config, target_parameters=family.both, r=3)).table()
    found = blocks(rows.slice(0, rows.num_rows // 2))
    assert [(block.features.start, block.features.stop, block.routed) for block in found] == [
        (0, 3, False),
        (3, 9, True),
        (9, 15, True),
        (15, 21, True),
        (21, 27, True),
    ]
    rows = _read(_save(tmp_path / "one", family.config, target_parameters=family.both[1:], target_modules=[])).table()
    assert [block.routed for block in blocks(rows.slice(0, 4))] == [True] * 4


def test_the_catalogue_on_disk_comes_back_as_it_was(tmp_path: Path) -> None:
    family = FAMILIES["gpt-oss"]
    _save(tmp_path, family.config, target_parameters=family.both, r=2)
    write_catalogue(
        tmp_path / "adapter", tmp_path / "base", tmp_path, allow_pickle=False, trust_remote_code=False, rank=2
    )
    for read, written in zip(read_modules(tmp_path), _read(tmp_path).modules, strict=True):
        for field in ("name", "layer", "projection", "scaling", "variant", "expert"):
            assert getattr(read, field) == getattr(written, field)
        np.testing.assert_array_equal(read.A, written.A)
        np.testing.assert_array_equal(read.B, written.B)


def _merged_by_hand(directory: Path, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """The base model in float64 with every expert's update added to its part of the fused weights."""
    old, scaling = OLD[name], 1.5  # alpha 3, rank 2
    base: Any = AutoModelForCausalLM.from_pretrained(directory / "base", experts_implementation="eager")
    model = base.double().eval()
    for layer_number, layer in enumerate(model.model.layers):
        prefix = f"base_model.model.model.layers.{layer_number}."

        def update(module: str, prefix: str = prefix) -> torch.Tensor:
            A, B = (tensors[f"{prefix}{module}.lora_{side}.weight"].double() for side in "AB")
            return scaling * B @ A

        layer.self_attn.q_proj.weight.data += update("self_attn.q_proj")
        experts = layer.mlp.experts
        for expert in range(old.experts):
            gate, up, down = (update(f"{old.block}.experts.{expert}.{part}") for part in old.names)
            experts.gate_up_proj.data[expert] += torch.cat([gate, up])
            experts.down_proj.data[expert] += down
    return model


@pytest.mark.parametrize("name", OLD)
def test_adapters_from_before_experts_were_fused_mean_what_they_meant(tmp_path: Path, name: str) -> None:
    save_base(tmp_path / "base", FAMILIES[name].config)
    tensors = save_old_adapter(tmp_path / "adapter", OLD[name])
    ids = torch.from_numpy(np.random.default_rng(0).integers(3, VOCABULARY, (2, 30)))
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", experts_implementation="eager")
    peft = PeftModel.from_pretrained(base, str(tmp_path / "adapter")).double().eval()
    with torch.no_grad():
        expected = _merged_by_hand(tmp_path, name, tensors)(input_ids=ids).logits
        torch.testing.assert_close(peft(input_ids=ids).logits, expected, rtol=1e-5, atol=1e-6)
    catalogue = _read(tmp_path)
    assert layers(tensor_names(tmp_path / "adapter" / SAFETENSORS)) == [0, 1]
    assert len(catalogue.modules) == 2 * (1 + 2 * OLD[name].experts)
    gate, up, down = OLD[name].names
    for module in catalogue.modules:
        assert module.scaling == 1.5
        if module.expert < 0:
            continue
        old = f"base_model.model.model.layers.{module.layer}.{OLD[name].block}.experts.{module.expert}"
        parts = [down] if module.name.endswith("down_proj") else [gate, up]  # the first half of gate_up is the gate's
        A = torch.cat([tensors[f"{old}.{part}.lora_A.weight"] for part in parts])
        B = torch.block_diag(*(tensors[f"{old}.{part}.lora_B.weight"] for part in parts))
        np.testing.assert_array_equal(module.A, A.numpy())
        np.testing.assert_array_equal(module.B, B.numpy())


@pytest.mark.parametrize("name", OLD)
def test_adapters_from_before_experts_were_fused_are_recorded(tmp_path: Path, name: str) -> None:
    """Against the model merged by hand, one example; its states are read where they enter the experts."""
    save_base(tmp_path / "base", FAMILIES[name].config)
    tensors = save_old_adapter(tmp_path / "adapter", OLD[name], dropout=0.05)
    ids = np.random.default_rng(0).integers(3, VOCABULARY, 50)
    modules = _read(tmp_path).modules
    base = load_model(tmp_path / "base", dtype="float32", device=torch.device("cpu"), trust_remote_code=False)
    recorded = AdaptedModel(base, tmp_path / "adapter", modules).record([ids]).result()
    merged = _merged_by_hand(tmp_path, name, tensors)
    states: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for layer in range(2):
        owner = f"model.layers.{layer}.mlp.experts"
        merged.get_submodule(owner).register_forward_pre_hook(
            lambda _, args, owner=owner: states.__setitem__(owner, (args[0], args[1]))
        )
    with torch.no_grad():
        merged(input_ids=torch.from_numpy(ids)[None])
    gate, up, _ = OLD[name].names
    for owner, routed in recorded.routed.items():
        x, index = states[owner]
        for expert in range(OLD[name].experts):
            columns = slice(routed.offsets[expert], routed.offsets[expert + 1])
            rows = (index == expert).any(dim=1)
            assert routed.tokens[columns].tolist() == rows.nonzero().flatten().tolist()
            prefix = f"base_model.model.{owner.replace('mlp', OLD[name].block)}.{expert}"
            A = torch.cat([tensors[f"{prefix}.{part}.lora_A.weight"] for part in (gate, up)]).double()
            np.testing.assert_allclose(routed.values[:4, columns].T, x[rows] @ A.T, rtol=0, atol=2e-5)


def test_an_old_adapter_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    save_base(tmp_path / "base", FAMILIES["mixtral"].config)
    for missing, reason in (
        ("w3.lora_A", "PEFT cannot convert"),
        ("w2.lora_B", r"down_proj|experts\.lora_B.* has shape"),
    ):
        tensors = save_old_adapter(tmp_path / "adapter", OLD["mixtral"])
        del tensors[f"base_model.model.model.layers.1.block_sparse_moe.experts.2.{missing}.weight"]
        save_file(tensors, tmp_path / "adapter" / SAFETENSORS)
        with pytest.raises(AdapterError, match=reason):
            _read(tmp_path)


def _llama4() -> PretrainedConfig:
    sizes: dict[str, Any] = {"head_dim": 4, "intermediate_size_mlp": 24, "interleave_moe_layer_step": 1}
    return Llama4TextConfig(**COMMON, **{**FOUR, "num_experts_per_tok": 1}, **sizes)


def test_experts_outside_the_interface_are_listed_with_the_reason(tmp_path: Path) -> None:
    parameters = ["feed_forward.experts.gate_up_proj"]
    catalogue = _read(_save(tmp_path, _llama4(), target_parameters=parameters))
    assert {module.projection for module in catalogue.modules} == {"q_proj"}
    assert list(catalogue.unrecorded) == [f"model.layers.{n}.feed_forward.experts.gate_up_proj" for n in range(2)]
    assert "Llama4TextExperts does not run its experts through" in next(iter(catalogue.unrecorded.values()))


def test_an_adapter_of_which_nothing_can_be_recorded_is_refused_by_name(tmp_path: Path) -> None:
    _save(tmp_path, _llama4(), target_parameters=["experts.gate_up_proj"], target_modules=[])
    reason = r"no module that can be recorded: model\.layers\.0\.feed_forward\.experts\.gate_up_proj: Llama4TextExperts"
    with pytest.raises(AdapterError, match=reason):
        _read(tmp_path)


def test_parameters_without_a_plain_product_are_listed_with_the_reason(tmp_path: Path) -> None:
    family = FAMILIES["gpt-oss"]
    parameters = ["experts.gate_up_proj_bias", *family.both]
    catalogue = _read(_save(tmp_path, family.config, target_parameters=parameters))
    assert list(catalogue.unrecorded) == [f"model.layers.{n}.mlp.experts.gate_up_proj_bias" for n in range(2)]
    assert all("GptOssExperts does more with gate_up_proj_bias" in each for each in catalogue.unrecorded.values())
    assert sum(module.expert >= 0 for module in catalogue.modules) == 2 * 2 * 4


def test_the_weight_of_an_embedding_is_no_plain_linear_map(tmp_path: Path) -> None:
    catalogue = _read(_save(tmp_path, FAMILIES["mixtral"].config, target_parameters=["embed_tokens.weight"]))
    assert "Embedding does more with weight" in catalogue.unrecorded["model.embed_tokens"]
    assert {module.projection for module in catalogue.modules} == {"q_proj"}


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "granite"])
def test_routers_are_recorded_as_plain_linear_maps(tmp_path: Path, name: str) -> None:
    router = "router" if name in {"gpt-oss", "phi"} else "gate"
    target = "o_proj"
    catalogue = _read(
        _save(tmp_path, FAMILIES[name].config, target_parameters=[f"{router}.weight"], target_modules=[target])
    )
    assert catalogue.unrecorded == {}
    assert {module.projection for module in catalogue.modules} == {router, target}


def test_the_experts_per_token_are_the_configurations() -> None:
    assert experts_per_token(FAMILIES["qwen3"].config) == 3
    assert experts_per_token(FAMILIES["gpt-oss"].config) == 2
