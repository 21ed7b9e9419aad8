"""How long the queue takes from a finished note to the next panel.

    python -m benchmarks.next_note [--notes 30]

On pages of the same synthetic data as `benchmarks/page.py`, opened from disk: a text is put into the field, Ctrl+Enter
pressed, and measured inside the page until the next panel is in the document, and until the second frame after that; a
second lies between one panel and the next note, in which the data of what comes next are opened ahead. The order is the
seed's, so that hardly ever two panels in turn are of one layer. Sighted and blind.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser

from benchmarks.pages.browsing import File, chromium, floor, opened, summary
from benchmarks.pages.synthetic import Size, page_of
from benchmarks.pages.ways import EMPTY, EMPTY_PAGE, LORADASH
from benchmarks.timing import write_result
from loradash_assets.settings import DashboardSettings
from loradash_assets.site.files import save_dashboard

SIZES = {"64 layers × 7 projections": Size(), "14,336 features": Size(layers=32, rank=64)}
NOTES = 30
REST = 1000  # milliseconds: who writes a note takes longer
TARGET = "under 50 ms until the next is drawn, at most 3 keystrokes beyond the text"
KEYSTROKES = 1  # Ctrl+Enter
# Into the queue, or on to the next panel after a note of some words.
NEXT = """(() => {
  const field = document.querySelector(".writing textarea");
  if (!field) { location.hash = "view=queue%s"; return; }
  field.value = "numbers after an equals sign";
  field.dispatchEvent(new InputEvent("input", { bubbles: true }));
  field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", ctrlKey: true, bubbles: true, cancelable: true }));
})()"""
SHOWN = 'document.querySelector(".writing h2")'


def main() -> None:
    """Measure, print and write `benchmarks/results/next_note.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--notes", type=int, default=NOTES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        figures = {
            "target": TARGET,
            "keystrokes": KEYSTROKES,
            "chromium": browser.version,
            "frames_ms": frames(browser, Path(name), options.notes),
            "pages": {case: measure(browser, size, Path(name), options.notes) for case, size in SIZES.items()},
        }
    print(json.dumps(figures, indent=1, ensure_ascii=False))
    write_result("next_note", figures)


def frames(browser: Browser, directory: Path, times: int) -> float:
    """Return the milliseconds that painting nothing takes."""
    path = directory / "empty.html"
    path.write_text(EMPTY_PAGE, encoding="utf-8")
    return floor(browser, File(path, EMPTY, examples=1), times)


def measure(browser: Browser, size: Size, directory: Path, notes: int) -> dict[str, Any]:
    """Return the milliseconds of so many notes on a page of `size`, sighted and blind."""
    path = directory / "queue.html"
    save_dashboard(page_of(size), {}, path, DashboardSettings().largest_file)
    found: dict[str, Any] = {}
    for name, choice in (("sighted", ""), ("blind", "&blind=1")):
        way = replace(LORADASH, layer=SHOWN, next=NEXT % choice)
        with opened(browser, File(path, way, examples=1)) as page:
            page.evaluate("probe.opened")
            found[name] = summary(page.evaluate(f"probe.switches({notes}, {REST})"))
            done = page.locator(".queue-bar .tally").inner_text()
            assert done.startswith(f"{notes} of {2 * size.features:,} done"), done
    return found


if __name__ == "__main__":
    main()
