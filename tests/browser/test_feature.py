"""A feature's page: every part of it, against the feature itself, and the ways to it and on from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from loradash_assets.schema import POLARITIES, QUANTILE_SHARES
from loradash_assets.site.page import Example, Feature
from tests.browser.conftest import Open
from tests.browser.pages import OTHER, address_of, features_of, name_of, percent, rich_page, short, title_of

FEATURES = features_of(rich_page())
GATE, RANK_2, ONE_SIDED = (
    next(each for each in FEATURES if (each.layer, each.projection, each.component) == wanted)
    for wanted in ((7, "gate_proj", None), (8, "up_proj", 1), (7, "q_proj", None))
)
KINDS = {"read": "Read alike", "write": "Write alike", "coactivation": "Fire together"}
SHARES = [float(share) for share in QUANTILE_SHARES]
MARKED = (0.01, 0.25, 0.5, 0.75, 0.99)  # quantiles with a tick in the histogram


def opened(visit: Open, file: Path, feature: Feature, more: str = "") -> Page:
    return visit(f"{file.as_uri()}#{address_of(feature)}{more}").ready()


def listed(part: Locator) -> list[tuple[str, str, float, str, str]]:
    """Return of each example in a list: row, position, activation, how often, text."""
    return [
        (
            item.get_attribute("data-example") or "",
            item.get_attribute("data-position") or "",
            float(item.locator("data").get_attribute("value") or ""),
            "".join(item.locator(".times").all_text_contents()),
            item.locator(".context").text_content() or "",
        )
        for item in part.locator("ol > li").all()
    ]


def as_listed(examples: Sequence[Example]) -> list[tuple[str, str, float, str, str]]:
    return [
        (
            str(each.example),
            str(each.position),
            each.activation,
            f"×{each.occurrences}" if each.occurrences > 1 else "",
            "".join(each.tokens),
        )
        for each in examples
    ]


@pytest.mark.parametrize("feature", [GATE, RANK_2, ONE_SIDED], ids=name_of)
def test_examples_of_both_sides_and_their_most_frequent_top_tokens(visit: Open, rich: Path, feature: Feature) -> None:
    page = opened(visit, rich, feature)
    for polarity in POLARITIES:
        examples = feature.examples(polarity)
        panel = page.locator(f".panel.{polarity}")
        assert panel.get_attribute("data-key") == feature.keys[polarity]
        assert listed(panel) == as_listed(examples)
        tops = [example.tokens[example.target] for example in examples]
        frequent = sorted(dict.fromkeys(tops), key=tops.count, reverse=True)[:12]
        assert panel.locator(".frequent li").all_text_contents() == [f"{text} ×{tops.count(text)}" for text in frequent]
        assert panel.locator(".target").all_text_contents() == tops
    assert page.locator(".panel.negative .quiet").count() == (not feature.negative)


def test_samples_per_interval_and_at_random(visit: Open, rich: Path) -> None:
    page = opened(visit, rich, GATE)
    parts = page.locator(".samples .range").all()
    assert len(parts) == len(GATE.samples) == 3
    for part, sample in zip(parts, GATE.samples, strict=True):
        bounds = "At random" if sample.interval is None else f"{short(sample.low)} to {short(sample.high)}"
        expect(part.locator("h3")).to_have_text(f"{bounds} {len(sample.examples)} of {sample.count}")
        assert listed(part) == as_listed(sample.examples)


def test_statistics_of_all_tokens_and_of_those_that_lists_may_hold(visit: Open, rich: Path) -> None:
    page = opened(visit, rich, GATE)
    lists = [
        dict(zip(each.locator("dt").all_text_contents(), each.locator("dd").all_text_contents(), strict=True))
        for each in page.locator(".statistics dl").all()
    ]
    known = GATE.statistics
    assert known.quantiles
    assert known.density
    usual = {"min": known.min, "max": known.max, "mean": known.mean, "std": known.std, "RMS effect": known.rms_effect}
    more = {
        **{"1 % quantile": known.quantiles[1], "median": known.quantiles[4], "99 % quantile": known.quantiles[7]},
        **{"skewness": known.skewness, "kurtosis": known.kurtosis, "effect scale": known.effect_scale},
    }
    shares = {
        "beyond 3 std": known.density[2],
        "token explains": known.token_omega_squared,
        "position explains": known.position_omega_squared,
    }
    written = {name: short(value) for name, value in usual.items() if value is not None} | {"count": str(known.count)}
    assert lists[1] == written  # of the filtered ones only the quantiles differ
    written |= {name: short(value) for name, value in more.items() if value is not None}
    assert lists[0] == written | {name: percent(share) for name, share in shares.items() if share is not None}


@pytest.mark.parametrize("feature", [GATE, RANK_2], ids=name_of)
def test_the_histogram_is_open_with_zero_and_quantiles_marked(visit: Open, rich: Path, feature: Feature) -> None:
    page = opened(visit, rich, feature)
    picture = page.locator("svg.histogram")
    expect(picture).to_be_visible()
    statistics = feature.statistics
    assert statistics.histogram
    assert statistics.quantiles
    low, high = statistics.histogram.edges[0], statistics.histogram.edges[-1]

    def place(value: float) -> float:
        return 320 * (value - low) / (high - low)

    def middles(lines: Locator) -> list[float]:
        return lines.evaluate_all("(lines) => lines.map((line) => Number(line.getAttribute('x1')))")

    assert middles(picture.locator(".zero")) == pytest.approx([place(0)], abs=0.01)
    values = [statistics.quantiles[SHARES.index(share)] for share in MARKED]
    assert middles(picture.locator(".tick")) == pytest.approx([place(value) for value in values], abs=0.01)
    assert picture.locator(".tick title").all_text_contents() == [
        f"{100 * share:g} % of the tokens: up to {short(value)}" for share, value in zip(MARKED, values, strict=True)
    ]
    bars = picture.locator("rect title").all_text_contents()
    counted = sum(int(each.split(": ")[1].split()[0].replace(",", "")) for each in bars)
    assert counted == sum(statistics.histogram.total)


@pytest.mark.parametrize("feature", [GATE, RANK_2, FEATURES[-1]], ids=name_of)
def test_neighbours_of_three_kinds_lead_where_they_say(visit: Open, rich: Path, feature: Feature) -> None:
    page = opened(visit, rich, feature)
    for kind, heading in KINDS.items():
        neighbours = getattr(feature.neighbours, kind)
        part = page.get_by_role("region", name=heading)
        links = part.locator("a")
        assert links.all_text_contents() == [name_of(each) for each in neighbours]
        hashes = links.evaluate_all("(links) => links.map((link) => link.hash)")
        assert hashes == [f"#{address_of(each)}" for each in neighbours]
        likeness = [f"{each.likeness:.3f}".replace("-", "−") for each in neighbours]
        assert part.locator(".likeness").all_text_contents() == likeness
        assert part.locator(".quiet").count() == (not neighbours)
    first = feature.neighbours.read[0]
    page.locator(".neighbours a").first.click()
    component = "" if first.component is None else f" component {first.component}"
    expect(page.locator(".about-feature h2")).to_have_text(f"Layer {first.layer} {first.projection}{component}")


def test_a_neighbour_s_page_is_seen_from_its_top(visit: Open, rich: Path) -> None:
    page = visit(f"{rich.as_uri()}#{address_of(GATE)}", viewport={"width": 1000, "height": 500}).ready()
    link = page.locator(".neighbours a").last
    link.scroll_into_view_if_needed()
    link.click()
    expect(page.locator(".about-feature h2")).not_to_have_text("Layer 7 gate_proj")
    expect(page.locator(".about-feature h2")).to_be_in_viewport()


def test_arrows_go_to_the_feature_before_and_after(visit: Open, rich: Path) -> None:
    page = opened(visit, rich, FEATURES[0])
    title = page.locator(".about-feature")
    expect(page.locator("#previous")).to_be_disabled()
    for feature in FEATURES[1:]:
        page.keyboard.press("ArrowRight")
        expect(title).to_have_attribute("aria-label", title_of(feature))
        expect(page.locator("#layer option:checked")).to_have_text(f"Layer {feature.layer}")
    expect(page.locator("#next")).to_be_disabled()
    page.keyboard.press("ArrowRight")
    page.locator("#previous").click()
    expect(title).to_have_attribute("aria-label", title_of(FEATURES[-2]))
    page.keyboard.press("ArrowLeft")
    expect(title).to_have_attribute("aria-label", title_of(FEATURES[-3]))
    assert page.title() == f"{title_of(FEATURES[-3])} · everything"


@pytest.mark.parametrize("feature", [GATE, RANK_2], ids=name_of)
def test_a_link_to_an_example_marks_it_and_brings_it_into_view(visit: Open, rich: Path, feature: Feature) -> None:
    example = feature.negative[-1]
    more = f"&example={example.example}&position={example.position}"
    page = visit(f"{rich.as_uri()}#{address_of(feature)}{more}", viewport={"width": 700, "height": 400}).ready()
    marked = page.locator("li[aria-current=true]")
    expect(marked).to_have_count(1)
    expect(marked).to_be_in_viewport()
    assert marked.locator(".context").text_content() == "".join(example.tokens)
    expect(marked.locator(".target")).to_be_focused()


def test_an_example_s_own_link_leads_to_it(visit: Open, rich: Path) -> None:
    page = visit(f"{rich.as_uri()}#layer=7").ready()
    item = page.locator(".panel.negative").nth(1).locator("li").nth(2)
    place = [item.get_attribute(name) for name in ("data-example", "data-position")]
    item.locator(".measure a").click()
    marked = page.locator("li[aria-current=true]")
    expect(marked).to_have_count(1)
    assert [marked.get_attribute(name) for name in ("data-example", "data-position")] == place
    assert page.locator(".about-feature").get_attribute("aria-label") == "Layer 7, up_proj"
    page.go_back()
    expect(page.locator("article.column")).to_have_count(3)


@pytest.mark.parametrize(
    "address",
    [
        "layer=3&projection=nothing",
        "layer=5&projection=q_proj",
        "layer=3&projection=q_proj&component=0",
        "layer=8&projection=up_proj",
        "layer=8&projection=up_proj&component=2",
        f"adapter={OTHER}&layer=7&projection=q_proj",
        "projection=q_proj",
    ],
)
def test_a_feature_that_is_not_there_is_said_so(visit: Open, rich: Path, address: str) -> None:
    opened = visit(f"{rich.as_uri()}#{address}")
    page = opened.ready()
    expect(page.locator("#view")).to_have_text(
        "This adapter has no such feature. The overview shows those that it has."
    )
    page.locator("#to-overview").click()
    expect(page.locator(".map")).to_be_visible()
    assert opened.problems == []


def test_each_adapter_has_its_own_features(visit: Open, rich: Path) -> None:
    (up,) = features_of(rich_page(), 1)
    page = visit(f"{rich.as_uri()}#{address_of(up, OTHER)}").ready()
    assert page.locator("#adapter option:checked").inner_text() == "step 200 &=#%"
    assert listed(page.locator(".panel.positive")) == as_listed(up.positive)
    assert page.locator(".panel.positive").get_attribute("data-key") == f"{OTHER}/layer_7_up_proj_positive"
    expect(page.locator("#previous")).to_be_disabled()
    expect(page.locator("#next")).to_be_disabled()
    for link in (page.locator(".about-feature h2 a"), page.locator(".measure a").first):
        assert link.evaluate("(node) => node.hash").startswith(f"#adapter={OTHER}&layer=7")
    page.select_option("#adapter", label="adapter")
    expect(page.locator(".panel.positive")).to_have_attribute("data-key", "layer_7_up_proj_positive")
    assert page.evaluate("location.hash") == "#layer=7&projection=up_proj"


def test_the_layer_s_heading_leads_to_the_feature_and_back(visit: Open, rich: Path) -> None:
    page = visit(f"{rich.as_uri()}#layer=8").ready()
    page.get_by_label("Component of up_proj").select_option("1")
    page.locator(".column h2 > a", has_text="up_proj").click()
    expect(page.locator(".about-feature")).to_have_attribute("aria-label", title_of(RANK_2))
    page.locator(".about-feature h2 a").click()
    expect(page.locator("article.column")).to_have_count(2)
