"""The queue, blind: nothing in the document, the address or the picture tells which feature it is, which polarity."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Generator
from pathlib import Path

import pytest
from msgspec.structs import replace
from playwright.sync_api import Page, expect

from loradash_assets.site.page import Adapter, Example, Layer, Neighbours, Projection
from loradash_assets.site.page import Page as Dashboard
from tests.annotation_server.service import Service, running
from tests.browser.conftest import Open, press
from tests.browser.pages import features_of, rich_page, save
from tests.browser.test_queue import (
    WIDE,
    address,
    all_keys,
    field,
    fragment,
    keys_with_examples,
    opened,
    place,
    shuffled,
)

HUES = re.compile(r"\b(?:[pn][1-8]|above|below|red|blue|orange|purple)\b")
TOLD = re.compile(
    r"layer[ _=]?-?\d|\bL\d|model_|positive|negative|component|_proj|[−\u2212]|>-\d|data-key|data-example|"
    r"href=\"[^\"]*(?:layer|projection)",
    re.IGNORECASE,
)

# Everything that the document says, but for what is the same whatever it shows: script, style, data, policy, the help.
SERIALISED = """() => {
  const copy = document.documentElement.cloneNode(true);
  for (const each of copy.querySelectorAll("script, style, meta, noscript, #legend, link")) each.remove();
  copy.removeAttribute("data-palette"); // the reader's choice
  for (const each of copy.querySelectorAll(".token, #tooltip p")) each.textContent = ""; // the example itself
  const fields = document.querySelectorAll("#view :is(input, select, textarea), #bar select");
  const live = Array.from(fields, (each) => each.value).join(" ");
  return [copy.outerHTML, document.title, location.href.split("#")[1], live, JSON.stringify(history.state)].join("\\n");
}"""


# Looks at every token, last at the first framed one.
LOOK = """() => {
  for (const token of document.querySelectorAll(".token")) token.focus();
  document.querySelector("#view .target").focus();
  if (document.querySelector("#tooltip").hidden) throw new Error("no tooltip");
}"""


def panels_of(seed: int) -> list[str]:
    """Return the keys of a blind queue, those of both adapters."""
    shown = keys_with_examples() | keys_with_examples(1)
    return [each for each in shuffled([*all_keys(), *all_keys(1)], seed) if each in shown]


def said(page: Page) -> str:
    """Return what the document says, and what after a look at every token, with the tooltip of the first framed one."""
    return page.evaluate(f"() => {{ const before = ({SERIALISED})(); ({LOOK})(); return before + ({SERIALISED})(); }}")


def told(text: str) -> set[str]:
    return {*TOLD.findall(text), *HUES.findall(text)}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rich page without notes, which may say anything."""
    return save(rich_page(), {}, tmp_path_factory.mktemp("plain") / "page.html")


def test_blind_the_document_tells_nothing_of_any_panel(visit: Open, plain: Path) -> None:
    page = visit(f"{plain.as_uri()}#layer=7", viewport=WIDE).ready()  # a layer was in view before
    page.locator(".panel.negative .target").first.hover()
    page.evaluate("location.hash = 'view=queue'")
    expect(field(page)).to_be_focused()
    page.locator("#queue-blind").check()
    expect(page.locator(".queue-panel .panel")).not_to_have_attribute("data-key", re.compile("."))
    panels = len(keys_with_examples()) + len(keys_with_examples(1))
    for number in range(1, panels + 1):
        assert fragment(page) == f"#view=queue&blind=1&seed=1&index={number}"
        assert told(said(page)) == set(), number
        field(page).fill("a note")
        press(page, "Control+Enter")
    expect(page.locator(".tally")).to_contain_text(f"{panels} of {panels} done")
    assert told(said(page)) == set()


def test_without_blind_the_same_search_finds_every_panel(visit: Open, plain: Path) -> None:
    page = opened(visit, plain).page
    for _ in keys_with_examples():
        found = told(said(page))
        assert len(found) > 5, found
        press(page, "n")


