"""Going from layer to layer, and choosing what is seen of one."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from loradash_assets.site.build import render_dashboard
from loradash_assets.site.from_tables import layer_from_tables
from loradash_assets.site.page import Adapter
from loradash_assets.site.page import Page as Dashboard
from tests.browser.conftest import Open, drawn, press
from tests.site import samples


def names(page: Page) -> list[str]:
    return page.locator(".column h2 > a").all_text_contents()


def test_the_first_layer_shows_the_mlp_s_three_positive_above_negative(visit: Open, dashboard: Path) -> None:
    page = visit(dashboard).ready()
    assert names(page) == list(samples.MLP)
    for column in page.locator(".column").all():
        positive, negative = (column.locator(f".panel.{each}").bounding_box() for each in ("positive", "negative"))
        assert positive
        assert negative
        assert positive["y"] + positive["height"] <= negative["y"]
    tops = {box["y"] for each in page.locator(".panel.negative").all() if (box := each.bounding_box())}
    assert len(tops) == 1


def test_buttons_keys_dropdown_and_address_agree(visit: Open, dashboard: Path) -> None:
    page = visit(dashboard).ready()
    layer = page.locator("#layer")
    expect(page.locator("#previous")).to_be_disabled()
    page.locator("#next").click()
    expect(layer).to_have_value("1")
    assert page.evaluate("location.hash") == "#layer=7"
    page.keyboard.press("ArrowRight")
    expect(layer).to_have_value("2")
    expect(page.locator("#next")).to_be_disabled()
    page.keyboard.press("ArrowRight")
    page.locator("h1").click()
    page.keyboard.press("ArrowLeft")
    expect(layer).to_have_value("1")
    layer.select_option(label="Layer 3")
    expect(page.locator(".column").first).to_have_attribute("aria-label", "Layer 3, gate_proj")
    page.go_back()
    expect(layer).to_have_value("1")


def test_a_link_opens_its_layer_and_an_unknown_one_the_first(visit: Open, dashboard: Path) -> None:
    assert visit(f"{dashboard.as_uri()}#layer=7").ready().locator("#layer").input_value() == "1"
    assert visit(f"{dashboard.as_uri()}#layer=5").ready().locator("#layer").input_value() == "0"
    assert visit(f"{dashboard.as_uri()}#%%%").ready().locator("#layer").input_value() == "0"


def test_only_the_layer_in_view_is_in_the_document(visit: Open, dashboard: Path) -> None:
    page = visit(dashboard).ready()
    assert page.locator(".panel[data-key]").count() == 6
    page.locator("#next").click()
    expect(page.locator(".column").first).to_have_attribute("aria-label", "Layer 7, gate_proj")
    assert page.locator(".panel[data-key]").count() == 6


def test_arrow_keys_in_a_note_do_not_change_the_layer(visit: Open, dashboard: Path) -> None:
    page = visit(dashboard).ready()
    page.locator("textarea").first.fill("note")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    assert page.locator("#layer").input_value() == "0"


def test_columns_are_chosen_and_remembered(visit: Open, dashboard: Path) -> None:
    page = visit(dashboard).ready()
    page.locator("#columns label", has_text="q_proj").click()
    page.locator("#columns label", has_text="down_proj").click()
    assert names(page) == ["q_proj", "gate_proj", "up_proj"]
    page.reload()
    drawn(page)
    assert names(page) == ["q_proj", "gate_proj", "up_proj"]


def test_components_of_a_higher_rank_are_one_choice_away(visit: Open, dashboard: Path) -> None:
    page = visit(f"{dashboard.as_uri()}#layer=8").ready()
    assert names(page) == ["gate_proj", "up_proj"]
    panel = page.locator(".panel.positive").nth(1)
    expect(panel).to_have_attribute("data-key", "layer_8_up_proj_c0_positive")
    before = panel.locator(".activation").all_text_contents()
    page.get_by_label("Component of up_proj").select_option("1")
    expect(panel).to_have_attribute("data-key", "layer_8_up_proj_c1_positive")
    assert panel.locator(".activation").all_text_contents() != before


def test_statistics_histogram_and_cosines_show_the_tables_numbers(visit: Open, dashboard: Path) -> None:
    page = visit(dashboard).ready()
    tables = samples.layer_tables(3, samples.texts(3))
    row = next(row for row in tables.statistics.to_pylist() if row["projection"] == "gate_proj")
    column = page.locator(".column").first
    shown = dict(
        zip(
            column.locator(".statistics dt").all_text_contents(),
            column.locator(".statistics dd").all_text_contents(),
            strict=True,
        )
    )
    assert shown["count"] == f"{row['count']:,}"
    assert [float(shown[name].replace("−", "-")) for name in ("min", "max", "mean", "std")] == pytest.approx(
        [row[name] for name in ("min", "max", "mean", "std")], rel=1e-3
    )
    expect(column.locator("svg.histogram")).not_to_be_visible()
    column.locator(".distribution summary").click()
    expect(page.locator("svg.histogram").last).to_be_visible()
    counted = sum(count > 0 for count in row["total_counts"])
    assert counted <= column.locator("svg rect").count() <= counted + 1  # the bin across zero is cut in two
    cosine = next(
        r["cosine"] for r in tables.cosines.to_pylist() if (r["first"], r["second"]) == ("gate_proj", "up_proj")
    )
    assert page.locator("#cosines tbody tr").first.locator("td").nth(1).text_content() == f"{cosine:.3f}"


def test_a_narrow_phone_scrolls_only_down(visit: Open, dashboard: Path) -> None:
    page = visit(dashboard, viewport={"width": 320, "height": 700}).ready()
    page.locator("#columns label", has_text="q_proj").click()
    page.locator("summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    for panel in page.locator(".panel").all():
        box = panel.bounding_box()
        assert box
        assert 0 <= box["x"] < box["x"] + box["width"] <= 320


def test_the_theme_follows_the_system_until_it_is_chosen(visit: Open, dashboard: Path) -> None:
    def ground(page: Page) -> int:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        return sum(colour[:3])

    page = visit(dashboard, color_scheme="dark").ready()
    assert ground(page) < 120
    page.locator("#theme").click()
    assert ground(page) > 600
    page.reload()
    drawn(page)
    assert ground(page) > 600
    assert ground(visit(dashboard, color_scheme="light").ready()) > 600


def test_several_adapters_are_chosen_in_the_header_and_by_address(visit: Open, tmp_path: Path) -> None:
    first = samples.page([samples.layer_tables(layer, samples.texts(2)) for layer in (3, 7)]).adapters[0]
    layers = tuple(
        layer_from_tables(samples.layer_tables(layer, samples.texts(2), projections=("up_proj",), seed=1), "step-200")
        for layer in (7, 8)
    )
    step = Adapter("step-200", "step-200", {"Adapter": "runs/step-200"}, layers, ("one caution",))
    file = tmp_path / "dashboard.html"
    file.write_text(render_dashboard(Dashboard("two adapters", (first, step)), {}), "utf-8")
    page = visit(file).ready()
    assert page.locator("#adapter option").all_inner_texts() == ["adapter", "step-200"]
    page.keyboard.press("ArrowRight")
    expect(page.locator("article.column")).to_have_count(3)
    page.select_option("#adapter", label="step-200")
    expect(page.locator("article.column")).to_have_count(1)
    assert page.locator("#layer option:checked").inner_text() == "Layer 7"  # the layer stays, where both have it
    assert page.locator("section.panel").first.get_attribute("data-key") == "step-200/layer_7_up_proj_positive"
    assert page.locator("#warnings").inner_text() == "one caution"
    assert page.locator("#metadata").inner_text().split() == ["Adapter", "runs/step-200"]
    address = page.url
    page.keyboard.press("ArrowRight")
    expect(page.locator("#layer option:checked")).to_have_text("Layer 8")
    page.go_back()
    page.go_back()
    expect(page.locator("article.column")).to_have_count(3)
    assert page.locator("#warnings").inner_text() == ""
    page.goto(address)
    page.reload()
    expect(page.locator("#layer option:checked")).to_have_text("Layer 7")
    expect(page.locator("#adapter option:checked")).to_have_text("step-200")


def test_on_a_phone_both_choices_can_be_read(visit: Open, tmp_path: Path) -> None:
    first = samples.page([samples.layer_tables(layer, samples.texts(1)) for layer in (3, 17)]).adapters[0]
    other = Adapter("long", "a name of an adapter that is longer than a phone is wide", {}, first.layers)
    file = tmp_path / "dashboard.html"
    file.write_text(render_dashboard(Dashboard("two adapters", (first, other)), {}), "utf-8")
    page = visit(file, viewport={"width": 320, "height": 700}).ready()
    widths = {name: box["width"] for name in ("adapter", "layer") if (box := page.locator(f"#{name}").bounding_box())}
    assert widths["layer"] >= 80
    assert 80 <= widths["adapter"] <= 320
    assert page.evaluate("document.documentElement.scrollWidth") == 320


def test_one_adapter_needs_no_choice(visit: Open, dashboard: Path) -> None:
    page = visit(dashboard).ready()
    expect(page.locator("#adapters")).to_be_hidden()


HOLD = """
const [soon, real] = [100, window.setTimeout];  // SOON in panels.js
window.setTimeout = (act, wait, ...more) => (wait === soon ? 0 : real(act, wait, ...more));
"""
EMPTY = ".panel li:not(:has(.token))"


def held(visit: Open, dashboard: Path) -> Page:
    """The page with what is out of sight still put off."""
    page = visit(dashboard, viewport={"width": 1280, "height": 640}).ready()
    expect(page.locator(EMPTY)).to_have_count(0)
    page.add_init_script(HOLD)
    page.reload()
    page.wait_for_selector("body[data-ready] #view[aria-busy=true]")
    return page


def test_what_is_in_sight_is_drawn_first(visit: Open, dashboard: Path) -> None:
    page = held(visit, dashboard)
    shown = page.evaluate(
        """() => [...document.querySelectorAll(".panel li")].map((item) =>
             [item.getBoundingClientRect().top < innerHeight, item.querySelector(".token") !== null])"""
    )
    assert [True, False] not in shown
    assert [False, False] in shown
    assert [True, True] in shown
    known = page.evaluate(
        """() => [...document.querySelectorAll(".panel li")].map((item) =>
             [item.querySelector(".token") !== null, getComputedStyle(item).contentVisibility])"""
    )
    assert {tuple(each) for each in known} == {(True, "visible"), (False, "auto")}  # or it has a layout more


def test_another_view_begins_at_its_top_and_another_layer_where_the_last_one_was(visit: Open, rich: Path) -> None:
    page = visit(rich, viewport={"width": 1280, "height": 640}).ready()
    page.evaluate("scrollTo(0, 500)")
    page.wait_for_function("scrollY === 500")
    press(page, "ArrowRight")
    assert page.evaluate("scrollY") == 500
    press(page, "o")
    assert page.evaluate("scrollY") == 0
    press(page, "l")
    page.go_back()
    drawn(page)
    page.go_back()
    drawn(page)
    page.wait_for_function("scrollY === 500")


@pytest.mark.parametrize("event", ["scroll", "beforeprint"])
def test_the_rest_is_drawn_at_once_where_it_may_come_into_sight(visit: Open, dashboard: Path, event: str) -> None:
    page = held(visit, dashboard)
    assert page.locator(EMPTY).count()
    page.evaluate("(event) => dispatchEvent(new Event(event))", event)
    assert not page.locator(EMPTY).count()
    assert page.locator("#view[aria-busy]").count() == 0
    tab_stops = page.locator(".panel ol").evaluate_all(
        "(lists) => lists.map((list) => list.querySelectorAll('.token[tabindex=\"0\"]').length)"
    )
    assert set(tab_stops) == {1}
