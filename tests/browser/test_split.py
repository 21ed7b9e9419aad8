"""A page whose data lie in files beside it: from disk, without a network, and what it says when a file is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect

from loradash_assets.site.files import copy_dashboard, data_directory, save_dashboard
from loradash_assets.site.page import Page
from tests.browser.conftest import Open
from tests.site import samples


def large_page() -> Page:
    return samples.page([samples.layer_tables(layer, samples.texts(3), rank=2) for layer in (3, 7)])


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """A page with files beside it, in a directory whose name must be quoted in an address."""
    file = tmp_path / "my page? 100%.html"
    save_dashboard(large_page(), {}, file, largest=0)
    return file


def test_every_view_works_from_disk_and_asks_the_network_for_nothing(visit: Open, split: Path) -> None:
    opened = visit(split)
    page = opened.ready()
    expect(page.locator("article.column")).to_have_count(3)
    page.locator("#next").click()
    expect(page.locator("article.column").first).to_have_attribute("aria-label", "Layer 7, gate_proj, component 0")
    page.locator("article.column h2 a").first.click()
    expect(page.locator(".about-feature")).to_be_visible()
    page.locator("#to-overview").click()
    page.locator("#search").fill("sunflower")
    expect(page.locator(".rows mark").first).to_have_text("sunflower")
    assert opened.requests == []
    assert opened.violations() == []
    assert opened.problems == []


def test_it_shows_what_the_page_in_one_file_shows(visit: Open, split: Path, tmp_path: Path) -> None:
    save_dashboard(large_page(), {}, tmp_path / "one.html", largest=10**9)
    assert not data_directory(tmp_path / "one.html").exists()
    texts = [visit(file).ready().locator("#view").inner_text() for file in (split, tmp_path / "one.html")]
    assert texts[0] == texts[1]


def test_a_missing_file_is_named_and_the_rest_still_works(visit: Open, split: Path) -> None:
    (missing,) = data_directory(split).glob("layer-0-1-*.js")
    missing.unlink()
    page = visit(split).ready()
    page.locator("#next").click()
    expect(page.locator("#view .caution")).to_contain_text(missing.name)
    page.locator("#to-layers").click()
    expect(page.locator("article.column")).to_have_count(3)


def test_a_damaged_file_is_named(visit: Open, split: Path) -> None:
    (damaged,) = data_directory(split).glob("layer-0-0-*.js")
    damaged.write_text(damaged.read_text()[:100])
    page = visit(split).ready()
    expect(page.locator("#view .caution")).to_contain_text(damaged.name)


def test_a_copy_under_another_name_has_its_own_files(visit: Open, split: Path, tmp_path: Path) -> None:
    (tmp_path / "copies").mkdir()
    copy_dashboard(split, tmp_path / "copies" / "another.html")
    shutil.rmtree(data_directory(split))
    page = visit(tmp_path / "copies" / "another.html").ready()
    expect(page.locator("article.column")).to_have_count(3)


def test_a_script_that_is_no_data_file_is_not_loaded(visit: Open, split: Path) -> None:
    (split.parent / "evil.js").write_text("window.attacked = 1;")
    html = split.read_text("utf-8")
    (layer,) = data_directory(split).glob("layer-0-0-*.js")
    before = html[html.index('id="part-layer-0-0"') :].split(">", 1)[0]
    assert layer.name in before
    for address in ("evil.js", "https://example.org/layer-0-0.js", "../evil.js", "javascript:1//a/b.js"):
        split.write_text(html.replace(before, f'id="part-layer-0-0" data-file="{address}"'), "utf-8")
        opened = visit(split)
        expect(opened.ready().locator("#view .caution")).to_contain_text("not a data file")
        assert opened.page.evaluate("window.attacked") is None
        assert opened.requests == []
