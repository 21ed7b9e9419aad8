"""What the page's benchmark compares: the same data, by two ways, and a check that sees a wrong number or text."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

from benchmarks.page import check, compared, large
from benchmarks.pages.browsing import Seen, chromium
from benchmarks.pages.synthetic import Size, page_of
from benchmarks.sections import page as section
from loradash_assets.schema import POLARITIES
from loradash_assets.site.page import Page

SIZE = Size(layers=2, k=3, samples=True)


@pytest.fixture(scope="module")
def page() -> Page:
    return page_of(SIZE)


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    with chromium() as started:
        yield started


def shown(page: Page) -> Seen:
    return {
        (projection.name, polarity): [
            (example.activation, "".join(example.tokens)) for example in projection.features[0].examples(polarity)
        ]
        for projection in list(page.adapters[0].layers)[1].projections
        for polarity in POLARITIES
    }


def test_a_synthetic_page_is_the_same_each_time_and_no_two_features_are_alike(page: Page) -> None:
    assert page == page_of(SIZE)
    features = [feature for _, feature in page.features()]
    assert len(features) == SIZE.features == 14
    assert len({feature.statistics for feature in features}) == 14


def test_windows_are_cut_from_the_whole_examples_and_lists_from_the_extremes(page: Page) -> None:
    for _, feature in page.features():
        drawn = [example for sample in feature.samples for example in sample.examples]
        for example in (*feature.positive, *feature.negative, *drawn):
            text, first = page.texts[example.example], example.position - example.target
            assert list(example.tokens) == text.tokens[first : first + len(example.tokens)]
            assert example.token_id == text.token_ids[example.position]
            assert example.activations[example.target] == example.activation
            assert first == max(0, example.position - 10)
            assert first + len(example.tokens) == min(len(text.tokens), example.position + 11)
        positive, negative = ([example.activation for example in feature.examples(each)] for each in POLARITIES)
        assert (positive, negative) == (sorted(positive, reverse=True), sorted(negative))
        assert (positive[0], negative[0]) == (feature.statistics.max, feature.statistics.min)
        assert all(float(np.format_float_positional(np.float32(value))) == value for value in positive)
        assert {len(example.minimap) for example in (*feature.positive, *feature.negative)} == {64}
        assert feature.statistics.histogram is not None
        assert sum(feature.statistics.histogram.total) == sum(len(text.tokens) for text in page.texts.values())


def test_a_wrong_activation_and_a_wrong_text_are_seen(page: Page) -> None:
    layer, right = list(page.adapters[0].layers)[1], shown(page)
    check(right, layer, "right")
    activation, text = right["up_proj", "negative"][1]
    for wrong in ((activation * 1.01, text), (activation, text.replace("e", "a", 1))):
        rows = list(right["up_proj", "negative"])
        rows[1] = wrong
        with pytest.raises(AssertionError, match="wrong"):
            check({**right, ("up_proj", "negative"): rows}, layer, "wrong")
    with pytest.raises(AssertionError, match="2 examples of gate_proj positive"):
        check({**right, ("gate_proj", "positive"): right["gate_proj", "positive"][:2]}, layer, "short")


def test_both_ways_are_measured_and_told(browser: Browser, tmp_path: Path) -> None:
    figures = compared(browser, Size(layers=4, k=2), tmp_path, pairs=1, switches=2)
    assert figures["bytes"]["original"] == (tmp_path / "original.html").stat().st_size
    assert figures["original"]["nodes"] > figures["loradash"]["nodes"] > 100
    assert figures["loradash"]["all_columns"]["nodes"] > figures["loradash"]["nodes"]
    many = large(browser, Size(layers=4, rank=2, k=2), tmp_path, times=1, switches=2)
    result = {
        **{"targets": dict.fromkeys(("size", "opening", "nodes", "switch", "keystroke"), "–"), "chromium": "1"},
        **{"originals_own_mb": 31.8, "compared": {"4 layers": figures}, "large": {"56 features": many}},
    }
    lines = section(result)
    assert any(line.startswith("| 4 layers, usable | ") for line in lines)
    assert any(line.startswith("| 56 features, all columns | ") for line in lines)
    assert ("search" in many) == any(line.startswith("| search |") for line in lines)
