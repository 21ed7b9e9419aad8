"""How long Dagster waits for the definitions.

    python -m benchmarks.definitions

Fresh processes in turns, from their start to their end: one that imports Dagster alone, one that imports the code
location, and two that load it as a code server does, with all of a project's graph resolved: the demo (30 layers), and
64 layers, one feature on each projection of the MLP. Of the latter there is nothing but the adapter: to load the
definitions means to read the names of its tensors.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from benchmarks.timing import write_result
from loradash_assets.definitions import PROJECT_VARIABLE, build_definitions
from loradash_assets.settings import load_settings

DEMO = Path(__file__).parents[1]
LAYERS = 64
TIMES = 9
TARGET = 3.0  # seconds
MODULE = "loradash_assets.definitions"
LOAD = f"from {MODULE} import project_definitions as load; load().get_repository_def().asset_graph"


def main() -> None:
    """Measure, print and write `benchmarks/results/definitions.json`."""
    with tempfile.TemporaryDirectory() as name:
        large = save_layers(Path(name))
        cases = {
            "Dagster alone is imported": ("import dagster", DEMO),
            "the code location is imported": (f"import {MODULE}", DEMO),
            "the demo is loaded": (LOAD, DEMO),
            f"{LAYERS} layers are loaded": (LOAD, large),
        }
        assets = {case: _assets(project) for case, (script, project) in cases.items() if script == LOAD}
        seconds: dict[str, list[float]] = {case: [] for case in cases}
        for _ in range(TIMES):
            for case, (script, project) in cases.items():
                seconds[case].append(_seconds(script, project))
    figures = {"target": f"under {TARGET:.0f} s", "times": TIMES, "assets": assets, "cases": _figures(seconds)}
    print(json.dumps(figures, indent=1))
    write_result("definitions", figures)


def save_layers(project: Path) -> Path:
    """Make `project` one of so many layers, of which only the adapter's files are there."""
    shapes = {"gate_proj": (16, 24), "up_proj": (16, 24), "down_proj": (24, 16)}
    tensors = {
        f"base_model.model.model.layers.{layer}.mlp.{name}.lora_{matrix}.weight": np.zeros(shape, np.float32)
        for layer in range(LAYERS)
        for name, (inside, outside) in shapes.items()
        for matrix, shape in (("A", (1, inside)), ("B", (outside, 1)))
    }
    (project / "adapter").mkdir()
    save_file(tensors, project / "adapter" / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 1, "lora_alpha": 1, "target_modules": [*shapes]}
    (project / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    (project / "loradash.yaml").write_text("adapter: {path: ./adapter}\n")
    return project


def _assets(project: Path) -> int:
    return len(build_definitions(load_settings(project)).resolve_asset_graph().materializable_asset_keys)


def _seconds(script: str, project: Path) -> float:
    started = time.perf_counter()
    environment = {**os.environ, PROJECT_VARIABLE: str(project)}
    subprocess.run([sys.executable, "-c", script], cwd=DEMO, env=environment, check=True)
    return time.perf_counter() - started


def _figures(seconds: dict[str, list[float]]) -> dict[str, Any]:
    return {
        case: {"median": round(statistics.median(each), 2), "from_to": [round(min(each), 2), round(max(each), 2)]}
        for case, each in seconds.items()
    }


if __name__ == "__main__":
    main()
