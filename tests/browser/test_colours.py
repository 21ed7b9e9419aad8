"""Tokens' shades on every scale, threshold and intensity, against plain Python; the palettes; what is kept."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from loradash_assets.site.page import Example, Feature
from tests.browser.conftest import Open, drawn
from tests.browser.pages import features_of, rich_page, short, single
from tests.browser.test_tokens import contrast

FEATURES = features_of(rich_page())
LAYER_3 = [feature for feature in FEATURES if feature.layer == 3]
SHOWN = "&".join(f"show={feature.projection}" for feature in LAYER_3)


def own(feature: Feature) -> float:
    """Return the larger end of the middle 99.8 %, of the tokens that lists may hold where some may not."""
    statistics = feature.filtered or feature.statistics
    assert statistics.quantiles
    return single(max(abs(statistics.quantiles[0]), abs(statistics.quantiles[8])))


def most(values: list[float]) -> float:
    """Return what 95 % of the values do not exceed."""
    return sorted(values)[int(0.95 * len(values))]


def shared(_: Feature) -> float:
    return most([own(each) for each in FEATURES])


def effect(feature: Feature) -> float:
    """Return the activation of which the effect is what most features' effects reach; without one their own scale."""
    scale = feature.statistics.effect_scale
    if scale is None:
        return own(feature)
    known = [own(each) * single(each.statistics.effect_scale) for each in FEATURES if each.statistics.effect_scale]
    return most(known) / single(scale)


SCALES: dict[str, Callable[[Feature], float]] = {"own": own, "shared": shared, "effect": effect}


def shades(share: float, threshold: float) -> set[int]:
    """Return the shade of a share of the full colour, both where rounding may go either way."""
    share = min(share, 1)
    if share * 100 < threshold:
        return {0}
    return {math.floor(8 * share + 0.5 - 1e-6), math.floor(8 * share + 0.5 + 1e-6)}


def names(value: float, full: float, threshold: float) -> set[str]:
    sign = "p" if value > 0 else "n"
    return {f"{sign}{shade}" if shade else "" for shade in shades(abs(value) / full, threshold)}


def opened(visit: Open, file: Path) -> Page:
    return visit(f"{file.as_uri()}#layer=3&{SHOWN}").ready()


def check(page: Page, full: Callable[[Feature], float], threshold: float = 0, intensity: float = 100) -> None:
    """Compare every token of layer 3 and every legend with what the scale says."""
    columns = page.locator("article.column").all()
    for column, feature in zip(columns, LAYER_3, strict=True):
        whole = full(feature) * 100 / intensity
        assert column.locator(".scale-legend .high").inner_text() == f"+{short(whole)}", feature.projection
        assert column.locator(".scale-legend .low").inner_text() == short(-whole)
        tokens = column.locator(".panel .token").evaluate_all("(tokens) => tokens.map((each) => each.className)")
        values = [value for example in (*feature.positive, *feature.negative) for value in ranked(example)]
        for shown, value in zip(tokens, values, strict=True):
            (colour,) = re.findall(r"\b[pn][1-8]\b", shown) or [""]
            assert colour in names(value, whole, threshold), (feature.projection, value, whole)


def ranked(example: Example) -> list[float]:
    return [single(value) for value in example.activations]


@pytest.mark.parametrize("scale", SCALES)
def test_a_scale_shades_every_token_as_it_says(visit: Open, rich: Path, scale: str) -> None:
    page = opened(visit, rich)
    page.select_option("#display-scale", scale)
    check(page, SCALES[scale])


def test_the_scales_differ_and_filtered_statistics_count(visit: Open, rich: Path) -> None:
    gate = next(each for each in LAYER_3 if each.projection == "gate_proj")
    assert gate.filtered
    assert gate.statistics.quantiles
    assert own(gate) < max(map(abs, gate.statistics.quantiles))
    assert len({round(scale(gate), 6) for scale in SCALES.values()}) == 3
    page = opened(visit, rich)
    classes = page.locator(".panel .token").evaluate_all("(tokens) => tokens.map((each) => each.className)")
    page.select_option("#display-scale", "effect")
    assert page.locator(".panel .token").evaluate_all("(tokens) => tokens.map((each) => each.className)") != classes


@pytest.mark.parametrize(("presses", "threshold"), [(1, 5), (10, 50), (20, 100), (25, 100)])
def test_the_threshold_moves_with_the_keyboard(visit: Open, rich: Path, presses: int, threshold: int) -> None:
    page = opened(visit, rich)
    page.locator("#display-threshold").focus()
    for _ in range(presses):
        page.keyboard.press("ArrowRight")
    assert page.locator("#display-threshold + output").inner_text() == f"{threshold} %"
    check(page, own, threshold=threshold)
    assert page.evaluate("location.hash").startswith("#layer=3&")  # the keys moved nothing else


