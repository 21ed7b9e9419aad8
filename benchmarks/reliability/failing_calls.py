"""Every system call of every kind of change made to fail once, ENOSPC and EIO, on the real service in one process.

After a failure the file is the old one or the new one, no temporary file stays, the reply is no 2xx unless the change
is on the disk, and the next change succeeds. The disk is made as unkind as it may be: a write that fails has written
half, and a failed fsync loses what it was to save, a directory's the rename before it. The control is a service that
goes on after a failed fsync.
"""

from __future__ import annotations

import errno
import itertools
import json
import logging
import os
import stat
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

from starlette.testclient import TestClient

from annotation_server import durable
from annotation_server.app import create_app
from annotation_server.history import history_path
from annotation_server.store import Store
from tests.annotation_server.service import entry_path

CODES = (errno.ENOSPC, errno.EIO)
KEY, OTHER = "layer_1_up_proj_positive", "layer_2_up_proj_positive"
OLD: Mapping[str, Any] = {"interpretations": {KEY: {"text": "old", "starred": True}}}
LINE = b'{"featureKey": "x", "text": "long ago", "lastModified": null, "replacedAt": "", "replacedBy": "request"}\n'


@dataclass(frozen=True)
class Change:
    """What a note shall be, the request that makes it so, and what the folder holds before that."""

    wanted: Mapping[str, Any]
    how: Literal["patch", "import", "undo"] = "patch"
    before: bytes | None = json.dumps(OLD).encode()
    history: bytes | None = None
    by_hand: bytes | None = None  # what somebody writes into the file before the request


CHANGES = {
    "the first save": Change({"text": "new"}, before=None),
    "a text that grew": Change({"text": "old and more"}),
    "a text that replaced another": Change({"text": "new"}),
    "the same, with a history": Change({"text": "new"}, history=LINE),
    "the same, after a torn line of history": Change({"text": "new"}, history=LINE + b'{"featureKey": "to'),
    "a star": Change({"starred": False}),
    "a label": Change({"by": "Ada", "tags": ["dense"], "confidence": 4}),
    "a named text": Change({"text": "new", "by": "Ada", "examplesSeen": ["0123abcd"]}),
    "a save after an edit by hand": Change(
        {"starred": True}, by_hand=json.dumps({"interpretations": {KEY: {"text": "by hand"}}}).encode()
    ),
    "an import": Change({"text": "new"}, how="import"),
    "an import that is undone": Change({"text": "old"}, how="undo"),
}


@dataclass
class Found:
    """What was seen."""

    cases: int = 0
    refused: int = 0  # replies that were no 2xx
    lost: list[str] = field(default_factory=list[str])  # acknowledged, and not on the disk
    neither: list[str] = field(default_factory=list[str])  # files that are neither old nor new
    forgotten: list[str] = field(default_factory=list[str])  # replaced texts that the history does not have
    leftovers: list[str] = field(default_factory=list[str])
    stuck: list[str] = field(default_factory=list[str])  # the next change failed too, or was lost


