"""The `hub_server` fixture: a model hub on this machine, for code that runs in a subprocess with `environment`."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvicorn
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.hub.server import hub


@dataclass(frozen=True)
class HubServer:
    """A running hub: put repositories in `folder`, read in `requests` what was asked ("GET /path")."""

    endpoint: str
    folder: Path
    requests: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)  # paths whose next request finds the hub overloaded

    def environment(self, home: Path) -> dict[str, str]:
        """Return a process environment in which this is the hub, `home` its cache, and no other host is reached."""
        dead = "http://127.0.0.1:9"  # the discard port: a proxy that refuses whatever is not on this machine
        proxies = {f"{scheme}_proxy": dead for scheme in ("http", "https", "all")}
        proxies |= {name.upper(): dead for name in proxies} | {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
        hugging_face = {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
        return {**os.environ, **proxies, **hugging_face}


@dataclass(frozen=True)
class _Recorder:
    application: ASGIApp
    requests: list[str]
    busy: list[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.requests.append(f"{scope['method']} {scope['path']}")
            if scope["path"] in self.busy:
                self.busy.remove(scope["path"])
                await Response("overloaded", 503)(scope, receive, send)
                return
        await self.application(scope, receive, send)


@pytest.fixture
def hub_server(tmp_path: Path) -> Iterator[HubServer]:
    """Serve the repositories in a folder of this test's own."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        running = HubServer(endpoint, tmp_path / "hub")
        recorder = _Recorder(hub(running.folder), running.requests, running.busy)
        server = uvicorn.Server(uvicorn.Config(recorder, log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield running
        server.should_exit = True
        thread.join()
