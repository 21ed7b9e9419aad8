"""Experts' activations against brute force that shares no code with them: PEFT's own merge, in float64.

The reference runs each example alone, through each model's own loop over its experts. A hook reads what goes into
that loop; x of an expert follows from the definition, written down in `_inputs`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel

from loradash_assets.compute.errors import AdapterError
from loradash_assets.compute.features import AdaptedModule, read_catalogue
from loradash_assets.compute.forward import AdaptedModel
from loradash_assets.compute.model import load_config, load_model
from loradash_assets.compute.routed import Recorded
from tests.experts import FAMILIES, VOCABULARY, Family
from tests.projects import save_adapter, save_base

# PEFT looks for the patterns among the modules only
pytestmark = pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys did not match:RuntimeWarning")

RANDOM = np.random.default_rng(0)
EXAMPLES = [RANDOM.integers(3, VOCABULARY, length) for length in (7, 63, 1, 140, 29)]
LENGTHS = [len(ids) for ids in EXAMPLES]
STARTS = np.cumsum([0, *LENGTHS])
Key = tuple[str, int, str]  # the experts' module, expert, parameter


@dataclass(frozen=True)
class Seen:
    """What one expert saw of one parameter's input."""

    tokens: torch.Tensor  # (tokens,)
    x: torch.Tensor  # (tokens, in) float64


@dataclass(frozen=True)
class Case:
    """An adapter on a base model, both on disk, and what the catalogue says of it."""

    family: Family
    base: Path
    adapter: Path
    modules: tuple[AdaptedModule, ...]

    def load(self, dtype: str = "float32") -> PreTrainedModel:
        return load_model(self.base, dtype=dtype, device=torch.device("cpu"), trust_remote_code=False)

    def model(self, dtype: str = "float32") -> AdaptedModel:
        return AdaptedModel(self.load(dtype), self.adapter, self.modules)

    @property
    def routed(self) -> dict[Key, AdaptedModule]:
        return {_key(module): module for module in self.modules if module.expert >= 0}

    @property
    def owners(self) -> set[str]:
        return {owner for owner, _, _ in self.routed}


def _key(module: AdaptedModule) -> Key:
    parts = module.name.split(".")
    return ".".join(parts[:-2]), int(parts[-2]), parts[-1]


def _case(directory: Path, name: str, **options: Any) -> Case:
    family = FAMILIES[name]
    save_base(directory / "base", family.config)
    options = {"target_parameters": family.both, "target_modules": ["q_proj"], **options}
    if name in {"deepseek 3", "deepseek 2"}:
        options["target_modules"] = ["o_proj"]
    save_adapter(directory / "adapter", directory / "base", **options)
    return _read(directory, family)


def _read(directory: Path, family: Family) -> Case:
    base = load_config(directory / "base", trust_remote_code=False)
    catalogue = read_catalogue(directory / "adapter", base, allow_pickle=False, trust_remote_code=False)
    assert catalogue.unrecorded == {}
    return Case(family, directory / "base", directory / "adapter", catalogue.modules)


def _inputs(family: Family, experts: Any, states: torch.Tensor, index: torch.Tensor) -> dict[tuple[int, str], Seen]:
    """What each expert sees: the states of its tokens, and what its gate makes of them."""
    seen: dict[tuple[int, str], Seen] = {}
    for expert, weight in enumerate(experts.gate_up_proj):
        tokens = torch.tensor(
            [token for token, chosen in enumerate(index.tolist()) if expert in chosen], dtype=torch.long
        )
        x = states[tokens]
        gate_up = x @ (weight if family.transposed else weight.T)
        if family.transposed:  # GPT-OSS
            gate_up = gate_up + experts.gate_up_proj_bias[expert]
        seen[expert, "gate_up_proj"] = Seen(tokens, x.double())
        seen[expert, "down_proj"] = Seen(tokens, family.gate(gate_up).double())
    return seen


