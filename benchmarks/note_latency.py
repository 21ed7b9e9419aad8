"""How long a note takes from being saved to being on the page and in the report, with `loradash ui` running.

    python -m benchmarks.note_latency [--notes 20] [--idle 300]

A project of random weights, built once; the real UI with its daemon, and the real annotation service, as processes of
their own. Notes are saved at random moments, each timed until the published page and the report hold it. Then nothing
is changed for a while, in which no run may start. The daemon looks every five seconds: half of that is waited for on
average, the rest is starting the run's process and drawing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import write_result
from tests.annotation_server.service import Service, running
from tests.end_to_end.ui import RUNS, Ui, running_ui
from tests.pages import shown
from tests.projects import save_project

NOTES, IDLE = 20, 300.0
KEY = "layer_1_gate_proj_positive"
TARGET = 15.0  # seconds, at the 95th percentile
FILES = ("lora_activations_dashboard.html", "interpretation_report.csv")
GIVEN_UP = 300.0  # seconds
RUN_TIMES = "{ runsOrError { ... on Runs { results { pipelineName startTime endTime } } } }"


def main() -> None:
    """Measure, print and write `benchmarks/results/note_latency.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--notes", type=int, default=NOTES)
    parser.add_argument("--idle", type=float, default=IDLE)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        project = save_project(Path(name) / "project", schedule={"cron": None})
        subprocess.run([sys.executable, "-m", "loradash_assets", "build"], cwd=project, check=True, capture_output=True)
        with running_ui(project) as ui, running(project) as service:
            ui.ask(RUNS)
            figures = measure(project, ui, service, options.notes, options.idle)
    print(figures)
    write_result("note_latency", figures)


def measure(project: Path, ui: Ui, service: Service, notes: int, idle: float) -> dict[str, Any]:
    """Return the figures of so many notes, and of so many idle seconds after them."""
    random = np.random.default_rng(0)
    seconds: list[float] = []
    for number in range(notes):
        time.sleep(random.uniform(0, 6))
        seconds.append(_seconds(project, service, f"note number {number}."))
    before = _runs(ui)
    drawing = [run["endTime"] - run["startTime"] for run in before if run["pipelineName"] == "notes"]
    time.sleep(idle)
    return {
        "target": f"under {TARGET:.0f} s at the 95th percentile; no run while nothing changes",
        "notes": notes,
        "seconds_median": round(float(np.median(seconds)), 1),
        "seconds_95": round(float(np.quantile(seconds, 0.95, method="inverted_cdf")), 1),
        "seconds_longest": round(max(seconds), 1),
        "run_seconds_median": round(float(np.median(drawing)), 2),
        "idle_seconds": idle,
        "runs_while_idle": len(_runs(ui)) - len(before),
    }


def _seconds(project: Path, service: Service, text: str) -> float:
    assert service.patch({"text": text}, KEY, if_match=service.etag(KEY)).status == 200
    started = time.perf_counter()
    page, report = (project / "output" / name for name in FILES)
    while text not in report.read_text(encoding="utf-8") or text not in shown(page):
        time.sleep(0.1)
        assert time.perf_counter() - started < GIVEN_UP, f"'{text}' is never shown"
    return time.perf_counter() - started


def _runs(ui: Ui) -> list[dict[str, Any]]:
    return ui.ask(RUN_TIMES)["runsOrError"]["results"]


if __name__ == "__main__":
    main()
