"""All features at once: what the map, the table and its filters show is what the features' numbers and notes say."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from loradash_assets.schema import POLARITIES
from loradash_assets.site.keys import feature_keys
from loradash_assets.site.page import Adapter, Feature, Layer, Projection, Statistics
from loradash_assets.site.page import Page as Dashboard
from tests.browser.conftest import Open, Visit
from tests.browser.pages import (
    NOTES,
    address_of,
    features_of,
    name_of,
    percent,
    rich_page,
    save,
    short,
    single,
    windows,
)

TALL = {"width": 1500, "height": 1600}  # every row of the small page is in sight
FEATURES = features_of(rich_page())
Read = Callable[[Feature], float | None]

NUMBERS: dict[str, tuple[Read, Callable[[float], str]]] = {
    "effect": (lambda feature: feature.statistics.rms_effect, short),
    "density": (lambda feature: (feature.statistics.density or (None,) * 4)[2], percent),
    "kurtosis": (lambda feature: feature.statistics.kurtosis, short),
    "token": (lambda feature: feature.statistics.token_omega_squared, percent),
    "position": (lambda feature: feature.statistics.position_omega_squared, percent),
    "std": (lambda feature: feature.statistics.std, short),
    "min": (lambda feature: feature.statistics.min, short),
    "max": (lambda feature: feature.statistics.max, short),
}
# What the map can show: its choice's value, then as in NUMBERS.
COLOURS = {
    "effect": ("effect size", *NUMBERS["effect"]),
    "density": ("density", *NUMBERS["density"]),
    "kurtosis": ("kurtosis", *NUMBERS["kurtosis"]),
    "token": ("token explains", *NUMBERS["token"]),
}


def overview(visit: Open, file: Path, more: str = "") -> Page:
    page = visit(f"{file.as_uri()}#view=overview{more}", viewport=TALL).ready()
    return settled(page)


def settled(page: Page) -> Page:
    """Wait until the table is filled, the search's texts read."""
    page.wait_for_selector(".tally:not(:has-text('Reading'))")
    page.wait_for_selector("body[data-results]")
    return page


def names(page: Page) -> list[str]:
    return page.locator(".rows .feature").all_text_contents()


def noted(feature: Feature) -> int:
    """Return how many of a feature's two panels have a note with text."""
    return sum(bool(NOTES[key].text.strip()) for key in feature.keys.values() if key in NOTES)


def modules() -> dict[tuple[int, str], list[Feature]]:
    found: dict[tuple[int, str], list[Feature]] = {}
    for feature in FEATURES:
        found.setdefault((feature.layer, feature.projection), []).append(feature)
    return found


def cells(page: Page) -> dict[tuple[str, str], tuple[str, int] | None]:
    """Return the map's cells by layer and projection: what each is called and its step; None for an empty one."""
    layers = page.locator(".map thead th").all_text_contents()
    shown: dict[tuple[str, str], tuple[str, int] | None] = {}
    for row in page.locator(".map tbody tr").all():
        name = row.locator("th").text_content() or ""
        for layer, cell in zip(layers, row.locator("td").all(), strict=True):
            link = cell.locator("a")
            shown[layer, name] = (
                (link.get_attribute("aria-label") or "", int((link.get_attribute("class") or "m0")[1:]))
                if link.count()
                else None
            )
    return shown


