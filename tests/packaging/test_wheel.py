"""The wheel works outside the repository, with its templates."""

from __future__ import annotations

import base64
import gzip
import json
import re
import zipfile
from pathlib import Path

from tests.packaging.conftest import ROOT
from tests.packaging.environments import Environment

PACKAGES = ("loradash_assets", "annotation_server", "site_templates")
NONE: list[object] = []
TOKEN = {"rollout_idx": 0, "token_idx": 1, "token": " plus", "context": ["one", " plus"], "target_position": 1}
PANEL = {
    "topPositive": [{"activation": 2.0, **TOKEN, "context_activations": [0.5, 2.0]}],
    "topNegative": NONE,
    "stats": {"min": 0.5, "max": 2.0},
    "histogram": None,
}
ORIGINAL = {
    "metadata": {
        "modelName": "org/model",
        "loraPath": "org/an-adapter-of-1999",
        "numLayers": 1,
        "loraLayers": [0],
        "numLoraLayers": 1,
        "numExamples": 1,
        "topK": 16,
        "contextWindow": 10,
        "generatedAt": "2025-07-21T05:00:10.069773",
    },
    "layers": [
        {"layerIdx": 0, "cosineSimilarities": {}, **dict.fromkeys(("gate_proj", "up_proj", "down_proj"), PANEL)}
    ],
}


def _sources() -> set[str]:
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*") if file.is_file()]
    return {file.relative_to(ROOT).as_posix() for file in files if "__pycache__" not in file.parts}


def _head(page: str) -> str:
    """Return the part of the page's data that every view needs: gzip in base64, its names in JSON."""
    (encoded,) = re.findall(r'id="part-head">([^<]+)<', page)
    return gzip.decompress(base64.b64decode(encoded)).decode("latin-1")


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == _sources()
    assert {Path(name).suffix for name in names} >= {".py", ".css", ".js"}


def test_the_wheel_carries_its_license(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith("/LICENSE")]
    assert archive.read(name) == (ROOT / "LICENSE").read_bytes()


def test_what_is_imported_is_what_was_installed(installed: Environment, tmp_path: Path) -> None:
    lines = ["import sys", *(f"import {package}; print({package}.__file__)" for package in PACKAGES), "print(sys.path)"]
    result = installed.run("python", "-c", "\n".join(lines), cwd=tmp_path)
    assert result.returncode == 0, result.stdout
    *files, path = result.stdout.splitlines()
    assert all(Path(file).is_relative_to(installed.packages) for file in files), files
    assert f"'{ROOT}'" not in path


def test_the_command_line_starts(installed: Environment, tmp_path: Path) -> None:
    result = installed.run("loradash", "--help", cwd=tmp_path)
    assert result.returncode == 0, result.stdout
    for command in ("build", "generate", "render", "annotate", "ui"):
        assert command in result.stdout


def test_it_renders_a_dashboard_from_an_original_file(installed: Environment, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text(json.dumps(ORIGINAL), encoding="utf-8")
    result = installed.run("loradash", "render", "--data", "data.json", cwd=tmp_path)
    assert result.returncode == 0, result.stdout
    page = (tmp_path / "lora_activations_dashboard.html").read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>")
    assert "an-adapter-of-1999" in _head(page)
    styles = [file.read_text(encoding="utf-8") for file in (ROOT / "site_templates").rglob("tokens.*")]
    assert len(styles) > 1
    assert all(each in page for each in styles)
