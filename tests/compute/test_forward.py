"""Recorded A x against brute force that shares no code with it: plain hooks, one example at a time, in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import dispatch_model
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    OPTConfig,
    Phi3Config,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)

from loradash_assets.compute.errors import AdapterError, ModelError
from loradash_assets.compute.features import AdaptedModule, read_catalogue
from loradash_assets.compute.forward import AdaptedModel
from loradash_assets.compute.model import load_config, load_model
from tests.projects import save_adapter, save_base
from tests.recordings import dense

pytestmark = [
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning"),
    pytest.mark.filterwarnings("ignore:`lora_bias=True` was passed::peft"),
    pytest.mark.filterwarnings("ignore:Adapter 'default'. .* have invalid shape::peft"),
]

VOCABULARY = 200
ATTENTION: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
GATED: dict[str, Any] = {**ATTENTION, "intermediate_size": 24, "num_key_value_heads": 2}
COMMON: dict[str, Any] = {"vocab_size": VOCABULARY, "max_position_embeddings": 40, "bos_token_id": 1, "eos_token_id": 2}
CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**COMMON, **GATED),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=4, n_positions=40, eos_token_id=2),
    "opt": OPTConfig(**COMMON, **ATTENTION, ffn_dim=24, word_embed_proj_dim=16, pad_token_id=0),
    "qwen2": Qwen2Config(**COMMON, **GATED),
    "gemma": GemmaConfig(**COMMON, **GATED, head_dim=4, pad_token_id=0),
    "deepseek": DeepseekV3Config(  # shapes the input of kv_b_proj (batch, 1, seq, in)
        **COMMON,
        **ATTENTION,
        intermediate_size=24,
        num_key_value_heads=4,
        first_k_dense_replace=2,
        q_lora_rank=8,
        kv_lora_rank=8,
        qk_nope_head_dim=4,
        qk_rope_head_dim=4,
        v_head_dim=4,
    ),
    "phi3": Phi3Config(**COMMON, **GATED, pad_token_id=0),
}
EXAMPLES = [np.random.default_rng(0).integers(3, VOCABULARY, length) for length in (7, 23, 1, 40, 16)]
LENGTHS = [len(ids) for ids in EXAMPLES]
LAST_BIT = 1e-6  # of a feature's RMS: where PEFT is exact, float32 holds no more after a few layers
Values = dict[str, torch.Tensor]  # by module: (tokens, rank) float64


@dataclass(frozen=True)
class Case:
    """An adapter on a base model, both on disk, and what the catalogue says of it."""

    base: Path
    adapter: Path
    modules: tuple[AdaptedModule, ...]

    def load(self, dtype: str = "float32") -> PreTrainedModel:
        return load_model(self.base, dtype=dtype, device=torch.device("cpu"), trust_remote_code=False)

    def model(self, dtype: str = "float32") -> AdaptedModel:
        return AdaptedModel(self.load(dtype), self.adapter, self.modules)

    def by_module(self, activations: torch.Tensor) -> Values:
        """(features, tokens) -> (tokens, rank) by module."""
        parts = activations.double().split([module.rank for module in self.modules])
        return {module.name: part.T for module, part in zip(self.modules, parts, strict=True)}

    def tensors(self, module: AdaptedModule) -> list[torch.Tensor]:
        """A and B as the adapter's file has them, in float64."""
        tensors = load_file(self.adapter / "adapter_model.safetensors")
        return [tensors[f"base_model.model.{module.name}.lora_{side}.weight"].double() for side in "AB"]


def _case(directory: Path, config: PretrainedConfig, *, bfloat16: bool = False, **options: Any) -> Case:
    save_base(directory / "base", config)
    options["fan_in_fan_out"] = isinstance(config, GPT2Config)
    if isinstance(config, DeepseekV3Config):  # which PEFT takes for a mixture of experts, dense as it is
        options = {"target_modules": ["q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"], **options}
    save_adapter(directory / "adapter", directory / "base", **options)
    if bfloat16:
        file = directory / "adapter" / "adapter_model.safetensors"
        save_file({name: tensor.bfloat16() for name, tensor in load_file(file).items()}, file)
    base = load_config(directory / "base", trust_remote_code=False)
    catalogue = read_catalogue(directory / "adapter", base, allow_pickle=False, trust_remote_code=False)
    return Case(directory / "base", directory / "adapter", catalogue.modules)


