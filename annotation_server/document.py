"""The notes file, `interpretations.json`: read, checked, changed and written, with every field kept that is not ours.

    {"interpretations": {"layer_10_gate_proj_positive": {"text": str, "starred": bool, "lastModified": ISO 8601, ...}}}

Any string is a key here: what the grammar of `keys` does not admit is kept, and only requests are held to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import msgspec

from annotation_server import strict_json

INTERPRETATIONS = "interpretations"


class DocumentError(Exception):
    """A notes file that cannot be read as one; the message names the file and the line or field."""


class _Known(msgspec.Struct, frozen=True):
    """The fields with a meaning here; files of the original hold `skipped` and naive timestamps, or lack fields."""

    text: str = ""
    starred: bool = False
    skipped: bool = False
    lastModified: str | None = None  # noqa: N815 (the file's name for it)


@dataclass(frozen=True)
class Entry:
    """One note. `fields` is the entry as the file has it, unknown fields included; the rest is read out of it."""

    fields: Mapping[str, object]
    text: str
    starred: bool
    skipped: bool
    last_modified: str | None  # ISO 8601 as written, possibly without a time zone

    @staticmethod
    def of(fields: Mapping[str, object]) -> Entry:
        """Raises `msgspec.ValidationError` if a known field has the wrong type."""
        known = msgspec.convert(fields, _Known)
        return Entry(fields, known.text, known.starred, known.skipped, known.lastModified)

    def has(self, changes: Mapping[str, object]) -> bool:
        """Whether making `changes` would leave the entry as it is."""
        return changes.items() <= {"text": self.text, "starred": self.starred, "skipped": self.skipped}.items()

    def changed(self, changes: Mapping[str, object], now: str) -> Entry:
        """The entry with `changes` made to its fields at the time `now`, all other fields kept."""
        return Entry.of({"text": "", "starred": False, **self.fields, **changes, "lastModified": now})


EMPTY_ENTRY = Entry.of({"text": "", "starred": False})


@dataclass(frozen=True)
class Document:
    """The whole file: `entries` by key in the file's order, and the file's other fields in `fields`."""

    entries: Mapping[str, Entry] = field(default_factory=dict[str, Entry])
    fields: Mapping[str, object] = field(default_factory=dict[str, object])

    def with_entries(self, changed: Mapping[str, Entry]) -> Document:
        """The document with these entries replaced or, at the end, added."""
        return Document({**self.entries, **changed}, self.fields)


def read_interpretations(path: Path) -> Document:
    """The document in `path`; a missing file is an empty document. Raises `DocumentError` or `OSError`."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Document()
    return parse_document(data, path.name)


def parse_document(data: bytes, name: str) -> Document:
    """The document that `data` spells; `name` stands for the file in messages. Raises `DocumentError`."""
    try:
        content = strict_json.parse(data)
    except (strict_json.NotJson, strict_json.UnusableJson) as error:
        raise DocumentError(f"{name}: {error}") from None
    fields = _object(content, name)
    if INTERPRETATIONS not in fields:
        raise DocumentError(f'{name}: no field "{INTERPRETATIONS}", so this is not a file of notes')
    entries = _object(fields[INTERPRETATIONS], f'{name}: "{INTERPRETATIONS}"')
    return Document({key: _entry(key, value, name) for key, value in entries.items()}, fields)


def serialise(document: Document) -> bytes:
    """The file's bytes: fields and entries in their order, so that a change of one note is a small diff."""
    entries = {key: entry.fields for key, entry in document.entries.items()}
    return strict_json.serialise({**document.fields, INTERPRETATIONS: entries})


def _entry(key: str, value: object, name: str) -> Entry:
    where = f"{name}: entry {key!a}"
    try:
        return Entry.of(_object(value, where))
    except msgspec.ValidationError as error:
        raise DocumentError(f"{where}: {error}") from None


def _object(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise DocumentError(f"{where}: expected an object")
    return cast("dict[str, object]", value)
