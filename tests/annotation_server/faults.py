"""System calls that are watched, delayed or made to fail, in the one module of the service that makes them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from annotation_server import durable

BeforeCall = Callable[[int, str], None]  # (calls made so far, the call's name)


class WatchedOs:
    """The module `os`, telling `before` of every call."""

    def __init__(self, before: BeforeCall) -> None:
        self._before = before
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return self._watched(name, real) if callable(real) else real

    def _watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            try:
                self._before(len(self.calls) - 1, name)
            except OSError:
                if name == "close":  # a close that reports an error has closed all the same
                    real(*arguments)
                raise
            return real(*arguments)

        return call


@contextmanager
def watched(before: BeforeCall = lambda _number, _name: None) -> Generator[WatchedOs]:
    """Inside, `durable` makes its calls through the yielded object."""
    watching = WatchedOs(before)
    with patch.object(durable, "os", watching):
        yield watching


def fail_at(number: int, code: int = errno.EIO) -> BeforeCall:
    """Makes the call of that number (from 0) fail."""

    def before(made: int, _: str) -> None:
        if made == number:
            raise OSError(code, os.strerror(code))

    return before
