"""The annotation service runs where its own few dependencies are installed and nothing else."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.packaging.environments import Environment

DEPENDENCIES = ("starlette", "uvicorn", "httptools", "uvloop", "msgspec")
ABSENT = ("torch", "transformers", "dagster", "numpy", "pyarrow", "jinja2")
KEY = "layer_10_gate_proj_positive"


@pytest.fixture(scope="module")
def small(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return an environment with the wheel and the service's own dependencies."""
    environment = Environment(tmp_path_factory.mktemp("small") / "venv")
    environment.copy_from_parent(DEPENDENCIES)
    environment.install(wheel)
    return environment


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _service(environment: Environment, folder: Path) -> Generator[httpx.Client]:
    port = _free_port()
    command = [str(environment.python), "-m", "annotation_server", "--port", str(port)]
    log = (folder / "log").open("w+")
    with log, subprocess.Popen(command, cwd=folder, env=environment.variables(), stdout=log, stderr=log) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
                _wait(client, process, folder)
                yield client
        finally:
            process.terminate()


def _wait(client: httpx.Client, process: subprocess.Popen[bytes], folder: Path) -> None:
    while process.poll() is None:
        try:
            client.get("/api/interpretations")
        except httpx.ConnectError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"the service stopped: {(folder / 'log').read_text(encoding='utf-8')}")


def test_nothing_else_is_there(small: Environment, tmp_path: Path) -> None:
    found = f"import importlib.util as u; print([name for name in {ABSENT} if u.find_spec(name)])"
    assert small.run("python", "-c", found, cwd=tmp_path).stdout.strip() == "[]"


def test_it_saves_what_a_person_writes(small: Environment, tmp_path: Path) -> None:
    with _service(small, tmp_path) as client:
        assert client.get("/api/interpretations").json() == {"interpretations": {}}
        reply = client.post("/api/interpretations", json={"featureKey": KEY, "text": "digits", "starred": True})
        assert reply.json()["success"] is True
        saved = json.loads((tmp_path / "interpretations.json").read_text(encoding="utf-8"))
    assert saved["interpretations"][KEY]["text"] == "digits"
    assert saved["interpretations"][KEY]["starred"] is True


def test_a_second_start_finds_it_again(small: Environment, tmp_path: Path) -> None:
    entry = {"text": "digits", "starred": False, "lastModified": "2024-01-20T10:30:00Z"}
    file = tmp_path / "interpretations.json"
    file.write_text(json.dumps({"interpretations": {KEY: entry}}), encoding="utf-8")
    with _service(small, tmp_path) as client:
        assert client.get("/api/interpretations").json() == {"interpretations": {KEY: entry}}


def test_without_a_dashboard_it_says_how_to_make_one(small: Environment, tmp_path: Path) -> None:
    with _service(small, tmp_path) as client:
        assert "loradash" in client.get("/").text
