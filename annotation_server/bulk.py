"""Many notes at once: a file taken in, an import undone, and the notes as a file to take elsewhere.

An import adds what an entry lacks: the entry itself, its text, a star, the label of a person who has none there, any
other field. Where both have something and differ, the entry's stays, or with `replace` the file's comes. What a file
leaves empty changes nothing, so no import takes a text, a star or a label away.
"""

from __future__ import annotations

import secrets
from concurrent.futures import Future
from typing import Literal

import msgspec

from annotation_server import import_log
from annotation_server.csv_notes import notes_csv
from annotation_server.document import Document, Entry, serialise
from annotation_server.import_log import Imported, Undone
from annotation_server.keys import short_key
from annotation_server.merge import merged
from annotation_server.notes_file import NotesFile, Refused
from annotation_server.store import Declined, Rewritten, Store

Format = Literal["json", "json-short", "csv"]


class NoSuchImport(Declined):
    """Nothing is known of that import."""


class AlreadyUndone(Declined):
    """That import was undone before."""


class ImportReport(msgspec.Struct, frozen=True):
    """What an import did, or would do.

    A key stands in `added` if something came to the entry and nothing of it was replaced, in `replaced` otherwise; in
    `kept` if something in the entry stayed that differs from the file's, whatever else came to it.
    """

    id: str | None = msgspec.field(name="import")  # by which it can be undone; None: nothing was changed
    added: list[str]
    replaced: list[str]
    kept: list[str]
    same: int  # entries that have all that the file has
    refused: list[Refused]


class UndoReport(msgspec.Struct, frozen=True):
    """The keys of entries that are as before the import again, and of those that stay as they were changed since."""

    undone: list[str]
    kept: list[str]


def look(file: NotesFile, document: Document, *, replace: bool) -> ImportReport:
    """What importing `file` would do to `document`."""
    return _planned(file, document, "", replace=replace)[0]


def take_in(store: Store, file: NotesFile, *, replace: bool, by: str | None) -> Future[ImportReport]:
    """Imports `file`, all of it in one commit; the future resolves once that is durable."""

    def decide(document: Document, now: str) -> Rewritten[ImportReport]:
        report, changed = _planned(file, document, now, replace=replace)
        if not changed:
            return Rewritten(report)
        record = Imported(secrets.token_hex(8), file.name, now, by, import_log.remembered(document, changed))
        return Rewritten(msgspec.structs.replace(report, id=record.id), changed, before=import_log.line(record), by=by)

    return store.rewrite(decide)


def undo(store: Store, import_id: str) -> Future[UndoReport]:
    """Undoes an import where nobody changed the entry since; the future raises `NoSuchImport` or `AlreadyUndone`."""

    def decide(document: Document, now: str) -> Rewritten[UndoReport]:
        imports = import_log.imports(store.path)
        if import_id not in imports:
            raise NoSuchImport("there was no such import into this file")
        if (imported := imports[import_id]) is None:
            raise AlreadyUndone("this import was undone before")
        changed: dict[str, Entry | None] = {}
        kept: list[str] = []
        for key, replaced in imported.entries.items():
            entry = document.entries.get(key)
            if import_log.is_as_left(entry, replaced):
                changed[key] = None if replaced.before is None else Entry.of(replaced.before)
            elif not import_log.is_as_before(entry, replaced):
                kept.append(key)
        return Rewritten(UndoReport([*changed], kept), changed, after=import_log.line(Undone(import_id, now)))

    return store.rewrite(decide)


def exported(document: Document, form: Format) -> bytes:
    """The notes as a file: `json` as stored, `json-short` with the short spelling of keys that have one, or CSV."""
    if form == "csv":
        return notes_csv(document).encode()
    return serialise(_short(document) if form == "json-short" else document)


def _short(document: Document) -> Document:
    entries = document.entries
    spelled = {key: short for key in entries if (short := short_key(key)) is not None and short not in entries}
    return Document({spelled.get(key, key): entry for key, entry in entries.items()}, document.fields)


def _planned(file: NotesFile, document: Document, now: str, *, replace: bool) -> tuple[ImportReport, dict[str, Entry]]:
    """What is to be said of importing `file` at the time `now`, and the entries that change."""
    found = {key: merged(document.entries.get(key), given, now, replace=replace) for key, given in file.entries.items()}
    changed = {key: each.entry for key, each in found.items() if each.added or each.replaced}
    kept = [key for key, each in found.items() if each.kept]
    report = ImportReport(
        id=None,
        added=[key for key in changed if not found[key].replaced],
        replaced=[key for key in changed if found[key].replaced],
        kept=kept,
        same=len(found) - len({*changed, *kept}),
        refused=file.refused,
    )
    return report, changed
