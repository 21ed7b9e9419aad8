"""The whole graph on adapters that are not the usual ones: embeddings, layers with nothing to record, another base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from tests.assets.test_graph import Graph
from tests.compute.odd_model import OddConfig
from tests.projects import save_adapter, save_base, save_project, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")


def _graph(project: Path, instance: dg.DagsterInstance, **options: Any) -> Graph:
    save_project(project)
    save_adapter(project / "adapter", project / "base", **options)
    return Graph(project, instance)


def test_an_embeddings_top_tokens_are_the_largest_entries_of_a_among_the_tokens_that_occur(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        graph = _graph(tmp_path / "p", instance, target_modules=["embed_tokens", "up_proj"], r=2)
        graph.change(tables={"distinct_contexts": False, "top_k": 3})
        graph.run()
        top = pq.read_table(graph.entry("top_tokens/outside_layers") / "plain.parquet").to_pylist()
        token_ids = pq.read_table(graph.entry("prompts") / "prompts.parquet")["token_ids"].to_pylist()
    A = load_file(tmp_path / "p/adapter/adapter_model.safetensors")[
        "base_model.model.model.embed_tokens.lora_embedding_A"
    ]
    seen = A[:, np.concatenate(token_ids)]
    for component in (0, 1):
        rows = [row for row in top if row["component"] == component and row["polarity"] == "positive"]
        assert {row["projection"] for row in rows} == {"embed_tokens"}
        assert [row["activation"] for row in rows] == sorted(seen[component][seen[component] > 0], reverse=True)[:3]
        assert all(A[component, row["token_id"]] == np.float32(row["activation"]) for row in rows)


def test_a_layer_with_nothing_to_record_has_empty_tables(tmp_path: Path) -> None:
    project = save_project(tmp_path / "p")
    save_base(project / "base", OddConfig(vocab_size=len(tiny_tokenizer())))
    save_adapter(project / "adapter", project / "base", target_modules=r"layers\.0\.conv|layers\.1\.up")
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(project, instance)
        graph.run()
        assert pq.read_table(graph.entry("top_tokens/layer_00") / "plain.parquet").num_rows == 0
        assert pq.read_table(graph.entry("top_tokens/layer_01") / "plain.parquet").num_rows > 0
        unrecorded = graph.metadata("features")["unrecorded"].value
    assert list(unrecorded) == ["layers.0.conv"]
    assert (project / "output" / "lora_activations_dashboard.html").exists()


def test_an_adapter_of_another_base_is_refused_unless_allowed(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        graph = _graph(tmp_path / "p", instance)
        named = tmp_path / "p" / "tiny-7b"
        (tmp_path / "p" / "base").rename(named)
        file = tmp_path / "p" / "adapter" / "adapter_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": "owner/tiny-3b"}))
        graph.change(model={"base_model": "./tiny-7b"})
        graph.run("base_model")
        graph.run("features", success=False)
        graph.change(adapter={"allow_other_base": True})
        assert graph.run("features") == {"features": "miss"}
