"""Several adapters in one project: the same results as alone, one base model, each its own place."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2Config

from loradash_assets.compute import activations
from loradash_assets.compute.features import read_catalogue
from loradash_assets.compute.forward import AdaptedModel
from loradash_assets.compute.model import load_config, load_model
from tests.assets.graph import Graph
from tests.projects import save_adapter, save_base, save_project
from tests.recordings import dense

SIZES: dict[str, Any] = {
    "vocab_size": 400,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
STEP = "adapters/step-200"
OF_ADAPTERS = [
    "features",
    "geometry",
    "activations",
    "coactivation",
    *(f"top_tokens/layer_{layer:02d}" for layer in range(3)),
]


def save(directory: Path) -> Path:
    """Save a project with two very different adapters."""
    project = save_project(directory, adapter={"others": {"step-200": "./step-200"}})
    options: dict[str, Any] = {
        "r": 3,
        "target_modules": ["q_proj", "up_proj"],
        "use_dora": True,
        "modules_to_save": ["lm_head"],
    }
    save_adapter(project / "step-200", project / "base", seed=7, **options)
    return project


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(save(tmp_path_factory.mktemp("both") / "project"), instance)
        graph.run()
        yield graph


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Graph(save(tmp_path / "project"), instance)


def test_each_adapters_results_are_those_it_has_alone(both: Graph, tmp_path: Path) -> None:
    for name, prefix in (("adapter", ""), ("step-200", f"{STEP}/")):
        project = tmp_path / name
        shutil.copytree(both.project, project, ignore=shutil.ignore_patterns(".loradash", "output"))
        with dg.DagsterInstance.ephemeral() as instance:
            alone = Graph(project, instance)
            alone.change(adapter={"path": f"./{name}", "others": {}})
            alone.run()
        for asset in OF_ADAPTERS:
            assert both.digest(f"{prefix}{asset}") == alone.digest(asset), (name, asset)
        data = "activations_data.json"
        ours = both.project / "output" / prefix / data
        assert _without_time(ours) == _without_time(project / "output" / data)


def _without_time(file: Path) -> str:
    start, _, rest = file.read_text(encoding="utf-8").partition('"generatedAt":"')
    return start + rest.partition('"')[2]


def test_the_base_model_is_loaded_once(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Path] = []
    load_model = activations.load_model

    def counted(directory: Path, **options: Any) -> Any:
        loaded.append(directory)
        return load_model(directory, **options)

    monkeypatch.setattr(activations, "load_model", counted)
    ran = graph.run()
    assert (ran["activations"], ran[f"{STEP}/activations"]) == ("miss", "miss")
    assert len(loaded) == 1


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
@pytest.mark.parametrize(
    "options",
    [
        {"bias": "all"},
        {"bias": "lora_only"},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": ["q_proj", "lm_head"], "modules_to_save": ["embed_tokens"]},
        {"trainable_token_indices": [1, 2]},
        {"use_dora": True, "bias": "all"},
    ],
    ids=["bias", "own bias", "embeddings", "saved", "tokens", "dora"],
)
def test_what_an_adapter_brings_besides_lora_stays_its_own(tmp_path: Path, options: dict[str, Any]) -> None:
    """PEFT loads biases and saved embeddings into the base model's own tensors."""
    config = Qwen2Config(**SIZES)
    save_base(tmp_path / "base", config)
    save_adapter(tmp_path / "bringing", tmp_path / "base", **options)
    file = tmp_path / "bringing" / "adapter_model.safetensors"
    tensors = {name: tensor if ".lora_" in name else tensor + 1 for name, tensor in load_file(file).items()}
    save_file(tensors, file)
    save_adapter(tmp_path / "plain", tmp_path / "base", seed=3)
    base = load_model(tmp_path / "base", dtype="float32", device=torch.device("cpu"), trust_remote_code=False)
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    alone = _activations(base, tmp_path / "plain", tmp_path / "base")
    _activations(base, tmp_path / "bringing", tmp_path / "base")
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())
    assert torch.equal(_activations(base, tmp_path / "plain", tmp_path / "base"), alone)


def _activations(base: Any, adapter: Path, directory: Path) -> torch.Tensor:
    config = load_config(directory, trust_remote_code=False)
    modules = read_catalogue(adapter, config, allow_pickle=False, trust_remote_code=False).modules
    return dense(AdaptedModel(base, adapter, modules), [np.arange(6), np.arange(3)])


def test_an_adapter_comes_and_goes_without_recomputing_the_others(graph: Graph) -> None:
    graph.change(adapter={"others": {}})
    graph.run()
    graph.change(adapter={"others": {"step-200": "./step-200"}})
    ran = graph.run()
    assert {ran[asset] for asset in OF_ADAPTERS} == {"hit"}
    assert {ran[f"{STEP}/{asset}"] for asset in OF_ADAPTERS} == {"miss"}
    graph.change(adapter={"others": {}})
    assert set(graph.run().values()) == {"hit"}


def test_one_adapter_can_be_recorded_where_the_other_was_never_looked_at(graph: Graph) -> None:
    graph.run("dataset_rows", "base_model", "prompts", f"{STEP}/features")
    assert graph.run(f"{STEP}/activations") == {f"{STEP}/activations": "miss"}


def test_the_published_tables_name_the_adapter(both: Graph) -> None:
    tables = both.project / "output" / "tables"
    for name in ("top_tokens", "samples", "statistics", "coactivation", "features", "cosines", "neighbours"):
        table = pq.read_table(tables / f"{name}.parquet")
        assert table.column_names[0] == "adapter"
        assert set(table["adapter"].to_pylist()) == {"adapter", "step-200"}, name
    counts = pq.read_table(tables / "features.parquet")["adapter"].value_counts().to_pylist()
    assert {row["values"]: row["counts"] for row in counts} == {"adapter": 21, "step-200": 18}


def test_a_broken_adapter_is_named_by_its_own_setting(graph: Graph) -> None:
    (graph.project / "step-200" / "adapter_config.json").write_text("{")
    graph.run("dataset_rows", "base_model", "prompts", "features")
    (failure,) = _failures(graph, f"{STEP}/features")
    assert re.match(r"adapter\.others\.step-200: cannot read \S+adapter_config\.json: ", failure)


def _failures(graph: Graph, asset: str) -> list[str]:
    graph.run(asset, success=False)
    (run,) = graph.instance.get_run_records(limit=1)
    events = graph.instance.all_logs(run.dagster_run.run_id)
    data = [
        event.dagster_event.step_failure_data
        for event in events
        if event.dagster_event and event.dagster_event.is_step_failure
    ]
    return [str(each.user_failure_data.description) for each in data if each.user_failure_data]


def test_groups_and_keys_tell_the_adapters_apart(both: Graph) -> None:
    assets = both.definitions().resolve_asset_graph()
    groups = {key.to_user_string(): assets.get(key).group_name for key in assets.materializable_asset_keys}
    assert groups["top_tokens/layer_01"] == "tables"
    assert groups[f"{STEP}/top_tokens/layer_01"] == "tables_step_200"
    assert groups[f"{STEP}/activations"] == "recording_step_200"
    assert groups["dashboard"] == "dashboard"
