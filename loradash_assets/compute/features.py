"""The feature catalogue: every direction of an adapter, checked against the base model's shapes before that is loaded.

The adapter is put on a base model whose parameters have shapes but no memory (torch's meta device), so PEFT itself
says which modules it adapts, with which rank and scaling, and which tensors it expects in the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa

from loradash_assets.compute.adapter_config import read_config
from loradash_assets.compute.adapter_files import CONFIG, PREFIX, layer_of, weights_file
from loradash_assets.compute.base_names import NamedBase
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
from loradash_assets.compute.reach import NEVER_CALLED, called_modules
from loradash_assets.schema import FEATURES

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel

ADAPTER_NAME = "default"
MAX_NAMED = 3


@dataclass(frozen=True)
class AdaptedModule:
    """One adapted linear module, embedding or expert: A is (rank, in_features), B is (out_features, rank).

    An embedding's x is one-hot, so its in_features are the tokens (or positions) that it knows. `scaling` is the
    factor on B A x in the module's output.
    """

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
    directory: Path,
    base: PretrainedConfig,
    *,
    allow_pickle: bool,
    trust_remote_code: bool,
    rank: int | None = None,
    named: NamedBase | None = None,
) -> Catalogue:
    """Read the adapter in `directory` and check it against the base model's configuration, and name if one is given.

    Raises AdapterError naming the tensor, module or field if it is no LoRA adapter, does not fit the base model, has
    no plain A x, needs a base model that was changed when it was created, or has another rank than `rank`.
    """
    from peft import get_peft_model_state_dict

    weights_file(directory, allow_pickle=allow_pickle)
    config = read_config(directory)
    base_model_name, config.base_model_name_or_path = str(config.base_model_name_or_path or ""), None
    if named is not None:
        named.check(directory, base_model_name, config.revision)
    if config.use_dora and (getattr(base, "quantization_config", None) or {}).get("load_in_8bit"):
        raise AdapterError(
            f"adapter.path: {directory} sets use_dora, and PEFT runs no DoRA twice on a base model in bitsandbytes' 8 "
            "bits; name the base model itself, or one in 4 bits"
        )
    skeleton = _meta_model(base, trust_remote_code=trust_remote_code)
    names = [*(name for name, _ in skeleton.named_modules()), *expert_names(skeleton)]
    called = called_modules(skeleton)  # before PEFT: an adapted module runs several
    model = _adapted(skeleton, config)
    tensors = _converted(_tensors(directory), model, config)
    expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    _check_tensors(expected, _saved_embeddings(model), tensors, directory)
    modules, unrecorded = _modules(model, names, called, tensors)
    if not modules:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in [*unrecorded.items()][:MAX_NAMED])
        raise AdapterError(f"adapter.path: {directory} has no module that can be recorded: {reasons}")
    if wrong := [module for module in modules if rank is not None and module.rank != rank]:
        raise AdapterError(f"adapter.rank: {wrong[0].name} has rank {wrong[0].rank}, not {rank}")
    return Catalogue(tuple(modules), unrecorded, base_model_name)


def _meta_model(base: PretrainedConfig, *, trust_remote_code: bool) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(base, trust_remote_code=trust_remote_code)


def _adapted(model: PreTrainedModel, config: LoraConfig) -> PeftModel:
    from peft import get_peft_model

    try:
        return cast("PeftModel", get_peft_model(model, config, ADAPTER_NAME, low_cpu_mem_usage=True))
    except Exception as error:  # PEFT checks little: what does not fit fails anywhere
        raise AdapterError(f"adapter.path: the adapter does not fit the base model: {error}") from error


def _tensors(directory: Path) -> dict[str, Tensor]:
    import torch
    from peft import load_peft_weights

    try:
        tensors: Any = load_peft_weights(str(directory), device="cpu")
    except Exception as error:  # safetensors and the unpickler raise their own
        raise AdapterError(f"adapter.path: cannot read the weights in {directory}: {error}") from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise AdapterError(f"adapter.path: the weights in {directory} are no mapping from names to tensors")
    return tensors


def _converted(tensors: dict[str, Tensor], model: PeftModel, config: LoraConfig) -> dict[str, Tensor]:
    """What PEFT makes of the tensors when it loads them: of a module per expert, one parameter for all experts."""
    from peft.utils.transformers_weight_conversion import convert_peft_adapter_state_dict_for_transformers

    try:
        return convert_peft_adapter_state_dict_for_transformers(model, config, tensors, ADAPTER_NAME)
    except (ValueError, RuntimeError, KeyError) as error:
        raise AdapterError(f"adapter.path: PEFT cannot convert the adapter to this base model: {error}") from error


def _saved_embeddings(model: PeftModel) -> dict[str, Tensor]:
    """PEFT saves the embeddings' own weights beside the adapter where they were resized or adapted."""
    base = cast("PreTrainedModel", model.get_base_model())
    ends = (base.get_input_embeddings(), base.get_output_embeddings())
    prefixes = tuple(f"{PREFIX}{name}." for name, module in base.named_modules() if module in ends)
    tensors = model.state_dict().items()
    return {name: tensor for name, tensor in tensors if name.startswith(prefixes) and ".lora_" not in name}


