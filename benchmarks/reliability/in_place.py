"""The annotation service, writing as the original did: the control of `kills`, which starts it as

    python -m benchmarks.reliability.in_place OPTIONS OF annotation_server

The file itself is written over, and nothing is synced.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from annotation_server import durable
from annotation_server.__main__ import main


@contextmanager
def staged(path: Path, data: bytes) -> Generator[Path]:
    """Hand `data` on, and have nothing synced."""
    temporary = durable.temporary_path(path)
    temporary.write_bytes(data)
    yield temporary
    temporary.unlink()


def publish(staged: Path, path: Path) -> None:
    """Write what is staged over `path`, as `json.dump` writes it."""
    content = json.loads(staged.read_bytes())
    with path.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)


if __name__ == "__main__":
    durable.staged, durable.publish = staged, publish
    sys.exit(main())
