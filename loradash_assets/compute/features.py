"""The feature catalogue: every direction of an adapter, checked against the base model's shapes before that is loaded.

The adapter is put on a base model whose parameters have shapes but no memory (torch's meta device), so PEFT itself
says which modules it adapts, with which rank and scaling, and which tensors it expects in the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa

from loradash_assets.compute.adapter_files import layer_of, layers, weights_file
from loradash_assets.compute.errors import AdapterError
from loradash_assets.compute.experts import (
    NO_EXPERT,
    Part,
    expert_names,
    expert_parts,
    parameter_name,
    parameter_obstacle,
    place,
)
from loradash_assets.schema import FEATURES

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel

ADAPTER_NAME = "default"
PREFIX = "base_model.model."
BASE_CHANGING_INITIALISATIONS = ("pissa", "olora", "corda", "loftq", "lora_ga")
NO_PLAIN_INPUT = {
    "alora_invocation_tokens": "activated LoRA routes only some tokens through A",
    "use_qalora": "QA-LoRA pools x before A",
    "use_bdlora": "BD-LoRA splits x before A",
    "arrow_config": "Arrow mixes several adapters per token",
    "kasa_config": "KaSA puts a diagonal between A and B",
    "monteclora_config": "MonteCLoRA samples its weights",
    "layer_replication": "the adapter replicates layers",
    "megatron_config": "Megatron layers are not supported",
}


@dataclass(frozen=True)
class AdaptedModule:
    """One adapted linear module, or one expert's: A is (rank, in_features), B is (out_features, rank)."""

    name: str
    layer: int
    projection: str
    scaling: float
    variant: str
    A: np.ndarray  # float32 (rank, in_features)
    B: np.ndarray  # float32 (out_features, rank)
    expert: int = NO_EXPERT

    @property
    def rank(self) -> int:
        """Number of components."""
        return len(self.A)


@dataclass(frozen=True)
class Catalogue:
    """All recordable modules in the order of the features, and what cannot be recorded, with the reason."""

    modules: tuple[AdaptedModule, ...]
    unrecorded: Mapping[str, str]
    base_model_name: str

    def table(self) -> pa.Table:
        """Return the FEATURES table."""
        rows = [_feature(module, component) for module in self.modules for component in range(module.rank)]
        return pa.Table.from_pylist([{"feature": index, **row} for index, row in enumerate(rows)], schema=FEATURES)


def read_catalogue(
    directory: Path, base: PretrainedConfig, *, allow_pickle: bool, trust_remote_code: bool, rank: int | None = None
) -> Catalogue:
    """Read the adapter in `directory` and check it against the base model's configuration.

    Raises AdapterError naming the tensor, module or field if it is no LoRA adapter, does not fit the base model, has
    no plain A x, needs a base model that was changed when it was created, or has another rank than `rank`.
    """
    from peft import get_peft_model_state_dict
    from peft.utils.transformers_weight_conversion import convert_peft_adapter_state_dict_for_transformers

    weights_file(directory, allow_pickle=allow_pickle)
    config = evaluation_config(directory)
    base_model_name, config.base_model_name_or_path = config.base_model_name_or_path or "", None
    skeleton = _meta_model(base, trust_remote_code=trust_remote_code)
    names = [*(name for name, _ in skeleton.named_modules()), *expert_names(skeleton)]
    model = _adapted(skeleton, config)
    tensors = convert_peft_adapter_state_dict_for_transformers(model, config, _tensors(directory), ADAPTER_NAME)
    expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    _check_tensors(expected, _saved_embeddings(model), tensors, directory)
    modules, unrecorded = _modules(model, names, tensors)
    _check_layers(layers(list(tensors)), modules, unrecorded)
    if wrong := [module for module in modules if rank is not None and module.rank != rank]:
        raise AdapterError(f"adapter.rank: {wrong[0].name} has rank {wrong[0].rank}, not {rank}")
    return Catalogue(tuple(modules), unrecorded, base_model_name)


def evaluation_config(directory: Path) -> LoraConfig:
    """Read the adapter's configuration, without dropout: for parameters PEFT would refuse it even in evaluation.

    Raises AdapterError if loradash cannot record such an adapter.
    """
    from peft import LoraConfig, PeftConfig

    try:
        config = PeftConfig.from_pretrained(str(directory))
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise AdapterError(f"adapter.path: cannot read adapter_config.json in {directory}: {error}") from error
    if not isinstance(config, LoraConfig):
        raise AdapterError(f"adapter.path: {directory} is a {config.peft_type} adapter; loradash reads LoRA")
    for field, reason in NO_PLAIN_INPUT.items():
        if getattr(config, field, None):
            raise AdapterError(f"adapter.path: {directory} sets {field}: {reason}, so there is no plain A x to record")
    initialisation = str(config.init_lora_weights).lower()
    if initialisation.startswith(BASE_CHANGING_INITIALISATIONS):
        raise AdapterError(
            f"adapter.path: {directory} was initialised with '{initialisation}', which changes the base model; "
            "convert it to a plain LoRA (PEFT: save_pretrained with path_initial_model_for_weight_conversion)"
        )
    config.lora_dropout = 0.0
    return config


def _meta_model(base: PretrainedConfig, *, trust_remote_code: bool) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(base, trust_remote_code=trust_remote_code)


def _adapted(model: PreTrainedModel, config: LoraConfig) -> PeftModel:
    from peft import get_peft_model

    try:
        return cast("PeftModel", get_peft_model(model, config, ADAPTER_NAME, low_cpu_mem_usage=True))
    except (ValueError, RuntimeError, TypeError) as error:
        raise AdapterError(f"adapter.path: the adapter does not fit the base model: {error}") from error


