"""Settings that cannot be used: Dagster loads all the same, and says what is wrong where people look."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loradash_assets.definitions import PROJECT_VARIABLE, project_definitions
from tests.end_to_end.ui import running_ui, wait_for
from tests.projects import save_project

PROBLEMS = {
    "no file": (None, "adapter.path: name the adapter's directory or hub name in loradash.yaml"),
    "no YAML": ("model: [", "loradash.yaml: line 1"),
    "an unknown field": ("tables: {topk: 3}", "loradash.yaml: tables.topk"),
    "no directory there": ("adapter: {path: ./nowhere}", "loradash.yaml: adapter.path: no such file or directory"),
    "no adapter there": ("adapter: {path: .}", "adapter.path: "),
}
ASSETS = "{ assetNodes { assetKey { path } description } }"


def _project(folder: Path, settings: str | None) -> Path:
    folder.mkdir()
    if settings is not None:
        (folder / "loradash.yaml").write_text(settings)
    return folder


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_one_asset_says_what_is_wrong_and_fails_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    settings, message = PROBLEMS[name]
    monkeypatch.setenv(PROJECT_VARIABLE, str(_project(tmp_path / "project", settings)))
    definitions = project_definitions()
    (spec,) = definitions.resolve_all_asset_specs()
    assert str(spec.description).startswith(message)
    assert "Once it is put right" in str(spec.description)
    job = definitions.resolve_implicit_global_asset_job_def()
    outcome = job.execute_in_process(raise_on_error=False)
    (failure,) = (event for event in outcome.all_events if event.is_step_failure)
    assert failure.step_failure_data.user_failure_data is not None
    assert failure.step_failure_data.user_failure_data.description == spec.description


def test_the_ui_shows_it_and_a_run_fails_with_it_until_the_file_is_put_right(tmp_path: Path) -> None:
    project = _project(tmp_path / "project", "tables: {topk: 3}")
    with running_ui(project, sys.executable, "-m", "dagster", "dev", "-m", "loradash_assets.definitions") as ui:
        (node,) = ui.ask(ASSETS)["assetNodes"]
        assert node["description"].startswith("loradash.yaml: tables.topk")
        assert ui.status(ui.launch()) == "FAILURE"
        save_project(project)
        wait_for(
            lambda: {"path": ["top_tokens", "layer_00"]} in [node["assetKey"] for node in ui.ask(ASSETS)["assetNodes"]]
        )


def test_materialising_on_the_command_line_ends_with_the_message(tmp_path: Path) -> None:
    project = _project(tmp_path / "project", None)
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "loradash_assets.definitions"]
    done = subprocess.run([*command, "--select", "*"], cwd=project, capture_output=True, text=True)
    assert done.returncode == 1
    assert PROBLEMS["no file"][1] in done.stderr
