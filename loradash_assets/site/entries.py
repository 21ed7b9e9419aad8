"""The notes as the report has them: each with the feature that it is about, and what a reader should look at again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from annotation_server import document
from annotation_server.document import Label
from loradash_assets.schema import POLARITIES, Polarity
from loradash_assets.site.page import Adapter, Example, Feature, Note, Page
from loradash_assets.site.seen import Seen, digests, still_seen

EXAMPLES_SHOWN = 3
UNCLEAR = "unclear"  # the tag
UNSURE = 2  # the highest confidence that leaves a question
QUESTION_MARKS = ("?", "？")


@dataclass(frozen=True)
class Subject:
    """What a note is about."""

    adapter: Adapter
    feature: Feature
    polarity: Polarity

    @property
    def examples(self) -> tuple[Example, ...]:
        """The panel's examples, the most extreme first."""
        return self.feature.examples(self.polarity)


@dataclass(frozen=True)
class Entry:
    """One note. `unknown_because` is None if an adapter has its feature; `subject` is None if the page has not."""

    number: int  # from 0, in the order of the notes
    key: str
    unknown_because: str | None
    note: Note
    subject: Subject | None

    @property
    def examples(self) -> tuple[Example, ...]:
        """The best examples that the report shows."""
        return () if self.subject is None else self.subject.examples[:EXAMPLES_SHOWN]

    @cached_property
    def seen(self) -> Seen | None:
        """How many of the examples that the text was written on are still there; None where that is not known."""
        if self.subject is None or not self.note.examples_seen or not self.note.text.strip():
            return None
        return still_seen(self.note.examples_seen, digests(self.subject.examples))

    @property
    def numbers(self) -> list[str]:
        """What the report says of the feature's activations over all tokens; nothing where the source knows nothing."""
        if self.subject is None:
            return []
        statistics = self.subject.feature.statistics
        shown = [
            ("mean {:.4g}", statistics.mean),
            ("std {:.4g}", statistics.std),
            ("RMS effect {:.4g}", statistics.rms_effect),
            ("token alone explains {:.0%}", statistics.token_omega_squared),
            ("position alone explains {:.0%}", statistics.position_omega_squared),
        ]
        return [form.format(value) for form, value in shown if value is not None]

    @property
    def questions(self) -> list[str]:
        """Why somebody should look at the note again; nothing if nobody has to."""
        return [*self._questions()]

    def _questions(self) -> Iterator[str]:
        note = self.note
        if note.skipped:
            yield "skipped"
        if any(mark in note.text for mark in QUESTION_MARKS):
            yield "its text asks something"
        for person, label in note.labels.items():
            if UNCLEAR in (label.tags or ()):
                yield f"{UNCLEAR} to {person}"
            if label.confidence is not None and label.confidence <= UNSURE:
                yield f"{person}'s confidence is {label.confidence}"
        if self.seen is not None and self.seen.stale:
            yield f"its examples have changed: {self.seen.here} of {self.seen.total} are still here"


def entries(page: Page, interpretations: pa.Table) -> list[Entry]:
    """Return the notes of a table with the schema INTERPRETATIONS in its order, each with its feature."""
    subjects = {
        feature.keys[polarity]: Subject(adapter, feature, polarity)
        for adapter, feature in page.features()
        for polarity in POLARITIES
    }
    return [
        Entry(number, row["key"], row["unknown_because"], note_of_row(row), subjects.get(row["key"]))
        for number, row in enumerate(interpretations.to_pylist())
    ]


def note_of_row(row: Mapping[str, Any]) -> Note:
    """Return the note in a row of a table with the schema INTERPRETATIONS."""
    seen = row["examples_seen"]
    return Note(
        text=row["text"],
        starred=row["starred"],
        last_modified=row["last_modified"],
        skipped=row["skipped"],
        text_by=row["text_by"],
        text_at=row["text_at"],
        examples_seen=None if seen is None else tuple(seen),
        labels={label["person"]: _label_of_row(label) for label in row["labels"]},
    )


def _label_of_row(row: Mapping[str, Any]) -> Label:
    tags = row["tags"]
    return Label(None if tags is None else tuple(tags), row["confidence"], row["at"])


def note_of_entry(entry: document.Entry) -> Note:
    """Return the note in an entry of the notes file."""
    return Note(
        text=entry.text,
        starred=entry.starred,
        last_modified=entry.last_modified,
        skipped=entry.skipped,
        text_by=entry.text_by,
        text_at=entry.text_at,
        examples_seen=entry.examples_seen,
        labels=entry.labels,
    )
