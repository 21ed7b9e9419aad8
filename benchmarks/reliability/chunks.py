"""kill -9 of `loradash build` at five moments of every chunk of a recording, and the build after it.

What that one publishes, and the recording itself, must be byte for byte what a build that was never killed gives, and
of the chunks that had run at most one may run again: the one that was being written. The control writes chunks in
place and takes one that is there for whole.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.reliability.killed_build import MOMENTS
from loradash_assets.compute.recording import CHUNK_SUFFIX
from tests.projects import save_project

ROOT = Path(__file__).resolve().parents[2]
CHUNKS = ".loradash/store/activations"


@dataclass
class Resumed:
    """What was found after the kills."""

    chunks: int
    kills: int = 0
    unequal: list[str] = field(default_factory=list[str])
    most_run_again: int = 0  # chunks that had run when the process was killed, and ran again


def kill_and_resume(directory: Path, moments: Sequence[str] = MOMENTS, *, careless: bool = False) -> Resumed:
    """Kill a build at these moments of every chunk, each time in a project of its own, and build again."""
    project = save_project(directory / "project", recording={"batch_tokens": 60, "chunk_tokens": 60})
    whole = shutil.copytree(project, directory / "whole" / "project")
    assert _build(whole, "never", 0).returncode == 0
    expected = _published(whole)
    found = Resumed(chunks=len(_chunks(whole)))
    for chunk in range(found.chunks):
        for moment in moments:
            copy = shutil.copytree(project, directory / f"{chunk} {moment}" / "project")
            killed = _build(copy, moment, chunk, careless=careless)
            if killed.returncode == 0 and moment == "runs":  # all of its batches ran with the chunk before
                continue
            assert killed.returncode == -signal.SIGKILL, killed.stderr
            found.kills += 1
            ran = set(map(int, killed.stdout.split()))
            found.most_run_again = max(found.most_run_again, len(ran - _chunks(copy)))
            if _build(copy, "never", 0, careless=careless).returncode != 0 or _published(copy) != expected:
                found.unequal.append(f"chunk {chunk} {moment}")
            shutil.rmtree(copy.parent)
    return found


def _build(project: Path, moment: str, chunk: int, *, careless: bool = False) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.reliability.killed_build", moment, str(chunk)]
    places = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [*command, *(["--careless"] if careless else [])],
        cwd=project,
        env={**os.environ, "PYTHONPATH": places},
        capture_output=True,
        text=True,
        check=False,
    )


def _chunks(project: Path) -> set[int]:
    """Return the numbers of the chunks that are there under their names."""
    found = (project / CHUNKS).rglob(f"chunk-*{CHUNK_SUFFIX}")
    return {int(file.stem.removeprefix("chunk-")) for file in found}


def _published(project: Path) -> dict[Path, bytes]:
    """Return the recording's files and what was made from them for people, by path in the project."""
    files = [*(project / "output").rglob("*"), *(project / CHUNKS).rglob(f"*{CHUNK_SUFFIX}")]
    return {file.relative_to(project): file.read_bytes() for file in files if file.is_file()}


def figures(moments: Sequence[str] = MOMENTS, *, careless: bool = False) -> dict[str, Any]:
    """Return what was found after the kills at these moments of every chunk."""
    with tempfile.TemporaryDirectory() as name:
        found = kill_and_resume(Path(name), moments, careless=careless)
    return {
        "chunks": found.chunks,
        "kills": found.kills,
        "unequal": len(found.unequal),
        "most_chunks_run_again": found.most_run_again,
    }


def measure() -> dict[str, Any]:
    """Return the figures and those of the control."""
    control = figures(["is half written"], careless=True)
    return {**figures(), "control": {"recording": "writes in place, looks at no leftover", **control}}