def _keep_inputs(module: torch.nn.Module, kept: list[torch.Tensor]) -> None:
    module.register_forward_pre_hook(lambda _, args: kept.append(args[0].detach().double()), prepend=True)


def _brute_force(case: Case, dtype: torch.dtype, convert: Callable[[Any], Any]) -> Values:
    """A x in float64, x from a PEFT model whose base was loaded as `dtype` and converted by `convert`."""
    base = AutoModelForCausalLM.from_pretrained(case.base, dtype=dtype)
    peft = convert(PeftModel.from_pretrained(base, str(case.adapter)).eval())
    inputs: dict[str, list[torch.Tensor]] = {module.name: [] for module in case.modules}
    for name, kept in inputs.items():
        _keep_inputs(peft.get_base_model().get_submodule(name), kept)
    with torch.no_grad():
        for ids in EXAMPLES:
            peft(input_ids=torch.from_numpy(ids)[None])
    return {
        module.name: torch.cat([x.reshape(-1, x.shape[-1]) for x in inputs[module.name]]) @ case.tensors(module)[0].T
        for module in case.modules
    }


def _root_mean_square(values: torch.Tensor) -> torch.Tensor:
    return values.pow(2).mean(dim=0).sqrt()


def _assert_exact(case: Case, dtype: str = "float32") -> None:
    """(a) and (b) of the project's semantics, in a padded batch."""
    base = case.load(dtype)
    model = AdaptedModel(base, case.adapter, case.modules, own_base=True)
    seen: dict[str, list[torch.Tensor]] = {module.name: [] for module in case.modules}
    for name, kept in seen.items():
        _keep_inputs(base.get_submodule(name), kept)
    recorded = dense(model, EXAMPLES)
    assert recorded.dtype == torch.float32
    assert recorded.shape == (sum(module.rank for module in case.modules), sum(LENGTHS))
    real = torch.cat([torch.arange(max(LENGTHS)) < length for length in LENGTHS])  # (batch * seq,)
    plain = getattr(torch, dtype)
    exact = _brute_force(case, plain, lambda model: model.double())
    peft = _brute_force(case, plain, lambda model: model)
    error, of_peft = list[torch.Tensor](), list[torch.Tensor]()  # (tokens, rank), in units of the feature's RMS
    for module, values in zip(case.modules, case.by_module(recorded).values(), strict=True):
        A, x = case.tensors(module)[0], seen[module.name][-1].reshape(-1, module.A.shape[1])[real]
        bound = 1e-5 * x.norm(dim=1)[:, None] * A.norm(dim=1)
        assert bool(((values - x @ A.T).abs() <= bound).all()), module.name
        truth = exact[module.name]
        error.append((values - truth) / _root_mean_square(truth))
        of_peft.append((peft[module.name] - truth) / _root_mean_square(truth))
    ours, allowed = torch.cat(error, dim=1), torch.cat(of_peft, dim=1)
    # Of so few tokens one or two ill-conditioned ones make a feature's RMS error, a draw that another processor's
    # rounding draws anew; its usual token's error is less of one, and that of all features together is none.
    usual, usual_of_peft = (errors.abs().median(dim=0).values for errors in (ours, allowed))
    assert bool((usual <= 4 * usual_of_peft.clamp(min=LAST_BIT / 4)).all()), (usual, usual_of_peft)
    together, together_of_peft = (float(errors.pow(2).mean().sqrt()) for errors in (ours, allowed))
    assert together <= 2 * max(together_of_peft, LAST_BIT), (together, together_of_peft)


@pytest.mark.parametrize("rank", [1, 4])
@pytest.mark.parametrize("name", CONFIGS)
def test_activations_are_as_exact_as_promised(tmp_path: Path, name: str, rank: int) -> None:
    case = _case(tmp_path, CONFIGS[name], r=rank)
    _assert_exact(case)
    assert case.model().is_prefix_determined(EXAMPLES)


