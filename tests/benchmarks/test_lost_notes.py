"""The schedules of the lost-notes benchmark: none is lost, and the control shows that they would be."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from benchmarks.lost_notes import finished, kept
from tests.projects import save_project

SEEDS = (0, 4)  # one more asset that publishes makes other schedules of them, and the control may lose others


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(save_project(tmp_path_factory.mktemp("notes") / "project"))


def test_the_last_page_always_holds_the_last_note(project: Path, tmp_path: Path) -> None:
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    assert [seed for seed in SEEDS if not kept(project, tmp_path, seed, level=True)[0]] == []


def test_the_same_schedules_lose_notes_with_a_sensor_that_waits_for_changes(project: Path, tmp_path: Path) -> None:
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    assert not all(kept(project, tmp_path, seed, level=False)[0] for seed in SEEDS)
