"""The directory of a training run: its adapters are the project's, those that come later and those that go too."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import torch
from safetensors.torch import load_file, save_file

from loradash_assets.compute.adapter_files import CONFIG, SAFETENSORS
from loradash_assets.definitions import made_from
from loradash_assets.sources import adapters, checkpoints
from tests.assets.graph import Graph
from tests.projects import save_adapter, save_project

LAYERS = [f"top_tokens/layer_{layer:02d}" for layer in range(3)]


def _save_checkpoint(project: Path, name: str, seed: int) -> Path:
    """Save what a trainer leaves: an adapter, and its own state beside it."""
    directory = project / "run" / name
    save_adapter(directory, project / "base", seed=seed)
    (directory / "optimizer.pt").write_bytes(bytes(100))
    return directory


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    project = save_project(tmp_path / "project", adapter={"checkpoints": "run"})
    _save_checkpoint(project, "checkpoint-20", 5)
    with dg.DagsterInstance.ephemeral() as instance:
        yield Graph(project, instance)


def _names(graph: Graph) -> list[str | None]:
    return [adapter.name for adapter in adapters(graph.settings())]


def test_they_are_in_the_order_of_their_numbers_and_nothing_else_is_one(graph: Graph) -> None:
    run = graph.project / "run"
    for name, seed in (("checkpoint-3", 6), ("checkpoint-100", 7)):
        _save_checkpoint(graph.project, name, seed)
    (run / "logs").mkdir()
    (run / "trainer_state.json").write_text("{}")
    assert _names(graph) == [None, "checkpoint-3", "checkpoint-20", "checkpoint-100"]
    assert checkpoints(graph.settings()).left_out == {}


def test_the_one_that_is_the_projects_adapter_too_counts_once(graph: Graph) -> None:
    graph.change(adapter={"path": "run/checkpoint-20"})
    assert _names(graph) == [None]
    (graph.project / "link").symlink_to("run/checkpoint-20")
    graph.change(adapter={"path": "./adapter", "others": {"linked": "link"}})
    assert _names(graph) == [None, "linked"]


def test_one_that_is_being_written_is_left_out_until_it_is_complete(graph: Graph) -> None:
    whole = _save_checkpoint(graph.project, "whole", 6)
    new = graph.project / "run" / "checkpoint-40"
    new.mkdir()
    shutil.copy(whole / CONFIG, new)
    assert "checkpoint-40 is left out: " in checkpoints(graph.settings()).notices()[0]
    weights = (whole / SAFETENSORS).read_bytes()
    for length in (0, 100, len(weights) - 1):
        (new / SAFETENSORS).write_bytes(weights[:length])
        assert set(checkpoints(graph.settings()).left_out) == {"checkpoint-40"}
    (new / SAFETENSORS).write_bytes(weights)
    assert _names(graph) == [None, "checkpoint-20", "checkpoint-40", "whole"]


def test_names_that_cannot_be_told_apart_or_cannot_be_asset_keys_are_left_out(graph: Graph) -> None:
    for seed, name in enumerate(("checkpoint_20", "last one", "adapter"), 6):
        _save_checkpoint(graph.project, name, seed)
    assert _names(graph) == [None, "checkpoint-20"]
    reasons = checkpoints(graph.settings()).left_out
    assert "too much like" in reasons["checkpoint_20"]
    assert "too much like" in reasons["adapter"]
    assert "letters, digits" in reasons["last one"]


def test_a_new_one_is_computed_alone_and_what_the_old_ones_gave_stays(graph: Graph) -> None:
    graph.run()
    old = {layer: graph.digest(f"adapters/checkpoint-20/{layer}") for layer in LAYERS}
    before = made_from(graph.project)
    _save_checkpoint(graph.project, "checkpoint-40", 8)
    assert made_from(graph.project) != before
    ran = graph.run()
    assert {ran[f"adapters/checkpoint-40/{layer}"] for layer in LAYERS} == {"miss"}
    assert {ran[name] for name in (*LAYERS, *(f"adapters/checkpoint-20/{layer}" for layer in LAYERS))} == {"hit"}
    assert ran["activations"] == ran["adapters/checkpoint-20/activations"] == "hit"
    # the trainer keeps the last few alone: what was made of the others is still there
    shutil.rmtree(graph.project / "run" / "checkpoint-20")
    graph.run()
    assert {layer: graph.digest(f"adapters/checkpoint-20/{layer}") for layer in LAYERS} == old
    assert (graph.project / "output" / "adapters" / "checkpoint-20" / "activations_data.json").is_file()


def test_what_a_trainer_keeps_beside_the_adapter_is_not_looked_at(graph: Graph) -> None:
    graph.run()
    (graph.project / "run" / "checkpoint-20" / "optimizer.pt").write_bytes(bytes(200))
    assert set(graph.run().values()) == {"hit"}
    file = graph.project / "run" / "checkpoint-20" / SAFETENSORS
    save_file({name: tensor + torch.tensor(0.5) for name, tensor in load_file(file).items()}, file)
    assert graph.run()["adapters/checkpoint-20/features"] == "miss"


def test_the_graph_is_made_anew_for_adapters_and_the_schedule_only(graph: Graph) -> None:
    before = made_from(graph.project)
    graph.change(tables={"top_k": 3}, dashboard={"title": "Another"})
    assert made_from(graph.project) == before
    graph.change(schedule={"cron": "1 2 * * *"})
    assert made_from(graph.project) != before
    graph.change(adapter={"checkpoints": "nowhere"})
    assert made_from(graph.project).startswith("loradash.yaml: adapter.checkpoints: no such directory: ")