@pytest.mark.parametrize(("key", "intensity"), [("End", 400), ("Home", 25), ("ArrowRight", 125), ("ArrowLeft", 75)])
def test_the_intensity_moves_with_the_keyboard(visit: Open, rich: Path, key: str, intensity: int) -> None:
    page = opened(visit, rich)
    page.locator("#display-intensity").focus()
    page.keyboard.press(key)
    assert page.locator("#display-intensity + output").inner_text() == f"{intensity} %"
    check(page, own, intensity=intensity)


def test_every_choice_is_kept_by_reloads_and_other_views(visit: Open, rich: Path) -> None:
    page = opened(visit, rich)
    page.select_option("#display-scale", "shared")
    page.locator("#display-threshold").fill("20")
    page.locator("#display-intensity").fill("200")
    page.get_by_label("mark spaces").check()
    page.select_option("#display-palette", "orange-purple")
    for again in (page.reload, lambda: page.locator("#next").click(), lambda: page.locator("#previous").click()):
        again()
        drawn(page)
    expect(page.locator("article.column").first).to_have_attribute("aria-label", "Layer 3, q_proj")
    check(page, shared, threshold=20, intensity=200)
    assert page.locator("#display-scale").input_value() == "shared"
    assert [page.locator(f"#display-{name}").input_value() for name in ("threshold", "intensity")] == ["20", "200"]
    assert [each.inner_text() for each in page.locator(".controls output").all()] == ["20 %", "200 %"]
    expect(page.get_by_label("mark spaces")).to_be_checked()
    assert page.locator("#display-palette").input_value() == "orange-purple"
    assert page.evaluate("document.documentElement.dataset.palette") == "orange-purple"
    assert page.locator(".context .space").count() > 0


def test_marked_spaces_leave_the_text_and_the_colours_as_they_are(visit: Open, rich: Path) -> None:
    page = opened(visit, rich)
    tokens = page.locator(".panel .token")
    before = tokens.all_text_contents()
    page.get_by_label("mark spaces").check()
    assert tokens.all_text_contents() == before
    assert page.locator(".panel .token .space").count() == sum(text.count(" ") for text in before)
    check(page, own)
    page.get_by_label("mark spaces").uncheck()
    assert tokens.all_text_contents() == before
    assert page.locator(".panel .token .space").count() == sum(len(text) for text in before if set(text) == {" "})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_on_every_shade_of_orange_and_purple(visit: Open, rich: Path, scheme: str) -> None:
    page = visit(rich, color_scheme=scheme).ready()
    usual = shade_colours(page)
    page.select_option("#display-palette", "orange-purple")
    assert not set(shade_colours(page)) & set(usual)
    token = page.locator(".panel .token").first
    for name in (f"{sign}{level}" for sign in "pn" for level in range(1, 9)):
        token.evaluate("(node, name) => { node.className = `token ${name}`; }", name)
        assert contrast(token) >= 4.5, name


def shade_colours(page: Page) -> list[str]:
    """Return the colours of the legend's sixteen shades."""
    swatches = page.locator(".scale-legend").first.locator(".scale > span[class]:not([class=''])")
    return swatches.evaluate_all("(all) => all.map((each) => getComputedStyle(each).backgroundColor)")


def test_the_legend_is_called_what_it_looks_like(visit: Open, rich: Path) -> None:
    page = opened(visit, rich)
    legend = page.locator(".scale-legend").first
    number = short(own(LAYER_3[0]))
    assert legend.get_attribute("aria-label") == f"Colours from −{number}, full blue, over 0 to {number}, full red"
    page.select_option("#display-palette", "orange-purple")
    assert legend.get_attribute("aria-label") == f"Colours from −{number}, full purple, over 0 to {number}, full orange"


@pytest.mark.parametrize("kept", ['{"scale":"toString"}', '{"threshold":"50"}', "[]", "nonsense", '{"palette":"none"}'])
def test_what_the_browser_kept_wrongly_does_no_harm(visit: Open, rich: Path, kept: str) -> None:
    opened = visit(f"{rich.as_uri()}#layer=3&{SHOWN}")
    opened.ready().evaluate("(text) => localStorage.setItem('loradash:display', text)", kept)
    opened.page.reload()
    check(opened.ready(), own)
    assert opened.problems == []
