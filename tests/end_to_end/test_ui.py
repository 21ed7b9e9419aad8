"""`loradash ui` for real, stopped and started again."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.ui import REPOSITORY, running_ui
from tests.projects import save_project

LAUNCH = """mutation Launch($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}"""
ASSETS = "{ assetNodes { assetKey { path } groupName kinds description assetMaterializations(limit: 1) { runId } } }"
SCHEDULES = """query Schedules($selector: RepositorySelector!) {
  schedulesOrError(repositorySelector: $selector) {
    ... on Schedules { results { name cronSchedule scheduleState { status } } }
  }
}"""


def test_a_run_launched_in_the_ui_is_still_in_its_history_after_a_restart(tmp_path: Path) -> None:
    project = save_project(tmp_path / "project", schedule={"cron": "15 2 * * *"})
    selector = {"pipelineName": "build", **REPOSITORY}
    with running_ui(project) as ui:
        launched = ui.ask(LAUNCH, {"params": {"selector": selector, "mode": "default"}})["launchPipelineExecution"]
        run = launched["run"]["runId"]
        assert ui.status(run) == "SUCCESS"
    assert (project / "output" / "lora_activations_dashboard.html").exists()
    with running_ui(project) as ui:
        assert ui.status(run) == "SUCCESS"
        nodes = {"/".join(node["assetKey"]["path"]): node for node in ui.ask(ASSETS)["assetNodes"]}
        made = [name for name, node in nodes.items() if node["assetMaterializations"]]
        assert {f"top_tokens/layer_{layer:02d}" for layer in range(3)} < set(made)
        assert nodes["dashboard"]["assetMaterializations"][0]["runId"] == run
        assert all(nodes[name]["description"] and nodes[name]["kinds"] for name in made)
        schedules = ui.ask(SCHEDULES, {"selector": REPOSITORY})["schedulesOrError"]["results"]
        assert [(one["name"], one["cronSchedule"], one["scheduleState"]["status"]) for one in schedules] == [
            ("regenerate", "15 2 * * *", "RUNNING")
        ]
