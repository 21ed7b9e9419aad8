"""A whole build from hub names: base model, adapter and dataset come from the tests' own hub, and from nowhere else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.hub.fixtures import HubServer
from tests.projects import deepseek_rows, save_adapter, save_base

COMMAND = [sys.executable, "-m", "loradash_assets", "build"]


def _publish(folder: Path) -> None:
    save_base(folder / "models" / "org" / "tiny")
    save_adapter(folder / "models" / "org" / "adapter", folder / "models" / "org" / "tiny")
    data = folder / "datasets" / "org" / "data"
    data.mkdir(parents=True)
    (data / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in deepseek_rows()), encoding="utf-8")


def _build(hub: HubServer, project: Path, *options: str, offline: bool = False) -> subprocess.CompletedProcess[str]:
    environment = hub.environment(project.parent / "home") | {"HF_HUB_OFFLINE": str(int(offline))}
    return subprocess.run([*COMMAND, *options], cwd=project, env=environment, capture_output=True, text=True)


def test_hub_names_build_a_dashboard_and_only_new_commits_are_fetched(hub_server: HubServer, tmp_path: Path) -> None:
    _publish(hub_server.folder)
    project = tmp_path / "project"
    project.mkdir()
    names = ["--base-model", "org/tiny", "--lora-path", "org/adapter", "--dataset", "org/data", "--num-examples", "5"]
    built = _build(hub_server, project, *names)
    assert built.returncode == 0, built.stderr
    metadata = json.loads((project / "output" / "activations_data.json").read_text())["metadata"]
    assert (metadata["modelName"], metadata["loraPath"]) == ("org/tiny", "org/adapter")
    assert (metadata["numExamples"], metadata["loraLayers"]) == (5, [0, 1, 2])
    again = _build(hub_server, project, *names)
    assert "Nothing to recompute" in again.stdout, again.stdout + again.stderr


def test_a_hub_that_is_away_for_a_moment_is_asked_again(hub_server: HubServer, tmp_path: Path) -> None:
    _publish(hub_server.folder)
    project = tmp_path / "project"
    project.mkdir()
    names = ["--base-model", "org/tiny", "--lora-path", "org/adapter", "--dataset", "org/data", "--num-examples", "5"]
    hub_server.busy.append("/api/models/org/tiny")
    built = _build(hub_server, project, *names)
    assert built.returncode == 0, built.stderr
    assert not hub_server.busy
    assert (project / "output" / "lora_activations_dashboard.html").is_file()


def test_offline_the_cached_commit_is_the_same_source(hub_server: HubServer, tmp_path: Path) -> None:
    _publish(hub_server.folder)
    project = tmp_path / "project"
    project.mkdir()
    (project / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in deepseek_rows()), encoding="utf-8")
    names = ["--base-model", "org/tiny", "--lora-path", "org/adapter", "--dataset", "rows.jsonl"]
    built = _build(hub_server, project, *names)
    assert built.returncode == 0, built.stderr
    offline = _build(hub_server, project, *names, offline=True)
    assert "Nothing to recompute" in offline.stdout, offline.stdout + offline.stderr


def test_a_name_that_is_not_on_the_hub_is_one_clear_message(hub_server: HubServer, tmp_path: Path) -> None:
    _publish(hub_server.folder)
    project = tmp_path / "project"
    project.mkdir()
    for option, field in (("--lora-path", "adapter.path"), ("--base-model", "model.base_model")):
        names = {"--base-model": "org/tiny", "--lora-path": "org/adapter", "--dataset": "org/data", option: "org/none"}
        failed = _build(hub_server, project, *[word for pair in names.items() for word in pair])
        assert failed.returncode == 1
        assert f"{field}: 'org/none'" in failed.stderr
        assert "Traceback" not in failed.stderr
