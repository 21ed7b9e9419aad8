"""Opened from disk the page asks no network, keeps notes in the browser, and gives them out as interpretations.json."""

from __future__ import annotations

import json
import re
from pathlib import Path

from playwright.sync_api import Page, expect

from loradash_assets.site.build import render_dashboard
from loradash_assets.site.page import Note
from tests.browser.conftest import Open, drawn
from tests.site import samples

KEY = "layer_0_gate_proj_positive"
BUILT_IN = {
    KEY: Note("built in", True, "2024-01-20T10:30:00Z"),
    "layer_0_up_proj_negative": Note("stays", False, None),
}


def write(folder: Path, notes: dict[str, Note]) -> Path:
    path = folder / "dashboard.html"
    page = samples.page([samples.layer_tables(layer, samples.texts(2)) for layer in range(2)])
    path.write_text(render_dashboard(page, notes), "utf-8")
    return path


def exported(page: Page) -> dict[str, dict[str, object]]:
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    assert download.value.suggested_filename == "interpretations.json"
    return json.loads(download.value.path().read_text("utf-8"))["interpretations"]


def test_no_request_no_error_and_no_violation(visit: Open, dashboard: Path) -> None:
    opened = visit(dashboard)
    page = opened.ready()
    page.locator("#next").click()
    page.locator(".distribution summary").first.click()
    page.locator(".context .token").first.hover()
    page.locator("textarea").first.fill("a note")
    page.locator("#theme").click()
    opened.settled()
    assert (opened.requests, opened.problems, opened.violations()) == ([], [], [])


def test_control_a_page_that_asks_for_something_is_caught(visit: Open, dashboard: Path, tmp_path: Path) -> None:
    asked, image = "http://127.0.0.1:9/image.png", tmp_path / "asking.html"
    html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", dashboard.read_text("utf-8"))
    image.write_text(html.replace("</body>", f'<img src="{asked}"></body>'), "utf-8")
    opened = visit(image)
    opened.ready()
    opened.settled()
    assert opened.requests == [asked]


def test_notes_built_in_are_shown_and_what_is_written_stays_in_the_browser(visit: Open, tmp_path: Path) -> None:
    page = visit(write(tmp_path, BUILT_IN)).ready()
    panel = page.locator(f"[data-key={KEY}]")
    expect(panel.locator("textarea")).to_have_value("built in")
    expect(panel.locator(".star")).to_have_attribute("aria-pressed", "true")
    panel.locator("textarea").fill("mine, “quoted” ↵ 漢字")
    expect(panel.locator(".state")).to_have_text("kept in this browser")
    page.reload()
    drawn(page)
    expect(panel.locator("textarea")).to_have_value("mine, “quoted” ↵ 漢字")
    expect(page.locator("#saving")).to_have_text("1 note: kept in this browser")


def test_the_export_has_the_shape_of_interpretations_json(visit: Open, tmp_path: Path) -> None:
    page = visit(write(tmp_path, BUILT_IN)).ready()
    page.locator(f"[data-key={KEY}] textarea").fill("mine")
    page.locator("[data-key=layer_0_down_proj_positive] .star").click()
    notes = exported(page)
    assert set(notes) == {*BUILT_IN, "layer_0_down_proj_positive"}
    assert notes[KEY].pop("examplesSeen")  # a text says on which examples it was written
    assert all(set(note) == {"text", "starred", "lastModified"} for note in notes.values())
    assert (notes[KEY]["text"], notes[KEY]["starred"]) == ("mine", True)
    assert notes["layer_0_up_proj_negative"] == {"text": "stays", "starred": False, "lastModified": None}
    assert (notes["layer_0_down_proj_positive"]["text"], notes["layer_0_down_proj_positive"]["starred"]) == ("", True)


def test_a_rebuilt_page_with_another_text_asks_which_shall_stay(visit: Open, tmp_path: Path) -> None:
    page = visit(write(tmp_path, BUILT_IN)).ready()
    panel = page.locator(f"[data-key={KEY}]")
    panel.locator("textarea").fill("mine")
    expect(panel.locator(".state")).to_have_text("kept in this browser")
    write(tmp_path, BUILT_IN | {KEY: Note("somebody's", False, "2024-02-01T00:00:00Z")})
    page.reload()
    drawn(page)
    expect(panel.locator(".conflict pre")).to_have_text(["mine", "somebody's"])
    page.get_by_role("button", name="Take the other").click()
    expect(panel.locator("textarea")).to_have_value("somebody's")
    expect(panel.locator(".conflict")).to_be_hidden()
    assert exported(page)[KEY]["text"] == "somebody's"
