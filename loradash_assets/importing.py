"""What `loradash import` says of what it would do, has done, and can undo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from annotation_server.bulk import ImportReport, UndoReport
from annotation_server.import_log import Imported
from loradash_assets.compute.errors import InputError

SHOWN_KEYS = 3
SHOWN_REFUSED = 10


def file_text(file: Path) -> str:
    """The text of a file of notes. Raises `InputError` where it is not UTF-8."""
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file}: byte {error.start} is not UTF-8; save it as UTF-8 (spreadsheets: 'CSV UTF-8')"
        ) from None


def file_name(file: Path) -> str:
    """The name of a file of notes as an import is remembered by it: no control characters, not too long."""
    return "".join(character if character.isprintable() else "?" for character in file.name)[:255]


def plan_lines(report: ImportReport) -> list[str]:
    """What importing would do, a kind of outcome a line, with the first keys, and the reasons of what is refused."""
    counted = [
        (report.added, "to add"),
        (report.replaced, "to replace"),
        (report.kept, "that differ and stay as they are here (--replace takes the file's)"),
    ]
    lines = [f"  {len(keys)} {what}: {_first(keys)}" for keys, what in counted if keys]
    if report.same:
        lines.append(f"  {report.same} with nothing that is not here already")
    if report.refused:
        lines.append(f"  {len(report.refused)} refused:")
        lines += [f"    {each.where}: {each.reason}" for each in report.refused[:SHOWN_REFUSED]]
        lines += [f"    and {more} more"] if (more := len(report.refused) - SHOWN_REFUSED) > 0 else []
    return lines or ["  no notes"]


def done_text(report: ImportReport) -> str:
    """What an import did."""
    if report.id is None:
        return "Nothing was imported."
    done = f"{len(report.added)} added, {len(report.replaced)} replaced"
    return f"Imported: {done}. 'loradash import --undo' takes it back."


def import_text(imported: Imported) -> str:
    """Which import it is."""
    by = "" if imported.by is None else f" by {imported.by}"
    return f"{imported.name}, imported at {imported.at}{by}; notes that it added or changed: {len(imported.entries)}"


def undone_text(report: UndoReport) -> str:
    """What undoing an import did."""
    text = f"Undone. Notes that are as before: {len(report.undone)}"
    return text + (f"; changed since, and left: {len(report.kept)} ({_first(report.kept)})" if report.kept else "")


def _first(keys: Sequence[str]) -> str:
    return ", ".join([*keys[:SHOWN_KEYS], *(["…"] if len(keys) > SHOWN_KEYS else [])])
