"""Take the documentation's pictures of a dashboard: `python -m tests.browser.screenshot DASHBOARD FOLDER [LAYER]`."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from tests.browser.chromium import find_chromium


@dataclass(frozen=True)
class Picture:
    """A view and how it is looked at; `{layer}` in the address is the layer asked for."""

    address: str
    width: int = 1440
    height: int = 900
    scheme: Any = "light"
    media: Any = "screen"


PICTURES = {
    "dashboard": Picture("layer={layer}"),
    "overview": Picture("view=overview&q=how many"),
    "feature": Picture("layer={layer}&projection=up_proj", height=1700),
    "queue": Picture("view=queue&blind=1&seed=2024&index=12", height=760),
    "dark": Picture("layer={layer}", scheme="dark"),
    "phone": Picture("layer={layer}", width=390, height=844),
    "print": Picture("layer={layer}", width=1120, height=790, media="print"),
}


def main(dashboard: Path, folder: Path, layer: str = "0") -> None:
    """Write every picture of `dashboard` to `folder`."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    chromium = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        for name, picture in PICTURES.items():
            address = f"{dashboard.resolve().as_uri()}#{picture.address.format(layer=layer)}"
            take(browser, picture, address, folder / f"{name}.png")
        browser.close()


def take(browser: Browser, picture: Picture, address: str, file: Path) -> None:
    """Write one picture."""
    page = browser.new_page(viewport={"width": picture.width, "height": picture.height}, color_scheme=picture.scheme)
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    page.emulate_media(media=picture.media)
    page.wait_for_timeout(500)  # what is filled in after the first paint
    page.screenshot(path=file)
    page.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
