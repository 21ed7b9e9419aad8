"""Tokens: coloured by sign and size, the target framed, every number within reach of mouse, keyboard and finger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from loradash_assets.schema import POLARITIES, Polarity
from loradash_assets.site.build import render_dashboard
from loradash_assets.site.page import Adapter, Example, Feature, Layer, Projection, Statistics
from loradash_assets.site.page import Page as Dashboard
from tests.browser.conftest import Open

VALUES = (-4.0, -2.0, -0.1, 0.0, 0.1, 1.23456789e-05, 2.0, 3.8765432)
TEXTS = ("a", " b", "\n", "d ", "\t", "", "漢字", " eight")


def page_of(*features: Feature) -> Dashboard:
    projections = tuple(Projection(feature.projection, (feature,)) for feature in features)
    return Dashboard("tokens", (Adapter(None, "adapter", {}, (Layer(0, projections),)),))


def feature(name: str, positive: tuple[Example, ...], low: float, high: float, **options: Any) -> Feature:
    keys: dict[Polarity, str] = {polarity: f"layer_0_{name}_{polarity}" for polarity in POLARITIES}
    return Feature(0, name, None, keys, Statistics(low, high, effect_scale=0.5, **options), positive, ())


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    example = Example(3.8765432, 41, 107, 2048, TEXTS, VALUES, 7, 3)
    page = page_of(
        feature("up_proj", (example, example), -4.0, 3.8765432),
        feature("down_proj", (example,), 0.0, 3.9, non_finite=2, tied=True),
    )
    path = tmp_path / "tokens.html"
    path.write_text(render_dashboard(page, {}), "utf-8")
    return path


def first_tokens(page: Page) -> list[Locator]:
    return page.locator("li").filter(has=page.locator(".context")).first.locator(".token").all()


def ground(token: Locator) -> tuple[int, int, int]:
    colour: list[int] = token.evaluate("(node) => getComputedStyle(node).backgroundColor.match(/[\\d.]+/g).map(Number)")
    return (0, 0, 0) if len(colour) == 4 and colour[3] == 0 else (colour[0], colour[1], colour[2])


def contrast(token: Locator) -> float:
    """Return WCAG's contrast between a token's text and what it stands on."""
    return token.evaluate(
        """(node) => {
          const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
          let under = node;
          while ((numbers(getComputedStyle(under).backgroundColor)[3] ?? 1) === 0) under = under.parentElement;
          const light = (text) => numbers(text).slice(0, 3).map((part) => part / 255)
            .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
            .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
          const both = [light(getComputedStyle(node).color), light(getComputedStyle(under).backgroundColor)];
          return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
        }"""
    )


def facts(page: Page) -> dict[str, str]:
    tooltip = page.locator("#tooltip")
    expect(tooltip).to_be_visible()
    labels, values = (tooltip.locator(each).all_text_contents() for each in ("dt", "dd"))
    return dict(zip(labels, values, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_red_is_positive_blue_is_negative_and_stronger_is_further_from_the_ground(
    visit: Open, tokens: Path, scheme: str
) -> None:
    page = visit(tokens, color_scheme=scheme).ready()
    colours = [ground(token) for token in first_tokens(page)]
    for value, (red, _, blue) in zip(VALUES, colours, strict=True):
        if abs(value) < 4 / 16:
            assert red == blue == 0  # no colour of its own
        else:
            assert red > blue + 20 if value > 0 else blue > red + 20
    strength = [max(colour) - min(colour) for colour in colours]
    assert strength[0] > strength[1] > strength[2]
    assert strength[7] > strength[6] > strength[5]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_on_every_shade(visit: Open, tokens: Path, scheme: str) -> None:
    page = visit(tokens, color_scheme=scheme).ready()
    for sign in "pn":
        for level in range(1, 9):
            token = first_tokens(page)[0]
            token.evaluate("(node, name) => { node.className = `token ${name}`; }", f"{sign}{level}")
            assert contrast(token) >= 4.5, f"{sign}{level}"


def test_only_the_target_is_framed(visit: Open, tokens: Path) -> None:
    page = visit(tokens).ready()
    frames = [token.evaluate("(node) => getComputedStyle(node).outlineStyle") for token in first_tokens(page)]
    assert frames == ["none"] * 7 + ["solid"]


def test_white_space_is_visible_and_the_text_stays_exact(visit: Open, tokens: Path) -> None:
    page = visit(tokens).ready()
    shown = first_tokens(page)
    assert tuple(token.text_content() for token in shown) == TEXTS
    assert shown[2].locator(".mark").get_attribute("data-mark") == "↵"
    assert shown[4].locator(".mark").get_attribute("data-mark") == "⇥"
    assert page.locator(".context .space").count() == 0
    page.get_by_label("mark spaces").check()
    assert [shown[place].locator(".space").count() for place in (0, 1, 3, 7)] == [0, 1, 1, 1]
    assert tuple(token.text_content() for token in shown) == TEXTS
    assert all((box := token.bounding_box()) and box["width"] > 0 for token in shown)


def test_hover_focus_and_tap_tell_the_exact_numbers(visit: Open, tokens: Path) -> None:
    target = {
        **{"activation": "3.8765432", "of full colour": "97 %", "effect size": "1.938"},
        **{"example": "41", "position": "107", "token id": "2048"},
    }
    beside = {"activation": "0.0000123456789", "of full colour": "0 %", "example": "41", "position": "105"}
    page = visit(tokens).ready()
    first_tokens(page)[7].hover()
    assert facts(page) == target
    first_tokens(page)[5].hover()
    assert {name: text for name, text in facts(page).items() if name in beside} == beside
    page.locator("h1").hover()
    expect(page.locator("#tooltip")).to_be_hidden()
    touch = visit(tokens, has_touch=True, viewport={"width": 360, "height": 700}).ready()
    first_tokens(touch)[7].tap()
    assert facts(touch) == target


def test_the_keyboard_walks_over_tokens_and_examples(visit: Open, tokens: Path) -> None:
    page = visit(tokens).ready()
    page.locator("textarea").first.focus()
    page.keyboard.press("Tab")  # to the note's tags
    page.keyboard.press("Tab")
    assert facts(page)["position"] == "107"
    page.keyboard.press("ArrowLeft")
    assert facts(page)["activation"] == "2"
    page.keyboard.press("ArrowDown")
    assert facts(page)["position"] == "107"
    assert page.evaluate("document.activeElement.closest('li').previousElementSibling !== null")
    page.keyboard.press("Escape")
    expect(page.locator("#tooltip")).to_be_hidden()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('.panel').classList.contains('negative')")


def test_occurrences_empty_lists_and_cautions_are_said(visit: Open, tokens: Path) -> None:
    page = visit(tokens).ready()
    up, down = page.locator(".column").all()
    expect(up.locator(".times").first).to_have_text("×3")
    expect(up.locator(".panel.negative")).to_contain_text("No negative examples were kept.")
    expect(down.locator(".panel.negative")).to_contain_text(
        "No negative activations: this feature is never below zero."
    )
    expect(down.locator(".statistics")).to_contain_text("2 activations are NaN or infinite")
    expect(down.locator(".statistics")).to_contain_text("only their span means something")
