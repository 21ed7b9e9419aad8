"""The service as a process of its own, and a client that sends exactly what it is told to."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[2]
KEY = "layer_10_gate_proj_positive"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error's code; fails unless the reply has the one error shape."""
        error = self.json["error"]
        assert set(error) == {"code", "message"}
        assert self.headers["content-type"] == "application/json"
        return error["code"]


@dataclass(frozen=True)
class Service:
    process: subprocess.Popen[str]
    port: int
    folder: Path

    @property
    def notes(self) -> Path:
        return self.folder / "interpretations.json"

    def request(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Reply:
        """One request on a connection of its own. A `body` that is not bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            return exchange(connection, method, path, body, headers)
        finally:
            connection.close()

    def etag(self, key: str = KEY) -> str:
        return self.request("GET", entry_path(key)).headers["etag"]

    def patch(self, changes: object, key: str = KEY, **headers: str) -> Reply:
        """PATCH with headers named like `if_match`."""
        named = {name.replace("_", "-").title(): value for name, value in headers.items()}
        return self.request("PATCH", entry_path(key), changes, named)

    def entries(self) -> dict[str, dict[str, Any]]:
        return json.loads(self.notes.read_bytes())["interpretations"]


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """One request and its reply on an open connection."""
    sent = {**({} if body is None else {"Content-Type": "application/json"}), **(headers or {})}
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, path, data, sent)
    response = connection.getresponse()
    received = {name.lower(): value for name, value in response.getheaders()}
    return Reply(response.status, received, response.read())


def entry_path(key: str) -> str:
    return f"/api/interpretations/{quote(key, safe='')}"


def command(folder: Path, *options: str, module: str = "annotation_server") -> list[str]:
    """The command line that serves the notes in `folder` on a free port; `module` is what runs."""
    notes, page = folder / "interpretations.json", folder / "page.html"
    places = ["--interpretations-file", str(notes), "--dashboard", str(page), "--port", "0"]
    return [sys.executable, "-m", module, *places, *options]


def start(folder: Path, *options: str, module: str = "annotation_server") -> Service:
    """A service that answers. Fails with what it printed if it does not start."""
    process = subprocess.Popen(
        command(folder, *options, module=module), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    found = re.search(r"http://\S+:(\d+)/", process.stdout.readline())
    if found is None:
        raise AssertionError(f"the service did not start: {process.communicate()[1]}")
    return Service(process, int(found[1]), folder)


class Said(NamedTuple):
    out: str  # after its first line
    err: str


def stop(service: Service) -> Said:
    """Ends the service as a person would; what it has written."""
    service.process.terminate()
    return Said(*service.process.communicate(timeout=30))


def refused(folder: Path, *options: str) -> str:
    """What a service that must not start says; it says it in one line or two, without a traceback."""
    result = subprocess.run(
        command(folder, *options), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 1
    assert result.stderr.startswith("annotation_server: ")
    assert len(result.stderr.splitlines()) <= 2
    return result.stderr


@contextmanager
def running(folder: Path, *options: str, module: str = "annotation_server") -> Generator[Service]:
    service = start(folder, *options, module=module)
    try:
        yield service
    finally:
        service.process.kill()
        service.process.communicate()
