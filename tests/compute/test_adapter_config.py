"""Every field of an adapter's configuration: what loradash does with it, and what it says of what it cannot use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from peft import IA3Config, LoHaConfig, LoraConfig, PeftConfig, PrefixTuningConfig, PromptTuningConfig

from loradash_assets.compute.adapter_config import HOW_IT_WAS_TRAINED, NO_PLAIN_INPUT, read_config
from loradash_assets.compute.errors import AdapterError

USED_OR_HARMLESS = {
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "ensure_weight_tying",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_bias",
    "lora_dropout",
    "megatron_core",
    "modules_to_save",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "target_modules",
    "target_parameters",
    "task_type",
    "trainable_token_indices",
    "use_dora",
    "use_rslora",
    "velora_config",
}


def _write(directory: Path, **fields: Any) -> Path:
    LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]).save_pretrained(str(directory))
    file = directory / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))
    return file


def _refusal(directory: Path) -> str:
    with pytest.raises(AdapterError) as refused:
        read_config(directory)
    return str(refused.value)


def test_somebody_has_thought_about_every_field_of_pefts() -> None:
    assert set(LoraConfig.__dataclass_fields__) == USED_OR_HARMLESS | set(NO_PLAIN_INPUT) | set(HOW_IT_WAS_TRAINED)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("alora_invocation_tokens", [1, 2]),
        ("use_qalora", True),
        ("use_bdlora", {"target_modules_bd_a": ["q_proj"], "nblocks": 2}),
        ("arrow_config", {"top_k": 2}),
        ("kasa_config", {}),
        ("monteclora_config", {"num_samples": 4}),
        ("layer_replication", [[0, 2], [1, 3]]),
        ("megatron_config", {"hidden_size": 8}),
    ],
)
def test_what_has_no_plain_a_x_is_refused_naming_file_field_and_reason(
    tmp_path: Path, field: str, value: object
) -> None:
    file = _write(tmp_path, **{field: value})
    reason = f"{field} is set: {NO_PLAIN_INPUT[field]}, so there is no plain A x to record"
    assert _refusal(tmp_path) == f"adapter.path: {file}: {reason}"
    _write(tmp_path, **{field: None})
    read_config(tmp_path)


@pytest.mark.parametrize("initialisation", ["pissa", "PiSSA", "pissa_niter_16", "olora", "corda", "loftq", "lora_ga"])
def test_initialisations_that_change_the_base_are_refused_with_the_way_out(tmp_path: Path, initialisation: str) -> None:
    file = _write(tmp_path, init_lora_weights=initialisation)
    assert _refusal(tmp_path) == (
        f"adapter.path: {file}: init_lora_weights is '{initialisation.lower()}', which changes the base model; convert "
        "the adapter to a plain LoRA (PEFT: save_pretrained with path_initial_model_for_weight_conversion), or name "
        "the base model that was saved with it and set init_lora_weights to true"
    )


@pytest.mark.parametrize("initialisation", [True, False, "gaussian", "eva", "orthogonal", "mica"])
def test_other_initialisations_are_used(tmp_path: Path, initialisation: object) -> None:
    _write(tmp_path, init_lora_weights=initialisation, eva_config={"rho": 2.0} if initialisation == "eva" else None)
    read_config(tmp_path)


def test_how_it_was_trained_does_not_matter_once_it_is_a_plain_lora(tmp_path: Path) -> None:
    given = {"corda_config": {"corda_method": "kpm"}, "loftq_config": {"loftq_bits": 4}, "eva_config": {"rho": 2.0}}
    _write(tmp_path, **given, runtime_config={"ephemeral_gpu_offload": True}, lora_ga_config={"stable_gamma": 8})
    config = read_config(tmp_path)
    assert (config.corda_config, config.loftq_config, config.eva_config) == (None, {}, None)


def test_a_field_that_this_peft_does_not_know_is_refused_by_name_unless_it_is_off(tmp_path: Path) -> None:
    file = _write(tmp_path, use_new_thing={"top": 1})
    assert _refusal(tmp_path).startswith(
        f'adapter.path: {file}: use_new_thing is {{"top": 1}}, a field that PEFT {PeftConfig._get_peft_version()} does '
        "not know: install the PEFT that wrote it, or remove the field"
    )
    for off in (None, False, [], {}, 0):
        _write(tmp_path, use_new_thing=off)
        assert not hasattr(read_config(tmp_path), "use_new_thing")


@pytest.mark.parametrize("task", ["SEQ_CLS", "SEQ_2_SEQ_LM", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION", "NEW"])
def test_other_tasks_are_refused_by_name(tmp_path: Path, task: str) -> None:
    file = _write(tmp_path, task_type=task)
    assert _refusal(tmp_path) == (
        f"adapter.path: {file}: task_type is {task}; loradash runs causal language models (CAUSAL_LM)"
    )
    _write(tmp_path, task_type=None)
    read_config(tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        IA3Config(target_modules=["k_proj"], feedforward_modules=[]),
        LoHaConfig(target_modules=["q_proj"]),
        PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    ],
    ids=lambda config: type(config).__name__,
)
def test_other_kinds_of_adapters_are_refused_by_name(tmp_path: Path, config: PeftConfig) -> None:
    config.save_pretrained(str(tmp_path))
    kind = json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"]
    assert _refusal(tmp_path) == (
        f"adapter.path: {tmp_path}/adapter_config.json: peft_type is {kind}; loradash reads LORA "
        "(PEFT's save_as_lora turns some other kinds into it)"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "cannot read {file}: Expecting value"),
        ("{", "cannot read {file}: Expecting property name"),
        ('{"r": 1', "cannot read {file}: Expecting ',' delimiter"),
        ("[" * 100_000, "cannot read {file}: maximum recursion depth"),
        ("[]", "{file} holds a list, not the fields of a PEFT adapter"),
        ("null", "{file} holds a NoneType, not the fields of a PEFT adapter"),
        ("{}", "{file}: peft_type is None; loradash reads LORA"),
        ('{"peft_type": "NO_SUCH"}', "{file}: peft_type is NO_SUCH; loradash reads LORA"),
    ],
)
def test_a_configuration_that_is_none_is_refused_by_name(tmp_path: Path, content: str, reason: str) -> None:
    file = tmp_path / "adapter_config.json"
    file.write_text(content)
    assert _refusal(tmp_path).startswith(f"adapter.path: {reason.format(file=file)}")


def test_a_configuration_that_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_bytes(b"\xff\xfe")
    assert _refusal(tmp_path).startswith(f"adapter.path: cannot read {tmp_path}/adapter_config.json: 'utf-8' codec")


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("r", 0, "r is 0, not a whole number above 0"),
        ("r", "8", 'r is "8", not a whole number above 0'),
        ("r", 2.0, "r is 2.0, not a whole number above 0"),
        ("r", None, "r is null, not a whole number above 0"),
        ("r", True, "r is true, not a whole number above 0"),
        ("lora_alpha", "16", 'lora_alpha is "16", not a number'),
        ("lora_alpha", float("nan"), "lora_alpha is NaN, not a number"),
        ("rank_pattern", {"q_proj": -1}, "rank_pattern.q_proj is -1, not a whole number above 0"),
        ("alpha_pattern", {"q_proj": "x"}, 'alpha_pattern.q_proj is "x", not a number'),
        ("alpha_pattern", ["q_proj"], 'alpha_pattern is ["q_proj"], not a mapping from module names to numbers'),
    ],
)
def test_numbers_that_are_none_are_refused_naming_the_field(
    tmp_path: Path, field: str, value: object, problem: str
) -> None:
    file = _write(tmp_path, **{field: value})
    assert _refusal(tmp_path) == f"adapter.path: {file}: {problem}"


def test_what_peft_itself_refuses_is_passed_on(tmp_path: Path) -> None:
    file = _write(tmp_path, target_modules="all-linear", layers_to_transform=[0])
    assert _refusal(tmp_path).startswith(f"adapter.path: {file}: PEFT says: `layers_to_transform` cannot be used")
