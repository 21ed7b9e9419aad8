"""A note's whole way: typed on a built page in Chromium, saved by `loradash annotate`, read by the next build."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.projects import save_project

LORADASH = [sys.executable, "-m", "loradash_assets"]
KEY = "layer_1_up_proj_negative"


def _build(project: Path) -> None:
    done = subprocess.run([*LORADASH, "build"], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_note_typed_on_the_page_is_in_file_report_and_next_page(visit: Open, tmp_path: Path) -> None:
    project = save_project(tmp_path / "project", annotations={"interpretations_file": "my notes.json"})
    _build(project)
    command = [*LORADASH, "annotate", "--port", "0"]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        address = re.search(r"http://\S+", service.stdout.readline())
        assert address is not None
        opened = visit(f"{address[0]}#layer=1")
        panel = opened.ready().locator(f"[data-key={KEY}]")
        panel.locator("textarea").press_sequentially("=1+1 <b>names</b> of 世界")
        expect(panel.locator(".note > .state")).to_have_text("saved")
        panel.locator(".star").click()
        expect(panel.locator(".star")).to_have_attribute("aria-pressed", "true")
        expect(panel.locator(".note > .state")).to_have_text("saved")
        assert (opened.problems, opened.violations()) == ([], [])
        service.terminate()
    entry = json.loads((project / "my notes.json").read_text())["interpretations"][KEY]
    assert (entry["text"], entry["starred"]) == ("=1+1 <b>names</b> of 世界", True)
    _build(project)
    with (project / "output" / "interpretation_report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["key"], row["text"], row["starred"]) for row in rows] == [(KEY, f"'{entry['text']}", "True")]
    offline = visit(project / "output" / "lora_activations_dashboard.html").ready()
    offline.get_by_role("combobox").first.select_option("1")
    expect(offline.locator(f"[data-key={KEY}] textarea")).to_have_value(entry["text"])
