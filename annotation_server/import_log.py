"""What each import replaced: one JSON object a line in `interpretations.json.imports.jsonl`, only ever appended to.

An import's line is written before the notes change: if that fails, undoing it finds the notes as they were and changes
nothing. That it was undone is written after they changed: if that fails, it can be undone once more, likewise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from annotation_server.document import Document, Entry


class Replaced(msgspec.Struct, frozen=True):
    """An entry that an import changed: its fields before (None: not there), and a digest of those after."""

    before: dict[str, Any] | None
    after: str


class Imported(msgspec.Struct, frozen=True, tag="import", tag_field="record"):
    """An import: of which file, when, by whom, and what became of which entries."""

    id: str
    name: str
    at: str
    by: str | None
    entries: dict[str, Replaced]


class Undone(msgspec.Struct, frozen=True, tag="undo", tag_field="record"):
    """That the import `id` was undone, and when."""

    id: str
    at: str


def imports_path(path: Path) -> Path:
    """Where the log of the imports into the notes file `path` lies."""
    return path.with_name(f"{path.name}.imports.jsonl")


def line(record: Imported | Undone) -> bytes:
    """The log's line for `record`."""
    return msgspec.json.encode(record) + b"\n"


def remembered(document: Document, changed: Mapping[str, Entry]) -> dict[str, Replaced]:
    """What is to be kept of the entries that `changed` is to replace in `document`."""
    return {key: Replaced(_fields(document.entries.get(key)), _digest(entry)) for key, entry in changed.items()}


def is_as_left(entry: Entry | None, replaced: Replaced) -> bool:
    """Whether the entry still is as the import left it."""
    return entry is not None and _digest(entry) == replaced.after


def is_as_before(entry: Entry | None, replaced: Replaced) -> bool:
    """Whether the entry is as it was before the import."""
    return _fields(entry) == replaced.before


def imports(path: Path) -> dict[str, Imported | None]:
    """All imports into the notes file `path`, the oldest first, by id; None for one that was undone. Raises `OSError`.

    A line that a crash tore, or that is none of ours, is passed over.
    """
    found: dict[str, Imported | None] = {}
    for record in _records(path):
        found[record.id] = record if isinstance(record, Imported) else None
    return found


def _records(path: Path) -> Iterator[Imported | Undone]:
    try:
        lines = imports_path(path).read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    for line in lines:
        try:
            yield msgspec.json.decode(line, type=Imported | Undone)
        except (msgspec.DecodeError, RecursionError):
            continue


def _fields(entry: Entry | None) -> dict[str, Any] | None:
    return None if entry is None else dict(entry.fields)


def _digest(entry: Entry) -> str:
    return hashlib.sha256(msgspec.json.encode(entry.fields, order="sorted")).hexdigest()
