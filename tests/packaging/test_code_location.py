"""`dagster dev`, `dg dev` and workspace.yaml find one and the same code location, quickly and without torch."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.packaging.conftest import ROOT

LOCATION = "loradash_assets.definitions"
BIN = Path(sys.executable).parent
FIELDS = "name locationOrLoadError {__typename ... on PythonError {message}}"
QUERY = f"{{workspaceOrError {{... on Workspace {{locationEntries {{{FIELDS}}}}}}}}}"
HEAVY = ("torch", "transformers", "peft", "datasets", "ray")


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


def test_the_code_server_does_not_load_the_model_libraries() -> None:
    script = f"import sys, {LOCATION}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stdout + done.stderr


def test_workspace_yaml_works_from_another_directory(tmp_path: Path) -> None:
    command = [str(BIN / "dagster"), "definitions", "validate", "-w", str(ROOT / "workspace.yaml")]
    done = subprocess.run(command, cwd=tmp_path, env=_home(tmp_path / "home"), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert LOCATION in done.stdout + done.stderr


@pytest.mark.parametrize("program", ["dagster", "dg"])
def test_dev_finds_it_without_being_told(tmp_path: Path, program: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(BIN / program), "dev", "--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=_home(tmp_path / "home"), stdout=log, stderr=log)
        try:
            entries = _locations(f"http://127.0.0.1:{port}/graphql", process, tmp_path / "log")
        finally:
            process.terminate()
            process.wait()
    assert entries == [{"name": LOCATION, "locationOrLoadError": {"__typename": "RepositoryLocation"}}]


def _locations(address: str, process: subprocess.Popen[bytes], log: Path) -> list[dict[str, Any]]:
    while process.poll() is None:
        try:
            reply = httpx.post(address, json={"query": QUERY}, trust_env=False, timeout=None)
        except httpx.TransportError:
            time.sleep(0.2)
        else:
            return json.loads(reply.text)["data"]["workspaceOrError"]["locationEntries"]
    pytest.fail(log.read_text(encoding="utf-8"))
