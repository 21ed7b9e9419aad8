"""An example's minimap and the text around its window: as the whole example has them, from disk and with a service."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from msgspec.structs import replace
from playwright.sync_api import Locator, Page, expect

from loradash_assets.schema import POLARITIES
from loradash_assets.site.page import Example, Feature
from tests.browser.conftest import Open
from tests.browser.pages import OTHER, address_of, features_of, rich_page, rows, save
from tests.browser.test_colours import names, own

FEATURES = features_of(rich_page())
FAINTEST = 5  # of 127: what a picture of 16 pixels has room for
REACH = 3  # tokens on each side of the target in a window of the samples
NOT_KNOWN = 7  # the position of which the service of these tests has no value


def length(example: Example) -> int:
    return len(rows()[example.example].tokens)


def in_the_middle() -> tuple[Feature, Example]:
    """Return a feature and one of its positive examples that is four windows from either end of its text."""
    far = 6 * REACH
    return next(
        (feature, example)
        for feature in FEATURES
        for example in feature.positive
        if far <= example.position < length(example) - far
    )


def in_strange_text() -> tuple[Feature, Example]:
    return next((feature, example) for feature in FEATURES for example in feature.positive if example.example == 2)


def item_of(page: Page, example: Example) -> Locator:
    place = f"[data-example='{example.example}'][data-position='{example.position}']"
    return page.locator(f".panel.positive li{place}")


def opened(visit: Open, file: Path, feature: Feature) -> Page:
    return visit(f"{file.as_uri()}#{address_of(feature)}").ready()


def text(item: Locator) -> str:
    return item.locator(".context").text_content() or ""


def bars(item: Locator, bins: int) -> dict[int, float]:
    """Return the minimap's bars: their heights in halves of the picture by bin, below zero for those that hang down."""
    found: dict[int, float] = {}
    for side, sign in (("above", 1), ("below", -1)):
        path = item.locator(f".minimap path.{side}").get_attribute("d") or ""
        for x, up in re.findall(r"M(\d+) 127v(-?\d+)h1V127z", path):
            assert float(up) * sign < 0
            found[int(x)] = sign * abs(float(up)) / 127
    assert item.locator(".minimap").get_attribute("viewBox") == f"0 0 {bins} 254"
    return found


@pytest.mark.parametrize("polarity", POLARITIES)
def test_every_example_has_the_bars_of_its_minimap_and_its_window_marked(
    visit: Open, rich: Path, polarity: str
) -> None:
    feature, _ = in_the_middle()
    page = opened(visit, rich, feature)
    examples = feature.positive if polarity == "positive" else feature.negative
    for item, example in zip(page.locator(f".panel.{polarity} ol > li").all(), examples, strict=True):
        values = {place: byte - 256 if byte > 127 else byte for place, byte in enumerate(example.minimap)}
        expected = {place: value / 127 for place, value in values.items() if abs(value) >= FAINTEST}
        assert len(values) <= 64
        assert bars(item, len(values)) == pytest.approx(expected, abs=0.02)
        shown = item.locator(".minimap rect")
        first = example.position - example.target
        edges = [len(values) * place / length(example) for place in (first, first + len(example.tokens))]
        assert float(shown.get_attribute("x") or "") == pytest.approx(edges[0])
        assert float(shown.get_attribute("width") or "") == pytest.approx(edges[1] - edges[0])


