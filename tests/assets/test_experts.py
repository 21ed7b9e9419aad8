"""The asset graph on a mixture of experts: every expert is in the export, and each layer's check counts its tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from safetensors.numpy import load_file

from tests.assets.test_graph import Graph
from tests.experts import FAMILIES
from tests.projects import save_adapter, save_base, save_project

LAYERS = ["top_tokens/layer_00", "top_tokens/layer_01"]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    directory = save_project(tmp_path_factory.mktemp("experts"))
    family = FAMILIES["mixtral"]
    save_base(directory / "base", family.config)
    save_adapter(directory / "adapter", directory / "base", target_modules=["q_proj"], target_parameters=family.both)
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(directory, instance)
        graph.run()
        yield graph


def test_the_export_has_every_expert(graph: Graph) -> None:
    export = json.loads((graph.project / "output" / "activations_data.json").read_text())
    names = {"q_proj", *(f"experts.{e}.{name}" for e in range(4) for name in ("gate_up_proj", "down_proj"))}
    for layer in export["layers"]:
        assert names == {name for name in layer if name.endswith("_proj")}
        tokens: dict[str, int] = {name: layer[name]["histogram"]["total_samples"] for name in names}
        for parameter in ("gate_up_proj", "down_proj"):
            assert sum(tokens[f"experts.{e}.{parameter}"] for e in range(4)) == 2 * tokens["q_proj"]


def test_the_check_compares_what_experts_counted_with_what_the_router_sends(graph: Graph) -> None:
    for layer in LAYERS:
        key = dg.AssetCheckKey(dg.AssetKey(layer.split("/")), "lists_and_counts")
        record = graph.instance.event_log_storage.get_asset_check_summary_records([key])[key]
        execution = record.last_check_execution_record
        assert execution is not None
        assert execution.status.value == "SUCCEEDED"
        event: Any = execution.event
        evaluated = event.dagster_event.asset_check_evaluation_data.metadata
        counts = {name: value.value for name, value in evaluated.items()}
        assert counts["counted"] == [counts["tokens"]]
        assert counts["routed"] == [counts["experts_per_token"] * counts["tokens"]] == [2 * counts["tokens"]]


def test_the_recording_grows_with_the_routed_tokens(graph: Graph) -> None:
    for file in graph.entry("activations").glob("chunk-*.safetensors"):
        tensors = load_file(file)
        assert tensors["layer.0.experts.0.values"].shape == (2, 2 * tensors["tokens"].size)
