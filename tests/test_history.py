"""A run's history with its files kept open: the same as Dagster's own, seen from outside while it is written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from sqlalchemy import Engine, event

from loradash_assets.history import kept_open
from loradash_assets.run import history_home

DATA_VERSION = "seven"


@dg.op
def first() -> int:
    return 1


@dg.op
def second(number: int) -> int:
    return number + 1


@dg.job
def two_steps() -> None:
    second(first())


@dg.asset(check_specs=[dg.AssetCheckSpec("positive", asset="number")])
def number() -> dg.MaterializeResult:
    return dg.MaterializeResult(
        check_results=[dg.AssetCheckResult(passed=True)], data_version=dg.DataVersion(DATA_VERSION)
    )


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(history_home(tmp_path))) as instance:
        yield instance


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """The names of the files that SQLAlchemy opens."""
    names: list[str] = []

    def note(connection: Any, _record: object) -> None:
        names.append(Path(connection.execute("PRAGMA database_list").fetchone()[2]).name)

    event.listen(Engine, "connect", note)
    yield names
    event.remove(Engine, "connect", note)


def _events(project: Path, run_id: str) -> list[tuple[str | None, str | None]]:
    """The types and steps of the events that another process would read now."""
    with dg.DagsterInstance.from_config(str(project)) as other:
        return [
            (entry.dagster_event.event_type_value, entry.step_key)
            for entry in other.all_logs(run_id)
            if entry.dagster_event is not None
        ]


def test_another_process_reads_the_same_events_during_the_run_and_after_it(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    plain = two_steps.execute_in_process(instance=instance)
    with kept_open(instance):
        kept = two_steps.execute_in_process(instance=instance)
        during = _events(tmp_path, kept.run_id)
    assert during == _events(tmp_path, kept.run_id) == _events(tmp_path, plain.run_id)
    assert len(during) > 10


def test_a_file_is_opened_once_for_a_run_and_the_disk_is_not_waited_for(
    instance: dg.DagsterInstance, opened: list[str]
) -> None:
    log = instance.event_log_storage
    assert isinstance(log, SqliteEventLogStorage)
    with kept_open(instance):
        run = two_steps.execute_in_process(instance=instance)
        assert opened.count(f"{run.run_id}.db") <= 2  # one more to make it
        assert opened.count("index.db") == 1
        with log.run_connection(run.run_id) as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1  # NORMAL
    opened.clear()
    run = two_steps.execute_in_process(instance=instance)
    assert opened.count(f"{run.run_id}.db") > 10


def test_what_the_history_says_of_assets_and_checks_is_written_without_opening_its_index_again(
    instance: dg.DagsterInstance, tmp_path: Path, opened: list[str]
) -> None:
    for _ in range(2):  # into a new history, and into one that knows the asset
        opened.clear()
        with kept_open(instance):
            run = dg.materialize([number], instance=instance)
            assert opened.count("index.db") <= 3, opened  # and once each to see if two tables are there
        with dg.DagsterInstance.from_config(str(tmp_path)) as other:
            event = other.get_latest_materialization_event(number.key)
            assert event is not None
            assert event.run_id == run.run_id
            assert event.asset_materialization is not None
            assert (event.asset_materialization.tags or {})[DATA_VERSION_TAG] == DATA_VERSION
            check = dg.AssetCheckKey(number.key, "positive")
            (evaluated,) = other.event_log_storage.get_asset_check_execution_history(check, limit=1)
            assert evaluated.run_id == run.run_id
            assert evaluated.status.value == "SUCCEEDED"


def test_the_file_that_the_ui_watches_changes_with_every_event(instance: dg.DagsterInstance) -> None:
    log = instance.event_log_storage
    assert isinstance(log, SqliteEventLogStorage)
    run = instance.create_run_for_job(two_steps)
    file = Path(log.path_for_shard(run.run_id))
    with kept_open(instance):
        instance.report_engine_event("the first one makes the file", run)
        for message in ("second", "third"):
            os.utime(file, (0, 0))
            instance.report_engine_event(message, run)
            assert file.stat().st_mtime > 0, message


def test_a_history_kept_elsewhere_is_left_alone() -> None:
    with dg.DagsterInstance.ephemeral() as instance, kept_open(instance):
        assert two_steps.execute_in_process(instance=instance).success