def mirrored(example: Example) -> Example:
    """Return the example with every sign turned."""
    return replace(
        example,
        activation=-example.activation,
        activations=tuple(-value for value in example.activations),
        minimap=bytes((256 - value) % 256 for value in example.minimap),
    )


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A page of one positive panel, and one whose negative panel, of another layer, has the same examples."""
    source = {each.keys["positive"]: each for each in features_of(rich_page())}
    one, other = source["layer_3_q_proj_positive"], source["layer_7_up_proj_positive"]
    features = [replace(one, negative=()), replace(other, positive=(), negative=tuple(map(mirrored, one.positive)))]
    folder = tmp_path_factory.mktemp("twins")
    files: list[Path] = []
    for name, each in zip("ab", features, strict=True):
        bare = replace(each, neighbours=Neighbours())
        layer = Layer(each.layer, (Projection(each.projection, (bare,)),))
        (folder / name).mkdir()
        files.append(
            save(
                Dashboard("twins", (Adapter(None, "adapter", {}, (layer,)),), rich_page().texts),
                {},
                folder / name / "page.html",
            )
        )
    return files


@pytest.mark.parametrize("blind", [True, False])
def test_blind_a_positive_panel_and_its_mirror_elsewhere_are_one_document_and_one_picture(
    visit: Open, twins: list[Path], blind: bool
) -> None:
    seen: list[tuple[str, str, bytes]] = []
    for file in twins:
        page = opened(visit, file, "&blind=1" if blind else "").settled()
        as_it_is = page.locator("body").aria_snapshot(), page.screenshot()
        text = re.sub(r'"\d+ 0\.\d+"', "", said(page))  # the name of the history's step is drawn at random
        seen.append((text, *as_it_is))
    same = [one == other for one, other in zip(*seen, strict=True)]
    assert same == [blind] * 3


def test_blind_widening_is_off_and_keys_on_a_token_lead_nowhere(visit: Open, plain: Path) -> None:
    page = opened(visit, plain, "&blind=1").page
    assert page.locator(".wider, .minimap, .measure a").count() == 0
    before = fragment(page)
    tokens = page.locator(".panel li").first.locator(".token").count()
    page.locator(".target").first.focus()
    for each in ("Enter", "Shift+Enter"):
        press(page, each)
    assert (fragment(page), page.locator(".panel li").first.locator(".token").count()) == (before, tokens)


def test_blind_strengths_are_shares_of_the_strongest_example_s(visit: Open, plain: Path) -> None:
    page = opened(visit, plain, "&blind=1&seed=4").page
    wanted = panels_of(4)[0]
    (examples,) = (
        each.examples(polarity)
        for adapter in (0, 1)
        for each in features_of(rich_page(), adapter)
        for polarity, key in each.keys.items()
        if key == wanted
    )
    strongest = abs(examples[0].activation)
    shares = [f"{math.floor(100 * abs(each.activation) / strongest + 0.5)} %" for each in examples]
    assert page.locator(".strength").all_text_contents() == shares
    tooltip = "(target) => { target.focus(); return document.querySelector('#tooltip dl').textContent; }"
    assert page.locator("#view .target").first.evaluate(tooltip) == f"strength{shares[0]}"
    sign = math.copysign(1, examples[0].activation)
    against = [value * sign < 0 for value in examples[0].activations]
    classes = (
        page.locator(".panel li").first.locator(".token").evaluate_all("(all) => all.map((each) => each.className)")
    )
    assert [" against" in each for each in classes] == [
        each and " u" in name for each, name in zip(against, classes, strict=True)
    ]


def test_reveal_needs_a_note_and_holds_for_one_panel(visit: Open, plain: Path) -> None:
    page = opened(visit, plain, "&blind=1").page
    reveal = page.get_by_role("button", name="Reveal")
    expect(reveal).to_be_disabled()
    press(page, "Alt+r")
    assert told(said(page)) == set()
    field(page).focus()
    page.keyboard.type("what it is")
    expect(reveal).to_be_enabled()
    press(page, "Alt+r")
    title = page.locator(".writing h2").inner_text()
    assert title.split()[-1] == panels_of(1)[0].rpartition("_")[2]
    link = page.locator(".writing h2 a").get_attribute("href")
    assert link is not None
    assert "projection=" in link
    press(page, "Control+Enter")
    assert place(page) == 2
    assert told(said(page)) == set()
    press(page, "b")
    assert place(page) == 1
    assert told(said(page)) == set()


LABELS = {
    "ada": {"tags": ["polysemantic", "by ada"], "confidence": 2, "at": "2026-01-20T10:30:00Z"},
    "bo": {"tags": [], "confidence": 5, "at": "2026-01-20T10:30:00Z"},
}
OTHERS = re.compile(r"\b(?:ada|bo)\b|of 5")


@pytest.fixture
def labelled(tmp_path: Path) -> Generator[Service]:
    """The service with two notes that others labelled, the first ones of the blind queue."""
    save(rich_page(), {}, tmp_path / "page.html")
    first, second = panels_of(1)[:2]
    entries = {
        first: {"text": "shared", "textBy": "cleo", "starred": False, "labels": LABELS},
        second: {"text": "", "starred": False, "labels": {"ada": LABELS["ada"]}},
    }
    (tmp_path / "interpretations.json").write_text(json.dumps({"interpretations": entries}), "utf-8")
    with running(tmp_path) as service:
        yield service


@pytest.mark.parametrize(("own", "back"), [("Alt+d", "Alt+d"), ("Alt+4", "Alt+4"), ("none fits", "Alt+z")])
def test_blind_what_others_say_appears_with_one_s_own_label_and_not_before(
    visit: Open, labelled: Service, own: str, back: str
) -> None:
    page = opened(visit, address(labelled), "&blind=1").page
    items = page.locator(".said .labels li")
    expect(field(page)).to_have_value("shared")
    expect(page.locator(".writer b")).to_have_text("cleo")
    assert OTHERS.findall(said(page)) == []
    labelled.patch({"by": "ada", "tags": ["by ada", "changed"]}, panels_of(1)[0])
    labelled.patch({"starred": True}, panels_of(1)[0])
    expect(page.locator(".writing .star")).to_have_attribute("aria-pressed", "true")  # it has come
    field(page).focus()
    page.keyboard.type(" and mine")  # a text is shared: it is no label
    assert OTHERS.findall(said(page)) == []
    field(page).focus()
    if own == "none fits":
        page.get_by_role("button", name="none fits").click()
    else:
        press(page, own)
    expect(items).to_contain_text(["ada by ada changed sure: 2 of 5", "bo none fits sure: 5 of 5"])
    field(page).focus()
    press(page, back)
    expect(items).to_have_count(0)
    assert OTHERS.findall(said(page)) == []
    press(page, "Alt+n")
    assert place(page) == 2
    assert OTHERS.findall(said(page)) == []


def test_without_blind_others_labels_are_there_at_once(visit: Open, labelled: Service) -> None:
    order = [each for each in shuffled(all_keys(), 1) if each in keys_with_examples()]
    page = opened(visit, address(labelled), f"&seed=1&index={order.index(panels_of(1)[0]) + 1}").page
    items = page.locator(".said .labels li")
    expect(items).to_contain_text(["ada polysemantic by ada sure: 2 of 5", "bo none fits sure: 5 of 5"])


def test_leaving_blind_brings_everything_back(visit: Open, rich: Path) -> None:
    page = opened(visit, rich, "&blind=1").page
    page.locator("#to-layers").click()
    expect(page.locator("#view")).to_have_class("layer")
    assert page.locator("#layer option").all_text_contents() == [f"Layer {layer}" for layer in (3, 7, 8, 11)]
    expect(page.locator("#adapters")).to_be_visible()
    assert page.locator("#columns input").count() == 7
    assert page.locator("#metadata dd").all_text_contents() == ["a model"]
