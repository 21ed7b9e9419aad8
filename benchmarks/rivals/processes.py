"""A method as a process in its own environment: what it takes, what it leaves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rivals.contract import REPORT_FILE, TOP_FILE, Job, Top
from loradash_assets.store import fingerprint

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
MIB = 2**20


@dataclass(frozen=True)
class Method:
    """A script of this directory and what its environment needs; methods that need the very same share one."""

    name: str
    label: str
    packages: Sequence[str]
    without_dependencies: Sequence[str] = ()


@dataclass(frozen=True)
class Run:
    """One process: seconds from the loaded model to the lists, of all of it, its memory and what it left."""

    top: Top
    seconds: float
    process_seconds: float
    peak_mib: float
    disk_mib: float
    libraries: Mapping[str, str]


def environment(method: Method, environments: Path) -> Path:
    """Return the Python of the method's environment, which is made once, and again if what it needs has changed."""
    constraints = CONSTRAINTS.read_text(encoding="utf-8")
    directory = environments / fingerprint(method.packages, method.without_dependencies, constraints)[:16]
    python, complete = directory / "bin" / "python", directory / "complete"
    if not complete.exists():
        print(f"installing {', '.join([*method.packages, *method.without_dependencies])} for {method.label}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", directory], check=True)
        pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--constraint", CONSTRAINTS]
        subprocess.run([*pip, *method.packages], check=True)
        if method.without_dependencies:
            subprocess.run([*pip, "--no-deps", *method.without_dependencies], check=True)
        complete.touch()
    return python


def run_method(method: Method, python: Path, job: Job, tokens: Path, directory: Path) -> Run:
    """Run the method in an empty `directory`, which is removed again. Raises RuntimeError with what it wrote."""
    directory.mkdir(parents=True)
    try:
        return _run(method, python, job, tokens, directory)
    finally:
        shutil.rmtree(directory)


def _run(method: Method, python: Path, job: Job, tokens: Path, directory: Path) -> Run:
    command = [python, "-m", f"benchmarks.rivals.{method.name}", "--k", str(job.k)]
    paths = {"--model": job.model, "--adapter": job.adapter, "--tokens": tokens, "--directory": directory}
    command += [str(part) for pair in paths.items() for part in pair]
    log = directory / "log.txt"
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    started = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.run(command, cwd=ROOT, env=environ, stdout=output, stderr=subprocess.STDOUT, check=False)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError(f"{method.label} failed:\n{log.read_text(encoding='utf-8', errors='replace')[-4000:]}")
    report = json.loads((directory / REPORT_FILE).read_text(encoding="utf-8"))
    for file in (log, directory / REPORT_FILE):
        file.unlink()
    disk = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    top = Top.load(directory / TOP_FILE)
    return Run(top, report["seconds"], seconds, report["peak_bytes"] / MIB, disk / MIB, report["libraries"])
