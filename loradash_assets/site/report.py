"""The interpretation report: every note beside its feature's best examples, and how much has been annotated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from annotation_server.csv_cells import csv_text
from loradash_assets.schema import OUTSIDE_LAYERS, POLARITIES, Polarity
from loradash_assets.site.environment import csp_hash, environment, source
from loradash_assets.site.page import Adapter, Example, Feature, Note, Page

STYLES = ("css/theme.css", "css/layout.css", "css/tokens.css", "css/report.css", "css/print.css")
EXAMPLES_SHOWN = 3
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
CSV_COLUMNS = NOTE_COLUMNS + EXAMPLE_COLUMNS + STATISTICS_COLUMNS


@dataclass(frozen=True)
class Subject:
    """What a note is about."""

    adapter: Adapter
    feature: Feature
    polarity: Polarity


@dataclass(frozen=True)
class Entry:
    """One note; `subject` is None if the page has no such feature."""

    key: str
    known: bool
    note: Note
    subject: Subject | None

    @property
    def examples(self) -> tuple[Example, ...]:
        """The best examples that the report shows."""
        if self.subject is None:
            return ()
        return self.subject.feature.examples(self.subject.polarity)[:EXAMPLES_SHOWN]

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


@dataclass(frozen=True)
class Coverage:
    """How many panels (two per feature) have a text."""

    done: int
    total: int


@dataclass(frozen=True)
class AdapterCoverage:
    """One adapter's coverage, in all and by layer and projection; `names` are its projections."""

    label: str
    names: Sequence[str]
    total: Coverage
    layers: Mapping[int, Mapping[str, Coverage]]


def report_html(page: Page, interpretations: pa.Table) -> str:
    """Return the report as one HTML file without script, from notes with the schema INTERPRETATIONS."""
    entries, style = _entries(page, interpretations), source(STYLES)
    annotated = {entry.key for entry in entries if entry.note.text.strip()}
    template = environment().get_template("report.html")
    return template.render(
        title=page.title,
        policy=f"default-src 'none'; style-src {csp_hash(style)}; img-src data:; base-uri 'none'; form-action 'none'",
        style=style,
        adapters=[_coverage(adapter, annotated) for adapter in page.adapters],
        starred=[entry for entry in entries if entry.known and entry.note.starred],
        others=[entry for entry in entries if entry.known and not entry.note.starred],
        unknown=[entry for entry in entries if not entry.known],
        layer_name=layer_name,
    )


def report_csv(page: Page, interpretations: pa.Table) -> str:
    """Return the report as CSV, safe for spreadsheet programs, one note per row in the order of the table."""
    rows: list[Sequence[object]] = [CSV_COLUMNS]
    for row, entry in zip(interpretations.to_pylist(), _entries(page, interpretations), strict=True):
        best = entry.examples[0] if entry.examples else None
        cells = [row.get(name) for name in NOTE_COLUMNS]
        cells += (
            [best.activation, best.tokens[best.target], "".join(best.tokens)] if best else [None] * len(EXAMPLE_COLUMNS)
        )
        statistics = entry.subject.feature.statistics if entry.subject else None
        cells += [getattr(statistics, name, None) for name in STATISTICS_COLUMNS]
        rows.append(cells)
    return csv_text(rows)


def layer_name(index: int) -> str:
    """Return how a layer is called."""
    return "Outside the layers" if index == OUTSIDE_LAYERS else f"Layer {index}"


def _entries(page: Page, interpretations: pa.Table) -> list[Entry]:
    """Return the notes in the table's order, each with its feature."""
    subjects = {
        feature.keys[polarity]: Subject(adapter, feature, polarity)
        for adapter, feature in page.features()
        for polarity in POLARITIES
    }
    return [
        Entry(row["key"], row["known"], _note(row), subjects.get(row["key"])) for row in interpretations.to_pylist()
    ]


def _note(row: Mapping[str, Any]) -> Note:
    return Note(row["text"], row["starred"], row["last_modified"])


def _coverage(adapter: Adapter, annotated: set[str]) -> AdapterCoverage:
    return AdapterCoverage(
        adapter.label,
        list(dict.fromkeys(projection.name for layer in adapter.layers for projection in layer.projections)),
        _count(adapter.features(), annotated),
        {
            layer.index: {projection.name: _count(projection.features, annotated) for projection in layer.projections}
            for layer in adapter.layers
        },
    )


def _count(features: Iterable[Feature], annotated: set[str]) -> Coverage:
    keys = [feature.keys[polarity] for feature in features for polarity in POLARITIES]
    return Coverage(sum(key in annotated for key in keys), len(keys))
