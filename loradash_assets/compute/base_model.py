"""A base model made ready to load: converted where it has to be, and described."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loradash_assets.compute.gguf import convert_gguf
from loradash_assets.compute.model import model_facts

CONVERTED = "model"


def prepare_base_model(found: Path, target: Path, *, trust_remote_code: bool) -> dict[str, Any]:
    """Convert a GGUF file into `target`/model; return what the configuration says. Raises ModelError.

    A directory is used where it is.
    """
    if found.is_dir():
        return model_facts(found, trust_remote_code=trust_remote_code)
    convert_gguf(found, target / CONVERTED)
    return model_facts(target / CONVERTED, trust_remote_code=trust_remote_code)
