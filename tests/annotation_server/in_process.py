"""The service in a thread of this process, where a test has to give it something or to change a limit."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from annotation_server import server
from annotation_server.activations import Activations
from annotation_server.app import create_app
from annotation_server.store import Store


@contextmanager
def serving(folder: Path, activations: Activations | None = None) -> Generator[int]:
    """Yields the port."""
    listener = server._listen("127.0.0.1", 0)
    store = Store(folder / "interpretations.json")
    running = uvicorn.Server(server._config(create_app(store, folder / "page.html", activations=activations)))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        running.should_exit = True
        thread.join()
