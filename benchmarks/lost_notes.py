"""Does the last page always hold the last note? Random schedules of notes, looks, restarts and runs that die.

    python -m benchmarks.lost_notes [--schedules 200]

Every schedule has a project of random weights that was built, with notes written by hand: before a look of the sensor,
between a run's reading the notes and its drawing them, and before it publishes. Runs fail, die without a word (and so
seem to go on for ever), and everything is stopped and started again. When all is quiet the sensor looks as often as it
wants a run; then dashboard and report must hold the last note. The control is the same schedules with a sensor that
starts a run when it sees that the file has changed, as one is first written.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg
import numpy as np

from benchmarks.timing import write_result
from loradash_assets.assets.interpretations import interpretations_file
from loradash_assets.assets.notes import NOTES_JOB, notes_sensor
from loradash_assets.automation import BUILD_JOB
from loradash_assets.compute import interpretations
from loradash_assets.definitions import build_definitions
from loradash_assets.settings import load_settings
from loradash_assets.site import outputs
from tests.projects import latest_entry, save_project

SCHEDULES = 200
STEPS = 8
ENDS = (None, None, None, "fails", "dies")  # of runs
LOOK = 5.0  # seconds between two looks of the daemon
QUIET, LOOK_WHEN_QUIET = 200, 60.0  # looks, seconds between them
KEY = "layer_1_gate_proj_positive"
REPORT = "interpretation_report.csv"
Sensor = Callable[[dg.SensorEvaluationContext], Any]


class Schedule:
    """One project, one sensor, and what happens to them."""

    def __init__(self, project: Path, instance: dg.DagsterInstance, seed: int, *, level: bool) -> None:
        self._project = project
        self._instance = instance
        self._random = np.random.default_rng(seed)
        self._level = level
        self._cursor: str | None = None
        self._ahead = 0.0  # of the real time, in seconds
        self._notes = 0
        self.runs = 0
        self._start()

    def _start(self) -> None:
        settings = partial(load_settings, self._project)
        self._job = build_definitions(settings()).resolve_job_def(NOTES_JOB)
        self._sensor: Any = notes_sensor(settings, self._clock) if self._level else edge_triggered(self._project)

    def _clock(self) -> float:
        return time.time() + self._ahead

    def go(self) -> bool:
        """Let everything happen; return whether the page and the report hold the last note in the end."""
        for _ in range(STEPS):
            for _ in range(self._random.integers(3)):
                self._write()
            if self._random.random() < 0.2:
                self._start()
            self._look(ENDS[self._random.integers(len(ENDS))])
        for _ in range(QUIET):
            self._ahead += LOOK_WHEN_QUIET
            if not self._look(None) and self._settled():
                break
        return self._shown()

    def _settled(self) -> bool:
        return not self._level or "show the latest notes" in str(self._said.skip_message)

    def _write(self) -> None:
        self._notes += 1
        note = {"text": self._last(), "starred": False, "lastModified": "2024-01-20T10:30:00Z"}
        (self._project / "interpretations.json").write_text(json.dumps({"interpretations": {KEY: note}}))

    def _last(self) -> str:
        return f"note number {self._notes}."

    def _look(self, end: str | None) -> bool:
        """Look once, and do what the daemon does with a request; return whether there was one."""
        self._ahead += LOOK
        context = dg.build_sensor_context(instance=self._instance, cursor=self._cursor)
        self._said = self._sensor(context)
        self._cursor = context.cursor
        if not isinstance(self._said, dg.RunRequest):
            return False
        self.runs += 1
        if end == "dies":
            self._instance.create_run_for_job(self._job, tags=self._said.tags)
        else:
            self._run(self._said, fails=end == "fails")
        return True

    def _run(self, request: dg.RunRequest, *, fails: bool) -> None:
        table, publish = interpretations.interpretations_table, outputs.publish

        def read(*arguments: Any) -> Any:
            self._perhaps_write()
            found = table(*arguments)
            self._perhaps_write()
            return found

        def published(source: Path, target: Path) -> None:
            self._perhaps_write()
            if fails:
                raise RuntimeError("as if the disk were full")
            publish(source, target)

        with patch.object(interpretations, "interpretations_table", read), patch.object(outputs, "publish", published):
            self._job.execute_in_process(instance=self._instance, tags=request.tags, raise_on_error=False)

    def _perhaps_write(self) -> None:
        if self._random.random() < 0.3:
            self._write()

    def _shown(self) -> bool:
        output = self._project / "output"
        known = not self._notes or self._last() in (output / REPORT).read_text(encoding="utf-8")
        return known and outputs_agree(self._project)


def outputs_agree(project: Path) -> bool:
    """Whether what is published is what the latest results are."""
    for asset in ("dashboard", "interpretation_report"):
        entry = latest_entry(project, asset)
        for file in (file for file in entry.iterdir() if file.name != "manifest.json"):
            if (project / "output" / file.name).read_bytes() != file.read_bytes():
                return False
    return True


def edge_triggered(project: Path) -> Sensor:
    """Return the control: it starts a run when the file has changed since it last looked."""

    @dg.sensor(name=NOTES_JOB, job_name=NOTES_JOB)
    def changed(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        file = interpretations_file(load_settings(project))
        if context.cursor == file:
            return dg.SkipReason("nothing has changed")
        context.update_cursor(file)
        return dg.RunRequest()

    return changed


def finished(project: Path) -> Path:
    """Build a project once; return it."""
    with dg.DagsterInstance.ephemeral() as instance:
        job = build_definitions(load_settings(project)).resolve_job_def(BUILD_JOB)
        assert job.execute_in_process(instance=instance).success
    return project


def kept(project: Path, scratch: Path, seed: int, *, level: bool) -> tuple[bool, int]:
    """Run one schedule on a copy of a finished project; return whether the last note is shown, and the runs it took."""
    copy = shutil.copytree(project, scratch / f"{seed} {level}")
    with dg.DagsterInstance.ephemeral() as instance:
        schedule = Schedule(copy, instance, seed, level=level)
        found = schedule.go()
    shutil.rmtree(copy)
    return found, schedule.runs


def main() -> None:
    """Count, print and write `benchmarks/results/lost_notes.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=SCHEDULES)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        project = finished(save_project(scratch / "project"))
        found = {
            kind: [kept(project, scratch, seed, level=level) for seed in range(options.schedules)]
            for kind, level in (("by what is shown", True), ("by changes (control)", False))
        }
    figures = {
        kind: {"lost": sum(not shown for shown, _ in each), "runs": sum(runs for _, runs in each)}
        for kind, each in found.items()
    }
    print(figures)
    write_result("lost_notes", {"schedules": options.schedules, "steps": STEPS, "sensors": figures})


if __name__ == "__main__":
    main()
