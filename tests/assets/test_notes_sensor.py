"""The sensor that keeps pages at the notes' level: what it asks for, whatever happened before."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from loradash_assets.assets.notes import (
    FIRST_WAIT,
    LONGEST_WAIT,
    NOTES_JOB,
    PATIENCE,
    PATIENCE_WITH_NOTES,
    notes_sensor,
)
from loradash_assets.automation import BUILD_JOB
from loradash_assets.settings import load_settings
from tests.assets.graph import Graph
from tests.projects import save_project

SHOWING = ("annotated_features", "dashboard", "interpretation_report")
PAGE = "lora_activations_dashboard.html"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was built once."""
    project = save_project(tmp_path_factory.mktemp("finished") / "project")
    with dg.DagsterInstance.ephemeral() as instance:
        Graph(project, instance).run()
    return project


@pytest.fixture
def graph(finished: Path, tmp_path: Path) -> Iterator[Graph]:
    """That project, and an instance without history."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield Graph(shutil.copytree(finished, tmp_path / "project"), instance)


def _look(graph: Graph, at: float | None = None) -> Any:
    """What the sensor says, at a time in seconds since 1970."""
    sensor = notes_sensor(graph.settings, time.time if at is None else lambda: at)
    return sensor(dg.build_sensor_context(instance=graph.instance))


def _asks(graph: Graph, at: float | None = None) -> bool:
    return isinstance(_look(graph, at), dg.RunRequest)


def _draw(graph: Graph, at: float | None = None) -> dg.RunRecord:
    """Do what the daemon does with a request; return the run."""
    found = _look(graph, at)
    assert isinstance(found, dg.RunRequest), found
    job = graph.definitions().resolve_job_def(NOTES_JOB)
    run = job.execute_in_process(instance=graph.instance, tags=found.tags, raise_on_error=False).run_id
    return graph.instance.get_run_records(dg.RunsFilter(run_ids=[run]))[0]


def _write(graph: Graph, text: str) -> None:
    notes = {"interpretations": {"layer_1_gate_proj_positive": {"text": text, "starred": False}}}
    (graph.project / "interpretations.json").write_text(json.dumps(notes))


def test_nothing_is_asked_for_before_the_first_build_or_while_nothing_changes(graph: Graph, tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        found = _look(Graph(save_project(tmp_path / "new"), instance))
    assert "has not been materialised yet" in found.skip_message
    assert _look(graph).skip_message == "dashboard and report show the latest notes"


def test_a_note_is_drawn_once_and_the_model_is_left_alone(graph: Graph) -> None:
    report = graph.project / "output" / "interpretation_report.csv"
    _write(graph, "first")
    run = _draw(graph).dagster_run.run_id
    logs = graph.instance.all_logs(run, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    made = [log.get_dagster_event().asset_key for log in logs]
    assert made[0] == dg.AssetKey("interpretations")
    assert {*made} == {dg.AssetKey(name) for name in ("interpretations", *SHOWING)}
    assert "first" in report.read_text()
    assert not _asks(graph)
    for text in ("second", "first"):  # the last one comes from the store, and is published all the same
        _write(graph, text)
        _draw(graph)
        assert text in report.read_text()


def test_a_page_that_is_gone_or_older_than_its_notes_is_drawn_again(graph: Graph) -> None:
    page = graph.project / "output" / PAGE
    old = page.read_bytes()
    _write(graph, "new")
    run = _draw(graph)
    new = page.read_bytes()
    for spoil in (page.unlink, lambda: page.write_bytes(old)):  # as a slower run would that began before
        spoil()
        run = _draw(graph, at=_end(run) + LONGEST_WAIT)
        assert page.read_bytes() == new


def _end(run: dg.RunRecord) -> float:
    assert run.end_time is not None
    return run.end_time


@pytest.mark.parametrize(("job", "patience"), [(BUILD_JOB, PATIENCE), (NOTES_JOB, PATIENCE_WITH_NOTES)])
def test_a_run_under_way_is_waited_for_and_one_that_died_is_not(graph: Graph, job: str, patience: float) -> None:
    _write(graph, "new")
    run = graph.instance.create_run_for_job(graph.definitions().resolve_job_def(job))
    assert _look(graph).skip_message == "another run is not finished yet"
    silent = graph.instance.get_run_records()[0].update_timestamp.timestamp() + patience
    assert not _asks(graph, silent - 0.5)
    time.sleep(1.1)
    graph.instance.report_engine_event("still at it", run)
    assert not _asks(graph, silent + 0.5)
    assert _asks(graph, silent + 60)


def test_runs_that_fail_come_ever_more_seldom_until_the_notes_change(graph: Graph) -> None:
    notes = graph.project / "interpretations.json"
    notes.write_text("{")
    end = _end(_draw(graph))
    for wait in (FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT):
        assert not _asks(graph, end + wait - 0.5)
        assert "tried again in" in _look(graph, end).skip_message
        run = _draw(graph, end + wait + 0.5)
        assert not run.dagster_run.is_success
        end = _end(run)
    assert not _asks(graph, end + 8 * FIRST_WAIT - 0.5)
    notes.write_text('{"interpretations": {}}')
    assert _draw(graph).dagster_run.is_success
    assert not _asks(graph)


def test_the_settings_of_the_moment_count(graph: Graph) -> None:
    sensor = notes_sensor(partial(load_settings, graph.project))
    context = dg.build_sensor_context(instance=graph.instance)
    _write(graph, "new")
    seen: list[Any] = [sensor(context)]
    for value in (False, "perhaps"):
        graph.change(schedule={"notes": value})
        seen.append(sensor(context))
    assert isinstance(seen[0], dg.RunRequest)
    assert seen[1].skip_message == "schedule.notes is false"
    assert "schedule.notes" in seen[2].skip_message
