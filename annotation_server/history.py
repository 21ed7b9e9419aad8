"""Texts that were replaced: one JSON object a line in `interpretations.json.history.jsonl`, only ever appended to.

A line is written before the file changes. If the change then fails, the line stays although nothing was replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from annotation_server.document import Entry

SHOWN = 100  # of one note's texts, the newest
# A save through the service, an edit of the file itself, a file of notes taken in.
ReplacedBy = Literal["request", "file", "import"]


class Replaced(msgspec.Struct, frozen=True):
    """A text that was replaced: who had written it, and when, how and by whom it was replaced."""

    text: str
    textBy: str | None = None  # noqa: N815 (as the API names them)
    lastModified: str | None = None  # noqa: N815
    replacedAt: str | None = None  # noqa: N815
    replacedBy: ReplacedBy = "request"  # noqa: N815
    by: str | None = None


class _Line(msgspec.Struct, frozen=True):
    featureKey: str  # noqa: N815
    text: str
    lastModified: str | None  # noqa: N815
    replacedAt: str  # noqa: N815
    replacedBy: ReplacedBy  # noqa: N815
    textBy: str | None = None  # noqa: N815
    by: str | None = None


def history_path(path: Path) -> Path:
    """Where the history of the notes file `path` lies."""
    return path.with_name(f"{path.name}.history.jsonl")


def line(key: str, old: Entry, now: str, how: ReplacedBy, by: str | None = None) -> bytes:
    """The line for `old`, whose text was replaced at `now`, by whom if that is known."""
    found = _Line(key, old.text, old.last_modified, now, how, old.text_by, by)
    return msgspec.json.encode(found) + b"\n"


def replaced_texts(path: Path, key: str) -> list[Replaced]:
    """The texts of one note that were replaced, the newest first; `path` is the notes file. Raises `OSError`.

    A line that a crash tore, or that is none of ours, is passed over.
    """
    try:
        lines = history_path(path).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    name = msgspec.json.encode(key)
    found: list[Replaced] = []
    for text in reversed(lines):
        if name in text and (kept := _parsed(text)) is not None and kept.featureKey == key:
            found.append(Replaced(kept.text, kept.textBy, kept.lastModified, kept.replacedAt, kept.replacedBy, kept.by))
            if len(found) == SHOWN:
                break
    return found


def _parsed(line: bytes) -> _Line | None:
    try:
        return msgspec.json.decode(line, type=_Line)
    except (msgspec.DecodeError, RecursionError):
        return None


def loses_text(old: Entry | None, new: Entry | None) -> bool:
    """Whether text of `old` is gone in `new`. Text that only grew is still there, so typing on leaves no history."""
    return old is not None and not ("" if new is None else new.text).startswith(old.text)


def lines_lost(
    old: Mapping[str, Entry], changed: Mapping[str, Entry | None], now: str, how: ReplacedBy, by: str | None = None
) -> bytes:
    """The lines for every text of `old` that is gone in `changed` (None: the whole entry is)."""
    lost = [key for key, entry in changed.items() if loses_text(old.get(key), entry)]
    return b"".join(line(key, old[key], now, how, by) for key in lost)
