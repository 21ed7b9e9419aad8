"""The report shows every note beside its best examples, and is safe in a browser and in a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from annotation_server.csv_cells import FORMULA_STARTS
from annotation_server.csv_notes import read_csv
from loradash_assets.compute.interpretations import interpretations_table
from loradash_assets.schema import FEATURES
from loradash_assets.site.from_tables import layer_from_tables
from loradash_assets.site.page import Adapter, Page
from loradash_assets.site.report import report_csv, report_html
from loradash_assets.site.seen import digests
from tests.site import samples
from tests.site.hostile import HOSTILE
from tests.site.notes import note, table


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
        note("somebody's own key", "kept", unknown="not a key"),
        note("layer_99_up_proj_positive", "gone", unknown="no such feature"),
    )
    text = visible_text(report_html(page(), notes))
    unknown = text[text.index("Notes on features that no adapter here has") :]
    assert "somebody's own key Not a key kept" in unknown
    assert "layer_99_up_proj_positive No such feature gone" in unknown
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
    text = f"{start}1+1"
    labels = {text: ([text], 1)}
    written = note(text, text, unknown=text, last_modified=text, text_by=text, text_at=text, labels=labels)
    (row,) = rows(report_csv(page([[text] * 3]), table({**written, "adapter": text, "projection": text})))
    (known,) = rows(report_csv(page([[text] * 3]), table(note("layer_0_q_proj_positive", labels=labels))))
    texts = ("key", "adapter", "projection", "text", "last_modified", "text_by", "text_at", "people", "tags")
    assert [row[name] for name in (*texts, "unknown_because")] == [f"'{text}"] * 10
    assert (known["best_token"], known["best_context"][:2]) == (f"'{text}", f"'{start}")
    assert json.loads(known["labels"])[text]["tags"] == [text]
    assert known["open_questions"] == f"'{text}'s confidence is 1"


@cache
def elements(text: str) -> list[tuple[str, ...]]:
    """Return the report's elements where everything that people give is `text`."""
    content = Content()
    labels: dict[str, Any] = {text: ([text, "unclear"], 1), "other": ([], None)}
    at: dict[str, Any] = {"last_modified": text, "text_by": text, "text_at": text}
    starred = note("layer_0_q_proj_positive", f"{text}?", True, labels=labels, **at)
    for label in starred["labels"]:
        label["at"] = text
    content.feed(report_html(page([[text] * 3]), table(starred, note(text, text, unknown="not a key", **at))))
    return content.elements


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_adds_no_element(text: str) -> None:
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


def section(html: str, heading: str) -> str:
    """Return the visible text of the section that begins so."""
    (found,) = [part for part in html.split("<section>") if f"<h2>{heading}</h2>" in part]
    return visible_text(found.partition("</section>")[0])


def test_coverage_counts_panels_with_a_tag() -> None:
    notes = table(
        note("layer_0_up_proj_positive", "sums", labels={"Ann": (["dense"], 4), "Bo": (["dense"], None)}),
        note("layer_1_q_proj_positive", labels={"Ann": (["unclear"], None)}),
        note("layer_1_q_proj_negative", labels={"Ann": ([], 5)}),
    )
    text = section(report_html(page(), notes), "Coverage")
    assert "1 of 28 panels have a text. 2 have a tag." in text
    assert "1 / 2 1 tagged" in text
    assert text.count("tagged") == 2


def test_people_are_listed_with_what_they_wrote_and_when() -> None:
    notes = table(
        note("layer_0_up_proj_positive", "a", text_by="Ann", text_at="2026-01-01T00:00:00Z", labels={"Bo": ([], 1)}),
        note("layer_0_up_proj_negative", "b", text_by="Ann", text_at="2026-04-01T00:00:00Z"),
        note("layer_0_q_proj_negative", "c"),
    )
    html = report_html(page(), notes)
    text = section(html, "People")
    assert "Ann 2 0 2026-04-01T00:00:00Z Bo 0 1 2026-03-01T00:00:00Z" in text
    assert "Written by Ann, 2026-01-01T00:00:00Z" in section(html, "All other notes")
    assert "People" not in visible_text(report_html(page(), table(note("layer_0_q_proj_negative", "c"))))


