"""Two projects with one store, each with its own `loradash ui` and history, that build at the same time."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loradash_assets.inventory import holdings, references
from loradash_assets.project import Project
from loradash_assets.run import run
from loradash_assets.settings import load_settings
from loradash_assets.store import Entry, Store, is_intact
from tests.end_to_end.ui import RUNS, Ui, running_ui
from tests.projects import latest_entry, save_adapter, save_project

LAYER = "top_tokens/layer_01"
SAME = ("dataset_rows", "prompts", "features", "geometry", "activations", "coactivation")  # in both projects


@dataclass(frozen=True)
class Built:
    """A project, its UI, and what its first run made: whether each asset was a cache hit or miss."""

    project: Path
    ui: Ui
    made: dict[str, str]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Built]]:
    """Two projects that record the same adapter; the second makes other tables of it, and has another adapter too."""
    place = tmp_path_factory.mktemp("two")
    one = save_project(
        place / "first",
        store={"path": "../shared"},
        schedule={"cron": None},
        dataset={"num_examples": 160},
        recording={"batch_tokens": 1, "share_prefixes": False},  # slow, so that both want to record at once
    )
    (one / "rows.jsonl").write_text((one / "rows.jsonl").read_text() * 20)
    projects = [one, shutil.copytree(one, place / "second")]
    save_adapter(projects[1] / "step-200", projects[1] / "base", seed=2)
    adapters = {"path": "./adapter", "others": {"step-200": "./step-200"}}
    _change(projects[1], tables={"top_k": 3}, adapter=adapters)
    with running_ui(projects[0]) as first, running_ui(projects[1]) as second:
        uis = (first, second)
        for ui in uis:
            ui.ask(RUNS)
        runs = [ui.launch() for ui in uis]
        assert [ui.status(launched) for ui, launched in zip(uis, runs, strict=True)] == ["SUCCESS", "SUCCESS"]
        yield [Built(at, ui, ui.made(launched)) for at, ui, launched in zip(projects, uis, runs, strict=True)]


def _change(project: Path, **sections: Any) -> None:
    file = project / "loradash.yaml"
    file.write_text(json.dumps({**json.loads(file.read_text()), **sections}))


def _store(built: Built) -> Store:
    return Project(load_settings(built.project)).store


def test_every_entry_is_intact_and_in_use(both: list[Built]) -> None:
    held = holdings(_store(both[0]))
    assert all(is_intact(Entry(each.path)) and each.assets for each in held)
    assert {*references(_store(both[0]))} == {each.path for each in held}


def test_what_both_need_was_made_once(both: list[Built]) -> None:
    for asset in SAME:
        assert sorted(built.made[asset] for built in both) == ["hit", "miss"], asset
        assert latest_entry(both[0].project, asset) == latest_entry(both[1].project, asset)


def test_a_layer_or_a_page_alone_is_its_own_projects(both: list[Built]) -> None:
    """The second project's run was the last to write, or the first's: each finds its own latest results."""
    for built, top_k in zip(both, (16, 3), strict=True):
        page = _outputs(built.project)
        launched = built.ui.launch(LAYER, "dashboard")
        assert built.ui.status(launched) == "SUCCESS"
        assert built.ui.made(launched) == {LAYER: "hit", "dashboard": "hit"}
        assert Entry(latest_entry(built.project, LAYER)).facts["settings"]["top_k"] == top_k
        assert _outputs(built.project) == page


@pytest.mark.parametrize("number", [0, 1])
def test_the_outputs_are_those_of_a_build_alone(both: list[Built], tmp_path: Path, number: int) -> None:
    built = both[number].project
    alone = shutil.copytree(built, tmp_path / "alone", ignore=shutil.ignore_patterns("output", ".dagster"))
    _change(alone, store={})
    run(load_settings(alone), None, upstream=True)
    for asset in [name for name in both[number].made if name.endswith("activations")]:
        shared, own = latest_entry(built, asset), latest_entry(alone, asset)
        assert Entry(shared).digest == Entry(own).digest
        shutil.rmtree(own)
        shutil.copytree(shared, own)  # recorded at another time, which the outputs show
    run(load_settings(alone), None, upstream=True)
    assert _outputs(alone) == _outputs(built)


def _outputs(project: Path) -> dict[str, bytes]:
    root = project / "output"
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def test_clean_in_one_project_leaves_the_others_results(both: list[Built]) -> None:
    before = holdings(_store(both[0]))
    command = [sys.executable, "-m", "loradash_assets", "clean", "--yes"]
    done = subprocess.run(command, cwd=both[0].project, capture_output=True, text=True, check=True)
    assert "not in use" not in done.stdout
    assert holdings(_store(both[0])) == before
