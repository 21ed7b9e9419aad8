"""Which entries changed since somebody last asked, by a cursor that only this run of the service understands."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Iterable
from itertools import takewhile

_CURSOR = re.compile(r"(?P<run>[0-9a-f]{16})-(?P<revision>0|[1-9][0-9]{0,17})")


class Changes:
    """The keys in the order of their last change. Any thread may call."""

    def __init__(self) -> None:
        self._run = secrets.token_hex(8)
        self._revision = 0
        self._last: dict[str, int] = {}  # key to the revision that changed it last, in ascending order
        self._lock = threading.Lock()

    def record(self, keys: Iterable[str]) -> None:
        """Call after what changed can be read."""
        with self._lock:
            self._revision += 1
            for key in keys:
                self._last.pop(key, None)
                self._last[key] = self._revision

    def since(self, cursor: str | None) -> tuple[str, list[str] | None]:
        """The cursor of now, and the keys changed since `cursor`; None instead of keys if it is not of this run."""
        match = _CURSOR.fullmatch(cursor or "")
        with self._lock:
            now = f"{self._run}-{self._revision}"
            if match is None or match["run"] != self._run or (asked := int(match["revision"])) > self._revision:
                return now, None
            newest = takewhile(lambda key: self._last[key] > asked, reversed(self._last))
            return now, [*newest]
