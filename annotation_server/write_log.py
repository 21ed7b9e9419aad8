"""A line on stdout for each write: when, what came of it, which note, which fields, by whom, how many bytes of text.

    2026-01-20T10:30:00Z saved key="layer_10_gate_proj_positive" fields=starred,text by="Ann" bytes=17

Never the text. Names are JSON strings in ASCII, so that none can end the line or look like another field. A thread of
its own writes, since an output that nobody reads (a paused terminal, a full pipe) must not hold up saving.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from typing import Literal

_LOG = logging.getLogger(__name__)
_MOST_WAITING = 10_000  # lines; those after are lost, unlike what they tell of
_SECONDS_TO_FINISH = 2.0

What = Literal["saved", "refused as stale", "imported", "undone"]


def log_write(what: What, key: str, fields: Iterable[str], by: str | None, size: int) -> None:
    """Says what came of a request to write; `key` is the note's, or for many notes an import's; `size` in bytes."""
    names = ",".join(sorted(fields))
    _LOG.info("%s key=%s fields=%s by=%s bytes=%d", what, json.dumps(key), names, json.dumps(by), size)


@contextmanager
def lines_on_stdout() -> Generator[None]:
    """Within, each write has its line."""
    handler = _Lines(sys.stdout.fileno())
    _LOG.addHandler(handler)
    _LOG.setLevel(logging.INFO)
    _LOG.propagate = False
    try:
        yield
    finally:
        _LOG.removeHandler(handler)
        handler.close()


class _Lines(logging.Handler):
    """Hands lines to a thread that writes them to a file descriptor, and never waits for it but at the end."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        formatter = logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        formatter.converter = time.gmtime
        self.setFormatter(formatter)
        self._descriptor = descriptor
        self._lines: queue.Queue[str | None] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._write, name="write-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        self._put(self.format(record))

    def close(self) -> None:
        self._put(None)
        self._thread.join(_SECONDS_TO_FINISH)
        super().close()

    def _put(self, line: str | None) -> None:
        with suppress(queue.Full):
            self._lines.put_nowait(line)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            with suppress(OSError):  # not through sys.stdout: its lock would be held when the process ends
                os.write(self._descriptor, f"{line}\n".encode())
