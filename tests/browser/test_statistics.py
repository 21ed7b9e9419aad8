"""The numbers beside a feature's examples."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from loradash_assets.site.build import render_dashboard
from loradash_assets.site.keys import feature_keys
from loradash_assets.site.page import Adapter, Feature, Layer, Page, Projection, Statistics
from tests.browser.conftest import Open
from tests.site import samples


def test_more_statistics_unfold_with_the_histogram(visit: Open, dashboard: Path) -> None:
    page = visit(dashboard).ready()
    rows = samples.layer_tables(3, samples.texts(3)).statistics.to_pylist()
    row = next(row for row in rows if row["projection"] == "gate_proj")
    column = page.locator(".column").first
    short = column.locator(".statistics > dl")
    assert short.locator("dt").all_text_contents() == ["min", "max", "mean", "std", "count", "RMS effect"]
    assert float(short.locator("dd").last.inner_text()) == pytest.approx(row["rms_effect"], rel=1e-3)
    more = column.locator("details dl")
    expect(more).not_to_be_visible()
    column.locator("summary").click()
    expect(more).to_be_visible()
    texts = (each.replace("−", "-") for each in more.locator("dd").all_text_contents())
    shown = dict(zip(more.locator("dt").all_text_contents(), texts, strict=True))
    expected = {"skewness": row["skewness"], "kurtosis": row["kurtosis"], "effect scale": row["effect_scale"]}
    expected |= {"1 % quantile": row["quantiles"][1], "99 % quantile": row["quantiles"][7]}
    expected |= {"median": row["quantiles"][4]}
    assert {name: float(shown.pop(name)) for name in expected} == pytest.approx(expected, rel=1e-3)
    density = float(shown.pop("beyond 3 std").removesuffix(" %"))
    assert density == pytest.approx(100 * row["density"][2], rel=5e-3)
    assert shown == {"token explains": "63.4 %", "position explains": "0 %"}
    title = more.locator("div", has_text="median").get_attribute("title")
    assert title
    assert all(name in title for name in ("0.1 %: ", "25 %: ", "99.9 %: "))


def test_what_the_source_does_not_know_is_not_shown(visit: Open, tmp_path: Path) -> None:
    known = {"up_proj": Statistics(-1.0, 2.0), "gate_proj": Statistics(-1.0, 2.0, skewness=0.0)}
    features = [
        Feature(3, name, None, feature_keys(3, name, None, "raw"), statistics, (), ())
        for name, statistics in known.items()
    ]
    layer = Layer(3, tuple(Projection(feature.projection, (feature,)) for feature in features))
    path = tmp_path / "dashboard.html"
    path.write_text(render_dashboard(Page("title", (Adapter(None, "adapter", {}, (layer,)),)), {}), "utf-8")
    page = visit(path).ready()
    gate, up = page.locator(".column").all()
    assert up.locator("dt").all_text_contents() == ["min", "max"]
    assert up.locator("details").count() == 0
    assert gate.locator("details dt").all_text_contents() == ["skewness"]
    assert gate.locator("summary").inner_text().strip() == "Distribution"