def _check_tensors(
    needed: Mapping[str, Tensor], allowed: Mapping[str, Tensor], found: Mapping[str, Tensor], directory: Path
) -> None:
    known = {**allowed, **needed}
    problems = [f"{name} is missing" for name in needed if name not in found]
    problems += [f"{name} belongs to no module of the base model" for name in found if name not in known]
    problems += [
        f"{name} has shape {tuple(found[name].shape)}, {CONFIG} and the base model need {tuple(tensor.shape)}"
        for name, tensor in known.items()
        if name in found and tensor.shape != found[name].shape
    ]
    problems += [
        f"{name} holds {tensor.dtype}, not floating-point numbers"
        for name, tensor in found.items()
        if not tensor.is_floating_point()
    ]
    problems += [f"{name} holds NaN or infinity" for name, tensor in found.items() if not _is_finite(tensor)]
    if problems:
        more = f" (and {len(problems) - MAX_NAMED} more)" if len(problems) > MAX_NAMED else ""
        advice = _resized(allowed, found)
        listed = "; ".join(problems[:MAX_NAMED])
        raise AdapterError(f"adapter.path: {directory} does not fit the base model: {listed}{more}{advice}")


def _is_finite(tensor: Tensor) -> bool:
    return bool((tensor.float() if tensor.is_floating_point() else tensor).isfinite().all())


def _resized(embeddings: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Say what to do about embeddings that the adapter brings, with another number of tokens than the base model's."""
    for name, tensor in embeddings.items():
        brought = found.get(name)
        if brought is not None and brought.shape[1:] == tensor.shape[1:] and len(brought) != len(tensor):
            return (
                f". The adapter was saved with {len(brought)} tokens, the base model has {len(tensor)}: resize the "
                "base model (resize_token_embeddings), save it and its tokenizer with the added tokens in one "
                "directory, and name that as model.base_model"
            )
    return ""


def _modules(
    model: PeftModel, names: Sequence[str], called: Collection[str] | None, tensors: Mapping[str, Tensor]
) -> tuple[list[AdaptedModule], dict[str, str]]:
    from peft.tuners.lora import LoraLayer
    from peft.tuners.lora.layer import ParamWrapper

    adapted = {name: module for name, module in model.get_base_model().named_modules() if isinstance(module, LoraLayer)}
    unrecorded = dict(_unrecorded(adapted))
    for name, module in adapted.items():
        if called is not None and name not in called and not isinstance(module, ParamWrapper):
            unrecorded.setdefault(name, NEVER_CALLED)
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
            scaling=float(module.scaling[ADAPTER_NAME]) * _embedding_scale(module.get_base_layer()),
            variant="dora" if module.use_dora.get(ADAPTER_NAME) else "lora",
            A=part.A,
            B=part.B,
            expert=part.expert,
        )
        for part, module in parts
    ]
    return sorted(modules, key=lambda module: (module.layer, *place(module.name, module.expert))), unrecorded


def _full_name(path: str, module: object) -> str:
    from peft.tuners.lora.layer import ParamWrapper

    return parameter_name(path, module.parameter_name) if isinstance(module, ParamWrapper) else path


def _parts(path: str, module: Any, tensors: Mapping[str, Tensor]) -> Iterator[Part]:
    from peft.tuners.lora.layer import ParamWrapper

    kind = "lora_{}.weight" if ADAPTER_NAME in module.lora_A else "lora_embedding_{}"
    A, B = (tensors[f"{PREFIX}{path}.{kind.format(side)}"].float() for side in "AB")
    if isinstance(module, ParamWrapper) and module.get_param().ndim == 3:
        yield from expert_parts(path, module, A, B)
    else:
        yield Part(_full_name(path, module), NO_EXPERT, A.numpy(), B.numpy())


def _embedding_scale(base_layer: Any) -> float:
    """Return the factor that some embeddings (Gemma's) put on their output, the adapter's part included."""
    scale = getattr(base_layer, "scalar_embed_scale", getattr(base_layer, "embed_scale", 1.0))
    return float(scale)


def _unrecorded(adapted: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield the modules that cannot be recorded, with the reason. An attention's own modules are parts of it."""
    from peft.tuners.lora import Embedding, Linear
    from peft.tuners.lora.layer import ParamWrapper

    known = (Linear, Embedding, ParamWrapper)
    whole = {name: module for name, module in adapted.items() if not isinstance(module, known)}
    for name, module in adapted.items():
        if name in whole:
            kind = type(module).__name__
            yield name, f"{kind} layers have no plain A x; loradash records linear modules and embeddings"
        elif outer := next((outer for outer in whole if name.startswith(f"{outer}.")), None):
            yield name, f"it is a part of {outer}, which uses its weight without calling it"
        elif isinstance(module, ParamWrapper) and (reason := parameter_obstacle(module)):
            yield _full_name(name, module), reason


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
