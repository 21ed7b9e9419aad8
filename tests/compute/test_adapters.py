"""Every kind of adapter that PEFT saves, from the model it was trained in: recorded A x against that model itself.

What is compared with never went through a file: the adapted model as it stands in memory, every trained number of it
moved away from its start, run in float64 on one example at a time. So a bias, a token or a tie that is lost in saving
or loading shows up as other activations.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Embedding, Linear
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    OPTConfig,
    Phi3Config,
    PretrainedConfig,
    Qwen2Config,
)

from loradash_assets.compute.adapter_files import SAFETENSORS, layers, tensor_names
from loradash_assets.compute.errors import AdapterError
from loradash_assets.compute.features import Catalogue, read_catalogue
from loradash_assets.compute.forward import AdaptedModel
from loradash_assets.compute.model import load_config, load_model
from tests.compute.odd_model import OddConfig
from tests.projects import save_base
from tests.recordings import dense

pytestmark = [
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning"),
    pytest.mark.filterwarnings("ignore:`lora_bias=True` was passed::peft"),
    pytest.mark.filterwarnings("ignore:Adapter 'default'. .* have invalid shape::peft"),
    pytest.mark.filterwarnings("ignore:.*eva.*initialization.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:`init_lora_weights` is 'eva':UserWarning"),
    pytest.mark.filterwarnings("ignore:Model with `tie_word_embeddings=True`:UserWarning"),
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
]

VOCABULARY = 90
ATTENTION: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
GATED: dict[str, Any] = {**ATTENTION, "intermediate_size": 24, "num_key_value_heads": 2}
COMMON: dict[str, Any] = {"vocab_size": VOCABULARY, "max_position_embeddings": 40, "bos_token_id": 1, "eos_token_id": 2}
CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "llama": lambda: LlamaConfig(**COMMON, **GATED),
    "tied": lambda: LlamaConfig(**COMMON, **GATED, tie_word_embeddings=True),
    "qwen2": lambda: Qwen2Config(**COMMON, **GATED),
    "phi3": lambda: Phi3Config(**COMMON, **GATED, pad_token_id=0),
    "gemma3": lambda: Gemma3TextConfig(**COMMON, **GATED, head_dim=4, pad_token_id=0),
    "gpt2": lambda: GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=4, n_positions=40, eos_token_id=2),
    "opt": lambda: OPTConfig(**COMMON, **ATTENTION, ffn_dim=24, word_embed_proj_dim=16, pad_token_id=0),
}
ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "embeddings": ("llama", {"target_modules": ["embed_tokens", "q_proj"]}),
    "embeddings alone": ("llama", {"target_modules": ["embed_tokens"]}),
    "embeddings, dora": ("llama", {"target_modules": ["embed_tokens", "q_proj"], "use_dora": True}),
    "scaled embeddings": ("gemma3", {"target_modules": ["embed_tokens", "v_proj"]}),
    "scaled embeddings, dora": ("gemma3", {"target_modules": ["embed_tokens", "v_proj"], "use_dora": True}),
    "tokens and positions": ("gpt2", {"target_modules": ["wte", "wpe", "c_attn"], "fan_in_fan_out": True}),
    "head": ("llama", {"target_modules": ["lm_head", "up_proj"]}),
    "tied head": ("tied", {"target_modules": ["lm_head", "up_proj"]}),
    "tied embeddings": ("tied", {"target_modules": ["embed_tokens", "up_proj"]}),
    "both ends tied": ("tied", {"target_modules": ["embed_tokens", "lm_head"], "ensure_weight_tying": True}),
    "both ends, not tied": ("tied", {"target_modules": ["embed_tokens", "lm_head"]}),
    "conv1d": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    "conv1d, dora": ("gpt2", {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True, "use_dora": True}),
    "fused": ("phi3", {"target_modules": ["qkv_proj", "gate_up_proj"]}),
    "all-linear": ("qwen2", {"target_modules": "all-linear"}),
    "some layers": ("llama", {"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": "layers"}),
    "one layer": ("llama", {"target_modules": ["q_proj"], "layers_to_transform": 0}),
    "excluded": ("llama", {"target_modules": "all-linear", "exclude_modules": r".*\.0\..*|.*mlp.*"}),
    "regex": ("llama", {"target_modules": r".*\.1\.(self_attn\.[qk]_proj|mlp\.up_proj)"}),
    "patterns": (
        "llama",
        {"rank_pattern": {r"layers\.0\..*q_proj": 5, "v_proj": 1}, "alpha_pattern": {r"^model\.layers\.1\.mlp\..*": 9}},
    ),
    "rslora": ("llama", {"use_rslora": True, "rank_pattern": {"q_proj": 3}}),
    "dora": ("llama", {"use_dora": True}),
    "lora_bias": ("opt", {"target_modules": "all-linear", "lora_bias": True}),
    "all biases": ("opt", {"target_modules": ["q_proj", "fc1"], "bias": "all"}),
    "lora's biases": ("qwen2", {"target_modules": ["q_proj", "up_proj"], "bias": "lora_only"}),
    "saved whole": ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head", "norm"]}),
    "tied, saved whole": (
        "tied",
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    ),
    "tokens": ("llama", {"target_modules": ["q_proj"], "trainable_token_indices": [3, 7]}),
    "tied tokens": ("tied", {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [3, 7]}}),
    "gaussian": ("llama", {"init_lora_weights": "gaussian"}),
    "orthogonal": ("llama", {"init_lora_weights": "orthogonal"}),
    "eva": ("llama", {"init_lora_weights": "eva"}),
    "mica": ("llama", {"init_lora_weights": "mica"}),
    "velora": ("llama", {"velora_config": {"num_groups": 4}}),
}
EXAMPLES = [np.random.default_rng(0).integers(3, VOCABULARY, length) for length in (7, 23, 1, 40)]


def _train(base: Path, **options: Any) -> PeftModel:
    """Return an adapted model of which every trained number was moved."""
    torch.manual_seed(1)
    defaults: dict[str, Any] = {"task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 5, "target_modules": "all-linear"}
    config = LoraConfig(**{**defaults, **options})
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    assert isinstance(model, PeftModel)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model.eval()


def _read(adapter: Path, base: Path) -> Catalogue:
    config = load_config(base, trust_remote_code=False)
    return read_catalogue(adapter, config, allow_pickle=False, trust_remote_code=False)


def _record(base: Path, adapter: Path, catalogue: Catalogue, dtype: str = "float32") -> tuple[AdaptedModel, Any]:
    """Return the adapted model and, by module, (rank, tokens) activations."""
    loaded = load_model(base, dtype=dtype, device=torch.device("cpu"), trust_remote_code=False)
    model = AdaptedModel(loaded, adapter, catalogue.modules)
    parts = dense(model, EXAMPLES).split([module.rank for module in catalogue.modules])
    return model, {module.name: part.numpy() for module, part in zip(catalogue.modules, parts, strict=True)}


def _in_memory(model: PeftModel) -> dict[str, Any]:
    """A x by module, (rank, tokens), from the model as it is, in float64 and without padding."""
    model = model.double()
    seen: dict[str, list[torch.Tensor]] = {}
    for name, module in model.get_base_model().named_modules():
        layer: Any = module
        if isinstance(module, Linear | Embedding):
            module.register_forward_pre_hook(_keeper(seen.setdefault(name, []), layer))
    with torch.no_grad():
        for ids in EXAMPLES:
            model(input_ids=torch.from_numpy(ids)[None])
    return {name: torch.cat(parts).T.numpy() for name, parts in seen.items() if parts}


def _keeper(kept: list[torch.Tensor], layer: Any) -> Callable[[torch.nn.Module, tuple[torch.Tensor, ...]], None]:
    def keep(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        x = args[0]
        if isinstance(layer, Embedding):
            A = layer.lora_embedding_A["default"]
            kept.append(torch.nn.functional.one_hot(x.flatten(), A.shape[1]).double() @ A.T)
        else:
            kept.append(x.flatten(0, -2) @ layer.lora_A["default"].weight.T)

    return keep


def _assert_recorded(recorded: dict[str, Any], expected: dict[str, Any]) -> None:
    assert set(recorded) == set(expected)
    for name, values in recorded.items():
        error = np.linalg.norm(values - expected[name]) / np.linalg.norm(expected[name])
        assert error < 1e-4, (name, error)


@pytest.mark.parametrize(("base", "options"), ADAPTERS.values(), ids=ADAPTERS)
def test_what_is_recorded_is_what_the_trained_model_does(tmp_path: Path, base: str, options: dict[str, Any]) -> None:
    save_base(tmp_path / "base", CONFIGS[base]())
    trained = _train(tmp_path / "base", **options)
    trained.save_pretrained(str(tmp_path / "adapter"))
    catalogue = _read(tmp_path / "adapter", tmp_path / "base")
    assert catalogue.unrecorded == {}
    assert layers(tensor_names(tmp_path / "adapter" / SAFETENSORS)) == sorted({m.layer for m in catalogue.modules})
    _assert_recorded(_record(tmp_path / "base", tmp_path / "adapter", catalogue)[1], _in_memory(trained))


UNRECORDED = {"conv": "Conv1d", "grid": "Conv2d", "attention": "MultiheadAttention"}


def test_modules_without_a_plain_a_x_are_listed_with_the_reason_and_stay_active(tmp_path: Path) -> None:
    save_base(tmp_path / "base", OddConfig())
    trained = _train(tmp_path / "base", target_modules=["up", *UNRECORDED])
    trained.save_pretrained(str(tmp_path / "adapter"))
    catalogue = _read(tmp_path / "adapter", tmp_path / "base")
    assert [module.name for module in catalogue.modules] == ["layers.0.up", "layers.1.up"]
    assert catalogue.unrecorded == {
        f"layers.{layer}.{name}": f"{kind} layers have no plain A x; loradash records linear modules and embeddings"
        for layer in (0, 1)
        for name, kind in UNRECORDED.items()
    } | {
        f"layers.{layer}.attention.base_layer.out_proj": (
            f"it is a part of layers.{layer}.attention, which uses its weight without calling it"
        )
        for layer in (0, 1)
    }
    recorded = _record(tmp_path / "base", tmp_path / "adapter", catalogue)[1]
    _assert_recorded(recorded, {name: values for name, values in _in_memory(trained).items() if name in recorded})


def test_an_adapter_of_nothing_that_can_be_recorded_is_refused(tmp_path: Path) -> None:
    save_base(tmp_path / "base", OddConfig())
    _train(tmp_path / "base", target_modules=["conv"]).save_pretrained(str(tmp_path / "adapter"))
    message = (
        rf"adapter\.path: {tmp_path}/adapter has no module that can be recorded: layers\.0\.conv: Conv1d layers have "
        r"no plain A x; .*; layers\.1\.conv"
    )
    with pytest.raises(AdapterError, match=message):
        _read(tmp_path / "adapter", tmp_path / "base")


def _adapter(directory: Path, base: str, **options: Any) -> tuple[Catalogue, AdaptedModel]:
    save_base(directory / "base", CONFIGS[base]())
    _train(directory / "base", **options).save_pretrained(str(directory / "adapter"))
    catalogue = _read(directory / "adapter", directory / "base")
    return catalogue, _record(directory / "base", directory / "adapter", catalogue)[0]


@pytest.mark.parametrize("use_dora", [False, True])
@pytest.mark.parametrize("base", ["llama", "gemma3", "gpt2"])
def test_an_embeddings_effect_is_what_its_components_add_to_its_output(
    tmp_path: Path, base: str, use_dora: bool
) -> None:
    names = {"llama": ["embed_tokens"], "gemma3": ["embed_tokens"], "gpt2": ["wte", "wpe"]}[base]
    catalogue, model = _adapter(tmp_path, base, target_modules=names, use_dora=use_dora, lora_alpha=7)
    norms = model.write_norms()
    weights = AutoModelForCausalLM.from_pretrained(tmp_path / "base").state_dict()
    saved = load_file(tmp_path / "adapter" / SAFETENSORS)
    assert len(catalogue.modules) == len(names)
    assert set(norms) == ({module.name for module in catalogue.modules} if use_dora else set())
    for row in catalogue.table().to_pylist():
        A, B = (saved[f"base_model.model.{row['module']}.lora_embedding_{side}"].double() for side in "AB")
        factor = 7 / 2 * (4.0 if base == "gemma3" else 1.0)  # Gemma multiplies its embeddings by sqrt(hidden size)
        written = B[:, row["component"]]
        if use_dora:
            W = weights[f"{row['module']}.weight"].double()  # (tokens, hidden)
            magnitude = saved[f"base_model.model.{row['module']}.lora_magnitude_vector"].double()
            written = magnitude / (W + 7 / 2 * A.T @ B.T).norm(dim=0) * written
        write_norm = norms[row["module"]][row["component"]] if use_dora else row["write_norm"]
        np.testing.assert_allclose(row["scaling"] * write_norm, factor * written.norm(), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_embeddings_activations_are_columns_of_a_whatever_the_models_dtype(tmp_path: Path, dtype: str) -> None:
    catalogue, _ = _adapter(tmp_path, "gpt2", target_modules=["wte", "wpe"])
    recorded = _record(tmp_path / "base", tmp_path / "adapter", catalogue, dtype)[1]
    tokens, positions = np.concatenate(EXAMPLES), np.concatenate([np.arange(len(ids)) for ids in EXAMPLES])
    saved = load_file(tmp_path / "adapter" / SAFETENSORS)
    for name, ids in (("wte", tokens), ("wpe", positions)):
        A = saved[f"base_model.model.transformer.{name}.lora_embedding_A"].numpy()
        np.testing.assert_array_equal(recorded[f"transformer.{name}"], A[:, ids])


def test_an_adapter_on_embeddings_shares_prefixes(tmp_path: Path) -> None:
    assert _adapter(tmp_path, "gpt2", target_modules=["wte", "wpe"])[1].is_prefix_determined(EXAMPLES)


@pytest.mark.parametrize("options", [{"modules_to_save": ["embed_tokens"]}, {"trainable_token_indices": [3, 7]}])
def test_the_probe_works_with_embeddings_that_peft_wraps(tmp_path: Path, options: dict[str, Any]) -> None:
    assert _adapter(tmp_path, "tied", target_modules=["q_proj"], **options)[1].is_prefix_determined(EXAMPLES)


@pytest.mark.filterwarnings("ignore:.* changes the base weights of the model:UserWarning")
@pytest.mark.parametrize("initialisation", ["pissa", "pissa_niter_4", "olora"])
def test_an_adapter_that_was_converted_to_a_plain_lora_is_read(tmp_path: Path, initialisation: str) -> None:
    save_base(tmp_path / "base", CONFIGS["llama"]())
    options: dict[str, Any] = {"r": 2, "target_modules": "all-linear", "init_lora_weights": initialisation}
    config: Any = LoraConfig(task_type="CAUSAL_LM", **options)
    trained = get_peft_model(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), config)
    assert isinstance(trained, PeftModel)
    config.init_lora_weights = True  # what PEFT's guide says, so that the start is not made again when it is read
    trained.save_pretrained(str(tmp_path / "initial"))
    with torch.no_grad():
        for parameter in trained.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    config.init_lora_weights = initialisation
    trained.save_pretrained(str(tmp_path / "changed"))
    with pytest.raises(AdapterError, match=f"'{initialisation}', which changes the base model"):
        _read(tmp_path / "changed", tmp_path / "base")
    trained.save_pretrained(
        str(tmp_path / "adapter"), path_initial_model_for_weight_conversion=str(tmp_path / "initial")
    )
    catalogue = _read(tmp_path / "adapter", tmp_path / "base")
    assert {module.rank for module in catalogue.modules} == {4}
    recorded = _record(tmp_path / "base", tmp_path / "adapter", catalogue)[1]
    expected = _in_memory(trained)  # the first half of the converted A is the trained one
    _assert_recorded({name: values[:2] for name, values in recorded.items()}, expected)


def test_an_adapter_with_added_tokens_says_what_to_do_and_that_works(tmp_path: Path) -> None:
    save_base(tmp_path / "base", CONFIGS["llama"]())
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    base.resize_token_embeddings(VOCABULARY + 3)
    adapted = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=1, target_modules=["q_proj"]))
    assert isinstance(adapted, PeftModel)
    adapted.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=True)
    with pytest.raises(AdapterError) as refused:
        _read(tmp_path / "adapter", tmp_path / "base")
    assert str(refused.value) == (
        f"adapter.path: {tmp_path}/adapter does not fit the base model: base_model.model.model.embed_tokens.weight "
        "has shape (93, 16), adapter_config.json and the base model need (90, 16); base_model.model.lm_head.weight "
        "has shape (93, 16), adapter_config.json and the base model need (90, 16). The adapter was saved with 93 "
        "tokens, the base model has 90: resize the base model (resize_token_embeddings), save it and its tokenizer "
        "with the added tokens in one directory, and name that as model.base_model"
    )
    resized = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    resized.resize_token_embeddings(VOCABULARY + 3, mean_resizing=False)
    resized.save_pretrained(tmp_path / "resized")
    catalogue = _read(tmp_path / "adapter", tmp_path / "resized")
    _assert_recorded(_record(tmp_path / "resized", tmp_path / "adapter", catalogue)[1], _in_memory(adapted))


def test_two_tensors_that_stand_for_one_weight_and_differ_are_refused_by_name(tmp_path: Path) -> None:
    options = ADAPTERS["both ends tied"][1]
    catalogue, _ = _adapter(tmp_path, "tied", **options)
    file = tmp_path / "adapter" / SAFETENSORS
    tensors = load_file(file)
    name = "base_model.model.lm_head.lora_A.weight"
    save_file({**tensors, name: tensors[name] + 1}, file)
    catalogue = _read(tmp_path / "adapter", tmp_path / "base")
    with pytest.raises(AdapterError, match=r"two tensors of the file stand for one weight and differ"):
        _record(tmp_path / "base", tmp_path / "adapter", catalogue)
