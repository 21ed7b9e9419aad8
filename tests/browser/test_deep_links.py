"""An address says the place: what is chosen in it, old ones, wrong ones, and going back and forth between them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open, drawn
from tests.browser.pages import NOTES, OTHER, rich_page, save
from tests.browser.test_odd_pages import ODD_NAMES, odd_page


def opened(visit: Open, file: Path, address: str) -> Page:
    return visit(f"{file.as_uri()}#{address}").ready()


def shown(page: Page) -> list[str]:
    return page.locator(".column").evaluate_all("(columns) => columns.map((each) => each.ariaLabel)")


def fragment(page: Page) -> str:
    return page.evaluate("location.hash")


def test_chosen_columns_and_components_are_in_the_address(visit: Open, rich: Path) -> None:
    page = opened(visit, rich, "layer=8")
    page.get_by_role("checkbox", name="gate_proj").press("Space")
    page.get_by_label("Component of up_proj").select_option("1")
    expect(page.locator("[data-key=layer_8_up_proj_c1_positive]")).to_be_visible()
    assert shown(page) == ["Layer 8, up_proj, component 1"]
    other = opened(visit, rich, fragment(page)[1:])  # a profile that remembers nothing
    assert shown(other) == ["Layer 8, up_proj, component 1"]
    other.reload()
    drawn(other)
    assert shown(other) == ["Layer 8, up_proj, component 1"]


def test_the_choices_go_along_from_layer_to_layer_and_back(visit: Open, rich: Path) -> None:
    page = opened(visit, rich, "layer=8&show=up_proj&component.up_proj=1")
    places = {
        "#previous": "Layer 7, up_proj",
        "#next": "Layer 8, up_proj, component 1",
    }
    for button, title in places.items():
        page.locator(button).click()
        expect(page.locator(".column").first).to_have_attribute("aria-label", title)
        assert len(shown(page)) == 1
    page.go_back()
    expect(page.locator(".column").first).to_have_attribute("aria-label", "Layer 7, up_proj")
    page.go_back()
    expect(page.locator(".column").first).to_have_attribute("aria-label", "Layer 8, up_proj, component 1")
    page.go_forward()
    expect(page.locator(".column").first).to_have_attribute("aria-label", "Layer 7, up_proj")


def test_choosing_in_a_layer_is_no_step_of_the_back_button(visit: Open, rich: Path) -> None:
    page = opened(visit, rich, "layer=3")
    page.locator("#next").click()
    expect(page.locator(".column").first).to_have_attribute("aria-label", "Layer 7, gate_proj")
    for name in ("q_proj", "k_proj", "v_proj"):
        page.get_by_role("checkbox", name=name).press("Space")
    page.go_back()
    expect(page.locator("#layer option:checked")).to_have_text("Layer 3")


OLD = {"layer=7": "layer_7_gate_proj_positive", f"layer=7&adapter={OTHER}": f"{OTHER}/layer_7_up_proj_positive"}


@pytest.mark.parametrize("address", OLD)
def test_addresses_of_earlier_versions_still_work(visit: Open, rich: Path, address: str) -> None:
    page = opened(visit, rich, address)
    assert page.locator(".panel").first.get_attribute("data-key") == OLD[address]


FIRST = [f"Layer 3, {name}" for name in ("gate_proj", "up_proj", "down_proj")]
SECOND = [f"Layer 7, {name}" for name in ("gate_proj", "up_proj", "down_proj")]
WRONG = {
    "": FIRST,
    "%": FIRST,
    "%E0%A4%A": FIRST,
    "=&=&&": FIRST,
    "layer=": FIRST,
    "layer=99999999999999999999": FIRST,
    "layer=1e1": FIRST,
    "layer=7.0": FIRST,
    "layer=-1": FIRST,
    "layer=7&layer=3": SECOND,
    "layer=7&show=nothing": SECOND,
    "layer=7&show=__proto__&show=constructor": SECOND,
    "layer=7&component.gate_proj=1": SECOND,
    "layer=7&component.=1&component.constructor=x": SECOND,
    "layer=7&adapter=nobody": SECOND,
    "layer=7&adapter=": SECOND,
    "layer=7&view=nothing": SECOND,
    "layer=7&view=constructor": SECOND,
    "layer=7&example=1&position=2": SECOND,
    quote("layer=7&show=<img src=x onerror=alert(1)>", safe="=&"): SECOND,
}


@pytest.mark.parametrize("address", WRONG)
def test_wrong_addresses_of_a_layer_fall_back(visit: Open, rich: Path, address: str) -> None:
    opened = visit(f"{rich.as_uri()}#{address}")
    assert shown(opened.ready()) == WRONG[address]
    assert opened.problems == []


@pytest.mark.parametrize("name", ["sort", "order", "colour", "where", "notes", "layer", "projection"])
def test_wrong_choices_of_the_overview_fall_back(visit: Open, rich: Path, name: str) -> None:
    every = sum(1 for _ in rich_page().adapters[0].features())
    failed: list[str] = []
    for value in ("constructor", "toString", "__proto__", "nothing", "", "<b>", "0", "layer\0"):
        opened = visit(f"{rich.as_uri()}#view=overview&{name}={quote(value)}", viewport={"width": 1400, "height": 1600})
        page = opened.ready()
        opened.settled()
        tally = page.locator(".tally").all_inner_texts()
        if (tally, opened.problems) != ([f"{every} of {every} features"], []):
            failed.append(value)
        opened.context.close()
    assert failed == []


def test_back_and_forward_come_to_the_place_one_left(visit: Open, rich: Path) -> None:
    page = visit(f"{rich.as_uri()}#layer=3", viewport={"width": 1000, "height": 500}).ready()
    page.evaluate("scrollTo(0, 700)")
    left = page.evaluate("scrollY")
    page.evaluate("location.hash = 'layer=7&projection=up_proj'")
    expect(page.locator("#view")).to_have_class("feature")
    assert page.evaluate("scrollY") < 300
    page.go_back()
    expect(page.locator("#view")).to_have_class("layer")
    page.wait_for_function("(place) => Math.abs(scrollY - place) < 5", arg=left, timeout=5000)


def test_a_feature_opened_from_far_down_is_seen_from_its_top(visit: Open, rich: Path) -> None:
    page = visit(f"{rich.as_uri()}#view=overview", viewport={"width": 1000, "height": 500}).ready()
    link = page.locator(".rows .feature a").first
    link.scroll_into_view_if_needed()
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    link.evaluate("(node) => node.click()")
    expect(page.locator("#view")).to_have_class("feature")
    assert page.evaluate("scrollY") == 0


def test_titles_say_the_place(visit: Open, rich: Path) -> None:
    page = opened(visit, rich, "layer=8")
    assert page.title() == "Layer 8 · everything"
    for address, title in (
        ("layer=8&projection=up_proj&component=1", "Layer 8, up_proj, component 1 · everything"),
        ("view=overview", "Overview · everything"),
        ("layer=8&projection=nothing", "everything"),
    ):
        page.evaluate("(address) => { location.hash = address; }", address)
        page.wait_for_function("(title) => document.title === title", arg=title)


def test_names_of_any_kind_have_addresses(visit: Open, tmp_path: Path) -> None:
    file = save(odd_page(), NOTES, tmp_path / "odd.html")
    for name in ODD_NAMES:
        page = opened(visit, file, f"layer=0&show={quote(name, safe='')}")
        assert page.locator(".column h2 > a").all_text_contents() == [name]
        page.get_by_label(f"Component of {name}").select_option("1")
        expect(page.locator("section.panel").first).to_have_attribute(
            "aria-label", f"Layer 0, {name}, component 1, positive"
        )
        page.reload()
        drawn(page)
        assert shown(page) == [f"Layer 0, {name}, component 1"]
        page.locator(".column h2 > a").click()
        expect(page.locator(".about-feature")).to_have_attribute("aria-label", f"Layer 0, {name}, component 1")
