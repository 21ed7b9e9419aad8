"""`loradash ui` for real: webserver, daemon and code server of a project, stopped and started again."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.projects import save_project

DEADLINE = 240  # s
REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "loradash_assets.definitions"}
LAUNCH = """mutation Launch($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}"""
RUNS = "{ runsOrError { ... on Runs { results { runId status } } } }"
ASSETS = "{ assetNodes { assetKey { path } groupName kinds description assetMaterializations(limit: 1) { runId } } }"
SCHEDULES = """query Schedules($selector: RepositorySelector!) {
  schedulesOrError(repositorySelector: $selector) {
    ... on Schedules { results { name cronSchedule scheduleState { status } } }
  }
}"""


class Ui:
    """A running UI, asked through its own GraphQL interface."""

    def __init__(self, address: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self._address = f"{address}/graphql"
        self._process = process
        self._log = log

    def ask(self, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the reply's data; wait for the UI to come up."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end and self._process.poll() is None:
            try:
                body = {"query": query, "variables": variables or {}}
                reply = httpx.post(self._address, json=body, trust_env=False, timeout=60).json()
            except httpx.TransportError:
                time.sleep(0.5)
                continue
            assert "errors" not in reply, reply
            return reply["data"]
        pytest.fail(self._log.read_text(encoding="utf-8"))

    def status(self, run: str) -> str:
        """Return a run's status, once it has ended."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            runs = {entry["runId"]: entry["status"] for entry in self.ask(RUNS)["runsOrError"]["results"]}
            if runs.get(run) in ("SUCCESS", "FAILURE", "CANCELED"):
                return runs[run]
            time.sleep(1)
        pytest.fail(self._log.read_text(encoding="utf-8"))


@contextmanager
def _ui(project: Path) -> Generator[Ui]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "loradash_assets", "ui", "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    with (project / "ui.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=project, env=environment, stdout=log, stderr=log)
        try:
            yield Ui(f"http://127.0.0.1:{port}", process, project / "ui.log")
        finally:
            process.terminate()  # this process alone, as a service manager does
            process.wait(60)


def test_a_run_launched_in_the_ui_is_still_in_its_history_after_a_restart(tmp_path: Path) -> None:
    project = save_project(tmp_path / "project", schedule={"cron": "15 2 * * *"})
    selector = {"pipelineName": "build", **REPOSITORY}
    with _ui(project) as ui:
        launched = ui.ask(LAUNCH, {"params": {"selector": selector, "mode": "default"}})["launchPipelineExecution"]
        run = launched["run"]["runId"]
        assert ui.status(run) == "SUCCESS"
    assert (project / "output" / "lora_activations_dashboard.html").exists()
    with _ui(project) as ui:
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
