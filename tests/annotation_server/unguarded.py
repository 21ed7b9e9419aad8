"""The service without its guard, for tests that must see what the guard keeps out.

python -m tests.annotation_server.unguarded FOLDER PORT
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import uvicorn

from annotation_server import server
from annotation_server.app import create_app
from annotation_server.store import Store


def main(folder: Path, port: int) -> None:
    """Serves the notes and the page in `folder`, and prints where."""
    listener = server._listen("127.0.0.1", port)
    guarded: Any = create_app(Store(folder / "interpretations.json"), folder / "page.html")
    print(server._url(listener), flush=True)
    uvicorn.Server(server._config(guarded._app)).run(sockets=[listener])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
