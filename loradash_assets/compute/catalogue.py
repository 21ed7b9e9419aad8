"""The feature catalogue on disk: `features.parquet` and every module's A and B in `directions.safetensors`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from loradash_assets.compute.adapter_files import CONFIG, weights_file
from loradash_assets.compute.base_names import NamedBase
from loradash_assets.compute.features import AdaptedModule, projection_counts, read_catalogue
from loradash_assets.compute.model import load_config
from loradash_assets.parquet import read_parquet
from loradash_assets.store import file_digest

FEATURES_FILE = "features.parquet"
DIRECTIONS_FILE = "directions.safetensors"


def write_catalogue(
    adapter: Path,
    model_directory: Path,
    target: Path,
    *,
    allow_pickle: bool,
    trust_remote_code: bool,
    rank: int | None,
    named: NamedBase | None = None,
) -> dict[str, Any]:
    """Read and check the adapter, write its catalogue to `target`, return what people want to know of it.

    Raises AdapterError as `read_catalogue`.
    """
    base = load_config(model_directory, trust_remote_code=trust_remote_code)
    catalogue = read_catalogue(
        adapter, base, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code, rank=rank, named=named
    )
    pq.write_table(catalogue.table(), target / FEATURES_FILE)
    directions = {f"{module.name}.A": module.A for module in catalogue.modules}
    directions |= {f"{module.name}.B": module.B for module in catalogue.modules}
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in directions.items()}, target / DIRECTIONS_FILE)
    files = (adapter / CONFIG, weights_file(adapter, allow_pickle=allow_pickle))
    return {
        "adapter_files": {file.name: file_digest(file) for file in files},
        "base_model_name": catalogue.base_model_name,
        "features_per_projection": projection_counts(catalogue),
        "unrecorded": dict(catalogue.unrecorded),
        "variants": sorted({module.variant for module in catalogue.modules}),
    }


def read_modules(directory: Path) -> list[AdaptedModule]:
    """Return the modules of a catalogue, in the order of the features."""
    directions = load_file(directory / DIRECTIONS_FILE)
    rows = read_parquet(directory / FEATURES_FILE).to_pylist()
    return [
        AdaptedModule(
            name=row["module"],
            layer=row["layer"],
            projection=row["projection"],
            scaling=row["scaling"],
            variant=row["variant"],
            A=directions[f"{row['module']}.A"],
            B=directions[f"{row['module']}.B"],
            expert=row["expert"],
        )
        for row in rows
        if row["component"] == 0
    ]


def read_weights(directions: Path, module: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return A (rank, in_features) and B (out_features, rank) of one module, from a catalogue's DIRECTIONS_FILE."""
    with safe_open(directions, framework="np") as tensors:
        return tensors.get_tensor(f"{module}.A"), tensors.get_tensor(f"{module}.B")