def _tensors(directory: Path) -> dict[str, Tensor]:
    from peft import load_peft_weights

    try:
        return load_peft_weights(str(directory), device="cpu")
    except Exception as error:  # safetensors and the unpickler raise their own
        raise AdapterError(f"adapter.path: cannot read the weights in {directory}: {error}") from error


def _saved_embeddings(model: PeftModel) -> dict[str, Tensor]:
    """PEFT saves the embeddings' own weights beside the adapter where they were resized or adapted."""
    base = cast("PreTrainedModel", model.get_base_model())
    ends = (base.get_input_embeddings(), base.get_output_embeddings())
    prefixes = tuple(f"{PREFIX}{name}." for name, module in base.named_modules() if module in ends)
    return {name: tensor for name, tensor in model.state_dict().items() if name.startswith(prefixes)}


def _check_tensors(
    needed: Mapping[str, Tensor], allowed: Mapping[str, Tensor], found: Mapping[str, Tensor], directory: Path
) -> None:
    known = {**allowed, **needed}
    problems = [f"{name} is missing" for name in needed if name not in found]
    problems += [f"{name} belongs to no module of the base model" for name in found if name not in known]
    problems += [
        f"{name} has shape {tuple(found[name].shape)}, the base model needs {tuple(tensor.shape)}"
        for name, tensor in known.items()
        if name in found and tensor.shape != found[name].shape
    ]
    problems += [f"{name} holds NaN or infinity" for name, tensor in found.items() if not tensor.isfinite().all()]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise AdapterError(f"adapter.path: {directory} does not fit the base model: {'; '.join(problems[:3])}{more}")


def _modules(
    model: PeftModel, names: Sequence[str], tensors: Mapping[str, Tensor]
) -> tuple[list[AdaptedModule], dict[str, str]]:
    from peft.tuners.lora import LoraLayer

    adapted = {name: module for name, module in model.get_base_model().named_modules() if isinstance(module, LoraLayer)}
    unrecorded = {_full_name(name, module): reason for name, module in adapted.items() if (reason := _obstacle(module))}
    parts = [
        (part, cast("Any", module))
        for path, module in adapted.items()
        if _full_name(path, module) not in unrecorded
        for part in _parts(path, module, tensors)
    ]
    projections = projection_names([part.name for part, _ in parts], names)
    modules = [
        AdaptedModule(
            name=part.name,
            layer=layer_of(part.name),
            projection=projections[part.name],
            scaling=float(module.scaling[ADAPTER_NAME]),
            variant="dora" if module.use_dora.get(ADAPTER_NAME) else "lora",
            A=part.A,
            B=part.B,
            expert=part.expert,
        )
        for part, module in parts
    ]
    return sorted(modules, key=lambda module: (module.layer, *place(module.name, module.expert))), unrecorded


def _check_layers(adapted: Sequence[int], modules: Sequence[AdaptedModule], unrecorded: Mapping[str, str]) -> None:
    recorded = {module.layer for module in modules}
    if bare := [name for name in unrecorded if layer_of(name) in set(adapted) - recorded]:
        raise AdapterError(
            f"adapter.path: nothing of layer {layer_of(bare[0])} can be recorded: {bare[0]}: {unrecorded[bare[0]]}"
        )


def _full_name(path: str, module: Any) -> str:
    from peft.tuners.lora.layer import ParamWrapper

    return parameter_name(path, module.parameter_name) if isinstance(module, ParamWrapper) else path


def _parts(path: str, module: Any, tensors: Mapping[str, Tensor]) -> Iterator[Part]:
    from peft.tuners.lora.layer import ParamWrapper

    A, B = (tensors[f"{PREFIX}{path}.lora_{side}.weight"].float() for side in "AB")
    if isinstance(module, ParamWrapper) and module.get_param().ndim == 3:
        yield from expert_parts(path, module, A, B)
    else:
        yield Part(_full_name(path, module), NO_EXPERT, A.numpy(), B.numpy())


def _obstacle(module: object) -> str:
    from peft.tuners.lora import Linear
    from peft.tuners.lora.layer import ParamWrapper

    if isinstance(module, ParamWrapper):
        return parameter_obstacle(module)
    if not isinstance(module, Linear):
        return f"{type(module).__name__} layers have no plain A x; loradash records linear modules"
    return ""


def projection_names(adapted: Sequence[str], modules: Sequence[str]) -> dict[str, str]:
    """Return each adapted module's name within its layer: the shortest dotted suffix that is unique there and does
    not begin with a number.

    `modules` are all of the base model's, so that a name does not depend on what else the adapter adapts.
    """
    owners = Counter((layer_of(module), suffix) for module in modules for suffix in _suffixes(module))
    return {
        module: next(suffix for suffix in _suffixes(module) if owners[layer_of(module), suffix] == 1)
        for module in adapted
    }


def _suffixes(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[start:]) for start in reversed(range(len(parts))) if not parts[start].isdecimal()]


def _feature(module: AdaptedModule, component: int) -> dict[str, Any]:
    return {
        "layer": module.layer,
        "projection": module.projection,
        "component": component,
        "module": module.name,
        "expert": module.expert,
        "rank": module.rank,
        "in_features": module.A.shape[1],
        "out_features": module.B.shape[0],
        "scaling": module.scaling,
        "read_norm": float(np.linalg.norm(module.A[component].astype(np.float64))),
        "write_norm": float(np.linalg.norm(module.B[:, component].astype(np.float64))),
        "variant": module.variant,
    }


def projection_counts(catalogue: Catalogue) -> dict[str, int]:
    """Return how many features each projection name has."""
    counts = Counter[str]()
    for module in catalogue.modules:
        counts[module.projection] += module.rank
    return dict(counts)
