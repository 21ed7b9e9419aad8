"""A file of notes from elsewhere, read for an import: what of it is notes, and what is not and why.

JSON as the service writes it, or keys and entries alone, or CSV. A note that is not well formed is refused and spoils
no other; so are two of one feature, in whichever spelling, as nobody knows which is meant.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import cast

import msgspec

from annotation_server import strict_json
from annotation_server.csv_notes import NotATable, Row, read_csv
from annotation_server.document import INTERPRETATIONS, Entry
from annotation_server.keys import InvalidKey, parse_import_key
from annotation_server.limits import TEXT_BYTES, Confidence, Digests, Name, Tags


class UnreadableFile(ValueError):
    """A file that is neither JSON nor CSV of notes; the message names it."""


class Refused(msgspec.Struct, frozen=True):
    """A note of a file that cannot be taken in: where it stands there, and why."""

    where: str
    reason: str


class NotesFile(msgspec.Struct, frozen=True):
    """The notes of a file by key, in the one spelling, and what of it is refused."""

    name: str
    entries: Mapping[str, Entry]
    refused: list[Refused]


class _Label(msgspec.Struct):
    tags: Tags | None = None
    confidence: Confidence | None = None


class _Limited(msgspec.Struct):
    """What of an entry has limits, beside its text."""

    textBy: Name | None = None  # noqa: N815 (the file's names)
    examplesSeen: Digests | None = None  # noqa: N815
    labels: dict[Name, _Label] = {}


def read_file(name: str, content: str) -> NotesFile:
    """The notes in a file's content; keys may be spelled `layer_10_…` or `L10_…`. Raises `UnreadableFile`."""
    content = content.removeprefix("\ufeff")
    try:
        rows = _json_rows(content) if content.lstrip().startswith(("{", "[")) else read_csv(content)
    except (strict_json.NotJson, strict_json.UnusableJson, NotATable) as error:
        raise UnreadableFile(f"{name}: {error}") from None
    places = _places(rows)
    entries: dict[str, Entry] = {}
    refused: list[Refused] = []
    for row in rows:
        try:
            key = str(parse_import_key(row.key))
            entries[key] = _entry(row, places[key])
        except (ValueError, msgspec.ValidationError) as error:
            refused.append(Refused(row.where, str(error)))
    return NotesFile(name, entries, refused)


def _places(rows: Iterable[Row]) -> dict[str, list[str]]:
    """Where each feature stands."""
    places: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        with suppress(InvalidKey):
            places[str(parse_import_key(row.key))].append(row.where)
    return places


def _entry(row: Row, places: Iterable[str]) -> Entry:
    """The row's note. Raises `ValueError` or `msgspec.ValidationError` if it cannot be taken in."""
    if row.problem is not None:
        raise ValueError(row.problem)
    others = [place for place in places if place != row.where]
    if others:
        raise ValueError(f"the same feature as {', '.join(others)}")
    entry = Entry.of(row.fields)
    if len(entry.text.encode()) > TEXT_BYTES:
        raise ValueError(f"the text is over {TEXT_BYTES} bytes in UTF-8")
    msgspec.convert(row.fields, _Limited)
    return entry


def _json_rows(content: str) -> list[Row]:
    """One row for each entry; what stands beside the entries is a row too, and no note."""
    top = strict_json.parse(content.encode())
    if not isinstance(top, dict):
        raise strict_json.NotJson("expected an object of notes")
    fields = cast("dict[str, object]", top)
    notes = fields.get(INTERPRETATIONS)
    if not isinstance(notes, dict):
        return [_row(key, value) for key, value in fields.items()]
    beside = [_row(name, value) for name, value in fields.items() if name != INTERPRETATIONS]
    return [*beside, *(_row(key, value) for key, value in cast("dict[str, object]", notes).items())]


def _row(key: str, value: object) -> Row:
    where = f"entry {key[:100]!a}"
    if not isinstance(value, dict):
        return Row(where, key, {}, "expected an object")
    return Row(where, key, cast("dict[str, object]", value))
