"""`make` finds a usable Python or says what to do; the targets that the documentation names exist."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT

TOOLS = ("make", "bash", "awk", "mkdir", "rm", "touch")
PYTHONS = ("python3", "python3.11", "python3.12", "python3.13", "python3.14")
OLD_PYTHON = "exit 1"  # what Python 3.9 answers to the version check
NO_ENSUREPIP = 'case "$2" in *ensurepip*) exit 1;; esac'


def _make(folder: Path, python: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `make` in a copy of the repository's frame, where each python3 is the shell script `python`."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    programs = folder / "programs"
    programs.mkdir()
    for tool in TOOLS:
        (programs / tool).symlink_to(str(shutil.which(tool)))
    for name in PYTHONS:
        (programs / name).write_text(f"#!/bin/bash\n{python}\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    command = [str(programs / "make"), *arguments]
    return subprocess.run(command, cwd=folder, env={"PATH": str(programs)}, capture_output=True, text=True)


@pytest.mark.parametrize("target", ["demo", "test", "check", "ui", "annotate"])
def test_a_machine_without_a_usable_python_is_told_so(tmp_path: Path, target: str) -> None:
    result = _make(tmp_path, OLD_PYTHON, target)
    assert result.returncode != 0
    assert "loradash needs Python 3.11" in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_debian_without_the_venv_package_is_told_its_name(tmp_path: Path) -> None:
    result = _make(tmp_path, NO_ENSUREPIP, "demo")
    assert result.returncode != 0
    assert "apt install python3-venv" in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_make_alone_lists_every_target(tmp_path: Path) -> None:
    result = _make(tmp_path, OLD_PYTHON)
    assert result.returncode == 0, result.stderr
    listed = {line.split()[1] for line in result.stdout.splitlines() if line.startswith("  make ")}
    assert listed == {"help", "demo", "test", "check", "ui", "annotate", "clean"}
