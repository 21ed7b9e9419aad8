"""Texts that were replaced: one JSON object a line in `interpretations.json.history.jsonl`, only ever appended to.

A line is written before the file changes. If the change then fails, the line stays although nothing was replaced.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from annotation_server.document import Document, Entry

ReplacedBy = Literal["request", "file"]  # a save through the service, or an edit of the file itself


class _Line(msgspec.Struct, frozen=True):
    featureKey: str  # noqa: N815 (as the API names it)
    text: str
    lastModified: str | None  # noqa: N815
    replacedAt: str  # noqa: N815
    replacedBy: ReplacedBy  # noqa: N815


def history_path(path: Path) -> Path:
    """Where the history of the notes file `path` lies."""
    return path.with_name(f"{path.name}.history.jsonl")


def line(key: str, old: Entry, now: str, by: ReplacedBy) -> bytes:
    """The line for `old`, whose text was replaced at `now`."""
    return msgspec.json.encode(_Line(key, old.text, old.last_modified, now, by)) + b"\n"


def loses_text(old: Entry | None, new: Entry | None) -> bool:
    """Whether text of `old` is gone in `new`. Text that only grew is still there, so typing on leaves no history."""
    return old is not None and not ("" if new is None else new.text).startswith(old.text)


def lines_lost(old: Document, new: Document, now: str) -> bytes:
    """The lines for every text of `old` that an edit of the file removed."""
    return b"".join(_lost(old, new, now))


def _lost(old: Document, new: Document, now: str) -> Iterable[bytes]:
    for key, entry in old.entries.items():
        if loses_text(entry, new.entries.get(key)):
            yield line(key, entry, now, "file")
