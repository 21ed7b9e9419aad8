"""The interpretation report: every note beside its feature's best examples, how much has been annotated, how far people
agree, and what is open.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from annotation_server.csv_cells import csv_text
from loradash_assets.schema import OUTSIDE_LAYERS
from loradash_assets.site.agreement import confidence_agreement, disagree, tags
from loradash_assets.site.coverage import coverage
from loradash_assets.site.entries import Entry, entries
from loradash_assets.site.environment import csp_hash, environment, source
from loradash_assets.site.page import Page

STYLES = ("css/theme.css", "css/layout.css", "css/tokens.css", "css/report.css", "css/print.css")
NOTE_COLUMNS = (
    "key",
    "known",
    "adapter",
    "layer",
    "projection",
    "component",
    "polarity",
    "starred",
    "text",
    "last_modified",
)
EXAMPLE_COLUMNS = ("best_activation", "best_token", "best_context")
STATISTICS_COLUMNS = ("mean", "std", "rms_effect", "token_omega_squared", "position_omega_squared")
PEOPLE_COLUMNS = ("skipped", "text_by", "text_at", "people", "tags", "labels", "examples_seen")
OPEN_COLUMNS = ("unknown_because", "stale", "open_questions")
CSV_COLUMNS = NOTE_COLUMNS + EXAMPLE_COLUMNS + STATISTICS_COLUMNS + PEOPLE_COLUMNS + OPEN_COLUMNS


@dataclass(frozen=True)
class Person:
    """What one person contributed, and when last (ISO 8601)."""

    name: str
    texts: int
    labels: int
    last: str | None


def report_html(page: Page, interpretations: pa.Table) -> str:
    """Return the report as one HTML file without script, from notes with the schema INTERPRETATIONS."""
    every, style = entries(page, interpretations), source(STYLES)
    known = [entry for entry in every if entry.unknown_because is None]
    noted = {entry.key for entry in every if entry.note.text.strip()}
    tagged = {entry.key for entry in every if any(label.tags for label in entry.note.labels.values())}
    labelled = [entry.note.labels for entry in known]
    template = environment().get_template("report.html")
    return template.render(
        title=page.title,
        policy=f"default-src 'none'; style-src {csp_hash(style)}; img-src data:; base-uri 'none'; form-action 'none'",
        style=style,
        adapters=[coverage(adapter, noted, tagged) for adapter in page.adapters],
        people=people(every),
        tags=tags(labelled),
        confidence=confidence_agreement(labelled),
        disagreements=[entry for entry in known if disagree(entry.note.labels)],
        open=[entry for entry in known if entry.questions],
        starred=[entry for entry in known if entry.note.starred],
        others=[entry for entry in known if not entry.note.starred],
        unknown=[entry for entry in every if entry.unknown_because is not None],
        layer_name=layer_name,
    )


def report_csv(page: Page, interpretations: pa.Table) -> str:
    """Return the report as CSV, safe for spreadsheet programs, one note per row in the order of the table."""
    rows: list[Sequence[object]] = [CSV_COLUMNS]
    for row, entry in zip(interpretations.to_pylist(), entries(page, interpretations), strict=True):
        best = entry.examples[0] if entry.examples else None
        cells = [row[name] for name in NOTE_COLUMNS]
        cells += (
            [best.activation, best.tokens[best.target], "".join(best.tokens)] if best else [None] * len(EXAMPLE_COLUMNS)
        )
        statistics = entry.subject.feature.statistics if entry.subject else None
        cells += [getattr(statistics, name, None) for name in STATISTICS_COLUMNS]
        cells += _of_people(row, entry)
        cells += [entry.unknown_because, None if entry.seen is None else entry.seen.stale, "; ".join(entry.questions)]
        rows.append(cells)
    return csv_text(rows)


def _of_people(row: Mapping[str, Any], entry: Entry) -> list[object]:
    """Return their cells, those of an entry's fields as an import reads them."""
    fields = entry.note.fields()
    labels = fields.get("labels")
    return [
        *(fields.get(name) for name in ("skipped", "textBy", "textAt")),
        "; ".join(row["people"]),
        "; ".join(row["tags"]),
        labels and json.dumps(labels, ensure_ascii=False),
        " ".join(entry.note.examples_seen or ()),
    ]


def layer_name(index: int) -> str:
    """Return how a layer is called."""
    return "Outside the layers" if index == OUTSIDE_LAYERS else f"Layer {index}"


def people(every: Sequence[Entry]) -> list[Person]:
    """Return everyone who left a name, in the order of the notes."""
    texts = [(entry.note.text_by, entry.note.text_at) for entry in every if entry.note.text_by is not None]
    labels = [(person, label.at) for entry in every for person, label in entry.note.labels.items()]
    return [
        Person(
            name,
            sum(writer == name for writer, _ in texts),
            sum(person == name for person, _ in labels),
            max((at for person, at in [*texts, *labels] if person == name and at is not None), default=None),
        )
        for name in dict.fromkeys(person for person, _ in [*texts, *labels])
    ]
