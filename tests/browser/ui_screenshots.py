"""Pictures of the Dagster UI for the docs: `python -m tests.browser.ui_screenshots PROJECT FOLDER`, a built project."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.browser.chromium import find_chromium
from tests.end_to_end.ui import running_ui

WIDTH, HEIGHT = 1600, 1000


def main(project: Path, folder: Path) -> None:
    """Write `lineage.png`, the asset graph by groups, and `layer-asset.png`, a layer's table with its histograms."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    chromium = find_chromium()
    with running_ui(project) as ui, sync_playwright() as playwright:
        ui.ask("{ version }")  # waits for it
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        _lineage(page, ui.address, folder / "lineage.png")
        _asset(page, ui.address, folder / "layer-asset.png")
        browser.close()


def _lineage(page: Page, address: str, picture: Path) -> None:
    page.goto(f"{address}/asset-groups")
    page.get_by_text("recording").first.wait_for()
    page.wait_for_timeout(3000)
    page.screenshot(path=picture)


def _asset(page: Page, address: str, picture: Path) -> None:
    page.goto(f"{address}/assets/top_tokens/layer_12?view=events")
    page.get_by_text("tokens_per_second").first.wait_for()
    page.get_by_text("[Show Markdown]").last.click()
    page.get_by_role("img", name="the features' histograms").wait_for()
    page.wait_for_timeout(1000)
    page.screenshot(path=picture)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
