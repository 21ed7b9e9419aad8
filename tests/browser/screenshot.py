"""Take the README's picture of a dashboard: `python -m tests.browser.screenshot DASHBOARD PNG [LAYER]`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.chromium import find_chromium


def main(dashboard: Path, picture: Path, layer: str = "0") -> None:
    """Write a picture of one layer of `dashboard`, light, 1440 x 900."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    chromium = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page(viewport={"width": 1440, "height": 900}, color_scheme="light")
        page.goto(f"{dashboard.resolve().as_uri()}#layer={layer}")
        page.get_by_text("Positive").first.wait_for()
        page.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
