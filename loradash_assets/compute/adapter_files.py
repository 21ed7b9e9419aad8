"""An adapter's files: found, downloaded and looked into without torch, so that the asset graph knows its layers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from loradash_assets.compute.errors import AdapterError
from loradash_assets.schema import OUTSIDE_LAYERS

CONFIG = "adapter_config.json"
SAFETENSORS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"
ADAPTER_FILES = (CONFIG, SAFETENSORS, PICKLE)
READS = (".lora_A.weight", ".lora_embedding_A")  # how the names of A end: linear modules, embeddings
PREFIX = "base_model.model."
MAX_NAMED = 5


def download_adapter(name: str, *, allow_pickle: bool) -> Path:
    """Return the local snapshot of a hub adapter, downloading what is missing. Raises AdapterError naming it."""
    from huggingface_hub import snapshot_download

    patterns = [CONFIG, SAFETENSORS, *([PICKLE] if allow_pickle else [])]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as error:  # the hub's client raises its own, HTTP's and the file system's
        raise AdapterError(f"adapter.path: '{name}' is no local directory, and the hub says: {error}") from error


def weights_file(directory: Path, *, allow_pickle: bool) -> Path:
    """Return the adapter's weights file. Raises AdapterError if a file is missing, or the weights are a pickle."""
    if not os.path.isfile(directory / CONFIG):  # pathlib's own raises where a directory may not be read
        raise AdapterError(f"adapter.path: {directory} {_what_else(directory)}")
    if os.path.isfile(directory / SAFETENSORS):
        return directory / SAFETENSORS
    if not os.path.isfile(directory / PICKLE):
        raise AdapterError(f"adapter.path: {directory} has no {SAFETENSORS}")
    if not allow_pickle:
        raise AdapterError(
            f"adapter.path: {directory} has only {PICKLE}, a pickle, which can run code when it is loaded; "
            "convert it to safetensors, or set adapter.allow_pickle if you trust it"
        )
    return directory / PICKLE


def _what_else(directory: Path) -> str:
    """Say what a directory without an adapter's configuration is instead, and what to do."""
    if os.path.isfile(directory):
        return f"is a file; name the directory that holds {CONFIG}"
    try:
        inside = sorted(path.parent.name for path in directory.glob(f"*/{CONFIG}"))
        full = any(directory.glob("model*.safetensors")) or any(directory.glob("pytorch_model*.bin"))
    except OSError as error:
        return f"cannot be read: {error}"
    if inside:
        more = f" and {len(inside) - MAX_NAMED} more" if len(inside) > MAX_NAMED else ""
        return f"has no {CONFIG}, but directories with one: {', '.join(inside[:MAX_NAMED])}{more}; name one of them"
    if full:
        return (
            f"holds a whole model and no {CONFIG}; where an adapter was merged into a model, its directions cannot be "
            "told any more: name the directory of the adapter itself"
        )
    return f"has no {CONFIG}, so it is no PEFT adapter"


def tensor_names(file: Path) -> list[str]:
    """Return the names of the tensors in a weights file. Raises AdapterError if it is damaged."""
    if file.name == PICKLE:
        return list(_unpickled(file))
    try:
        with safe_open(file, framework="np") as tensors:  # which also sees that the file is as long as it says
            return list(tensors.keys())
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"adapter.path: {file} is not a valid safetensors file: {error}") from error


def _unpickled(file: Path) -> dict[str, Any]:
    import torch

    try:
        return dict(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:  # the unpickler trusts the file: a damaged one fails anywhere in it
        raise AdapterError(f"adapter.path: cannot read {file}: {error}") from error


def brought_weights(directory: Path) -> set[str]:
    """Return the names, as the base model has them, of what the adapter brings that is not LoRA: biases, embeddings."""
    names = tensor_names(weights_file(directory, allow_pickle=True))
    return {name.removeprefix(PREFIX).replace(".base_layer.", ".") for name in names if ".lora_" not in name}


def layers(names: list[str]) -> list[int]:
    """Return the layers, in order, of the modules with a LoRA's A among `names`; -1: outside the layers."""
    return sorted({layer_of(name) for name in names if name.endswith(READS)})


def layer_of(module: str) -> int:
    """Return the layer in a dotted module or tensor name: its first number, or -1 where there is none."""
    return next((int(part) for part in module.split(".") if part.isdecimal()), OUTSIDE_LAYERS)
