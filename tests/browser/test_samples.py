"""Samples across a feature's range: made when they are opened, in the order of the range, with the same tokens."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from loradash_assets.site.build import render_dashboard
from tests.browser.conftest import Open
from tests.site import samples


def test_samples_are_drawn_on_demand_from_the_highest_interval_down(visit: Open, dashboard: Path) -> None:
    page = visit(dashboard).ready()
    parts = page.locator("details.samples")
    columns = page.locator(".column").count()
    assert parts.count() == columns
    assert page.locator(".samples .token").count() == 0
    parts.first.locator("summary").click()
    expect(page.locator(".samples ol")).to_have_count(3 * columns)  # one choice for all features
    for opened in (0, columns):  # closed and opened again, nothing is made twice
        parts.first.locator("summary").click()
        expect(page.locator("details.samples[open]")).to_have_count(opened)
    page.wait_for_timeout(100)
    expect(page.locator(".samples ol")).to_have_count(3 * columns)
    table = samples.layer_tables(3, samples.texts(3), projections=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj"))
    rows = [row for row in table.samples.to_pylist() if row["projection"] == "gate_proj"]
    part = page.get_by_role("region", name="Layer 3, gate_proj, across the range")
    headings = part.locator("h4").all_text_contents()
    assert [heading.rpartition(" ")[0].rpartition(" ")[0] for heading in headings][2] == "At random 2"
    assert [heading.rpartition(" of ")[2] for heading in headings] == [
        str(next(row["count"] for row in rows if row["interval"] == interval)) for interval in (1, 0, -1)
    ]
    targets = part.locator(".target").all_text_contents()
    assert targets == [row["token"] for interval in (1, 0, -1) for row in rows if row["interval"] == interval]
    values = [float(each.get_attribute("value") or "") for each in part.locator("data").all()]
    assert values[0] > values[1]
    part.locator(".target").first.hover()
    expect(page.locator("#tooltip")).to_contain_text(str(values[0]))  # exact, though what is around it is rounded


def test_the_choice_is_kept_from_layer_to_layer(visit: Open, dashboard: Path) -> None:
    visited = visit(dashboard)
    page = visited.ready()
    page.locator("details.samples summary").first.click()
    page.get_by_role("button", name="Next layer").click()
    expect(page.locator(".column").first).to_have_attribute("aria-label", "Layer 7, gate_proj")
    expect(page.locator(".samples .token").first).to_be_visible()
    assert visited.problems == []
    assert visited.violations() == []


def test_a_page_without_samples_has_no_such_part(visit: Open, tmp_path: Path) -> None:
    tables = samples.layer_tables(3, samples.texts(1))
    bare = samples.page([samples.without_samples(tables)])
    file = tmp_path / "bare.html"
    file.write_text(render_dashboard(bare, {}), "utf-8")
    page = visit(file).ready()
    assert page.locator("details.samples").count() == 0
