"""The base model: where its files are, what its configuration says, and loading it safely."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loradash_assets.compute.errors import ModelError

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

PACKAGE_SCHEME = "package://"
HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.py"]
LENGTH_DEPENDENT_POSITIONS = {"dynamic", "longrope"}


def package_file(reference: str) -> Path:
    """Return the file that `package://PACKAGE/FILE` names, without importing the package.

    Raises ModelError if the package is not installed or does not have the file.
    """
    package, _, name = reference.removeprefix(PACKAGE_SCHEME).partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"model.base_model: Python package '{package}' of {reference} is not installed")
    file = Path(spec.submodule_search_locations[0], name)
    if not file.is_file():
        raise ModelError(f"model.base_model: Python package '{package}' has no file '{name}'")
    return file


def download_model(name: str, revision: str) -> Path:
    """Return the local snapshot of a hub model at a commit, downloading what is missing. Raises ModelError."""
    from huggingface_hub import snapshot_download

    try:
        # By its branch first, which the cache then knows when there is no network.
        snapshot = Path(snapshot_download(name, allow_patterns=HUB_FILES))
        if snapshot.name == revision:
            return snapshot
        return Path(snapshot_download(name, revision=revision, allow_patterns=HUB_FILES))
    except Exception as error:  # the hub's client raises its own, HTTP's and the file system's
        raise ModelError(f"model.base_model: '{name}' is no local directory, and the hub says: {error}") from error


def load_config(directory: Path, *, trust_remote_code: bool) -> PretrainedConfig:
    """Read config.json. Raises ModelError if it is missing or of no known architecture, or beside an adapter's."""
    from transformers import AutoConfig

    if (directory / "adapter_config.json").exists():
        raise ModelError(
            f"model.base_model: {directory} holds an adapter_config.json, and transformers would put that adapter on "
            "the model; name a directory without one"
        )
    try:
        return AutoConfig.from_pretrained(directory, trust_remote_code=trust_remote_code, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"model.base_model: cannot use {directory}: {error}") from error


def load_tokenizer(directory: Path, *, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """Load the tokenizer. Raises ModelError if there is none, or none that can tell offsets."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=trust_remote_code, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"model.base_model: cannot load the tokenizer in {directory}: {error}") from error
    if not tokenizer.is_fast:
        raise ModelError(f"model.base_model: the tokenizer in {directory} has no tokenizer.json for token texts")
    return tokenizer


def load_model(
    directory: Path,
    *,
    dtype: str,
    device: torch.device,
    trust_remote_code: bool,
    device_map: str | Mapping[str, str] | None = None,
) -> PreTrainedModel:
    """Load the weights, safetensors only, in evaluation mode. Raises ModelError naming directory or tensors.

    `device_map` is transformers' and comes before `device`; all weights must have room on the devices that compute.
    A quantised model is put where it belongs while it is loaded: some kinds cannot be moved.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    quantised = is_quantised(load_config(directory, trust_remote_code=trust_remote_code))
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            local_files_only=True,
            output_loading_info=True,
            device_map=device_map or ({"": device} if quantised else None),
        )
    except ImportError as error:  # of the library that reads this kind of quantisation
        raise ModelError(f"model.base_model: {directory} needs a package that is not installed: {error}") from error
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"model.base_model: cannot load the weights in {directory}: {error}") from error
    model, info = loaded
    if missing := sorted(info["missing_keys"]):  # transformers would leave them random
        raise ModelError(f"model.base_model: {directory} lacks {len(missing)} tensors: {', '.join(missing[:3])}")
    if device_map:
        _check_placed(model)
    elif not quantised:
        model.to(device)
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # bitsandbytes would pack the weights anew for this CPU: it then computes in bfloat16, and PEFT's DoRA
            # reads the packed weights as if they were not, and so norms that are wrong.
            module.support_avx512bf16_for_cpu = False
    return model.eval()


def _check_placed(model: Any) -> None:
    """Raise ModelError if weights were left in memory or on disk, to be fetched for every batch."""
    places = {str(place) for place in getattr(model, "hf_device_map", {}).values()}  # none where there is one place
    if "disk" in places or ("cpu" in places and len(places) > 1):
        raise ModelError(
            "model.device_map: the GPUs here have no room for the whole model, whose rest would be fetched for every "
            "batch; use more of them, a smaller model.dtype or a quantised base model"
        )


def model_facts(directory: Path, *, trust_remote_code: bool) -> dict[str, Any]:
    """Return what the configuration says of the model, for people. Raises ModelError."""
    config = load_config(directory, trust_remote_code=trust_remote_code)
    text = config.get_text_config()
    return {
        "architecture": (config.architectures or [config.model_type])[0],
        "layers": int(text.num_hidden_layers),
        "hidden_size": int(text.hidden_size),
        "dtype": str(config.dtype or "").removeprefix("torch."),
        "max_positions": max_positions(config),
    }


def choose_device(device: str) -> torch.device:
    """Return the device that the setting means here. Raises ModelError if it is not there."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    chosen = torch.device(device)
    available = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available, "cpu": lambda: True}
    if not available[chosen.type]():
        raise ModelError(f"model.device: '{device}' is not available here; use auto or cpu")
    return chosen


def is_quantised(config: PretrainedConfig) -> bool:
    """Whether the weights on disk are quantised (bitsandbytes, torchao, GPTQ, ...)."""
    return getattr(config, "quantization_config", None) is not None


def max_positions(config: PretrainedConfig) -> int | None:
    """Return the number of positions that the model knows, or None where it has no such limit."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(positions) if positions else None


def has_length_dependent_positions(config: PretrainedConfig) -> bool:
    """Whether a token's position encoding depends on the length of what follows (dynamic NTK, longrope)."""
    parameters: dict[str, Any] = getattr(config.get_text_config(), "rope_parameters", None) or {}
    nested = [parameters, *(value for value in parameters.values() if isinstance(value, dict))]
    return any(part.get("rope_type") in LENGTH_DEPENDENT_POSITIONS for part in nested)
