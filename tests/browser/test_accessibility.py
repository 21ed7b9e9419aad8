"""The page breaks no rule of axe-core: every view, light and dark, on a phone, a laptop and a very wide screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from loradash_assets.site.report import report_html
from tests.browser.axe import violations
from tests.browser.conftest import Open
from tests.site import samples
from tests.site.notes import note, table

HEIGHT = 900


def as_opened(page: Page) -> None:
    """Leave the page as it is."""


def unfolded(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")


def tagged(page: Page) -> None:
    page.locator(".more").first.click()
    page.locator(".own").get_by_role("button", name="dense").first.click()


def importing(page: Page) -> None:
    page.get_by_role("button", name="Import").click()


def token_in_focus(page: Page) -> None:
    page.locator(".token[tabindex='0']").first.focus()
    page.locator("#tooltip").wait_for()


def coloured_otherwise(page: Page) -> None:
    page.locator("#legend").evaluate("(legend) => { legend.open = true; }")
    page.locator("#display-palette").select_option("orange-purple")
    page.locator("#display-scale").select_option("effect")
    page.get_by_label("mark spaces").check()


def overview(page: Page) -> None:
    page.locator("#to-overview").click()
    page.locator(".rows .row").first.wait_for()


def searched(page: Page) -> None:
    overview(page)
    page.locator("#search").fill("the")
    page.locator(".rows mark").first.wait_for()


def nothing_found(page: Page) -> None:
    overview(page)
    page.locator("#search").fill("no such text")
    page.get_by_text("0 of 18 features").wait_for()


def feature(page: Page) -> None:
    page.locator("article.column h2 a").first.click()
    page.locator(".about-feature").wait_for()


def queue(page: Page) -> None:
    page.keyboard.press("q")
    page.locator(".writing textarea").fill("a note")
    page.keyboard.press("Alt+d")


def queue_blind(page: Page) -> None:
    queue(page)
    page.locator("#queue-blind").check()
    page.get_by_role("button", name="Reveal").wait_for()
    page.locator(".token[tabindex='0']").first.focus()


def example(page: Page) -> None:
    page.locator(".activation").nth(1).click()
    page.locator("li[aria-current]").wait_for()


def helped(page: Page) -> None:
    page.keyboard.press("?")
    page.locator("#help").wait_for()


# How to get from the page as it opens to what is looked at.
VIEWS: dict[str, Callable[[Page], None]] = {
    "layer": as_opened,
    "layer, unfolded": unfolded,
    "layer, tags open": tagged,
    "layer, importing": importing,
    "layer, a token in focus": token_in_focus,
    "layer, other colours": coloured_otherwise,
    "overview": overview,
    "overview, searched": searched,
    "overview, nothing found": nothing_found,
    "feature": feature,
    "feature, at an example": example,
    "queue": queue,
    "queue, blind": queue_blind,
    "help": helped,
}


@pytest.mark.parametrize("width", [320, 1280, 3840])
@pytest.mark.parametrize("view", VIEWS)
def test_no_rule_is_broken(visit: Open, dashboard: Path, view: str, width: int) -> None:
    page = visit(dashboard, bypass_csp=True, viewport={"width": width, "height": HEIGHT}).ready()
    VIEWS[view](page)
    found = violations(page)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("width", [320, 1280])
def test_the_report_breaks_no_rule_and_is_no_wider_than_a_phone(visit: Open, tmp_path: Path, width: int) -> None:
    name = "a-name-that-has-no-place-to-break-" * 3
    labels: dict[str, Any] = {name: (["dense", name], 2), "Bo": ([], None)}
    notes = table(
        note("layer_3_q_proj_positive", "is it sums?", True, text_by=name, text_at="2026-03-01", labels=labels),
        note("layer_3_q_proj_negative", "units", examples_seen=["00000000"], last_modified="2026-03-01"),
        note(name, "gone", unknown="not a key"),
    )
    report = tmp_path / "report.html"
    report.write_text(report_html(samples.page([samples.layer_tables(3, samples.texts(2))]), notes), "utf-8")
    page = visit(report, bypass_csp=True, viewport={"width": width, "height": HEIGHT}).page
    found = violations(page)
    assert not found, "\n".join(found)
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_heading_that_is_hard_to_read_and_a_button_without_a_name_are_found(visit: Open, dashboard: Path) -> None:
    page = visit(dashboard, bypass_csp=True).ready()
    for scheme, grey in (("light", "#bbb"), ("dark", "#444")):
        page.evaluate("(grey) => { document.querySelector('#title').style.color = grey; }", grey)
        assert [line for line in violations(page) if line.startswith(f"{scheme}: color-contrast at #title")]
    page.evaluate("document.querySelector('#theme').replaceWith(document.createElement('button'))")
    found = violations(page)
    assert [line for line in found if ": button-name at " in line and "<button></button>" in line], found