def steps(values: Sequence[float]) -> tuple[list[float], Callable[[float], int]]:
    """Return the lower bounds of eight steps with as many values each, and what tells a value's step, 1 to 8."""
    ordered = sorted(values)
    bounds = [ordered[len(ordered) * step // 8] for step in range(8)]
    return bounds, lambda value: sum(value >= bound for bound in bounds)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_cell_of_the_map_is_the_highest_of_its_module(visit: Open, rich: Path, colour: str) -> None:
    label, read, write = COLOURS[colour]
    page = overview(visit, rich)
    page.select_option("#colour", colour)
    expect(page.locator(".map caption")).to_contain_text(label)
    known = {
        place: [single(value) for each in module if (value := read(each)) is not None]
        for place, module in modules().items()
    }
    highest = {place: max(values) for place, values in known.items() if values}
    bounds, step = steps(list(highest.values()))
    expected = {(str(layer), name): None for layer in (3, 7, 8, 11) for name in {name for _, name in known}} | {
        (str(layer), name): (
            f"Layer {layer}, {name}: {label} {write(highest[layer, name]) if values else 'not known'}",
            step(highest[layer, name]) if values else 0,
        )
        for (layer, name), values in known.items()
    }
    assert cells(page) == expected
    assert [each.strip() for each in page.locator(".map-legend li").all_text_contents()] == [*map(write, bounds)]


def test_a_cell_of_interpretations_is_the_share_of_its_panels_that_have_a_note(visit: Open, rich: Path) -> None:
    page = overview(visit, rich, "&colour=notes")
    assert page.locator("#colour").input_value() == "notes"
    shown = cells(page)
    for (layer, name), module in modules().items():
        share = sum(map(noted, module)) / (2 * len(module))
        cell = (f"Layer {layer}, {name}: interpreted {percent(share)}", min(int(share * 8) + 1, 8))
        assert shown[str(layer), name] == cell
    bounds = [each.strip() for each in page.locator(".map-legend li").all_text_contents()]
    assert bounds == [percent(step / 8) for step in range(8)]


def plain(layer: int, name: str, effect: float) -> Feature:
    statistics = Statistics(-1.0, 1.0, rms_effect=effect)
    return Feature(layer, name, None, feature_keys(layer, name, None, "raw"), statistics, (), ())


def page_of(features: Sequence[Feature]) -> Dashboard:
    """Return a page of one adapter with these features."""
    layers = tuple(
        Layer(index, tuple(Projection(name, tuple(each)) for name, each in _by_projection(features, index).items()))
        for index in sorted({feature.layer for feature in features})
    )
    return Dashboard("plain", (Adapter(None, "adapter", {}, layers),))


def _by_projection(features: Sequence[Feature], layer: int) -> dict[str, list[Feature]]:
    found: dict[str, list[Feature]] = {}
    for feature in features:
        if feature.layer == layer:
            found.setdefault(feature.projection, []).append(feature)
    return found


def test_modules_of_two_values_have_two_colours(visit: Open, tmp_path: Path) -> None:
    features = [plain(layer, "q_proj", 0.25 if layer == 0 else 5.0) for layer in range(9)]
    page = overview(visit, save(page_of(features), {}, tmp_path / "ties.html"))
    colours = [cell[1] for cell in cells(page).values() if cell]
    assert colours[0] < colours[1] == colours[8]


def focused(page: Page) -> str:
    return page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.tagName")


def test_arrow_keys_walk_the_map_and_a_cell_leads_to_its_layer(visit: Open, rich: Path) -> None:
    page = overview(visit, rich)
    assert page.locator(".map [tabindex='0']").count() == 1
    page.locator("#colour").focus()
    page.keyboard.press("Tab")
    assert focused(page).startswith("Layer 3, q_proj:")
    for key, place in (("ArrowRight", "7, q_proj"), ("ArrowDown", "7, k_proj"), ("ArrowLeft", "3, k_proj")):
        page.keyboard.press(key)
        assert focused(page).startswith(f"Layer {place}:")
    page.keyboard.press("ArrowLeft")  # beyond the edge: nothing happens
    page.keyboard.press("ArrowUp")
    assert focused(page).startswith("Layer 3, q_proj:")
    assert page.locator(".map [tabindex='0']").count() == 1
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator(".column").first).to_have_attribute("aria-label", "Layer 7, gate_proj")


def test_arrow_keys_reach_every_cell_of_a_map_with_gaps(visit: Open, tmp_path: Path) -> None:
    features = [plain(0, "q_proj", 1.0), plain(1, "up_proj", 2.0), plain(3, "q_proj", 3.0)]
    page = overview(visit, save(page_of(features), {}, tmp_path / "gaps.html"))
    page.locator(".map [tabindex='0']").focus()
    reached = {focused(page)}
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp") * 3:
        page.keyboard.press(key)
        reached.add(focused(page))
    assert len(reached) == 3


def ordered(read: Read, sign: int, features: Sequence[Feature] = FEATURES) -> list[str]:
    """Return the features' names in the order of a number, those of which it is not known last."""

    def place(feature: Feature) -> float:
        value = read(feature)
        return math.inf if value is None else sign * single(value)

    return [name_of(each) for each in sorted(features, key=place)]


@pytest.mark.parametrize("name", NUMBERS)
def test_the_table_sorts_by_every_number_both_ways(visit: Open, rich: Path, name: str) -> None:
    read, write = NUMBERS[name]
    page = overview(visit, rich, "&sort=feature")
    heading = page.get_by_role("columnheader", name=name, exact=False).filter(has=page.get_by_text(name, exact=True))
    for order, sign in (("descending", -1), ("ascending", 1)):
        heading.get_by_role("button").click()
        expect(heading).to_have_attribute("aria-sort", order)
        assert names(page) == ordered(read, sign)
    column = 1 + list(NUMBERS).index(name)
    shown = [row.locator("div").nth(column).text_content() for row in page.locator(".rows .row").all()]
    known = {name_of(each): read(each) for each in FEATURES}
    values = [known[each] for each in ordered(read, 1)]
    assert shown == ["" if value is None else write(single(value)) for value in values]
    assert page.locator("[aria-sort]").count() == 1


def test_the_table_sorts_by_name_both_ways(visit: Open, rich: Path) -> None:
    page = overview(visit, rich)
    heading = page.locator("[data-column=feature]")
    heading.get_by_role("button").click()
    assert names(page) == [name_of(each) for each in reversed(FEATURES)]
    heading.get_by_role("button").click()
    assert names(page) == [name_of(each) for each in FEATURES]


def test_the_table_shows_the_most_frequent_top_tokens_of_either_side(visit: Open, rich: Path) -> None:
    page = overview(visit, rich, "&sort=feature&order=asc")
    for row, feature in zip(page.locator(".rows .row").all(), FEATURES, strict=True):
        for cell, polarity in zip(row.locator(".tops").all(), POLARITIES, strict=True):
            tops = [example.tokens[example.target] for example in feature.examples(polarity)]
            frequent = sorted(dict.fromkeys(tops), key=tops.count, reverse=True)[:4]
            assert cell.locator(".top").all_text_contents() == [text.strip() or text for text in frequent]


def has_starred(feature: Feature) -> bool:
    return any(NOTES[key].starred for key in feature.keys.values() if key in NOTES)


FILTERS: dict[str, tuple[dict[str, str], Callable[[Feature], bool]]] = {
    "layer": ({"layer": "8"}, lambda feature: feature.layer == 8),
    "projection": ({"projection": "up_proj"}, lambda feature: feature.projection == "up_proj"),
    "both": (
        {"layer": "7", "projection": "q_proj"},
        lambda feature: (feature.layer, feature.projection) == (7, "q_proj"),
    ),
    "neither of both": ({"layer": "11", "projection": "q_proj"}, lambda _: False),
    "noted": ({"notes": "noted"}, lambda feature: noted(feature) > 0),
    "open": ({"notes": "open"}, lambda feature: noted(feature) == 0),
    "starred": ({"notes": "starred"}, has_starred),
    "starred in layer 7": ({"notes": "starred", "layer": "7"}, lambda each: each.layer == 7 and has_starred(each)),
}


@pytest.mark.parametrize("name", FILTERS)
def test_filters_leave_what_they_say(visit: Open, rich: Path, name: str) -> None:
    choices, passes = FILTERS[name]
    page = overview(visit, rich, "&sort=feature&order=asc")
    for filter_, value in choices.items():
        page.select_option(f"#filter-{filter_}", value)
    left = [name_of(each) for each in FEATURES if passes(each)]
    assert names(page) == left
    assert page.locator(".tally").inner_text() == f"{len(left)} of {len(FEATURES)} features"
    for filter_ in choices:
        page.select_option(f"#filter-{filter_}", "")
    assert names(page) == [name_of(each) for each in FEATURES]


def many() -> list[Feature]:
    return [
        Feature(layer, name, component, feature_keys(layer, name, component, "raw"), Statistics(-1.0, 1.0), (), ())
        for layer in range(30)
        for name in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
        for component in range(10)
    ]


def test_of_thousands_of_features_only_the_rows_in_sight_are_in_the_document(visit: Open, tmp_path: Path) -> None:
    features = many()
    file = save(page_of(features), {}, tmp_path / "many.html")
    page = overview(visit, file, "&sort=feature&order=asc")
    table = page.get_by_role("table", name="Features")
    assert table.get_attribute("aria-rowcount") == str(len(features) + 1)
    seen: dict[int, str] = {}
    for place in [*range(0, 34 * len(features), 900), 34 * len(features)]:
        page.locator(".scroller").evaluate("(node, top) => { node.scrollTop = top; }", place)
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        rows = page.locator(".rows .row").evaluate_all(
            "(rows) => rows.map((row) => [Number(row.ariaRowIndex), row.querySelector('.feature').textContent])"
        )
        assert 0 < len(rows) < 60
        seen |= dict(rows)
    assert seen == {place + 2: name_of(each) for place, each in enumerate(features)}
    last = page.locator(".rows .row").last.bounding_box()
    box = page.locator(".scroller").bounding_box()
    assert last
    assert box
    assert last["y"] + last["height"] <= box["y"] + box["height"] + 1


def test_what_scrolls_under_the_headings_is_hidden_by_them(visit: Open, rich: Path) -> None:
    page = visit(f"{rich.as_uri()}#view=overview", viewport={"width": 1500, "height": 700}).ready()
    page.locator(".rows .top").first.wait_for()
    page.locator(".scroller").evaluate("(node) => { node.scrollTop = 17; }")
    on_top = page.evaluate(
        """() => {
          const head = document.querySelector(".heads");
          const { bottom } = head.getBoundingClientRect();
          const under = [...document.querySelectorAll(".rows .top")].map((each) => each.getBoundingClientRect())
            .filter(({ top }) => top < bottom - 2);
          return under.map(({ left, width }) => head.contains(document.elementFromPoint(left + width / 2, bottom - 2)));
        }"""
    )
    assert on_top
    assert all(on_top)


STATE = {
    **{"#search": "New York", "#filter-where": "text", "#filter-layer": "7", "#filter-projection": "up_proj"},
    **{"#filter-notes": "starred", "#colour": "token"},
}


def choose(page: Page) -> None:
    page.fill("#search", STATE["#search"])
    for place, value in STATE.items():
        if place != "#search":
            page.select_option(place, value)
    page.locator("[data-column=kurtosis] button").click()
    page.locator("[data-column=kurtosis] button").click()


def state(page: Page) -> dict[str, object]:
    settled(page)
    shown: dict[str, object] = {place: page.locator(place).input_value() for place in STATE}
    order = page.locator("[data-column=kurtosis]").get_attribute("aria-sort")
    return shown | {"order": order, "rows": names(page), "map": page.locator(".map caption").inner_text()}


def test_every_choice_is_kept_by_reload_back_forward_and_a_copied_link(visit: Open, rich: Path) -> None:
    opened: Visit = visit(f"{rich.as_uri()}#view=overview", viewport=TALL)
    page = settled(opened.ready())
    choose(page)
    chosen = state(page)
    assert {place: chosen[place] for place in STATE} == STATE
    assert chosen["order"] == "ascending"
    row = next(each for each in FEATURES if (each.layer, each.projection) == (7, "up_proj"))
    expected = [name_of(row)] if any(" York" in "".join(each.tokens) for each in windows(row)) else []
    assert chosen["rows"] == expected
    address = page.url
    page.reload()
    assert state(opened.ready()) == chosen
    page.select_option("#filter-where", "everywhere")
    page.select_option("#filter-where", "text")
    page.locator("#to-layers").click()
    expect(page.locator("article.column")).to_have_count(3)
    page.go_back()
    page.locator(".scroller").wait_for()
    assert state(page) == chosen
    page.go_forward()
    expect(page.locator("article.column")).to_have_count(3)
    assert state(visit(address, viewport=TALL).ready()) == chosen


def test_a_name_in_the_table_leads_to_its_feature(visit: Open, rich: Path) -> None:
    page = overview(visit, rich, "&sort=feature&order=asc")
    links = page.locator(".rows .feature a").evaluate_all("(links) => links.map((link) => link.hash)")
    assert links == [f"#{address_of(each)}" for each in FEATURES]
    page.get_by_role("link", name="L8 up_proj c1").click()
    expect(page.locator(".about-feature h2")).to_have_text("Layer 8 up_proj component 1")