class Disk:
    """The module `os`, of which one call fails; `calls` are the names of those that were made."""

    def __init__(self, number: int, code: int, *, ignored: bool = False) -> None:
        self._number, self._code = number, code
        self._ignored = ignored  # nobody hears of a failed fsync
        self._synced: dict[int, int] = {}  # bytes of a file that a sync saved, by inode
        self._renamed: tuple[Path, bytes | None] | None = None  # what a directory's sync has not saved yet
        self.calls: list[str] = []
        self.failed = False

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return self._checked(name, real) if callable(real) else real

    def _checked(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            if len(self.calls) - 1 == self._number:
                self.failed = True
                self._lose(name, arguments)
                if name == "fsync" and self._ignored:
                    return None
                raise OSError(self._code, os.strerror(self._code))
            if name == "replace":
                self._renamed = arguments[1], _content(arguments[1])
            found = real(*arguments)
            if name == "open":
                status = os.fstat(found)
                self._synced.setdefault(status.st_ino, status.st_size)
            if name == "fsync":
                status = os.fstat(arguments[0])
                self._synced[status.st_ino] = status.st_size
            return found

        return call

    def _lose(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name == "close":  # one that reports an error has closed all the same
            os.close(*arguments)
        if name == "write":
            os.write(arguments[0], arguments[1][: len(arguments[1]) // 2])
        if name == "fsync":
            status = os.fstat(arguments[0])
            if not stat.S_ISDIR(status.st_mode):
                os.ftruncate(arguments[0], self._synced[status.st_ino])
            elif self._renamed is not None:
                _put_back(*self._renamed)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _put_back(path: Path, content: bytes | None) -> None:
    path.unlink()
    if content is not None:
        path.write_bytes(content)


def fails_cleanly(folder: Path, name: str, number: int, code: int, found: Found, *, ignored: bool = False) -> bool:
    """Make one call of a change fail and note what is seen; return whether there were that many calls."""
    change, notes = CHANGES[name], folder / "notes.json"
    _prepare(notes, change)
    disk = Disk(number, code, ignored=ignored)
    app = create_app(Store(notes), folder / "page.html")
    client = TestClient(app, "http://127.0.0.1", raise_server_exceptions=False)
    with client:
        request = _request(client, change)
        if change.by_hand is not None:
            notes.write_bytes(change.by_hand)
        old = _entries(notes).get(KEY, {})
        with patch.object(durable, "os", disk):
            reply = request()
        if not disk.failed:
            assert reply.status_code == 200, reply.text
            return False
        where = f"{name}: {disk.calls[number]} ({errno.errorcode[code]})"
        _look(notes, old, change.wanted, where, reply.is_success, found)
        later = client.patch(entry_path(OTHER), json={"starred": True})
    if not later.is_success or not _entries(notes)[OTHER]["starred"]:
        found.stuck.append(where)
    return True


def _prepare(notes: Path, change: Change) -> None:
    for leftover in notes.parent.iterdir():
        leftover.unlink()
    for path, content in ((notes, change.before), (history_path(notes), change.history)):
        if content is not None:
            path.write_bytes(content)


def _request(client: TestClient, change: Change) -> Callable[[], Any]:
    """Return what sends the change, after all that must be asked before."""
    if change.how == "patch":
        etag = client.get(entry_path(KEY)).headers["etag"]
        headers = {"If-Match": etag} if "text" in change.wanted else {}
        return lambda: client.patch(entry_path(KEY), json=change.wanted, headers=headers)
    content = json.dumps({"interpretations": {KEY: {"text": "new"}}})
    body = {"name": "notes.json", "content": content, "replace": True, "dryRun": False, "by": "Ada"}
    if change.how == "import":
        return lambda: client.post("/api/import", json=body)
    number = client.post("/api/import", json=body).json()["import"]
    return lambda: client.post(f"/api/import/{number}/undo", json={})


def _look(
    notes: Path, old: Mapping[str, Any], wanted: Mapping[str, Any], where: str, acknowledged: bool, found: Found
) -> None:
    found.cases += 1
    found.refused += not acknowledged
    if durable.temporary_path(notes).exists():
        found.leftovers.append(where)
    try:
        entry = _entries(notes).get(KEY, {})
    except ValueError:
        entry = None
    if entry is not None and _has(entry, wanted):
        replaced = old.get("text", "")
        if not entry["text"].startswith(replaced) and replaced not in _remembered(notes):
            found.forgotten.append(where)
        return
    if acknowledged:
        found.lost.append(where)
    if entry != old:
        found.neither.append(where)


def _has(entry: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    by = wanted.get("by")
    known = {**entry, **entry.get("labels", {}).get(by, {}), "by": by}
    return all(known.get(name) == value for name, value in wanted.items())


def _remembered(notes: Path) -> set[str]:
    lines = history_path(notes).read_bytes().splitlines() if history_path(notes).exists() else []
    return {json.loads(line)["text"] for line in lines if line.endswith(b"}")}


def _entries(notes: Path) -> dict[str, Any]:
    return json.loads(notes.read_bytes())["interpretations"] if notes.exists() else {}


def fail_each(folder: Path, codes: Sequence[int] = CODES, *, ignored: bool = False) -> Found:
    """Make every call of every change fail once with each error."""
    found = Found()
    for name in CHANGES:
        for code in codes:
            for number in itertools.count():
                if not fails_cleanly(folder, name, number, code, found, ignored=ignored):
                    break
    return found


def figures(*, ignored: bool = False) -> dict[str, Any]:
    """Return how many cases there were and what was wrong in how many."""
    with tempfile.TemporaryDirectory() as name:
        found = fail_each(Path(name), ignored=ignored)
    return {
        "cases": found.cases,
        "refused": found.refused,
        "acknowledged_and_lost": len(found.lost),
        "neither_old_nor_new": len(found.neither),
        "replaced_text_not_in_history": len(found.forgotten),
        "temporary_files_left": len(found.leftovers),
        "next_change_failed": len(found.stuck),
    }


def measure() -> dict[str, Any]:
    """Return the figures and those of the control."""
    logging.disable(logging.CRITICAL)
    control = figures(ignored=True)
    return {"changes": len(CHANGES), **figures(), "control": {"service": "goes on after a failed fsync", **control}}
