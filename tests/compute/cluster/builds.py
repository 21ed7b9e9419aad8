"""A project to be built with `engine: ray`, and a build that is stopped in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.projects import LINES, save_project

ROWS = 150
RAY = {"engine": "ray", "workers": 1}


def project(directory: Path) -> Path:
    """A project whose recording has so many chunks that it can be stopped in the middle."""
    save_project(directory, cluster=RAY, recording={"chunk_tokens": 80}, dataset={"num_examples": ROWS})
    rows = [
        {
            "question": f"{row}: {LINES[row % 4]}",
            "deepseek_thinking_trajectory": LINES[row % 3],
            "deepseek_attempt": f"#### {row}",
        }
        for row in range(ROWS)
    ]
    (directory / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return directory


def chunks(project: Path) -> dict[str, int]:
    """The chunks that have arrived, and where they are on the disk."""
    found = (project / ".loradash" / "store" / "activations").glob("*/chunk-*.safetensors")
    return {file.name: file.stat().st_ino for file in found}


def _listening(process: psutil.Process) -> set[str]:
    """The addresses that a process can be reached at."""
    try:
        found = process.net_connections("tcp")
    except psutil.Error:  # it is no more
        return set()
    return {each.laddr.ip.removeprefix("::ffff:") for each in found if each.status == psutil.CONN_LISTEN}


def build_and_stop(project: Path) -> None:
    """Build on a cluster of the build's own, which nobody else can reach, and stop in the middle of the recording."""
    command = [sys.executable, "-m", "loradash_assets", "build"]
    build = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while len(chunks(project)) < 5 and build.poll() is None:
        time.sleep(0.01)
    family = psutil.Process(build.pid).children(recursive=True)
    listening = set[str]().union(*map(_listening, family))
    os.kill(build.pid, signal.SIGTERM)  # which Ray would take for itself
    output, _ = build.communicate()
    assert build.returncode == 1, output
    assert "stopped; what was done is kept" in output
    assert listening == {"127.0.0.1"}
    assert psutil.wait_procs(family, timeout=60)[1] == []
