"""What a page opened from disk exports, the command line takes in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from playwright.sync_api import expect

from loradash_assets.cli import main
from loradash_assets.site.build import render_dashboard
from loradash_assets.site.page import Note
from tests.browser.conftest import Open
from tests.site import samples

KEY, OTHER = "layer_0_gate_proj_positive", "layer_0_up_proj_negative"


def test_what_a_page_from_disk_exports_is_imported(
    visit: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = {"text": "mine", "starred": True, "lastModified": "2026-01-20T10:30:00Z"}
    notes = tmp_path / "interpretations.json"
    notes.write_text(json.dumps({"interpretations": {KEY: mine}}), "utf-8")
    file = tmp_path / "dashboard.html"
    built_in = {KEY: Note("mine", True, "2026-01-20T10:30:00Z")}
    file.write_text(render_dashboard(samples.page([samples.layer_tables(0, samples.texts(2))]), built_in), "utf-8")
    page = visit(file).ready()
    panel = page.locator(f"[data-key={OTHER}]")
    panel.locator("textarea").fill("=1+1, “quoted” ↵ 漢字")
    expect(panel.locator(".state")).to_have_text("kept in this browser")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    download.value.save_as(tmp_path / "exported.json")
    result = CliRunner().invoke(main, ["import", "exported.json", "--yes"])
    assert result.stdout.splitlines()[1:] == [
        f"  1 to add: {OTHER}",
        "  1 with nothing that is not here already",
        "Imported: 1 added, 0 replaced. 'loradash import --undo' takes it back.",
    ]
    found = json.loads(notes.read_bytes())["interpretations"]
    assert found == {KEY: mine, OTHER: {**found[OTHER], "text": "=1+1, “quoted” ↵ 漢字", "starred": False}}
