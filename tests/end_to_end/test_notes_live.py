"""Notes saved through the service while `loradash ui` runs: the page and the report always end with the last one."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from loradash_assets.site.outputs import DASHBOARD_FILE
from tests.annotation_server.service import Service, running
from tests.end_to_end.ui import RUNS, Ui, running_ui
from tests.pages import shown
from tests.projects import save_project

KEYS = [f"layer_{layer}_gate_proj_positive" for layer in range(3)]
DEADLINE = 180  # s; one that takes seconds, on a machine that may be busy
IDLE = 11  # s: two looks of the daemon


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that was built."""
    project = save_project(tmp_path / "project", schedule={"cron": None})
    subprocess.run([sys.executable, "-m", "loradash_assets", "build"], cwd=project, check=True, capture_output=True)
    return project


@pytest.fixture
def service(project: Path) -> Iterator[Service]:
    with running(project) as service:
        yield service


def _save(service: Service, key: str, text: str) -> None:
    assert service.patch({"text": text}, key, if_match=service.etag(key)).status == 200


def _wait_until_shown(project: Path, *texts: str) -> None:
    page, report = (project / "output" / name for name in (DASHBOARD_FILE, "interpretation_report.csv"))
    end = time.monotonic() + DEADLINE
    while missing := [text for text in texts if text not in shown(page) or text not in report.read_text("utf-8")]:
        assert time.monotonic() < end, f"never shown: {missing}; {(project / 'ui.log').read_text()[-3000:]}"
        time.sleep(0.2)


def _runs(ui: Ui) -> int:
    return len(ui.ask(RUNS)["runsOrError"]["results"])


def test_every_burst_ends_with_the_last_note_and_then_nothing_runs(project: Path, service: Service) -> None:
    generator = random.Random(5)
    with running_ui(project) as ui:
        built = _runs(ui)
        for burst in range(2):
            texts: dict[str, str] = {}
            for number in range(generator.randint(1, 12)):
                texts = {key: f"{key} in burst {burst}, number {number}" for key in KEYS}
                for key, text in texts.items():
                    _save(service, key, text)
                time.sleep(generator.choice([0, 0.1, 1.5]))
            _wait_until_shown(project, *texts.values())
        drawn = _runs(ui)
        assert built < drawn
        time.sleep(IDLE)
        assert _runs(ui) == drawn


def test_notes_survive_a_restart_at_a_bad_moment(project: Path, service: Service) -> None:
    with running_ui(project) as ui:
        ui.ask(RUNS)
        _save(service, KEYS[0], "before the restart")
        end = time.monotonic() + DEADLINE
        while _runs(ui) < 2:  # the build, and now a run that draws
            assert time.monotonic() < end
            time.sleep(0.05)
    _save(service, KEYS[1], "while nobody looked")
    with running_ui(project):
        _save(service, KEYS[2], "after the restart")
        _wait_until_shown(project, "before the restart", "while nobody looked", "after the restart")