def test_tags_are_counted_and_their_agreement_is_said_or_why_it_has_none() -> None:
    both: dict[str, Any] = {"Ann": (["dense"], 4), "Bo": (["dense"], 4)}
    notes = table(
        note("layer_0_up_proj_positive", labels=both),
        note("layer_0_up_proj_negative", labels={"Ann": (["dense", "unclear"], 2), "Bo": ([], 3)}),
        note("layer_0_q_proj_negative", labels={"Ann": ([], None), "Bo": ([], None)}),
        note("layer_0_q_proj_positive", labels={"Ann": (["alone"], None)}),
        note("layer_99_q_proj_positive", unknown="no such feature", labels={"Ann": (["gone"], 1), "Bo": ([], 1)}),
    )
    text = section(report_html(page(), notes), "Tags")
    assert "dense 2 Ann 2, Bo 1 0.444 over 3 features" in text  # 1 - 5 * 2 / (2 * 3 * 3): one pair in three differs
    assert "unclear 1 Ann 1 0.000 over 3 features" in text
    assert "alone 1 Ann 1 undefined: everyone says the same of every feature" in text
    assert "gone" not in text
    lonely = table(note("layer_0_q_proj_positive", labels={"Ann": (["alone"], 3)}))
    text = section(report_html(page(), lonely), "Tags")
    assert text.count("undefined: no two people judged the same feature") == 2


def test_different_tags_are_listed_with_who_said_what() -> None:
    notes = table(
        note("layer_0_up_proj_positive", labels={"Ann": (["a", "b"], 2), "Bo": (["b", "a"], 5)}),
        note("layer_1_k_proj_negative", labels={"Ann": (["a"], 2), "Bo": ([], None)}),
    )
    text = section(report_html(page(), notes), "Different tags")
    when = "2026-03-01T00:00:00Z"
    assert f"Layer 1 k_proj , negative Ann a confidence 2 of 5 {when} Bo none fits {when}" in text
    assert "up_proj" not in text


def test_who_said_only_how_sure_is_listed_as_that() -> None:
    notes = table(
        note("layer_0_up_proj_positive", "sums", labels={"Ann": (["dense"], 4), "Bo": (None, 1)}),
        note("layer_1_k_proj_negative", labels={"Ann": ([], None), "Bo": (None, 5)}),
        note("layer_1_v_proj_negative", labels={"Ann": (["dense"], None), "Bo": (["dense"], None)}),
    )
    html = report_html(page(), notes)
    assert "dense 2 Ann 2, Bo 1 undefined: everyone says the same of every feature" in section(html, "Tags")
    assert "Different tags" not in visible_text(html)
    assert "Bo confidence 1 of 5 2026-03-01T00:00:00Z" in section(html, "All other notes")
    assert "Bo 0 3" in section(html, "People")
    assert section(html, "Open questions").count("Bo's confidence is 1") == 1
    assert [json.loads(row["labels"])["Bo"].get("tags", "none said") for row in rows(report_csv(page(), notes))] == [
        *("none said", "none said"),
        ["dense"],
    ]