VARIANTS: dict[str, dict[str, Any]] = {
    "weak": {"strength": 0.01},
    "strong": {"strength": 1.0},
    "dora": {"r": 2, "use_dora": True},
    "strong dora": {"r": 2, "use_dora": True, "strength": 1.0},
    "bias": {"lora_bias": True},
    "saved whole": {"target_modules": ["q_proj", "down_proj"], "modules_to_save": ["lm_head"]},
    "head": {"r": 2, "target_modules": ["lm_head", "down_proj"]},
    "head alone": {"target_modules": ["lm_head"]},
    "patterns": {"r": 4, "rank_pattern": {"q_proj": 2}, "use_rslora": True},
    "dropout": {"lora_dropout": 0.5},
    "saved in bfloat16": {"r": 2, "bfloat16": True},
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_every_variant_is_as_exact_as_promised(tmp_path: Path, options: dict[str, Any]) -> None:
    _assert_exact(_case(tmp_path, CONFIGS["llama"], **options))


@pytest.mark.parametrize("options", [{"r": 2}, {"strength": 1.0}, {"use_dora": True}, {"target_modules": ["lm_head"]}])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_models_are_as_exact_as_promised(tmp_path: Path, dtype: str, options: dict[str, Any]) -> None:
    case = _case(tmp_path, CONFIGS["llama"], **options)
    _assert_exact(case, dtype)
    assert case.model(dtype).is_prefix_determined(EXAMPLES)


@pytest.mark.parametrize("name", CONFIGS)
def test_padding_never_leaks(tmp_path: Path, name: str) -> None:
    case = _case(tmp_path, CONFIGS[name])
    model = case.model()
    alone = torch.cat([dense(model, [ids]) for ids in EXAMPLES], dim=1)
    for masked in (True, False):
        together = dense(model, EXAMPLES, masked=masked)
        assert bool(((together - alone).norm(dim=1) < 1e-5 * alone.norm(dim=1)).all())
        assert torch.equal(together, dense(model, EXAMPLES, masked=masked))


class Looks(TorchDispatchMode):
    """Notes the operations whose result the host must know before it can go on, for which it waits for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.index.Tensor:  # its result's shape is known unless a mask is the index
            looks = any(index is not None and index.dtype == torch.bool for index in args[1])
        else:
            looks = not {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}.isdisjoint(func.tags)
        if looks:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "deepseek"])  # kv_b_proj reads pasts, too
def test_without_a_mask_nothing_waits_for_the_device(tmp_path: Path, name: str) -> None:
    model = _case(tmp_path, CONFIGS[name]).model()
    assert model.problem_with_pasts(EXAMPLES) is None
    with Looks() as looks:
        pending = [model.record(EXAMPLES, masked=False), model.record(EXAMPLES[:2], keep=[1, 0], masked=False)]
        pending.append(model.record([ids[:9] for ids in EXAMPLES[3:]], pending[-1].pasts, masked=False))
    assert looks.found == []
    with looks:
        model.record(EXAMPLES)
    assert set(looks.found) == {"aten._local_scalar_dense.default"}  # whether the mask has any padding


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_dora_write_norms_are_those_of_the_rescaled_columns(tmp_path: Path, name: str) -> None:
    case = _case(tmp_path, CONFIGS[name], r=3, use_dora=True, lora_alpha=5)
    norms = case.model().write_norms()
    adapter = load_file(case.adapter / "adapter_model.safetensors")
    base = AutoModelForCausalLM.from_pretrained(case.base).state_dict()
    assert set(norms) == {module.name for module in case.modules}
    for module in case.modules:
        A, B = case.tensors(module)
        W = base[f"{module.name}.weight"].double()
        W = W.T if name == "gpt2" else W
        magnitude = adapter[f"base_model.model.{module.name}.lora_magnitude_vector"].double()
        g = magnitude / (W + 5 / 3 * B @ A).norm(dim=1)
        np.testing.assert_allclose(norms[module.name], (g[:, None] * B).norm(dim=0), rtol=1e-9)


def test_plain_lora_has_no_other_write_norms(tmp_path: Path) -> None:
    assert _case(tmp_path, CONFIGS["llama"]).model().write_norms() == {}


def test_one_modules_results_do_not_depend_on_how_many_are_recorded(tmp_path: Path) -> None:
    case = _case(tmp_path, CONFIGS["llama"], r=2)
    values = case.by_module(dense(case.model(), EXAMPLES))[case.modules[-1].name]
    last = Case(case.base, case.adapter, case.modules[-1:])
    alone = last.by_module(dense(last.model(), EXAMPLES))[last.modules[0].name]
    assert bool(((alone - values).norm(dim=0) < 1e-5 * values.norm(dim=0)).all())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_that_sees_later_tokens_is_not_prefix_determined(tmp_path: Path, dtype: str) -> None:
    case = _case(tmp_path, CONFIGS["llama"])
    base = case.load(dtype)

    def see_everything(_: torch.nn.Module, __: object, kwargs: dict[str, Any]) -> tuple[tuple[()], dict[str, Any]]:
        batch, seq = kwargs["input_ids"].shape
        mask = torch.zeros(batch, 1, seq, seq, dtype=base.dtype)  # added to the scores: nothing is masked
        return (), {**kwargs, "attention_mask": mask}

    base.base_model.register_forward_pre_hook(see_everything, with_kwargs=True)
    model = AdaptedModel(base, case.adapter, case.modules)
    assert not model.is_prefix_determined(EXAMPLES)
    assert model.problem_with_pasts(EXAMPLES)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_that_sees_a_little_of_later_tokens_shares_no_prefixes(tmp_path: Path, dtype: str) -> None:
    """Less than bfloat16's rounding: two rows of one batch show it all the same, and rows in pieces would not."""
    case = _case(tmp_path, CONFIGS["llama"])
    base = case.load(dtype)

    def leak(_: torch.nn.Module, __: object, states: torch.Tensor) -> torch.Tensor:
        return states + 0.02 * states.mean(dim=1, keepdim=True)

    base.model.norm.register_forward_hook(leak)
    model = AdaptedModel(base, case.adapter, case.modules)
    assert not model.is_prefix_determined(EXAMPLES)
    assert "other tokens after them change its states" in str(model.problem_with_pasts(EXAMPLES))


def test_a_model_that_depends_on_the_length_is_not_prefix_determined(tmp_path: Path) -> None:
    case = _case(tmp_path, CONFIGS["llama"])

    def grow(_: torch.nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
        return output * output.shape[1]

    base = case.load()
    base.model.norm.register_forward_hook(grow)
    assert not AdaptedModel(base, case.adapter, case.modules).is_prefix_determined(EXAMPLES)


def test_states_that_are_not_finite_say_nothing_of_what_they_depend_on(tmp_path: Path) -> None:
    case = _case(tmp_path, CONFIGS["llama"])
    base = case.load()
    base.model.norm.weight.data[0] = torch.nan
    assert AdaptedModel(base, case.adapter, case.modules).is_prefix_determined(EXAMPLES)


def test_a_module_that_text_never_reaches_is_refused_by_name(tmp_path: Path) -> None:
    case = _case(tmp_path, CONFIGS["llama"], target_modules=["up_proj"])
    base = case.load()
    base.model.layers[1].mlp.forward = lambda states: states
    with pytest.raises(AdapterError, match=r"never runs model\.layers\.1\.mlp\.up_proj"):
        dense(AdaptedModel(base, case.adapter, case.modules), EXAMPLES)


@pytest.mark.parametrize("examples", [[np.array([5])], [np.array([5, 5])], [np.arange(3, 40)] * 5])
def test_the_probe_stays_within_the_positions_and_needs_few_tokens(tmp_path: Path, examples: list[np.ndarray]) -> None:
    assert _case(tmp_path, CONFIGS["gpt2"]).model().is_prefix_determined(examples)


@pytest.mark.parametrize("layer", [0, 1])  # after the last one nothing need run
def test_a_module_that_runs_twice_is_refused_by_name(tmp_path: Path, layer: int) -> None:
    case = _case(tmp_path, CONFIGS["llama"], target_modules=["up_proj"])
    base = case.load()
    base.model.layers[layer].mlp.register_forward_hook(lambda mlp, args, _: mlp.forward(*args))
    with pytest.raises(AdapterError, match=rf"model\.layers\.{layer}\.mlp\.up_proj sees"):
        dense(AdaptedModel(base, case.adapter, case.modules), EXAMPLES)


def test_a_module_whose_rows_are_not_the_tokens_is_refused_by_name(tmp_path: Path) -> None:
    case = _case(tmp_path, CONFIGS["llama"], target_modules=["up_proj"])
    base = case.load()
    mlp = base.model.layers[0].mlp
    mlp.register_forward_pre_hook(lambda _, args: args[0].transpose(0, 1))
    mlp.register_forward_hook(lambda _, __, output: output.transpose(0, 1))
    with pytest.raises(
        AdapterError, match=r"model\.layers\.0\.mlp\.up_proj sees inputs of shape \(40, 5, 16\) for 5 x 40"
    ):
        dense(AdaptedModel(base, case.adapter, case.modules), EXAMPLES)


def test_nothing_runs_after_the_last_adapted_module_unless_a_past_is_kept(tmp_path: Path) -> None:
    case = _case(tmp_path, CONFIGS["llama"], target_modules=["up_proj", "k_proj"], layers_to_transform=[0])
    base, called = case.load(), list[str]()
    model = AdaptedModel(base, case.adapter, case.modules, own_base=True)
    watched = ("model.layers.0.mlp.gate_proj", "model.layers.0.mlp.down_proj", "model.layers.1", "model.norm")
    for name in watched:
        base.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: called.append(name))
    first = model.record([EXAMPLES[3][:9]], keep=[0])
    assert called == [*watched]
    called.clear()
    second = model.record([EXAMPLES[3][9:]], first.pasts)
    assert called == [*watched[:1]]
    parts = [part.result().dense for part in (first, second)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), dense(case.model(), EXAMPLES[3:4]), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [("llama", {"r": 2}), ("gpt2", {"use_dora": True}), ("llama", {"target_modules": ["lm_head", "q_proj"]})],
)
def test_a_model_that_accelerate_has_placed_records_the_same(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    """Its hooks replace the forward of every module, and move what each one reads: here from the CPU to the CPU."""
    case = _case(tmp_path, CONFIGS[name], **options)
    plain = dense(case.model(), EXAMPLES)
    base = case.load()
    leaves = [name for name, module in base.named_modules() if not [*module.children()]]
    placed: Any = dispatch_model(base, dict.fromkeys(leaves, torch.device("cpu")), force_hooks=True)
    assert sum(hasattr(module, "_hf_hook") for module in placed.modules()) > len(leaves)
    model = AdaptedModel(placed, case.adapter, case.modules)
    assert torch.equal(dense(model, EXAMPLES), plain)
    assert model.problem_with_pasts(EXAMPLES) is None


@pytest.mark.parametrize("options", [{"r": 2}, {"use_dora": True}, {"bias": "all"}])
def test_a_model_with_a_base_of_its_own_records_the_same_and_keeps_no_second_weights(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    case = _case(tmp_path, CONFIGS["qwen2"], **options)
    base: Any = case.load()
    weights: dict[str, Any] = {module.name: base.get_submodule(module.name).weight for module in case.modules}
    before = {name: weight.clone() for name, weight in weights.items()}
    own = AdaptedModel(base, case.adapter, case.modules, own_base=True)
    assert all(base.get_submodule(name).get_base_layer().weight is weight for name, weight in weights.items())
    assert sum(not torch.equal(weight, before[name]) for name, weight in weights.items()) == own.folded > 0
    shared = case.model()
    assert own.folded == shared.folded
    assert torch.equal(dense(own, EXAMPLES), dense(shared, EXAMPLES))


def _full(base: Any, rows: int) -> None:
    """Leave the model memory for so many rows of a batch: more of them ask the allocator for an exabyte."""

    def ask(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        torch.empty(1 << 60 if len(args[0]) > rows else 1, dtype=torch.uint8)

    base.get_input_embeddings().register_forward_pre_hook(ask)


def test_a_batch_that_does_not_fit_into_memory_runs_in_halves(tmp_path: Path) -> None:
    case = _case(tmp_path, CONFIGS["llama"])
    base = case.load()
    _full(base, rows=2)
    model = AdaptedModel(base, case.adapter, case.modules)
    whole, halves = case.model().record(EXAMPLES, keep=[3, 1]), model.record(EXAMPLES, keep=[3, 1])
    np.testing.assert_allclose(halves.result().dense, whole.result().dense, rtol=0, atol=1e-5)
    assert [past.length for past in halves.pasts] == [LENGTHS[3], LENGTHS[1]]
    assert model.halved == 2  # five rows, and then three of them
    model.record(EXAMPLES[:3])
    assert model.halved == 3  # without a try: it is larger than what did not fit


def test_an_example_that_does_not_fit_into_memory_is_refused_by_name(tmp_path: Path) -> None:
    case = _case(tmp_path, CONFIGS["llama"])
    base = case.load()
    model = AdaptedModel(base, case.adapter, case.modules)
    _full(model._peft.get_base_model(), rows=0)
    with pytest.raises(ModelError, match=r"dataset\.max_tokens: an example of 7 tokens does not fit into the memory"):
        model.record(EXAMPLES[:2])


def test_an_adapter_that_peft_cannot_load_is_refused_by_name(tmp_path: Path) -> None:
    case = _case(tmp_path, CONFIGS["llama"])
    sizes: dict[str, Any] = {**COMMON, **GATED, "hidden_size": 32}
    wide = _case(tmp_path / "wide", LlamaConfig(**sizes))
    with pytest.raises(AdapterError, match=r"adapter\.path: PEFT cannot put .*wide"):
        AdaptedModel(case.load(), wide.adapter, case.modules)