def _reference(case: Case, convert: Callable[[PeftModel], Any], dtype: torch.dtype = torch.float32) -> dict[Key, Seen]:
    """X of every expert, tokens numbered over all examples, in PEFT's model as `convert` leaves it."""
    base = AutoModelForCausalLM.from_pretrained(case.base, dtype=dtype)
    base.set_experts_implementation("eager")
    model = convert(PeftModel.from_pretrained(base, str(case.adapter)).eval())
    plain = model.get_base_model() if isinstance(model, PeftModel) else model
    found: dict[Key, list[Seen]] = {}
    start = 0

    def watch(owner: str) -> None:
        def keep(experts: torch.nn.Module, args: tuple[torch.Tensor, ...], kwargs: Mapping[str, torch.Tensor]) -> None:
            states, index = [*args, *kwargs.values()][:2]
            for (expert, parameter), seen in _inputs(case.family, experts, states, index).items():
                found.setdefault((owner, expert, parameter), []).append(Seen(seen.tokens + start, seen.x))

        module: Any = plain.get_submodule(owner)
        while hasattr(module, "base_layer"):
            module = module.base_layer
        module.register_forward_pre_hook(keep, with_kwargs=True)

    for owner in case.owners:
        watch(owner)
    with torch.no_grad():
        for ids in EXAMPLES:
            model(input_ids=torch.from_numpy(ids)[None])
            start += len(ids)
    return {
        key: Seen(torch.cat([each.tokens for each in parts]), torch.cat([each.x for each in parts]))
        for key, parts in found.items()
    }


def _deltas(case: Case) -> dict[Key, tuple[torch.Tensor, torch.Tensor]]:
    """A (rank, in) and scaling * B (out, rank) of each expert, as PEFT itself multiplies them."""
    model: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(case.base), str(case.adapter))
    found: dict[Key, tuple[torch.Tensor, torch.Tensor]] = {}
    for owner in case.owners:
        wrapper = model.get_base_model().get_submodule(owner)
        while hasattr(wrapper, "base_layer"):
            left, right, scaling = wrapper.get_delta_factors("default")
            for expert, (first, last) in enumerate(zip(left.detach(), right.detach(), strict=True)):
                A, B = (first.T, last.T) if case.family.transposed else (last, first)
                found[owner, expert, wrapper.parameter_name] = A.double(), scaling * B.double()
            wrapper = wrapper.base_layer
    return found


def _by_module(case: Case, recorded: Recorded) -> dict[Key, tuple[np.ndarray, torch.Tensor]]:
    """Token numbers (tokens,) and activations (tokens, rank) of each expert's parameter."""
    rows: dict[tuple[str, int], int] = {}
    found: dict[Key, tuple[np.ndarray, torch.Tensor]] = {}
    for key, module in case.routed.items():
        owner, expert, _ = key
        routed = recorded.routed[owner]
        columns = slice(routed.offsets[expert], routed.offsets[expert + 1])
        first = rows.get((owner, expert), 0)
        rows[owner, expert] = first + module.rank
        values = routed.values[first : first + module.rank, columns].T
        found[key] = routed.tokens[columns], torch.from_numpy(values).double()
    return found


def _assert_exact(case: Case) -> None:
    """(b) of the project's semantics, in a padded batch, over all experts of a parameter: one alone sees few tokens.

    Every expert sees what the router sends it and no more.
    """
    recorded = _by_module(case, case.model().record(EXAMPLES).result())
    exact = _reference(case, lambda model: model.double().merge_and_unload())
    peft = _reference(case, lambda model: model)
    errors: dict[tuple[str, str], list[torch.Tensor]] = {}
    for key, (tokens, values) in recorded.items():
        A = torch.from_numpy(case.routed[key].A).double()
        assert tokens.tolist() == exact[key].tokens.tolist() == peft[key].tokens.tolist(), key
        truth, others = (reference[key].x @ A.T for reference in (exact, peft))
        scale = truth.pow(2).mean(dim=0).sqrt()
        both = torch.stack([values - truth, others - truth]) / scale  # (2, tokens, rank)
        errors.setdefault((key[0], key[2]), []).append(both)
    assert len(errors) > 0
    for parameter, parts in errors.items():
        ours, pefts = torch.cat(parts, dim=1).pow(2).mean(dim=1).sqrt()  # (rank,)
        last_bit = torch.full_like(pefts, 1e-6)
        assert bool((ours <= torch.maximum(2 * pefts, last_bit)).all()), (parameter, ours, pefts)


@pytest.mark.parametrize("rank", [1, 4])
@pytest.mark.parametrize("name", FAMILIES)
def test_experts_are_as_exact_as_promised(tmp_path: Path, name: str, rank: int) -> None:
    case = _case(tmp_path, name, r=rank)
    _assert_exact(case)
    assert case.model().is_prefix_determined(EXAMPLES)


