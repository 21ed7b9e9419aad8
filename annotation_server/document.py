"""The notes file, `interpretations.json`: read, checked, changed and written, with every field kept that is not ours.

    {"interpretations": {"layer_10_gate_proj_positive": {"text": str, "starred": bool, "lastModified": ISO 8601, ...}}}

Of what the service adds, an entry has only what somebody gave: `textBy` and `textAt` (who wrote the text as it stands,
and when), `examplesSeen` (digests of the examples that it was written on), `labels` ({person: {"tags": [str],
"confidence": 1 to 5 or null, "at": ISO 8601}}, without `tags` where nothing was said of them) and the original's
`skipped`.

Any string is a key here: what the grammar of `keys` does not admit is kept, and only requests are held to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import msgspec

from annotation_server import strict_json
from annotation_server.blocks import BETWEEN, Block, with_members

INTERPRETATIONS = "interpretations"
# As `strict_json.serialise` spells it; further in, a line begins with more blanks.
_NO_ENTRIES = b'\n  "interpretations": {}'
_PLAIN = ("text", "starred", "skipped", "examplesSeen")
_OURS = ("textBy", "textAt", "examplesSeen", "labels")  # never empty: an entry of the original lacks them


class DocumentError(Exception):
    """A notes file that cannot be read as one; the message names the file and the line or field."""


class Label(msgspec.Struct, frozen=True, omit_defaults=False):
    """What one person says of a feature beside the text."""

    tags: tuple[str, ...] | None = None  # (): looked, and none fits; None: nothing was said of tags
    confidence: int | None = None  # 1 (a guess) to 5 (certain)
    at: str | None = None  # ISO 8601


class EntryFields(msgspec.Struct, frozen=True):
    """The fields with a meaning here; files of the original hold `skipped` and naive timestamps, or lack fields."""

    text: str = ""
    starred: bool = False
    skipped: bool = False
    lastModified: str | None = None  # noqa: N815 (the file's names for them)
    textBy: str | None = None  # noqa: N815
    textAt: str | None = None  # noqa: N815
    examplesSeen: tuple[str, ...] | None = None  # noqa: N815
    labels: dict[str, Label] = {}


@dataclass(frozen=True)
class Entry:
    """One note. `fields` is the entry as the file has it, unknown fields included; the rest is read out of it."""

    fields: Mapping[str, object]
    text: str
    starred: bool
    skipped: bool
    last_modified: str | None  # ISO 8601 as written, possibly without a time zone
    text_by: str | None
    text_at: str | None
    examples_seen: tuple[str, ...] | None
    labels: Mapping[str, Label]  # by person

    @staticmethod
    def of(fields: Mapping[str, object]) -> Entry:
        """Raises `msgspec.ValidationError` if a known field has the wrong type."""
        return Entry(fields, *msgspec.structs.astuple(msgspec.convert(fields, EntryFields)))

    def has(self, changes: Mapping[str, object]) -> bool:
        """Whether making `changes` would leave the entry as it is, but for the times."""
        return self.changed(changes, "")._timeless() == self._timeless()

    def changed(self, changes: Mapping[str, object], now: str) -> Entry:
        """The entry with `changes` made at the time `now`, all other fields kept.

        `changes` has some of `text`, `starred`, `skipped`, `examplesSeen`, `by` (the person who makes them) and, with
        `by`, `tags` and `confidence` of that person's label; `tags: None` takes the label away, but for a confidence
        that comes with it.
        """
        fields: dict[str, object] = {"text": "", "starred": False, **self.fields}
        fields |= {name: changes[name] for name in _PLAIN if name in changes}
        if fields["text"] != self.text:
            by = changes.get("by")
            fields |= {"textBy": by, "textAt": by and now, "examplesSeen": changes.get("examplesSeen")}
        if "tags" in changes or "confidence" in changes:
            fields["labels"] = self._labelled(changes, now)
        fields = {name: value for name, value in fields.items() if name not in _OURS or value}
        return Entry.of({**fields, "lastModified": now})

    def _labelled(self, changes: Mapping[str, object], now: str) -> Mapping[str, object]:
        by = cast("str", changes["by"])
        others = cast("Mapping[str, dict[str, object]]", self.fields.get("labels", {}))
        given = {name: changes[name] for name in ("tags", "confidence") if name in changes}
        if given.get("tags", ()) is None:
            given = {"confidence": None, **given}
        label = {"tags": None, "confidence": None, **others.get(by, {}), **given, "at": now}
        labels = {**others, by: label}
        if label["tags"] is None:
            del label["tags"]
            if label["confidence"] is None:
                del labels[by]
        return labels

    def _timeless(self) -> Entry:
        labels = {person: msgspec.structs.replace(label, at=None) for person, label in self.labels.items()}
        return replace(self, fields={}, last_modified=None, text_at=None, labels=labels)


EMPTY_ENTRY = Entry.of({"text": "", "starred": False})


@dataclass(frozen=True)
class Document:
    """The whole file: `entries` by key in the file's order, and the file's other fields in `fields`."""

    entries: Mapping[str, Entry] = field(default_factory=dict[str, Entry])
    fields: Mapping[str, object] = field(default_factory=dict[str, object])

    # What the file has of the entries; empty until it is needed. Of 25,000 entries one changes.
    _blocks: Sequence[Block] = field(default=(), compare=False, repr=False)

    def with_entries(self, changed: Mapping[str, Entry]) -> Document:
        """The document with these entries replaced or, at the end, added."""
        return Document({**self.entries, **changed}, self.fields, with_members(self.blocks(), _members(changed)))

    def blocks(self) -> Sequence[Block]:
        """What the file has of each entry, its key included, in the order of the entries."""
        return self._blocks or with_members((), _members(self.entries))

    def rewritten(self, changed: Mapping[str, Entry | None]) -> Document:
        """Like `with_entries`; None takes an entry out."""
        entries = {**self.entries, **changed}
        return Document({key: entry for key, entry in entries.items() if entry is not None}, self.fields)


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
    around = strict_json.serialise({**document.fields, INTERPRETATIONS: {}})
    if not document.entries:
        return around
    before, after = around.split(_NO_ENTRIES)
    pieces = [block.joined for block in document.blocks()]
    pieces[0] = b"".join((before, _NO_ENTRIES[:-1], b"\n", pieces[0]))
    pieces[-1] = b"".join((pieces[-1], b"\n  }", after))
    return BETWEEN.join(pieces)  # once over everything: a second time costs more than the rest


def _members(entries: Mapping[str, Entry]) -> dict[str, bytes]:
    return {key: _member(key, entry) for key, entry in entries.items()}


def _member(key: str, entry: Entry) -> bytes:
    """An entry as `strict_json.serialise` spells it two levels down: a line break is never inside a string."""
    around = strict_json.serialise({key: entry.fields})  # "{", the lines of the entry, "}"
    return b"  " + around[2:-3].replace(b"\n", b"\n  ")


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
