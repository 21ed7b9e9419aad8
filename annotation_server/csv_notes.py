"""Notes as a table: the CSV that is exported, and what people and spreadsheet programs make of one.

One note a row: key, text, starred, skipped, last_modified, text_by, text_at, labels (JSON, as the file has them) and
examples_seen (digests with blanks between). What an entry has beside these stays behind.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from annotation_server import strict_json
from annotation_server.csv_cells import csv_text, original
from annotation_server.document import Document, Entry

COLUMNS = ("key", "text", "starred", "skipped", "last_modified", "text_by", "text_at", "labels", "examples_seen")
SEPARATORS = ",;\t"
_FIELDS = {"last_modified": "lastModified", "text_by": "textBy", "text_at": "textAt"}
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
# What is exported must be read: the module's own limit is less than what many people's labels may take.
csv.field_size_limit(2**30)


class NotATable(ValueError):
    """A text that is no CSV of notes; the message says what is missing, or where it ends to be one."""


@dataclass(frozen=True)
class Row:
    """One note of a file: where it stands there, its key as spelled, and its fields, or why they cannot be read."""

    where: str
    key: str
    fields: Mapping[str, object]
    problem: str | None = None


def notes_csv(document: Document) -> str:
    """The notes as CSV, safe for spreadsheet programs, in the file's order."""
    return csv_text([COLUMNS, *(_cells(key, entry) for key, entry in document.entries.items())])


def read_csv(text: str) -> list[Row]:
    """The notes in a CSV with comma, semicolon or tab that has the columns `key` and `text` (or `note`).

    Of further columns those of an export count, in any order. Raises `NotATable`.
    """
    return list(_rows(text, _separator(text)))


def _cells(key: str, entry: Entry) -> list[object]:
    labels = entry.fields.get("labels")
    return [
        key,
        entry.text,
        entry.starred,
        entry.fields.get("skipped"),
        entry.last_modified,
        entry.text_by,
        entry.text_at,
        msgspec.json.encode(labels).decode() if labels else None,
        " ".join(entry.examples_seen or ()),
    ]


def _separator(text: str) -> str:
    for separator in SEPARATORS:
        columns = _columns(next(_lines(text, separator), (0, []))[1])
        if {"key", "text"} <= set(columns):
            if len(set(columns) - {""}) < len([name for name in columns if name]):
                raise NotATable("two columns have the same name")
            return separator
    raise NotATable("its first line does not name the columns key and text, separated by comma, semicolon or tab")


def _columns(header: Sequence[str]) -> list[str]:
    names = [name.strip().lower() for name in header]
    return names if "text" in names else ["text" if name == "note" else name for name in names]


def _rows(text: str, separator: str) -> Iterator[Row]:
    lines = _lines(text, separator)
    columns = _columns(next(lines)[1])
    for number, cells in lines:
        if any(cells):
            yield _row(f"line {number}", columns, cells)


def _lines(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Each row and the line it begins at. Raises `NotATable` where the quotes are wrong."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    begin = 1
    try:
        for cells in reader:
            yield begin, cells
            begin = reader.line_num + 1
    except csv.Error as error:
        raise NotATable(f"line {begin}: {error}") from None


def _row(where: str, columns: Sequence[str], cells: Sequence[str]) -> Row:
    found = {name: original(cell) for name, cell in zip(columns, cells, strict=False)}
    key = found["key"] if "/" in found["key"] else found["key"].strip()  # an adapter's name may begin with a blank
    if any(cells[len(columns) :]):
        return Row(where, key, {}, f"{len(cells)} cells under {len(columns)} columns: is a text not in quotes?")
    try:
        return Row(where, key, _fields(found))
    except ValueError as error:
        return Row(where, key, {}, str(error))


def _fields(cells: Mapping[str, str]) -> dict[str, object]:
    """The entry's fields that the cells spell; an empty cell is none."""
    fields: dict[str, object] = {"text": cells.get("text", ""), "starred": _truth("starred", cells.get("starred", ""))}
    if cells.get("skipped"):
        fields["skipped"] = _truth("skipped", cells["skipped"])
    fields |= {field: cells[column] for column, field in _FIELDS.items() if cells.get(column)}
    if cells.get("examples_seen"):
        fields["examplesSeen"] = cells["examples_seen"].split()
    if cells.get("labels"):
        fields["labels"] = _labels(cells["labels"])
    return fields


def _truth(column: str, cell: str) -> bool:
    word = cell.strip().lower() or "false"
    if word not in _TRUTH:
        raise ValueError(f"{column} is {cell[:40]!a}, neither true nor false")
    return _TRUTH[word]


def _labels(cell: str) -> object:
    try:
        return strict_json.parse(cell.encode())
    except (strict_json.NotJson, strict_json.UnusableJson) as error:
        raise ValueError(f"labels: {error}") from None