def test_it_widens_four_times_then_wholly_then_goes_back(visit: Open, rich: Path) -> None:
    feature, example = in_the_middle()
    page = opened(visit, rich, feature)
    item, tokens = item_of(page, example), rows()[example.example].tokens
    button = item.locator(".wider")
    narrow, whole = "".join(example.tokens), "".join(tokens)
    assert text(item) == narrow
    button.click()
    shown = item.locator(".token").count()
    before = int(item.locator(".target").evaluate("(node) => [...node.parentElement.children].indexOf(node)"))
    after = shown - before - 1
    assert 4 * REACH <= before <= 6 * REACH
    assert 4 * REACH <= after <= 6 * REACH
    assert text(item) == "".join(tokens[example.position - before : example.position + after + 1])
    wide = float(item.locator(".minimap rect").get_attribute("width") or "")
    assert wide == pytest.approx(min(64, len(tokens)) * shown / len(tokens))
    button.click()
    assert text(item) == whole
    assert button.get_attribute("aria-label") == "Show less of this example"
    button.click()
    assert text(item) == narrow
    assert item.locator(".target").count() == 1


def test_text_of_any_kind_is_the_whole_example_s(visit: Open, rich: Path) -> None:
    feature, example = in_strange_text()
    page = opened(visit, rich, feature)
    item = item_of(page, example)
    item.locator(".wider").click()
    assert item.locator(".token").all_text_contents() == list(rows()[2].tokens)
    assert item.locator(".target").text_content() == example.tokens[example.target]
    page.get_by_label("mark spaces").check()
    assert item.locator(".token").all_text_contents() == list(rows()[2].tokens)


def facts(page: Page, token: Locator) -> dict[str, str]:
    token.scroll_into_view_if_needed()
    token.hover()
    tooltip = page.locator("#tooltip")
    expect(tooltip).to_be_visible()
    labels, values = (tooltip.locator(each).all_text_contents() for each in ("dt", "dd"))
    return dict(zip(labels, values, strict=True))


def test_from_disk_what_lies_beyond_the_window_has_its_text_alone(visit: Open, rich: Path) -> None:
    feature, example = in_the_middle()
    page = opened(visit, rich, feature)
    item = item_of(page, example)
    item.locator(".wider").click()
    before = int(item.locator(".target").evaluate("(node) => [...node.parentElement.children].indexOf(node)"))
    assert facts(page, item.locator(".token").first)["position"] == str(example.position - before)
    item.locator(".wider").click()
    tokens, first = item.locator(".token"), example.position - example.target
    for position in (0, first - 1, first + len(example.tokens), length(example) - 1):
        assert facts(page, tokens.nth(position)) == {
            "activation": "not in this file",
            "example": str(example.example),
            "position": str(position),
            "token id": str(1000 + position),
        }
    unknown = item.locator(".token.unknown")
    assert unknown.count() == length(example) - len(example.tokens)
    assert float(facts(page, tokens.nth(example.position))["activation"]) == example.activation


def test_enter_on_a_token_widens_and_the_focus_stays_on_the_target(visit: Open, rich: Path) -> None:
    feature, example = in_the_middle()
    page = opened(visit, rich, feature)
    item = item_of(page, example)
    item.locator(".token").first.focus()
    shown = [item.locator(".token").count()]
    for _ in range(3):
        page.keyboard.press("Enter")
        shown.append(item.locator(".token").count())
        expect(item.locator(".target")).to_be_focused()
    assert shown[0] == shown[3] < shown[1] < shown[2] == length(example)
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowLeft")
    expect(item.locator(".target")).not_to_be_focused()
    assert page.locator(".panel.positive ol [tabindex='0']").count() == 1


def test_how_often_a_context_occurs_stays_beside_it(visit: Open, rich: Path) -> None:
    feature, _ = in_the_middle()
    page = opened(visit, rich, feature)
    item = page.locator(".panel.positive ol > li").nth(1)
    assert feature.positive[1].occurrences == 3
    item.locator(".wider").click()
    expect(item.locator(".times")).to_have_text("×3")


def test_a_window_that_is_all_there_is_cannot_be_widened(visit: Open, tmp_path: Path) -> None:
    feature, example = in_the_middle()
    page = opened(visit, save(replace(rich_page(), texts={}), {}, tmp_path / "windows.html"), feature)
    item = item_of(page, example)
    expect(item.locator(".wider")).to_have_count(0)
    item.locator(".target").focus()
    page.keyboard.press("Enter")
    assert text(item) == "".join(example.tokens)