VARIANTS: dict[str, dict[str, Any]] = {
    "gate and up": {"target_parameters": ["mlp.experts.gate_up_proj"]},
    "down": {"target_parameters": ["mlp.experts.down_proj"]},
    "weak": {"strength": 0.01},
    "strong": {"strength": 1.0},
    "patterns": {"r": 4, "rank_pattern": {r".*\.gate_up_proj": 2}, "alpha_pattern": {r".*\.down_proj": 7}},
    "rslora": {"r": 3, "use_rslora": True},
    "router": {"target_parameters": ["gate.weight", "mlp.experts.down_proj"], "r": 2},
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_every_variant_is_as_exact_as_promised(tmp_path: Path, options: dict[str, Any]) -> None:
    _assert_exact(_case(tmp_path, "mixtral", **options))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_and_b_are_those_of_pefts_update(tmp_path: Path, name: str) -> None:
    case = _case(tmp_path, name, r=3, lora_alpha=5)
    expected = _deltas(case)
    assert set(expected) == set(case.routed)
    for key, module in case.routed.items():
        A, B = expected[key]
        assert module.scaling == pytest.approx(5 / 3)
        assert torch.equal(torch.from_numpy(module.A).double(), A)
        assert torch.equal(module.scaling * torch.from_numpy(module.B).double(), B)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["mixtral", "gpt-oss"])
def test_the_product_is_exact_for_the_x_that_the_model_computed(tmp_path: Path, name: str, dtype: str) -> None:
    """(a) of the project's semantics."""
    case = _case(tmp_path, name, r=4)
    model = AdaptedModel(case.load(dtype), case.adapter, case.modules)
    base = model._peft.get_base_model()
    outer: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    inner: dict[str, list[torch.Tensor]] = {}

    def watch(owner: str) -> None:
        experts: Any = base.get_submodule(owner).get_base_layer()  # pyright: ignore[reportCallIssue]
        apply_gate = experts._apply_gate

        def keep_inner(gate_up: torch.Tensor) -> torch.Tensor:
            inner.setdefault(owner, []).append(apply_gate(gate_up))
            return inner[owner][-1]

        experts._apply_gate = keep_inner
        experts.register_forward_pre_hook(lambda _, args: outer.__setitem__(owner, (args[0], args[1])))

    for owner in case.owners:
        watch(owner)
    recorded = _by_module(case, model.record(EXAMPLES).result())
    real = np.concatenate([np.arange(max(LENGTHS)) < length for length in LENGTHS])
    numbers = np.cumsum(real) - 1
    for key, (tokens, values) in recorded.items():
        owner, expert, parameter = key
        states, index = outer[owner]
        rows = (index == expert).any(dim=1).numpy()
        hit = sorted(set(index.flatten().tolist()))
        x = states[rows] if parameter == "gate_up_proj" else inner[owner][hit.index(expert)]
        x, A = x[torch.from_numpy(real[rows])].double(), torch.from_numpy(case.routed[key].A).double()
        assert numbers[rows & real].tolist() == tokens.tolist()
        bound = 1e-5 * x.norm(dim=1)[:, None] * A.norm(dim=1)
        assert bool(((values - x @ A.T).abs() <= bound).all()), key


@pytest.mark.parametrize("name", ["mixtral", "gpt-oss"])
def test_small_updates_are_not_lost_in_bfloat16(tmp_path: Path, name: str) -> None:
    """PEFT folds them into bfloat16 weights; added beside the weight they are as exact as those of linear modules."""
    case = _case(tmp_path, name, r=2, strength=0.05)
    exact = _reference(case, lambda model: model.double().merge_and_unload(), torch.bfloat16)
    folded = _reference(case, lambda model: model, torch.bfloat16)
    recorded = _by_module(case, case.model("bfloat16").record(EXAMPLES).result())
    errors: list[list[float]] = []
    for key, (tokens, values) in recorded.items():
        A = torch.from_numpy(case.routed[key].A).double()
        truth = {int(n): x @ A.T for n, x in zip(exact[key].tokens, exact[key].x, strict=True)}
        others = {int(n): x @ A.T for n, x in zip(folded[key].tokens, folded[key].x, strict=True)}
        ours = dict(zip(tokens.tolist(), values, strict=True))
        same = sorted(truth.keys() & others.keys() & ours.keys())  # rounding may route a token elsewhere
        assert len(same) > 0.9 * len(truth)
        errors.append([float(sum((each[n] - truth[n]).pow(2).sum() for n in same)) for each in (ours, others)])
    total = np.sqrt(np.sum(errors, axis=0))
    assert total[0] <= 2 * total[1]


