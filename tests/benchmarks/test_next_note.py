"""The benchmark of the queue goes from note to note, sighted and blind, and its section shows what it found."""

from __future__ import annotations

from pathlib import Path

from benchmarks.next_note import measure
from benchmarks.pages.browsing import chromium
from benchmarks.pages.synthetic import Size
from benchmarks.sections import next_note as section


def test_each_note_is_counted_and_shown(tmp_path: Path) -> None:
    with chromium() as browser:
        found = measure(browser, Size(layers=2, k=3), tmp_path, notes=3)
    assert {way: one["times"] for way, one in found.items()} == {"sighted": 3, "blind": 3}
    result = {"target": "quick", "keystrokes": 1, "chromium": "1", "frames_ms": 16.0, "pages": {"small": found}}
    rows = [line for line in section(result) if line.startswith("| small")]
    assert [row.split(" | ")[1:3] for row in rows] == [["sighted", "3"], ["blind", "3"]]
