"""Every way of starting Dagster in a clean clone after `make`: no environment variable is set, one history is kept.

The project in it is a small one: the demo's model takes minutes. And in a project outside of the repository.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from tests.end_to_end.ui import RUNS, running_ui
from tests.packaging.conftest import ROOT
from tests.projects import save_project

MODULE = "loradash_assets.definitions"
DAGSTER = (sys.executable, "-m", "dagster")
DG = (str(Path(sys.executable).with_name("dg")),)
LAYERS = {f"top_tokens/layer_{layer:02d}" for layer in range(3)}
OUTPUTS = {"activations_data", "published_tables", "dashboard", "interpretation_report", "annotated_features"}
LAYER = "top_tokens/layer_01"
LOCATIONS = """{ workspaceOrError { ... on Workspace {
  locationEntries { name locationOrLoadError { __typename ... on PythonError { message } } }
} } }"""
Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Clone:
    """A clone, and what Dagster said when it was told to materialise one layer in it, and then everything."""

    place: Path
    layer: Done
    everything: Done


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    place = tmp_path_factory.mktemp("clean") / "clone"
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, place / name, follow_symlinks=False)
    save_project(place)
    return Clone(place, _materialise(place, LAYER), _materialise(place, "*"))


def _materialise(place: Path, selection: str) -> Done:
    return _run(place, *DAGSTER, "asset", "materialize", "-m", MODULE, "--select", selection)


def _run(place: Path, *command: str) -> Done:
    kept = {name: value for name, value in os.environ.items() if name not in ("DAGSTER_HOME", "LORADASH_PROJECT")}
    return subprocess.run(command, cwd=place, env=kept, capture_output=True, text=True, check=False)


@pytest.fixture
def history(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """What is kept in the clone's .dagster/."""
    monkeypatch.chdir(clone.place)
    with dg.DagsterInstance.from_config(str(clone.place)) as instance:
        yield instance


def _last_run(history: dg.DagsterInstance) -> dict[str, str]:
    """Return what the last run materialised, each a cache hit or miss."""
    (record,) = history.get_run_records(limit=1)
    logs = history.all_logs(record.dagster_run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    made = [log.asset_materialization for log in logs]
    return {each.asset_key.to_user_string(): str(each.metadata["cache"].value) for each in made if each}


def test_a_layer_alone_says_what_it_needs_and_is_made_alone_once_that_is_there(
    clone: Clone, history: dg.DagsterInstance
) -> None:
    assert clone.layer.returncode == 1
    assert "'activations' has not been materialised yet: materialise it first" in clone.layer.stderr
    done = _materialise(clone.place, LAYER)
    assert done.returncode == 0, done.stderr
    assert _last_run(history) == {LAYER: "hit"}


def test_everything_is_made_and_then_taken_from_the_store(clone: Clone, history: dg.DagsterInstance) -> None:
    assert clone.everything.returncode == 0, clone.everything.stderr
    assert (clone.place / "output" / "lora_activations_dashboard.html").exists()
    done = _run(clone.place, *DG, "launch", "--assets", "*")
    assert done.returncode == 0, done.stderr
    again = _last_run(history)
    assert {*again} > LAYERS | OUTPUTS
    assert {*again.values()} == {"hit"}


def test_dg_lists_what_there_is(clone: Clone) -> None:
    listed = json.loads(_run(clone.place, *DG, "list", "defs", "--json").stdout)
    assert {asset["asset_key"] for asset in listed["assets"]} > LAYERS | OUTPUTS
    assert {"build", "notes"} <= {job["name"] for job in listed["jobs"]}
    assert [schedule["name"] for schedule in listed["schedules"]] == ["regenerate"]
    assert "notes" in {sensor["name"] for sensor in listed["sensors"]}


@pytest.mark.parametrize("program", [DAGSTER, DG], ids=["dagster", "dg"])
def test_dev_finds_the_code_and_the_history_without_being_told(
    clone: Clone, history: dg.DagsterInstance, program: tuple[str, ...]
) -> None:
    with running_ui(clone.place, *program, "dev") as ui:
        entries = ui.ask(LOCATIONS)["workspaceOrError"]["locationEntries"]
        runs = {run["runId"] for run in ui.ask(RUNS)["runsOrError"]["results"]}
    assert entries == [{"name": MODULE, "locationOrLoadError": {"__typename": "RepositoryLocation"}}]
    assert runs >= {record.dagster_run.run_id for record in history.get_run_records()} != set()


def test_a_project_anywhere_else_has_its_history_from_the_first_run_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _run(tmp_path, sys.executable, "-m", "loradash_assets", "init").returncode == 0
    save_project(tmp_path)
    done = _materialise(tmp_path, "dataset_rows")
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert _last_run(instance) == {"dataset_rows": "miss"}
