"""Pages at the edges of what there can be: nothing, one, many, unknown, long, on the narrowest screen and on paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace
from playwright.sync_api import Page, expect

from loradash_assets.schema import POLARITIES, Polarity
from loradash_assets.site.page import Adapter, Example, Feature, Layer, Projection, Statistics
from loradash_assets.site.page import Page as Dashboard
from tests.browser.conftest import Open
from tests.browser.pages import NOTES, features_of, name_of, rich_page, save

ODD_NAMES = ("show", "component.x", "component", "a b", "a&b=c", "#layer=1", "100%", "__proto__", "+", "?", "ä/漢")
VIEWS = {"layer": "#layer=7", "feature": "#layer=7&projection=gate_proj", "overview": "#view=overview"}


def feature(name: str = "up_proj", component: int | None = None, layer: int = 0, **parts: object) -> Feature:
    keys: dict[Polarity, str] = {polarity: f"layer_{layer}_{name}_{component}_{polarity}" for polarity in POLARITIES}
    made = Feature(layer, name, component, keys, Statistics(-1.0, 2.0), (), ())
    return replace(made, **parts)


def page_of(*features: Feature, title: str = "odd") -> Dashboard:
    """Return a page of one layer with these features, one to a projection or two components of it."""
    names = dict.fromkeys(each.projection for each in features)
    projections = (Projection(name, tuple(each for each in features if each.projection == name)) for name in names)
    return Dashboard(title, (Adapter(None, "adapter", {}, (Layer(0, tuple(projections)),)),))


def odd_page() -> Dashboard:
    return page_of(*(feature(name, component) for name in ODD_NAMES for component in (0, 1)))


def example(tokens: Sequence[str], target: int = 0, value: float = 1.5) -> Example:
    return Example(value, 0, target, 1, tuple(tokens), tuple(value for _ in tokens), target, 1)


def every_view(visit: Open, file: Path, **options: object) -> None:
    """Open every view; none may fail, or say that it cannot be shown."""
    for view in (
        "",
        "#view=overview",
        "#view=overview&q=a",
        "#layer=0&projection=up_proj",
        "#layer=0",
        "#view=queue",
        "#view=queue&blind=1",
    ):
        opened = visit(f"{file.as_uri()}{view}", **options)
        page = opened.ready()
        opened.settled()
        assert page.locator("#view .caution").count() == 0, view
        assert (opened.problems, opened.violations(), opened.requests) == ([], [], []), view


@pytest.mark.parametrize(
    "page",
    [
        Dashboard("no adapter's layers", (Adapter(None, "adapter", {}, ()),)),
        Dashboard("a layer without projections", (Adapter(None, "adapter", {}, (Layer(0, ()),)),)),
        page_of(feature(), title="one feature without examples"),
        page_of(feature(positive=(example(["a"]),)), title="one example of one token"),
        page_of(feature(negative=(example([""], value=-1.5),)), title="one example of an empty token"),
        page_of(feature(positive=(example(["x" * 20_000, "漢" * 5_000], 1),)), title="long tokens"),
        page_of(feature(statistics=Statistics(0.0, 0.0, count=0, std=0.0, mean=0.0)), title="zero"),
        page_of(feature(statistics=Statistics(1e-30, 1e30, count=10**12)), title="far apart"),
    ],
    ids=lambda page: page.title,
)
def test_every_view_of_a_page_at_the_edge_opens(visit: Open, tmp_path: Path, page: Dashboard) -> None:
    every_view(visit, save(page, {}, tmp_path / "edge.html"))


def test_a_layer_less_adapter_leaves_nothing_of_the_one_before(visit: Open, tmp_path: Path) -> None:
    layers = page_of(feature()).adapters[0]
    file = save(Dashboard("two", (layers, Adapter("empty", "empty", {}, ()))), {}, tmp_path / "two.html")
    page = visit(file).ready()
    page.select_option("#adapter", label="empty")
    expect(page.locator("#view")).to_have_text("There are no layers in this data.")
    expect(page.locator("#columns input")).to_have_count(0)
    page.locator("#to-overview").click()
    expect(page.locator(".tally")).to_have_text("0 of 0 features")


def test_twelve_adapters_are_all_within_reach(visit: Open, tmp_path: Path) -> None:
    first = page_of(feature()).adapters[0]
    others = [replace(first, name=f"a{place}", label=f"adapter & number {place}") for place in range(11)]
    page = visit(save(Dashboard("twelve", (first, *others)), {}, tmp_path / "twelve.html")).ready()
    for other in others:
        page.select_option("#adapter", label=other.label)
        expect(page.locator(".column")).to_have_count(1)
        assert f"adapter={other.name}" in page.evaluate("location.hash")
    assert page.locator("#adapter option").count() == 12


def test_the_window_s_own_names_are_not_touched(visit: Open, tmp_path: Path) -> None:
    file = save(page_of(feature("name"), feature("view"), feature("title"), feature("help")), {}, tmp_path / "w.html")
    opened = visit("about:blank")
    opened.page.evaluate("window.name = '<img src=x onerror=window.attacked=1>'")
    opened.page.goto(file.as_uri())
    page = opened.ready()
    assert page.evaluate("window.name") in ("", "<img src=x onerror=window.attacked=1>")
    opened.settled()
    assert page.evaluate("window.attacked") is None
    assert opened.problems == []


@pytest.mark.parametrize("width", [320, 3840])
@pytest.mark.parametrize("view", VIEWS)
def test_no_view_scrolls_sideways(visit: Open, rich: Path, view: str, width: int) -> None:
    page = visit(f"{rich.as_uri()}{VIEWS[view]}", viewport={"width": width, "height": 800}).ready()
    if view == "overview":
        page.locator(".tops .top").first.wait_for()
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for wider in page.locator(".wider").all()[:2]:
        wider.click()
        wider.click()
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("view", [*VIEWS, "help"])
def test_long_names_and_texts_do_not_widen_the_narrowest_screen(visit: Open, tmp_path: Path, view: str) -> None:
    long = "n" * 300
    made = page_of(feature(long, positive=(example(["x" * 2000]),)), title="t" * 500)
    adapter = replace(made.adapters[0], label=long, metadata={"Model": long}, warnings=(long,))
    other = replace(adapter, name="other")
    file = save(replace(made, adapters=(adapter, other)), {}, tmp_path / "long.html")
    address = {"feature": f"#layer=0&projection={long}", "overview": "#view=overview"}.get(view, "#layer=0")
    page = visit(f"{file.as_uri()}{address}", viewport={"width": 320, "height": 700}).ready()
    if view == "help":
        page.keyboard.press("?")
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") == 320


def printed(page: Page) -> str:
    """Return the text that is laid out for paper, and in sight there: nothing in a box that cuts it off."""
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    return page.evaluate(
        """() => [...document.querySelectorAll("#view *")].filter((node) => {
          if (node.children.length || !node.checkVisibility({ visibilityProperty: true })) return false;
          const own = node.getBoundingClientRect();
          for (let box = node.parentElement; box; box = box.parentElement) {
            const { overflowY } = getComputedStyle(box);
            const { top, bottom } = box.getBoundingClientRect();
            if (overflowY !== "visible" && (own.top > bottom || own.bottom < top)) return false;
          }
          return true;
        }).map((node) => node.textContent).join(" ")"""
    )


def test_what_is_printed_of_a_layer_and_a_feature_has_its_examples(visit: Open, rich: Path) -> None:
    wanted = next(each for each in features_of(rich_page()) if (each.layer, each.projection) == (7, "gate_proj"))
    for view in ("layer", "feature"):
        opened = visit(f"{rich.as_uri()}{VIEWS[view]}", viewport={"width": 800, "height": 600})
        text = printed(opened.ready())
        for shown in (*wanted.positive, *wanted.negative):
            assert all(token.strip() in text for token in shown.tokens)
        assert opened.page.pdf().startswith(b"%PDF")


def test_what_is_printed_of_the_overview_has_every_feature(visit: Open, rich: Path) -> None:
    page = visit(f"{rich.as_uri()}{VIEWS['overview']}", viewport={"width": 1400, "height": 420}).ready()
    page.locator(".tops .top").first.wait_for()
    features, rows = features_of(rich_page()), "document.querySelectorAll('.rows .row').length"
    assert page.evaluate(rows) < len(features)
    assert page.evaluate(f"() => {{ dispatchEvent(new Event('beforeprint')); return {rows}; }}") == len(features)
    text = printed(page)
    assert [name_of(each) for each in features if name_of(each) not in text] == []


def test_a_page_of_the_original_s_file_shows_what_it_knows(visit: Open, tmp_path: Path) -> None:
    bare = Statistics(-3.25, 4.5)
    known = page_of(feature("gate_proj", statistics=bare, positive=(example([" a", "b"], 1, 4.5),)))
    file = save(known, {}, tmp_path / "original.html")
    opened = visit(f"{file.as_uri()}#layer=0&projection=gate_proj")
    page = opened.ready()
    assert page.locator(".statistics dt").all_text_contents() == ["min", "max"]
    assert page.locator(".scale-legend .high").inner_text() == "+4.500"
    for scale in ("shared", "effect", "own"):
        page.select_option("#display-scale", scale)
        assert page.locator(".scale-legend .high").inner_text() == "+4.500"
        assert page.locator("#view .target").get_attribute("class") == "token p8 target"
    page.locator("#to-overview").click()
    expect(page.locator(".rows .row .number")).to_have_text(["", "", "", "", "", "", "−3.250", "4.500"])
    expect(page.locator(".map a")).to_have_attribute("aria-label", "Layer 0, gate_proj: effect size not known")
    assert "NaN" not in page.locator("body").inner_text()
    assert opened.problems == []
    assert not set(NOTES) & {key for each in known.features() for key in each[1].keys.values()}
