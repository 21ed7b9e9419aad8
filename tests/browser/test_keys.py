"""The keyboard alone: its shortcuts, every control within reach, the focus seen and never lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open, drawn

VIEWS = {
    "layer": "#layer=8",
    "feature": "#layer=7&projection=gate_proj",
    "overview": "#view=overview",
}
# What keys other than Tab reach: cells by arrow keys, minimaps by Enter on a token; for examples' links see below.
BY_OTHER_KEYS = ".map a, .wider, .measure a"
CONTROLS = "a[href], button:not(:disabled), input, select, textarea, summary, [tabindex='0']"


def view_of(page: Page) -> str:
    return page.locator("#view").get_attribute("class") or ""


def opened(visit: Open, file: Path, view: str) -> Page:
    page = visit(f"{file.as_uri()}{VIEWS[view]}", viewport={"width": 1400, "height": 900}).ready()
    if view == "overview":
        page.locator(".tops .top").first.wait_for()
    return page


@pytest.mark.parametrize("view", VIEWS)
def test_the_help_opens_and_closes_and_no_other_key_acts_meanwhile(visit: Open, rich: Path, view: str) -> None:
    page = opened(visit, rich, view)
    address = page.url
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    expect(page.get_by_role("button", name="Close")).to_be_focused()
    for key in ("o", "l", "/", "ArrowRight"):
        page.keyboard.press(key)
    assert page.url == address
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    page.keyboard.press("?")
    page.keyboard.press("Enter")
    expect(page.locator("#help")).to_be_hidden()


@pytest.mark.parametrize("view", VIEWS)
def test_slash_goes_to_the_search_o_to_the_overview_l_to_the_layers(visit: Open, rich: Path, view: str) -> None:
    page = opened(visit, rich, view)
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    expect(page.locator("#search")).to_have_value("")
    assert view_of(page) == "overview"
    page.goto(f"{rich.as_uri()}{VIEWS[view]}")
    page.reload()
    drawn(page)
    page.keyboard.press("o")
    expect(page.locator("#view")).to_have_class("overview")
    assert page.locator("#to-overview").get_attribute("aria-current") == "page"
    page.keyboard.press("l")
    expect(page.locator("#view")).to_have_class("layer")
    assert page.locator("#to-layers").get_attribute("aria-current") == "page"


@pytest.mark.parametrize(("view", "field"), [("layer", "textarea"), ("feature", "textarea"), ("overview", "#search")])
def test_no_key_acts_while_one_types(visit: Open, rich: Path, view: str, field: str) -> None:
    page = opened(visit, rich, view)
    page.locator(field).first.fill("")
    page.locator(field).first.press_sequentially("o/l?")
    for key in ("ArrowLeft", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    expect(page.locator(field).first).to_have_value("o/l?")
    expect(page.locator("#help")).to_be_hidden()
    assert view_of(page) == view


@pytest.mark.parametrize("chord", ["Control+o", "Alt+l", "Meta+/"])
def test_keys_of_the_browser_s_own_are_left_to_it(visit: Open, rich: Path, chord: str) -> None:
    page = opened(visit, rich, "feature")
    address = page.url
    page.evaluate("addEventListener('keydown', (event) => { window.taken = event.defaultPrevented; })")
    page.keyboard.press(chord)
    assert page.url == address
    assert page.evaluate("window.taken") is not True


def tab_through(page: Page) -> list[int]:
    """Press Tab until every stop has had the focus; return the numbers that `data-number` gives to some of them.

    Each stop must show its focus: by an outline of its own, or of what stands for it.
    """
    seen: list[int] = []
    while True:
        page.keyboard.press("Tab")
        number, visible = page.evaluate(
            """() => {
              const here = document.activeElement;
              const outlined = (node) => node && getComputedStyle(node).outlineStyle !== "none";
              return [Number(here.dataset.number ?? -1), outlined(here) || outlined(here.nextElementSibling)];
            }"""
        )
        if number in seen or len(seen) > 400:
            return seen
        if number >= 0:
            assert visible, page.evaluate("document.activeElement.outerHTML")
            seen.append(number)


@pytest.mark.parametrize("view", VIEWS)
def test_tab_reaches_every_control_and_shows_where_it_is(visit: Open, rich: Path, view: str) -> None:
    page = opened(visit, rich, view)
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    controls = page.locator(f":is({CONTROLS}):not({BY_OTHER_KEYS}):visible")
    names = controls.evaluate_all(
        """(all) => all.map((each, number) => {
          each.dataset.number = number;
          return each.outerHTML.slice(0, 100);
        })"""
    )
    lists = page.locator("ol:has(.token)")
    stops = lists.evaluate_all("(all) => all.map((each) => each.querySelectorAll('.token[tabindex=\"0\"]').length)")
    assert stops == [1] * lists.count()
    reached = tab_through(page)
    assert [name for number, name in enumerate(names) if number not in reached] == []
    assert len(reached) > 20


@pytest.mark.parametrize("view", ["layer", "feature"])
def test_an_example_s_link_and_its_minimap_work_by_keyboard(visit: Open, rich: Path, view: str) -> None:
    page = opened(visit, rich, view)
    item = page.locator(".panel.positive li[data-example]").first
    item.locator(".target").focus()
    before = item.locator(".token").count()
    page.keyboard.press("Enter")
    assert item.locator(".token").count() > before
    link = item.locator(".measure a").get_attribute("href")
    page.keyboard.press("Shift+Enter")
    assert page.evaluate("location.hash") == link


def active(page: Page) -> str:
    return page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.tagName")


def test_sorting_and_filtering_keep_the_focus(visit: Open, rich: Path) -> None:
    page = opened(visit, rich, "overview")
    button = page.locator("[data-column=std] button")
    button.focus()
    for order in ("descending", "ascending"):
        page.keyboard.press("Enter")
        expect(page.locator("[data-column=std]")).to_have_attribute("aria-sort", order)
        expect(button).to_be_focused()
    for name in ("#colour", "#filter-layer", "#filter-where"):
        page.locator(name).focus()
        page.keyboard.press("ArrowDown")
        expect(page.locator(name)).to_be_focused()
    page.locator("#search").focus()
    page.keyboard.type("the")
    expect(page.locator("#search")).to_be_focused()


def test_choosing_columns_and_components_keeps_the_focus(visit: Open, rich: Path) -> None:
    page = opened(visit, rich, "layer")
    box = page.get_by_role("checkbox", name="q_proj")
    box.focus()
    page.keyboard.press("Space")
    expect(box).to_be_focused()
    chooser = page.get_by_label("Component of up_proj")
    chooser.focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("[data-key=layer_8_up_proj_c1_positive]")).to_be_visible()
    assert active(page) == "Component of up_proj"


def test_the_table_scrolls_sideways_by_arrow_keys(visit: Open, rich: Path) -> None:
    page = visit(f"{rich.as_uri()}#view=overview", viewport={"width": 600, "height": 700}).ready()
    scroller = page.locator(".scroller")
    scroller.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(500)
    assert scroller.evaluate("(node) => node.scrollLeft") > 0


def test_a_row_in_focus_keeps_it_while_the_table_scrolls(visit: Open, rich: Path) -> None:
    page = visit(f"{rich.as_uri()}#view=overview", viewport={"width": 1400, "height": 500}).ready()
    page.locator(".tops .top").first.wait_for()
    link = page.locator(".rows .feature a").nth(2)
    name = link.text_content()
    link.focus()
    page.locator(".scroller").evaluate("(node) => { node.scrollTop = 60; }")
    page.wait_for_timeout(100)
    assert page.evaluate("document.activeElement.textContent") == name


def test_widening_by_the_button_keeps_the_focus(visit: Open, rich: Path) -> None:
    page = opened(visit, rich, "feature")
    button = page.locator(".wider").first
    button.focus()
    for _ in range(3):
        page.keyboard.press("Enter")
        expect(button).to_be_focused()
