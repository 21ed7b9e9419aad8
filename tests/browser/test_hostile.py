"""Text from models, datasets and people is shown as it is and never runs; control pages show that we would see it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from msgspec.structs import replace
from playwright.sync_api import expect

from loradash_assets.schema import POLARITIES, Polarity
from loradash_assets.site import build
from loradash_assets.site.build import render_dashboard
from loradash_assets.site.environment import environment
from loradash_assets.site.files import save_dashboard
from loradash_assets.site.page import (
    Adapter,
    Cosine,
    Example,
    Feature,
    Layer,
    Neighbour,
    Neighbours,
    Note,
    Page,
    Projection,
    Statistics,
    Text,
)
from loradash_assets.site.report import report_html
from tests.browser.conftest import Open, Visit
from tests.site.hostile import HOSTILE, RUN
from tests.site.notes import note, table


def hostile_page(texts: tuple[str, ...] = HOSTILE) -> tuple[Page, dict[str, Note]]:
    """Return a page with each text as a projection, a top token, a note, an adapter and a name in every other place.

    The texts are also the tokens of the one row of the dataset. The first feature has a window that holds them all and
    one that holds the first alone, and all features are its neighbours; feature `n` has text `n` as its top token.
    """
    whole = _example(0, texts)
    features = [_feature(name, (_example(place, texts[place : place + 1]),)) for place, name in enumerate(texts)]
    alike = tuple(Neighbour(0, name, None, 0.5) for name in texts)
    first = replace(features[0], positive=(whole, *features[0].positive), neighbours=Neighbours(alike, alike, alike))
    layer = Layer(
        0,
        tuple(Projection(each.projection, (each,)) for each in (first, *features[1:])),
        tuple(Cosine(name, texts[0], 0.5) for name in texts),
    )
    adapter = Adapter(None, texts[0], {f"{text} ": text for text in texts}, (layer,), texts)
    others = [Adapter(f"a {text}", text, {}, ()) for text in texts]
    page = Page(" ".join(texts), (adapter, *others), {0: Text(texts, range(len(texts)))})
    return page, {each.keys["positive"]: Note(each.projection, False, each.projection) for each in features}


def _feature(name: str, positive: tuple[Example, ...]) -> Feature:
    keys: dict[Polarity, str] = {polarity: f"layer_0_{name}_{polarity}" for polarity in POLARITIES}
    return Feature(0, name, None, keys, Statistics(-1.0, 2.0, count=1), positive, ())


def _example(place: int, window: tuple[str, ...]) -> Example:
    return Example(2.0, 0, place, None, window, tuple(2.0 for _ in window), 0, 1)


def typed(text: str) -> str:
    """Return what a text field makes of a text: line feeds only."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def attacked(visit: Visit) -> bool:
    return visit.page.evaluate("window.attacked === 1")


def assert_clean(visit: Visit) -> None:
    """Nothing of a text has run, been asked for or been stopped by the policy."""
    visit.settled()
    assert not attacked(visit)
    assert (visit.requests, visit.problems, visit.violations()) == ([], [], [])


