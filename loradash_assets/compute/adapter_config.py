"""An adapter's configuration: each of its fields is used, changes nothing that is recorded, or is refused by name."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from loradash_assets.compute.adapter_files import CONFIG
from loradash_assets.compute.errors import AdapterError

if TYPE_CHECKING:
    from peft import LoraConfig

BASE_CHANGING_INITIALISATIONS = ("pissa", "olora", "corda", "loftq", "lora_ga")
HOW_IT_WAS_TRAINED = ("corda_config", "eva_config", "lora_ga_config", "loftq_config", "runtime_config")
NO_PLAIN_INPUT = {
    "alora_invocation_tokens": "activated LoRA routes only some tokens through A",
    "use_qalora": "QA-LoRA pools x before A",
    "use_bdlora": "BD-LoRA splits x before A",
    "arrow_config": "Arrow mixes several adapters per token",
    "kasa_config": "KaSA puts a diagonal between A and B and cuts down the base model's weights",
    "monteclora_config": "MonteCLoRA samples its weights",
    "layer_replication": "the adapter replicates layers",
    "megatron_config": "Megatron layers are not supported",
}


def read_config(directory: Path) -> LoraConfig:
    """Return the adapter's configuration, without dropout: on parameters PEFT would refuse it even in evaluation.

    Raises AdapterError naming file and field if it cannot be read, is of no LoRA adapter of a causal language model,
    says something that this version of PEFT does not know, has no plain A x, or needs a base model that was changed.
    """
    fields = _fields(directory / CONFIG)
    if problem := next(_problems(fields), ""):
        raise AdapterError(f"adapter.path: {directory / CONFIG}: {problem}")
    return _lora_config({name: value for name, value in fields.items() if _is_used(name)}, directory / CONFIG)


def _fields(file: Path) -> dict[str, Any]:
    try:
        fields: object = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterError(f"adapter.path: cannot read {file}: {error}") from error
    if not isinstance(fields, dict):
        raise AdapterError(f"adapter.path: {file} holds a {type(fields).__name__}, not the fields of a PEFT adapter")
    return cast("dict[str, Any]", fields)


def _problems(fields: Mapping[str, Any]) -> Iterator[str]:
    kind, task = fields.get("peft_type"), fields.get("task_type")
    if kind != "LORA":
        yield f"peft_type is {kind}; loradash reads LORA (PEFT's save_as_lora turns some other kinds into it)"
    if task not in {None, "CAUSAL_LM"}:
        yield f"task_type is {task}; loradash runs causal language models (CAUSAL_LM)"
    initialisation = str(fields.get("init_lora_weights")).lower()
    if initialisation.startswith(BASE_CHANGING_INITIALISATIONS):
        yield (
            f"init_lora_weights is '{initialisation}', which changes the base model; convert the adapter to a plain "
            "LoRA (PEFT: save_pretrained with path_initial_model_for_weight_conversion), or name the base model that "
            "was saved with it and set init_lora_weights to true"
        )
    yield from _unknown_fields(fields)
    for name, reason in NO_PLAIN_INPUT.items():
        if fields.get(name) not in (None, False, []):
            yield f"{name} is set: {reason}, so there is no plain A x to record"
    yield from _wrong_numbers(fields)


def _unknown_fields(fields: Mapping[str, Any]) -> Iterator[str]:
    from peft import LoraConfig, __version__

    for name in sorted(set(fields) - set(LoraConfig.__dataclass_fields__)):
        if fields[name]:  # off, whatever it is, changes nothing
            yield (
                f"{name} is {json.dumps(fields[name])}, a field that PEFT {__version__} does not know: install the "
                "PEFT that wrote it, or remove the field if the adapter is the same without it"
            )


def _wrong_numbers(fields: Mapping[str, Any]) -> Iterator[str]:
    for name, pattern in (("r", "rank_pattern"), ("lora_alpha", "alpha_pattern")):
        inside: object = fields.get(pattern) or {}
        if not isinstance(inside, dict):
            yield f"{pattern} is {json.dumps(inside)}, not a mapping from module names to numbers"
            continue
        named = {name: fields.get(name, 8), **{f"{pattern}.{module}": value for module, value in inside.items()}}
        for path, value in named.items():
            if not _fits(name, value):
                yield f"{path} is {json.dumps(value)}, not {'a whole number above 0' if name == 'r' else 'a number'}"


def _fits(name: str, value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    return name != "r" or (isinstance(value, int) and value >= 1)


def _is_used(name: str) -> bool:
    from peft import LoraConfig

    return name in LoraConfig.__dataclass_fields__ and name not in HOW_IT_WAS_TRAINED


def _lora_config(fields: dict[str, Any], file: Path) -> LoraConfig:
    from peft import LoraConfig

    if fields.get("init_lora_weights") == "eva":  # decides on nothing but where training starts
        fields["init_lora_weights"] = True
    fields["lora_dropout"] = 0.0
    try:
        return LoraConfig(**fields)
    except Exception as error:  # PEFT checks little: a value of the wrong kind fails anywhere
        raise AdapterError(f"adapter.path: {file}: PEFT says: {error}") from error