def value_at(key: str, example: int, position: int) -> float | None:
    """Return what the service of these tests says: a number of any size, none at one position beyond the window."""
    feature, shown = next(
        (each, window)
        for adapter in (0, 1)
        for each in features_of(rich_page(), adapter)
        if each.keys["positive"] == key
        for window in each.positive
        if window.example == example
    )
    inside = position - (shown.position - shown.target)
    if 0 <= inside < len(shown.tokens):
        return shown.activations[inside]
    if position == NOT_KNOWN:
        return None
    return ((position * 37) % 101 - 50) / 50 * own(feature)


class Service(BaseHTTPRequestHandler):
    """The page at /, activations of whole examples, and 404 for everything else."""

    html: bytes
    asked: list[str]

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if address.path == "/":
            self._send(200, "text/html; charset=utf-8", self.html)
        elif address.path.startswith("/api/activations/"):
            type(self).asked.append(self.path)
            key, example = unquote(address.path.rpartition("/")[2]), int(parse_qs(address.query)["example"][0])
            values = [value_at(key, example, place) for place in range(len(rows()[example].tokens))]
            self._send(200, "application/json", json.dumps({"activations": values}).encode())
        else:
            self._send(404, "text/plain", b"no such page")

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name that http.server gives it)
        """Say nothing."""


@pytest.fixture
def service(rich: Path) -> Generator[ThreadingHTTPServer]:
    """A service on a free port; its handler keeps what it was asked."""
    handler = type("Handler", (Service,), {"html": rich.read_bytes(), "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def asked(server: ThreadingHTTPServer) -> list[str]:
    handler: Any = server.RequestHandlerClass
    return handler.asked


@pytest.mark.parametrize("adapter", [0, 1])
def test_with_a_service_the_whole_example_has_colours_and_exact_values(
    visit: Open, service: ThreadingHTTPServer, adapter: int
) -> None:
    feature = in_the_middle()[0] if adapter == 0 else features_of(rich_page(), 1)[0]
    example = next(each for each in feature.positive if length(each) > 40)
    name = None if adapter == 0 else OTHER
    page = visit(f"http://127.0.0.1:{service.server_port}/#{address_of(feature, name)}").ready()
    item = item_of(page, example)
    while item.locator(".token").count() < length(example):
        item.locator(".wider").click()
    expect(item.locator(".token.unknown")).to_have_count(0 if NOT_KNOWN in windowed(example) else 1)
    key = feature.keys["positive"]
    full = own(feature)
    for position, token in enumerate(item.locator(".token").all()):
        value = example.activation if position == example.position else value_at(key, example.example, position)
        (colour,) = re.findall(r"\b[pn][1-8]\b", token.get_attribute("class") or "") or [""]
        assert colour in ({""} if value is None else names(value, full, 0)), position
    value = value_at(key, example.example, 0)
    assert value is not None
    assert float(facts(page, item.locator(".token").first)["activation"]) == value
    assert len(asked(service)) == 1
    item.locator(".wider").click()
    assert text(item) == "".join(example.tokens)


def windowed(example: Example) -> range:
    first = example.position - example.target
    return range(first, first + len(example.tokens))


def test_a_service_without_the_example_leaves_the_text(visit: Open, service: ThreadingHTTPServer) -> None:
    feature, example = in_the_middle()
    start = visit("about:blank")
    start.context.route("**/api/activations/**", lambda route: route.fulfill(status=404, body="{}"))
    start.page.goto(f"http://127.0.0.1:{service.server_port}/#{address_of(feature)}")
    page = start.ready()
    item = item_of(page, example)
    item.locator(".wider").click()
    item.locator(".wider").click()
    assert text(item) == "".join(rows()[example.example].tokens)
    expect(item.locator(".token.unknown")).to_have_count(length(example) - len(example.tokens))
