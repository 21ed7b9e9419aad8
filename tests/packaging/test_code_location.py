"""pyproject.toml and workspace.yaml name one and the same code location, which loads without torch."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

from tests.packaging.conftest import ROOT

LOCATION = "loradash_assets.definitions"
BIN = Path(sys.executable).parent
HEAVY = (
    *("torch", "transformers", "tokenizers", "peft", "accelerate", "gguf", "datasets", "pandas"),
    *("huggingface_hub", "nltk", "ray", "uvicorn", "starlette", "pyarrow.dataset"),
)


def _home(folder: Path) -> dict[str, str]:
    """Return a process environment whose Dagster instance is `folder`, which reports nothing to anyone."""
    folder.mkdir()
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"DAGSTER_HOME": str(folder), "LORADASH_PROJECT": str(ROOT), "PATH": path}


def test_every_file_names_the_same_module() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text(encoding="utf-8"))
    assert workspace == {"load_from": [{"python_module": {"module_name": LOCATION}}]}
    assert tool["dagster"] == {"module_name": LOCATION, "code_location_name": LOCATION}
    assert tool["dg"]["project"]["code_location_target_module"] == LOCATION
    assert tool["dg"]["project"]["code_location_name"] == LOCATION


def test_loading_the_definitions_imports_no_library_of_the_steps() -> None:
    """All of it, as a code server loads them: the module, the project's graph, its jobs and sensors."""
    script = f"""
import sys
from {LOCATION} import project_definitions
assert len(project_definitions().get_repository_def().asset_graph.materializable_asset_keys) > 30
print([name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stdout + done.stderr


def test_workspace_yaml_works_from_another_directory(tmp_path: Path) -> None:
    command = [str(BIN / "dagster"), "definitions", "validate", "-w", str(ROOT / "workspace.yaml")]
    done = subprocess.run(command, cwd=tmp_path, env=_home(tmp_path / "home"), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert LOCATION in done.stdout + done.stderr
