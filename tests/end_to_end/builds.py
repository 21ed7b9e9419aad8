"""Whole builds, and what brute force makes of the same files."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.end_to_end import reference
from tests.projects import latest_entry, save_project

REPOSITORY = Path(__file__).parents[2]
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Built:
    """A project after `loradash build`, and what brute force makes of the same files."""

    project: Path
    adapter: Path
    export: dict[str, Any]
    examples: list[reference.Example]
    model: Path

    @property
    def of_random_weights(self) -> bool:
        """Whether it is the tiny project."""
        return (self.project / "rows.jsonl").exists()

    def recorded(self) -> reference.Values:
        features = {layer["layerIdx"]: PROJECTIONS for layer in self.export["layers"]}
        return reference.recorded_activations(latest_entry(self.project, "activations"), self.examples, features)

    def forward(self, dtype: torch.dtype) -> reference.Values:
        return reference.forward_activations(self.model, self.adapter, self.examples, dtype)


def build(project: Path, dataset: Path, adapter: Path, rows: int) -> Built:
    run = subprocess.run(
        [sys.executable, "-m", "loradash_assets", "build"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    base = latest_entry(project, "base_model") / "model"
    model = base if base.is_dir() else project / "base"
    export = json.loads((project / "output" / "activations_data.json").read_text())
    return Built(project, adapter, export, reference.read_examples(dataset, model, rows), model)


def build_tiny(project: Path, **tables: Any) -> Built:
    """Build the tiny project with random weights, with these settings of the tables."""
    save_project(project, tables={"context_window": 4, "top_k": 9, **tables})
    return build(project, project / "rows.jsonl", project / "adapter", 100)