def test_open_questions_say_why_and_settled_notes_are_not_among_them() -> None:
    ours = page()
    shown = digests(next(iter(ours.adapters[0].layers)).projections[0].features[0].positive)
    settled = note("layer_0_v_proj_positive", "sure", labels={"Ann": (["dense"], 3)}, examples_seen=None)
    notes = table(
        settled,
        note("layer_0_q_proj_positive", "old", examples_seen=[shown[0], "00000000", "11111111"]),
        note("layer_0_q_proj_negative", "is it sums?"),
        note("layer_0_k_proj_positive", skipped=True),
        note("layer_0_k_proj_negative", labels={"Ann": (["unclear"], 2)}),
    )
    html = report_html(ours, notes)
    text = section(html, "Open questions")
    assert "q_proj , positive its examples have changed: 1 of 3 are still here" in text
    assert "q_proj , negative its text asks something" in text
    assert "k_proj , positive skipped" in text
    assert "k_proj , negative unclear to Ann Ann's confidence is 2" in text
    assert "v_proj" not in text
    assert "Its examples have changed since it was written: 1 of 3 are still here." in section(html, "All other notes")
    links = re.findall(r'href="#(note-\d+)"', html)
    assert links == [name for name in re.findall(r'<article id="(note-\d+)"', html) if name != "note-0"]
    stale = {row["key"]: (row["stale"], row["open_questions"]) for row in rows(report_csv(ours, notes))}
    assert stale["layer_0_q_proj_positive"] == ("True", "its examples have changed: 1 of 3 are still here")
    assert stale["layer_0_q_proj_negative"] == ("", "its text asks something")
    assert "Open questions" not in report_html(ours, table(settled))


@pytest.mark.parametrize(("seen", "stale"), [([0, 1], "False"), ([0], "False"), ([], "True")])
def test_half_of_the_examples_are_enough(seen: list[int], stale: str) -> None:
    ours = page()
    shown = digests(next(iter(ours.adapters[0].layers)).projections[0].features[0].positive)
    kept = [shown[number] for number in seen]
    fields: dict[str, Any] = {"examples_seen": [*kept, *["00000000", "11111111"][len(kept) :]]}
    (row,) = rows(report_csv(ours, table(note("layer_0_q_proj_positive", "x", **fields))))
    assert row["stale"] == stale


def test_an_import_of_the_csv_reads_the_notes_as_they_are(tmp_path: Path) -> None:
    stored = {
        "layer_0_q_proj_positive": {"text": "=1+1", "starred": True},
        "layer_0_q_proj_negative": {
            **{"text": "'é\n", "starred": False, "skipped": True, "lastModified": "2026-03-02T00:00:00Z"},
            **{"textBy": "-Ann", "textAt": "2026-03-01T00:00:00Z", "examplesSeen": ["0a0a0a0a", "0b0b0b0b"]},
            "labels": {"+Bo": {"tags": ["=x", "y z"], "confidence": 2, "at": "2026-03-02T00:00:00Z"}},
        },
        "somebody's own": {"text": "", "starred": False},
    }
    file = tmp_path / "interpretations.json"
    file.write_text(json.dumps({"interpretations": stored}), "utf-8")
    text = report_csv(page(), interpretations_table(file, {None: FEATURES.empty_table()}))
    assert {row.key: dict(row.fields) for row in read_csv(text)} == stored


def test_the_csv_keeps_its_columns_and_adds_what_people_said() -> None:
    fields: dict[str, Any] = {"skipped": True, "text_by": "Ann", "text_at": "2026", "examples_seen": ["0a", "0b"]}
    text = report_csv(page(), table(note("layer_0_q_proj_positive", "é", labels={"Ann": (["a", "b"], 3)}, **fields)))
    (row,) = rows(text)
    assert [*row][:18] == [
        *("key", "known", "adapter", "layer", "projection", "component", "polarity", "starred", "text"),
        *("last_modified", "best_activation", "best_token", "best_context"),
        *("mean", "std", "rms_effect", "token_omega_squared", "position_omega_squared"),
    ]
    assert (row["skipped"], row["text_by"], row["text_at"], row["people"], row["tags"], row["examples_seen"]) == (
        *("True", "Ann", "2026", "Ann", "a; b"),
        "0a 0b",
    )
    assert json.loads(row["labels"]) == {
        "Ann": {"tags": ["a", "b"], "confidence": 3, "at": "2026-03-01T00:00:00Z"},
    }
