"""Real processes: two servers, orderly and refused starts. `tests/benchmarks/test_reliability.py` kills them."""

from __future__ import annotations

import http.client
import json
import random
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.annotation_server.service import ROOT, Service, command, entry_path, exchange, running, stop

def refused(folder: Path, *options: str) -> str:
    """What a service that must not start says; it says it in one line or two, without a traceback."""
    result = subprocess.run(
        command(folder, *options), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 1
    assert result.stderr.startswith("annotation_server: ")
    assert len(result.stderr.splitlines()) <= 2
    return result.stderr


def test_a_second_server_on_the_same_file_is_refused_and_the_first_goes_on(service: Service) -> None:
    assert "another annotation server is running on this file" in refused(service.folder)
    assert service.patch({"starred": True}).status == 200


def test_an_unparsable_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    notes = tmp_path / "interpretations.json"
    notes.write_bytes(b'{"interpretations": {\n  "a": {"text": "important"},,\n}}')
    before = notes.read_bytes(), notes.stat().st_mtime_ns
    assert "interpretations.json: line 2, column 30" in refused(tmp_path)
    assert (notes.read_bytes(), notes.stat().st_mtime_ns) == before


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.com"])
def test_other_than_loopback_is_refused(tmp_path: Path, host: str) -> None:
    assert "needs a token, and that is not offered yet" in refused(tmp_path, "--host", host)


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        message = refused(tmp_path, "--port", port)
    assert f"cannot listen on 127.0.0.1 port {port}" in message


def test_an_orderly_end_finishes_what_waits_and_says_nothing(service: Service) -> None:
    def save(number: int) -> int:
        try:
            key = f"layer_{number}_up_proj_positive"
            return number if service.patch({"starred": True}, key).status == 200 else -1
        except OSError:
            return -1

    with ThreadPoolExecutor(8) as pool:
        saving = pool.map(save, range(200))
        saved = {next(saving)}
        errors = stop(service)
        saved |= set(saving) - {-1}
    assert errors == ""
    assert {int(key.split("_")[1]) for key in service.entries()} >= saved
    with running(service.folder) as again:
        assert again.request("GET", "/api/health").json["entries"] >= len(saved)
