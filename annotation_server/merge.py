"""A note of a file joined with the entry that is there.

Both are taken apart: text, star, each person's label, any other field. What is empty is no part, so a file takes
nothing away. Who wrote a text and on which examples goes with the text. Times alone are no difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from annotation_server.document import Entry

_Part = tuple[str, ...]  # a field's name, or "labels" and a person
_TEXT: _Part = ("text",)
_OF_TEXT: tuple[_Part, ...] = (("textBy",), ("examplesSeen",))
_TIMES = ("lastModified", "textAt")


@dataclass(frozen=True)
class Merged:
    """The entry, and whether parts were added to it, replaced in it, or kept although the file's differ."""

    entry: Entry
    added: bool
    replaced: bool
    kept: bool


def merged(old: Entry | None, given: Entry, now: str, *, replace: bool) -> Merged:
    """`old` with the parts of `given` that it lacks and, with `replace`, what differs; `given` if there is none."""
    if old is None:
        return Merged(given, added=True, replaced=False, kept=False)
    ours, theirs = _parts(old), _parts(given)
    comes = _TEXT in theirs and theirs[_TEXT] != ours.get(_TEXT) and (replace or _TEXT not in ours)
    if theirs.get(_TEXT) != ours.get(_TEXT):
        for part in _OF_TEXT:
            (ours if comes else theirs).pop(part, None)
    added = [part for part in theirs if part not in ours]
    differing = [part for part in theirs if part in ours and _lasting(theirs[part]) != _lasting(ours[part])]
    taken = {part: theirs[part] for part in [*added, *(differing if replace else ())]}
    if not taken:
        return Merged(old, added=False, replaced=False, kept=bool(differing))
    fields = _with_parts(old, given, taken, comes=comes)
    fields["lastModified"] = given.last_modified if comes and given.last_modified else now
    return Merged(
        Entry.of(fields), bool(added), replaced=replace and bool(differing), kept=bool(differing) and not replace
    )


def _parts(entry: Entry) -> dict[_Part, object]:
    fields = {(name,): value for name, value in entry.fields.items() if name not in (*_TIMES, "labels")}
    labels = cast("Mapping[str, object]", entry.fields.get("labels", {}))
    return {part: value for part, value in fields.items() if not _is_empty(value)} | {
        ("labels", person): label for person, label in labels.items()
    }


def _with_parts(old: Entry, given: Entry, taken: Mapping[_Part, object], *, comes: bool) -> dict[str, object]:
    """The fields of `old` with the parts `taken` from `given`, whose text `comes` or does not."""
    dropped = {"textBy", "textAt", "examplesSeen"} if comes else set[str]()
    fields = {name: value for name, value in old.fields.items() if name not in dropped}
    fields |= {part[0]: value for part, value in taken.items() if len(part) == 1}
    if ("textBy",) in taken and given.text_at is not None:
        fields["textAt"] = given.text_at
    labels = {part[1]: label for part, label in taken.items() if len(part) > 1}
    if labels:
        fields["labels"] = {**cast("Mapping[str, object]", fields.get("labels", {})), **labels}
    return fields


def _lasting(value: object) -> object:
    """The value without its own time and what is null in it, if it is a label."""
    if not isinstance(value, Mapping):
        return value
    fields = cast("Mapping[str, object]", value)
    return {name: part for name, part in fields.items() if name != "at" and part is not None}


def _is_empty(value: object) -> bool:
    return value is None or value is False or value in ("", [], {})
