"""Who has the notes file: one process at a time, by a lock on a file beside it, in which a service says where it is."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from annotation_server import durable


class Owner(msgspec.Struct, frozen=True):
    """The service that has a notes file."""

    pid: int
    url: str


def lock_path(path: Path) -> Path:
    """Where the lock of the notes file `path` lies."""
    return path.with_name(f".{path.name}.lock")


def announce(lock_descriptor: int, url: str) -> None:
    """Says in the lock that this process has taken where it answers."""
    durable.fill(lock_descriptor, msgspec.json.encode(Owner(os.getpid(), url)))


def owner(path: Path) -> Owner | None:
    """The service that has the notes file `path`, whose lock is taken; None if whoever took it does not say."""
    try:
        return msgspec.json.decode(lock_path(path).read_bytes(), type=Owner)
    except (OSError, msgspec.DecodeError):
        return None