@pytest.fixture(scope="module", params=["one file", "split"])
def hostile(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of all hostile strings, in one file, and with files beside it."""
    file = tmp_path_factory.mktemp("hostile") / "hostile.html"
    save_dashboard(*hostile_page(), file, largest=0 if request.param == "split" else 10**9)
    return file


def test_the_strings_are_many_and_differ() -> None:
    assert len(HOSTILE) == len(set(HOSTILE)) >= 200


def test_a_layer_shows_hostile_text_exactly_and_nothing_runs(visit: Open, hostile: Path) -> None:
    opened = visit(hostile)
    opened.ready().evaluate("(all) => localStorage.setItem('loradash:columns', JSON.stringify(all))", list(HOSTILE))
    opened.page.reload()
    page = opened.ready()
    opened.settled()
    examples = page.locator(".panel.positive").first.locator("li[data-example]")
    while examples.nth(1).locator(".token").count() < len(HOSTILE):
        examples.nth(1).locator(".wider").click()
    shown = {
        "tokens": examples.first.locator(".token").all_text_contents(),
        "whole example": examples.nth(1).locator(".token").all_text_contents(),
        "projections": page.locator(".column h2 > a").all_text_contents(),
        "choices": page.locator("#columns label").all_text_contents(),
        "metadata": page.locator("#metadata dd").all_text_contents(),
        "labels of metadata": [text[:-1] for text in page.locator("#metadata dt").all_text_contents()],
        "warnings": page.locator("#warnings p").all_text_contents(),
        "cosines": page.locator("#cosines tbody th").all_text_contents(),
        "adapters": page.locator("#adapter option").all_text_contents()[1:],
    }
    assert shown == {place: list(HOSTILE) for place in shown}
    assert page.locator("h1").text_content() == " ".join(HOSTILE)
    notes = page.locator(".panel.positive textarea").evaluate_all("(areas) => areas.map((area) => area.value)")
    assert notes == [typed(text) for text in HOSTILE]
    page.locator("textarea").first.fill("".join(HOSTILE))
    tooltips = examples.first.evaluate(
        """(item) => [...item.querySelectorAll(".token")].map((token) => {
          token.focus();
          return document.querySelector("#tooltip p").textContent;
        })"""
    )
    assert tooltips == list(HOSTILE)
    assert_clean(opened)


def test_the_overview_shows_and_finds_hostile_text_and_nothing_runs(visit: Open, hostile: Path) -> None:
    opened = visit(f"{hostile.as_uri()}#view=overview&sort=feature&order=asc")
    page = opened.ready()
    page.locator(".tops .top").first.wait_for()
    rows: dict[int, list[str]] = {}
    for top in range(0, 34 * len(HOSTILE), 500):
        page.locator(".scroller").evaluate("(node, top) => { node.scrollTop = top; }", top)
        opened.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        cells = page.locator(".rows .row").evaluate_all(
            """(rows) => rows.map((row) => {
              const cells = [".feature", ".top:last-child", ".note-cell"].map((each) => row.querySelector(each));
              return [Number(row.ariaRowIndex) - 2, ...cells.map((cell) => cell.textContent)];
            })"""
        )
        rows |= {place: texts for place, *texts in cells}
    trimmed: list[str] = page.evaluate("(all) => all.map((text) => text.trim())", list(HOSTILE))
    expected = [
        [f"L0 {text}", short or text, text if short else ""] for text, short in zip(HOSTILE, trimmed, strict=True)
    ]
    assert [rows[place] for place in range(1, len(HOSTILE))] == expected[1:]
    assert page.locator(".map tbody th").all_text_contents() == list(HOSTILE)
    assert page.locator("#filter-projection option").all_text_contents()[1:] == list(HOSTILE)
    found: list[bool] = page.evaluate(
        """(all) => all.map((text) => {
          const field = document.querySelector("#search");
          field.value = text;
          field.dispatchEvent(new Event("input"));
          return field.value !== text || !document.querySelector(".tally").textContent.startsWith("0 of");
        })""",
        list(HOSTILE),
    )
    assert all(found)
    assert_clean(opened)


# Goes to addresses one after the other; returns the texts of some places and the title at each.
WALK = """async ([addresses, places]) => {
  const seen = [];
  for (const address of addresses) {
    const before = location.hash;
    location.hash = address;
    if (location.hash === before) continue; // an address takes no line feeds: it says what the one before said
    await new Promise((done) => addEventListener("hashchange", done, { once: true }));
    await new Promise((done) => setTimeout(done, 5));
    seen.push([...places, "title"].map((place) => document.querySelector(place)?.textContent));
  }
  return seen;
}"""


def test_features_and_their_neighbours_have_their_names_and_nothing_runs(visit: Open, hostile: Path) -> None:
    opened = visit(f"{hostile.as_uri()}#layer=0&projection={quote(HOSTILE[0], safe='')}")
    page = opened.ready()
    for part in page.locator(".neighbours").all():
        assert part.locator("a").all_text_contents() == [f"L0 {text}" for text in HOSTILE]
    links = page.locator(".neighbours").first.locator("a").evaluate_all("(links) => links.map((link) => link.hash)")
    seen = page.evaluate(WALK, [links[1:], [".about-feature h2", ".frequent li:last-child .top"]])
    title = " ".join(HOSTILE)
    assert seen == [[f"Layer 0 {text}", text, f"Layer 0, {text} · {title}"] for text in HOSTILE[1:]]
    assert_clean(opened)


def test_the_queue_shows_hostile_text_exactly_and_nothing_runs(visit: Open, hostile: Path) -> None:
    opened = visit(f"{hostile.as_uri()}#view=queue&sort=feature&order=asc")
    page = opened.ready()
    order = "view=queue&sort=feature&order=asc&index="
    addresses = [f"{order}{index}" for index in range(2, len(HOSTILE) + 1)]
    seen = page.evaluate(WALK, [addresses, [".writing h2 a"]])
    assert seen == [[f"Layer 0, {text}", f"Queue · {' '.join(HOSTILE)}"] for text in HOSTILE[1:]]
    assert page.locator(".writing textarea").input_value() == typed(HOSTILE[-1])
    page.evaluate(WALK, [[f"{order}1"], []])
    tokens = page.locator(".queue-panel li").first.locator(".token")
    assert tokens.all_text_contents() == list(HOSTILE)
    page.locator("#queue-blind").check()
    expect(page.locator(".wider")).to_have_count(0)
    assert_clean(opened)


def test_adapters_of_hostile_names_are_in_the_address_and_nothing_runs(visit: Open, hostile: Path) -> None:
    opened = visit(hostile)
    adapters = opened.ready().evaluate(
        """async (number) => {
          const select = document.querySelector("#adapter");
          const names = [];
          for (let place = 1; place <= number; place += 1) {
            select.value = String(place);
            select.dispatchEvent(new Event("change"));
            await new Promise(requestAnimationFrame);
            names.push(new URLSearchParams(location.hash.slice(1)).get("adapter"));
          }
          return names;
        }""",
        len(HOSTILE),
    )
    assert adapters == [f"a {text}" for text in HOSTILE]
    assert_clean(opened)


def test_an_address_of_hostile_text_is_only_an_address(visit: Open, tmp_path: Path) -> None:
    file = tmp_path / "small.html"
    save_dashboard(*hostile_page(HOSTILE[:4]), file, largest=10**9)
    opened = visit(file)
    page = opened.ready()
    names = (
        "adapter",
        "layer",
        "projection",
        "component",
        "example",
        "position",
        "show",
        "view",
        "q",
        "sort",
        "seed",
        "index",
    )
    views = [
        {},
        {"view": "overview"},
        {"view": "queue"},
        {"view": "queue", "blind": "1"},
        {"layer": "0", "projection": HOSTILE[0]},
    ]
    turns = [(views[turn % len(views)], text) for turn, text in enumerate(HOSTILE)]
    page.evaluate(WALK, [[urlencode({**dict.fromkeys(names, text), **view}) for view, text in turns], []])
    page.evaluate(WALK, [[f"{urlencode(view)}&{text}" for view, text in turns], []])
    assert_clean(opened)


def test_the_report_shows_hostile_text_and_nothing_runs(visit: Open, tmp_path: Path) -> None:
    page, _ = hostile_page()
    rows: list[dict[str, Any]] = []
    for text in HOSTILE:
        said: dict[str, Any] = {
            **dict.fromkeys(("last_modified", "text_by", "text_at"), text),
            "labels": {text: ([text], 1)},
        }
        rows += [
            note(f"layer_0_{text}_positive", text, True, **said),
            note(text, text, True, unknown="not a key", **said),
        ]
    path = tmp_path / "report.html"
    path.write_text(report_html(page, table(*rows)), "utf-8")
    opened = visit(path)
    opened.settled()
    texts = opened.page.locator("article .text").all_text_contents()
    plain = [text for text in HOSTILE if text.isascii() and text.isprintable()]
    assert len(texts) == 2 * len(HOSTILE)
    assert len(plain) > 50
    assert [text for text in texts if text in plain] == 2 * plain
    for place in (".labels b", ".labels .tag", ".people th", ".tags th"):
        shown = opened.page.locator(place).all_text_contents()
        assert set(plain) <= set(shown), place
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
