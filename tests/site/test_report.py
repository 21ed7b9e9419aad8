"""The report shows every note beside its best examples, and is safe in a browser and in a spreadsheet."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser
from typing import Any

import pyarrow as pa
import pytest

from annotation_server.csv_cells import FORMULA_STARTS
from loradash_assets.schema import INTERPRETATIONS
from loradash_assets.site.from_tables import layer_from_tables
from loradash_assets.site.page import Adapter, Page
from loradash_assets.site.report import report_csv, report_html
from tests.site import samples
from tests.site.hostile import HOSTILE


def note(key: str, text: str = "", starred: bool = False, known: bool = True, **fields: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("adapter", "layer", "projection", "component", "polarity", "last_modified"))
    return {**empty, "key": key, "text": text, "starred": starred, "known": known, **fields}


def table(*notes: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(notes), INTERPRETATIONS)


def page(tokens: list[list[str]] | None = None) -> Page:
    return samples.page([samples.layer_tables(layer, tokens or samples.texts(2)) for layer in range(2)])


class Content(HTMLParser):
    """Collects the texts and, per element, its name with its attributes' names; classes may depend on the text."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.elements: list[tuple[str, ...]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, *sorted(name for name, _ in attrs if name != "class")))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def visible_text(html: str) -> str:
    content = Content()
    content.feed(re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL))
    return re.sub(r"\s+", " ", " ".join(content.texts))


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_coverage_counts_panels_with_a_text() -> None:
    text = visible_text(
        report_html(
            page(),
            table(
                note("layer_0_up_proj_positive", "sums"),
                note("layer_0_up_proj_negative", "units"),
                note("layer_1_q_proj_negative", "names"),
                note("layer_1_q_proj_positive", "  ", starred=True),
            ),
        )
    )
    assert "3 of 28 panels have a text." in text
    assert "Layer 0 0 / 2 0 / 2 0 / 2 0 / 2 0 / 2 2 / 2 0 / 2" in text
    assert "Layer 1 1 / 2 0 / 2" in text


def test_starred_notes_come_first_with_their_best_examples() -> None:
    ours = page()
    text = visible_text(
        report_html(
            ours, table(note("layer_0_up_proj_negative", "plain"), note("layer_1_k_proj_positive", "seen", True))
        )
    )
    best = list(ours.adapters[0].layers)[1].projections[1].features[0].positive[0]
    starred = text[text.index("Starred") : text.index("All other notes")]
    assert "Layer 1 k_proj , positive" in starred
    assert "seen" in starred
    statistics = list(ours.adapters[0].layers)[1].projections[1].features[0].statistics
    assert f"std {statistics.std:.4g} · RMS effect {statistics.rms_effect:.4g} · token alone explains 63%" in starred
    assert f"{best.activation:#.4g}" in starred
    assert "plain" in text[text.index("All other notes") :]
    assert "no adapter here" not in text


def test_unknown_keys_are_reported() -> None:
    notes = table(
        note("somebody's own key", "kept", known=False), note("layer_99_up_proj_positive", "gone", known=False)
    )
    text = visible_text(report_html(page(), notes))
    unknown = text[text.index("Notes on features that no adapter here has") :]
    assert "somebody's own key kept" in unknown
    assert "layer_99_up_proj_positive gone" in unknown
    assert [row["key"] for row in rows(report_csv(page(), notes))] == [
        "somebody's own key",
        "layer_99_up_proj_positive",
    ]


def test_the_csv_joins_notes_with_best_examples() -> None:
    ours = page()
    fields: dict[str, Any] = {
        "layer": 0,
        "projection": "up_proj",
        "polarity": "negative",
        "last_modified": "2024-01-20T10:30:00Z",
    }
    (row,) = rows(report_csv(ours, table(note("layer_0_up_proj_negative", 'say "two",\nthen stop', True, **fields))))
    best = next(iter(ours.adapters[0].layers)).projections[5].features[0].negative[0]
    assert row["text"] == 'say "two",\nthen stop'
    assert (row["layer"], row["component"], row["starred"]) == ("0", "", "True")
    assert float(row["best_activation"]) == best.activation < 0
    assert row["best_token"].lstrip("'") == best.tokens[best.target]
    statistics = next(iter(ours.adapters[0].layers)).projections[5].features[0].statistics
    for name in ("mean", "std", "rms_effect", "token_omega_squared", "position_omega_squared"):
        assert float(row[name]) == getattr(statistics, name)


@pytest.mark.parametrize("start", FORMULA_STARTS)
def test_a_cell_that_begins_like_a_formula_is_made_text(start: str) -> None:
    (row,) = rows(report_csv(page(), table(note(f"{start}key", f"{start}1+1", known=False))))
    assert (row["key"], row["text"]) == (f"'{start}key", f"'{start}1+1")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_adds_no_element(text: str) -> None:
    def elements(text: str) -> list[tuple[str, ...]]:
        content = Content()
        notes = table(note("layer_0_q_proj_positive", text, True), note(text, text, known=False, last_modified=text))
        content.feed(report_html(page([[text] * 3]), notes))
        return content.elements

    assert elements(text) == elements("plain")


def test_the_same_notes_give_the_same_bytes() -> None:
    notes = table(note("layer_0_q_proj_positive", "a"))
    assert report_html(page(), notes) == report_html(page(), notes)
    assert report_csv(page(), notes) == report_csv(page(), notes)


def test_several_adapters_are_told_apart() -> None:
    first = page().adapters[0]
    layer = layer_from_tables(samples.layer_tables(3, samples.texts(2), projections=("up_proj",)), "step-200")
    ours = Page("two", (first, Adapter("step-200", "step-200", {}, (layer,))))
    notes = table(
        note("step-200/layer_3_up_proj_positive", "digits", adapter="step-200"),
        note("layer_0_up_proj_positive", "words"),
    )
    text = visible_text(report_html(ours, notes))
    coverage = text[: text.index("Starred")]
    assert "adapter 1 of 28 panels have a text." in coverage
    assert "step-200 1 of 2 panels have a text. Layer up_proj Layer 3 1 / 2" in coverage
    assert "step-200: Layer 3 up_proj , positive digits" in text
    assert "adapter: Layer 0 up_proj , positive words" in text
    best = layer.projections[0].features[0].positive[0]
    assert [row["adapter"] for row in rows(report_csv(ours, notes))] == ["step-200", ""]
    assert float(rows(report_csv(ours, notes))[0]["best_activation"]) == best.activation
