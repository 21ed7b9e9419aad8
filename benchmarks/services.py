"""A service as a process of its own, for what measures it from outside."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def process(arguments: Sequence[str], log: Path) -> Generator[tuple[int, int]]:
    """Yield port and process number of a service that prints its address; what else it says goes to `log`."""
    with log.open("wb") as file:
        started = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=file, text=True)
        assert started.stdout is not None
        found = re.search(r"http://\S+:(\d+)/", started.stdout.readline())
        assert found is not None, log.read_text()
        threading.Thread(target=started.stdout.read, daemon=True).start()  # so that it never waits for a reader
        try:
            yield int(found[1]), started.pid
        finally:
            started.terminate()
            started.wait()
