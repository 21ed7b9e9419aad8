"""docs/benchmarks.md is what the result files give, and says every figure of a file that has no section."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.summary import DOCUMENT, SECTIONS, document
from benchmarks.timing import RESULTS

MACHINE = {
    "processor": "A processor",
    "cores": 2,
    "memory_gib": 7.8,
    "system": "Linux x86_64",
    "python": "3.11.7",
    "libraries": {"torch": "2.13.0"},
}


def test_the_committed_page_is_what_the_results_give() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "run `python -m benchmarks.summary`"


def test_every_result_says_its_machine_and_day() -> None:
    for file in RESULTS.glob("*.json"):
        result = json.loads(file.read_text(encoding="utf-8"))
        assert {"day", "machine"} <= set(result), file.name
        assert result["machine"]["processor"] in document()


def _written(directory: Path, name: str, result: dict[str, Any]) -> str:
    (directory / f"{name}.json").write_text(json.dumps({"day": "2026-01-02", **result, "machine": MACHINE}))
    return document(directory)


def test_a_result_without_a_section_is_shown_figure_by_figure(tmp_path: Path) -> None:
    result = {"rows": 3, "build": {"ratio": 0.5, "ratios_from_to": [0.4, 0.6]}, "sizes": [{"mib": 1}, {"mib": 2}]}
    lines = _written(tmp_path, "cold_build", result).splitlines()
    assert lines[0] == "# Benchmarks"
    assert {"## Cold build", "| rows | 3 |", "| build.ratio | 0.5 |"} <= set(lines)
    assert {"| build.ratios_from_to | 0.4, 0.6 |", "| sizes.1.mib | 2 |"} <= set(lines)
    where = "A processor, 2 cores, 7.8 GiB, Linux x86_64; Python 3.11.7, torch 2.13.0."
    assert f"`python -m benchmarks.cold_build`, 2026-01-02, on {where}" in " ".join(lines)
    assert max(map(len, lines)) <= 120


def test_side_by_side_shows_the_fastest_first_and_who_ran_with_what(tmp_path: Path) -> None:
    def method(name: str, ratio: float, **libraries: str) -> dict[str, Any]:
        pairs = {"ratio": ratio, "ratios_from_to": [ratio - 0.1, ratio + 0.1], "median_seconds": 10 * ratio, "pairs": 5}
        own = {"torch": "2.13.0", **libraries}
        figures = {"peak_mib": 900, "disk_mib": 0.5, "largest_difference": 2e-6, "libraries": own}
        return {"name": name, "recording": pairs, "process": pairs, **figures}

    loradash = {
        "name": "loradash, lists alone",
        "median_seconds": 10.0,
        "median_process_seconds": 15.0,
        "peak_mib": 1000,
        "disk_mib": 6.5,
        "libraries": {"torch": "2.13.0"},
    }
    methods = [method("slow", 3.0), method("quick", 1.5, nnsight="0.8.1")]
    sizes = {"examples": 2, "tokens": 400, "features": 210, "k": 16, "tolerance": 2e-5}
    page = _written(tmp_path, "side_by_side", {**sizes, "loradash": loradash, "methods": methods})
    rows = [line for line in page.splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[0] for row in rows] == ["| loradash, lists alone", "| quick", "| slow"]
    assert rows[1] == ("| quick | 15.0 | 1.50 (1.40 to 1.60) | 15.0 | 1.50 (1.40 to 1.60) | 900 MiB | 0.5 MiB |")
    assert "nnsight 0.8.1 (quick)" in page
    assert "same 400 tokens in 2 examples" in " ".join(page.split())


def test_every_section_has_a_script() -> None:
    for section in SECTIONS.values():
        (script,) = re.findall(r"-m benchmarks\.(\w+)", section.command)
        assert find_spec(f"benchmarks.{script}") is not None