def test_an_expert_without_tokens_has_no_columns(tmp_path: Path) -> None:
    case = _case(tmp_path, "qwen3", r=2)
    recorded = case.model().record([EXAMPLES[2], EXAMPLES[2]]).result()  # one token, twice
    for routed in recorded.routed.values():
        assert np.diff(routed.offsets).tolist().count(2) == 3
        assert np.diff(routed.offsets).sum() == 6
        assert routed.values.shape == (4, 6)
        assert routed.tokens.tolist() == [0, 1] * 3


@pytest.mark.parametrize("name", ["qwen3", "gpt-oss"])
def test_padding_never_leaks_and_never_counts(tmp_path: Path, name: str) -> None:
    case = _case(tmp_path, name)
    model = case.model()
    together = model.record(EXAMPLES).result()
    alone = [model.record([ids]).result() for ids in EXAMPLES]
    k = case.family.config.num_experts_per_tok
    for owner, routed in together.routed.items():
        assert routed.offsets[-1] == sum(LENGTHS) * k
        assert np.bincount(routed.tokens).tolist() == [k] * sum(LENGTHS)
        for expert in range(len(routed.offsets) - 1):
            columns = slice(routed.offsets[expert], routed.offsets[expert + 1])
            parts = [each.routed[owner] for each in alone]
            spans = [slice(part.offsets[expert], part.offsets[expert + 1]) for part in parts]
            tokens = [part.tokens[span] + start for part, span, start in zip(parts, spans, STARTS, strict=False)]
            values = np.concatenate([part.values[:, span] for part, span in zip(parts, spans, strict=True)], axis=1)
            assert routed.tokens[columns].tolist() == np.concatenate(tokens).tolist()
            np.testing.assert_allclose(
                routed.values[:, columns], values, rtol=0, atol=1e-5 * np.abs(values).max(initial=1)
            )
    again = model.record(EXAMPLES).result()
    for owner, routed in together.routed.items():
        assert routed.values.tobytes() == again.routed[owner].values.tobytes()


def test_experts_that_text_never_reaches_are_refused_by_name(tmp_path: Path) -> None:
    case = _case(tmp_path, "mixtral", target_modules=[])
    base = case.load()
    base.model.layers[1].mlp.forward = lambda states: states
    with pytest.raises(AdapterError, match=r"never runs model\.layers\.1\.mlp\.experts"):
        AdaptedModel(base, case.adapter, case.modules).record(EXAMPLES).result()


def test_experts_whose_rows_are_not_the_tokens_are_refused_by_name(tmp_path: Path) -> None:
    case = _case(tmp_path, "mixtral", target_modules=[])
    base = case.load()
    mlp: Any = base.model.layers[0].mlp
    mlp.register_forward_pre_hook(lambda _, args: args[0][:, 1:].contiguous())
    mlp.register_forward_hook(lambda _, __, output: torch.nn.functional.pad(output, (0, 0, 1, 0)))
    message = r"model\.layers\.0\.mlp\.experts sees inputs of shape \(\d+, 16\) for \d+ tokens"
    with pytest.raises(AdapterError, match=message):
        AdaptedModel(base, case.adapter, case.modules).record(EXAMPLES).result()


def test_experts_that_run_twice_are_refused_by_name(tmp_path: Path) -> None:
    case = _case(tmp_path, "mixtral", target_modules=[])
    base = case.load()
    mlp: Any = base.model.layers[0].mlp
    mlp.register_forward_hook(lambda mlp, args, _: mlp.forward(*args))
    with pytest.raises(AdapterError, match=r"model\.layers\.0\.mlp\.experts sees"):
        AdaptedModel(base, case.adapter, case.modules).record(EXAMPLES).result()


def test_quantised_experts_are_refused_by_name(tmp_path: Path) -> None:
    case = _case(tmp_path, "mixtral", target_modules=[])
    base = case.load()
    experts: Any = base.model.layers[1].mlp.experts
    experts.down_proj = torch.nn.Parameter(experts.down_proj.data.to(torch.float8_e4m3fn), requires_grad=False)
    with pytest.raises(AdapterError, match=r"model\.layers\.1\.mlp\.experts was loaded as MixtralExperts"):
        AdaptedModel(base, case.adapter, case.modules)
