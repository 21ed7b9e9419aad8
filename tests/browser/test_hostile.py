"""Text from models, datasets and people is shown as it is and never runs; control pages show that we would see it."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest

from loradash_assets.schema import INTERPRETATIONS, POLARITIES, Polarity
from loradash_assets.site import build
from loradash_assets.site.build import render_dashboard
from loradash_assets.site.environment import environment
from loradash_assets.site.page import Adapter, Cosine, Example, Feature, Layer, Note, Page, Projection, Statistics
from loradash_assets.site.report import report_html
from tests.browser.conftest import Open, Visit
from tests.site.hostile import HOSTILE, RUN


def hostile_page(texts: tuple[str, ...] = HOSTILE) -> tuple[Page, dict[str, Note]]:
    """Return a page with a projection and a note per hostile string, and all of them as tokens of the first."""
    example = Example(2.0, 0, 0, 1, texts, tuple(2.0 for _ in texts), 0, 1)
    statistics = Statistics(-1.0, 2.0, count=1)
    features = [Feature(0, name, None, _keys(name), statistics, (), ()) for name in texts]
    features[0] = Feature(0, texts[0], None, features[0].keys, statistics, (example,), (example,))
    layer = Layer(
        0,
        tuple(Projection(feature.projection, (feature,)) for feature in features),
        tuple(Cosine(name, texts[0], 0.5) for name in texts),
    )
    first = Adapter(None, texts[0], {f"{text} ": text for text in texts}, (layer,), texts)
    others = [Adapter(f"other{place}", text, {}, ()) for place, text in enumerate(texts)]
    page = Page(" ".join(texts), (first, *others))
    return page, {feature.keys["positive"]: Note(feature.projection, False, feature.projection) for feature in features}


def _keys(name: str) -> dict[Polarity, str]:
    return {polarity: f"layer_0_{name}_{polarity}" for polarity in POLARITIES}


def typed(text: str) -> str:
    """Return what a text field makes of a text: line feeds only."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def show_all(visit: Visit) -> Visit:
    """Have every projection shown."""
    visit.ready().evaluate("(names) => localStorage.setItem('loradash:columns', JSON.stringify(names))", list(HOSTILE))
    visit.page.reload()
    visit.ready()
    visit.settled()
    return visit


def attacked(visit: Visit) -> bool:
    return visit.page.evaluate("window.attacked === 1")


def test_hostile_text_is_shown_exactly_everywhere_and_nothing_runs(visit: Open, tmp_path: Path) -> None:
    path = tmp_path / "hostile.html"
    path.write_text(render_dashboard(*hostile_page()), "utf-8")
    opened = show_all(visit(path))
    page = opened.page
    shown = {
        "tokens": page.locator("li").filter(has=page.locator(".context")).first.locator(".token").all_text_contents(),
        "projections": page.locator(".column h2 > a").all_text_contents(),
        "choices": page.locator("#columns label").all_text_contents(),
        "metadata": page.locator("#metadata dd").all_text_contents(),
        "warnings": page.locator("#warnings p").all_text_contents(),
        "cosines": page.locator("#cosines tbody th").all_text_contents(),
    }
    assert shown == {place: list(HOSTILE) for place in shown}
    assert page.locator("h1").text_content() == " ".join(HOSTILE)
    notes = page.locator(".panel.positive textarea").evaluate_all("(areas) => areas.map((area) => area.value)")
    assert notes == [typed(text) for text in HOSTILE]
    page.locator("textarea").first.fill("".join(HOSTILE))
    page.locator(".context .token").nth(3).hover()
    assert page.locator("#tooltip p").text_content() == HOSTILE[3]
    opened.settled()
    assert not attacked(opened)
    assert (opened.requests, opened.problems, opened.violations()) == ([], [], [])


def test_the_report_shows_hostile_text_and_nothing_runs(visit: Open, tmp_path: Path) -> None:
    page, _ = hostile_page()
    rows = [
        {"key": key, "known": known, "text": text, "starred": True, "last_modified": text}
        for text in HOSTILE
        for key, known in ((f"layer_0_{text}_positive", True), (text, False))
    ]
    path = tmp_path / "report.html"
    path.write_text(report_html(page, pa.Table.from_pylist(rows, INTERPRETATIONS)), "utf-8")
    opened = visit(path)
    opened.settled()
    texts = opened.page.locator("article .text").all_text_contents()
    plain = [text for text in HOSTILE if text.isascii() and text.isprintable()]
    assert len(texts) == 2 * len(HOSTILE)
    assert len(plain) > 50
    assert [text for text in texts if text in plain] == 2 * plain
    assert not attacked(opened)
    assert (opened.requests, opened.problems, opened.violations()) == ([], [], [])


def unescaped(html: str) -> str:
    """Return the page with its policy taken out and its one way of adding text made to parse HTML."""
    html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
    safe = "made.append(...children);"
    assert html.count(safe) == 2
    parse = 'if (typeof each === "string") made.insertAdjacentHTML("beforeend", each); else made.append(each);'
    return html.replace(safe, f"for (const each of children) {{ {parse} }}")


def test_control_a_script_that_parses_text_as_html_is_caught(visit: Open, tmp_path: Path) -> None:
    path = tmp_path / "unescaped.html"
    path.write_text(unescaped(render_dashboard(*hostile_page(tuple(text for text in HOSTILE if RUN in text)))), "utf-8")
    opened = visit(path)
    opened.settled()
    assert attacked(opened)


def test_control_a_script_that_parses_text_as_html_is_stopped_by_the_policy(visit: Open, tmp_path: Path) -> None:
    html = render_dashboard(*hostile_page())
    path = tmp_path / "stopped.html"
    path.write_text(html.replace(">Reading the data…", f"><img src=x onerror='{RUN}'>"), "utf-8")
    opened = visit(path)
    opened.settled()
    assert not attacked(opened)
    assert opened.violations() or opened.problems


@pytest.mark.parametrize("policy", [True, False])
def test_control_templates_without_autoescape_are_caught(
    visit: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: bool
) -> None:
    careless = environment().overlay(autoescape=False)
    monkeypatch.setattr(build, "environment", lambda: careless)
    html = render_dashboard(Page(f"</title><script>{RUN}</script>", ()), {})
    path = tmp_path / "raw.html"
    path.write_text(html if policy else unescaped(html), "utf-8")
    opened = visit(path)
    opened.settled()
    assert attacked(opened) is not policy
    if policy:
        assert opened.violations() or opened.problems
