"""`loradash ui` for real: webserver, daemon and code server of a project."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

DEADLINE = 240  # s
REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "loradash_assets.definitions"}
RUNS = "{ runsOrError { ... on Runs { results { runId status } } } }"
LAUNCH = """mutation Launch($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}"""
FAILURES = """query Failures($run: ID!) {
  runOrError(runId: $run) { ... on Run { eventConnection(afterCursor: null) { events {
    ... on ExecutionStepFailureEvent { failureMetadata { description } }
  } } } }
}"""
MADE = """query Made($run: ID!) {
  runOrError(runId: $run) { ... on Run { assetMaterializations {
    assetKey { path } metadataEntries { label ... on TextMetadataEntry { text } }
  } } }
}"""


class Ui:
    """A running UI, asked through its own GraphQL interface."""

    def __init__(self, address: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.address = address
        self._process = process
        self._log = log

    def ask(self, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the reply's data; wait for the UI to come up."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end and self._process.poll() is None:
            try:
                body = {"query": query, "variables": variables or {}}
                reply = httpx.post(f"{self.address}/graphql", json=body, trust_env=False, timeout=60).json()
            except httpx.TransportError:
                time.sleep(0.5)
                continue
            assert "errors" not in reply, reply
            return reply["data"]
        pytest.fail(self._log.read_text(encoding="utf-8"))

    def launch(self, *assets: str, job: str = "__ASSET_JOB") -> str:
        """Materialise these assets, as the UI's button does, or all of a job; return the run."""
        selection = {"assetSelection": [{"path": asset.split("/")} for asset in assets]} if assets else {}
        selector = {"pipelineName": job, **REPOSITORY, **selection}
        reply = self.ask(LAUNCH, {"params": {"selector": selector, "mode": "default"}})["launchPipelineExecution"]
        assert reply["__typename"] == "LaunchRunSuccess", reply
        return reply["run"]["runId"]

    def failures(self, run: str) -> list[str]:
        """Return what a run's failed steps say."""
        events = self.ask(FAILURES, {"run": run})["runOrError"]["eventConnection"]["events"]
        return [event["failureMetadata"]["description"] for event in events if event]

    def made(self, run: str) -> dict[str, str]:
        """Return what a run materialised, each a cache hit or miss."""
        made = self.ask(MADE, {"run": run})["runOrError"]["assetMaterializations"]
        return {
            "/".join(each["assetKey"]["path"]): entry["text"]
            for each in made
            for entry in each["metadataEntries"]
            if entry["label"] == "cache"
        }

    def status(self, run: str) -> str:
        """Return a run's status, once it has ended."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            runs = {entry["runId"]: entry["status"] for entry in self.ask(RUNS)["runsOrError"]["results"]}
            if runs.get(run) in ("SUCCESS", "FAILURE", "CANCELED"):
                return runs[run]
            time.sleep(1)
        pytest.fail(self._log.read_text(encoding="utf-8"))


def wait_for(condition: Callable[[], object]) -> None:
    """Return once `condition` holds; fail if it does not in `DEADLINE`."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(1)


@contextmanager
def running_ui(project: Path, *command: str) -> Generator[Ui]:
    """Run the UI of a project until the block ends: `command`, if not `loradash ui`, without its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = command or (sys.executable, "-m", "loradash_assets", "ui")
    environment = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    with (project / "ui.log").open("ab") as log:
        process = subprocess.Popen(
            [*program, "--port", str(port)], cwd=project, env=environment, stdout=log, stderr=log
        )
        try:
            yield Ui(f"http://127.0.0.1:{port}", process, project / "ui.log")
        finally:
            process.terminate()  # this process alone, as a service manager does
            process.wait(60)
