"""`loradash ui` for real, stopped and started again: selections, history, and the schedule's own tick."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.ui import REPOSITORY, Ui, running_ui, wait_for
from tests.projects import deepseek_rows, save_project

ASSETS = """{ assetNodes {
  assetKey { path } isMaterializable staleStatus groupName kinds description assetMaterializations { runId }
} }"""
SCHEDULES = """query Schedules($selector: RepositorySelector!) {
  schedulesOrError(repositorySelector: $selector) {
    ... on Schedules { results { name cronSchedule scheduleState { status } } }
  }
}"""
SCHEDULED = """{ runsOrError(filter: { tags: [{ key: "dagster/schedule_name", value: "regenerate" }] }) {
  ... on Runs { results { runId } }
} }"""
LAYERS = {f"top_tokens/layer_{layer:02d}" for layer in range(3)}
OF_ROWS = {"dataset_rows", "prompts", "activations", "coactivation"}
OUTPUTS = {"activations_data", "published_tables", "dashboard", "interpretation_report", "annotated_features"}


@dataclass(frozen=True)
class Restarted:
    """A UI that was stopped and started again, and the runs that were launched before: one layer, then everything."""

    project: Path
    ui: Ui
    layer: str
    everything: str


@pytest.fixture(scope="module")
def restarted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restarted]:
    project = save_project(tmp_path_factory.mktemp("ui") / "project", schedule={"cron": "15 2 * * *"})
    with running_ui(project) as ui:
        layer = ui.launch("top_tokens/layer_01")
        assert ui.status(layer) == "FAILURE"
        everything = ui.launch(*(name for name, node in _nodes(ui).items() if node["isMaterializable"]))
        assert ui.status(everything) == "SUCCESS"
    with running_ui(project) as ui:
        yield Restarted(project, ui, layer, everything)


def _nodes(ui: Ui) -> dict[str, dict]:
    return {"/".join(node["assetKey"]["path"]): node for node in ui.ask(ASSETS)["assetNodes"]}


def test_runs_and_what_they_made_are_still_there_after_a_restart(restarted: Restarted) -> None:
    assert (restarted.project / "output" / "lora_activations_dashboard.html").exists()
    assert restarted.ui.status(restarted.everything) == "SUCCESS"
    nodes = {name: node for name, node in _nodes(restarted.ui).items() if node["isMaterializable"]}
    assert {*nodes} > LAYERS | OUTPUTS
    for node in nodes.values():
        assert restarted.everything in [each["runId"] for each in node["assetMaterializations"]]
        assert node["description"]
        assert node["kinds"]


def test_a_layer_alone_says_what_it_needs_and_is_made_alone_once_that_is_there(restarted: Restarted) -> None:
    (reason,) = restarted.ui.failures(restarted.layer)
    assert reason == "'activations' has not been materialised yet: materialise it first"
    run = restarted.ui.launch("top_tokens/layer_01")
    assert restarted.ui.status(run) == "SUCCESS"
    assert restarted.ui.made(run) == {"top_tokens/layer_01": "hit"}


def test_the_schedule_brings_what_is_out_of_date_up_to_date(restarted: Restarted) -> None:
    ui = restarted.ui
    assert _schedules(ui) == [("regenerate", "15 2 * * *", "RUNNING")]
    file = restarted.project / "loradash.yaml"
    settings = json.loads(file.read_text())
    with (restarted.project / "rows.jsonl").open("a", encoding="utf-8") as rows:
        rows.write(json.dumps(deepseek_rows()[0] | {"deepseek_attempt": "another"}) + "\n")
    file.write_text(json.dumps({**settings, "schedule": {"cron": "* * * * *"}}))
    wait_for(lambda: _schedules(ui) == [("regenerate", "* * * * *", "RUNNING")])
    wait_for(lambda: bool(_scheduled(ui)))
    first = _scheduled(ui)[-1]
    assert ui.status(first) == "SUCCESS"
    made = ui.made(first)
    assert {name for name, cache in made.items() if cache == "miss"} == LAYERS | OUTPUTS | OF_ROWS
    assert {*made} == {name for name, node in _nodes(ui).items() if node["isMaterializable"]}
    assert {node["staleStatus"] for node in _nodes(ui).values()} == {"FRESH"}  # by Dagster's own marks, too


def _scheduled(ui: Ui) -> list[str]:
    """Return the runs that the schedule started, the newest first."""
    return [run["runId"] for run in ui.ask(SCHEDULED)["runsOrError"]["results"]]


def _schedules(ui: Ui) -> list[tuple[str, str, str]]:
    found = ui.ask(SCHEDULES, {"selector": REPOSITORY})["schedulesOrError"]["results"]
    return [(one["name"], one["cronSchedule"], one["scheduleState"]["status"]) for one in found]
