"""The asset graph on a real Dagster instance: its shape, what a run records, and what a change recomputes."""

from __future__ import annotations

import base64
import csv
import json
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from xml.etree import ElementTree

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from dagster._core.definitions.freshness import TimeWindowFreshnessPolicy
from safetensors.numpy import load_file, save_file

from loradash_assets.assets.tables import CHECKS
from loradash_assets.automation import BUILD_JOB
from loradash_assets.compute import geometry
from loradash_assets.compute.directions import ModuleDirections
from loradash_assets.project import Project
from loradash_assets.run import run
from loradash_assets.settings import load_settings
from tests.assets.graph import Graph, next_second
from tests.pages import shown
from tests.projects import save_adapter, save_base, save_project

LAYERS = [f"top_tokens/layer_{layer:02d}" for layer in range(3)]
STAGES = [
    "dataset_rows",
    "base_model",
    "prompts",
    "features",
    "geometry",
    "activations",
    "coactivation",
    "interpretations",
]
OUTPUTS = ["activations_data", "published_tables", "dashboard", "interpretation_report", "annotated_features"]


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Graph(save_project(tmp_path / "project"), instance)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """A graph that has been run once; tests that share it only look."""
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(save_project(tmp_path_factory.mktemp("built") / "project"), instance)
        assert set(graph.run()) == {*STAGES, *LAYERS, *OUTPUTS}
        yield graph


def test_every_asset_is_described_grouped_and_versioned(built: Graph) -> None:
    graph = built.definitions().resolve_asset_graph()
    for key in graph.materializable_asset_keys:
        node = graph.get(key)
        assert node.description, key
        assert node.group_name != "default", key
        assert node.kinds, key
        assert node.code_version, key
    groups = {node.group_name for node in graph.asset_nodes}
    assert groups == {"sources", "dataset", "model", "adapter", "recording", "tables", "dashboard", "annotations"}


def test_the_tables_of_the_graph_show_rows_columns_and_a_preview(built: Graph) -> None:
    for asset in ("dataset_rows", "prompts", "features", "geometry", "coactivation", *LAYERS):
        metadata = built.metadata(asset)
        assert metadata["dagster/row_count"].value > 0
        columns = metadata["dagster/column_schema"].schema.columns
        assert all(column.description for column in columns), asset
        assert metadata["preview"].value.startswith("| "), asset
    assert built.metadata("prompts")["dagster/row_count"].value == 7  # one of the eight rows is unusable
    assert "field 'deepseek_attempt'" in built.metadata("prompts")["not_used_as_they_are"].value.replace("&#95;", "_")


def test_owners_tags_and_freshness_are_what_the_settings_say(tmp_path: Path) -> None:
    project = save_project(tmp_path / "project", dagster={"owners": ["team:interp", "a@b.org"], "fresh_hours": 5.5})
    with dg.DagsterInstance.ephemeral() as instance:
        definitions = Graph(project, instance).definitions()
    specs = {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}
    assert {name for name, spec in specs.items() if spec.freshness_policy} == set(OUTPUTS)
    policy = specs["dashboard"].freshness_policy
    assert isinstance(policy, TimeWindowFreshnessPolicy)
    assert policy.fail_window.to_timedelta() == timedelta(hours=5.5)
    for name in (*STAGES, *LAYERS, *OUTPUTS):
        assert specs[name].owners == ["team:interp", "a@b.org"]
    assert specs[LAYERS[2]].tags.items() >= {("loradash/adapter", "adapter"), ("loradash/layer", "2")}


def test_only_what_asks_the_hub_is_retried(built: Graph) -> None:
    retried = {
        key.to_user_string()
        for asset in built.definitions().assets or []
        if isinstance(asset, dg.AssetsDefinition) and asset.node_def.retry_policy  # pyright: ignore[reportAttributeAccessIssue]
        for key in asset.keys
    }
    assert retried == {"base_model", "dataset_rows", "features"}


def test_a_layers_table_shows_its_histograms_and_where_it_is_on_the_dashboard(built: Graph) -> None:
    metadata = built.metadata(LAYERS[1])
    assert metadata["on_the_dashboard"].value == "http://127.0.0.1:8080/#layer=1"
    assert built.metadata("dashboard")["on_the_dashboard"].value == "http://127.0.0.1:8080/"
    head, _, picture = metadata["histograms"].value.removesuffix(")").partition("(data:image/svg+xml;base64,")
    assert head == "![the features' histograms]"
    root = ElementTree.fromstring(base64.b64decode(picture))
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    statistics = pq.read_table(built.entry(LAYERS[1]) / "statistics.parquet").to_pylist()
    assert texts == [
        shown for row in statistics for shown in (f"{row['projection']} 0", f"{row['min']:.3g}", f"{row['max']:.3g}")
    ]
    bars = [path.get("d", "").count("M") for path in root.iter("{http://www.w3.org/2000/svg}path") if path.get("fill")]
    full = [sum(map(bool, row["total_counts"])) for row in statistics]
    assert [below + above for below, above in zip(bars[::2], bars[1::2], strict=True)] == full


def test_what_is_computed_has_a_speed_and_what_is_in_the_store_has_none(graph: Graph) -> None:
    graph.run()
    assert graph.metadata(LAYERS[0])["tokens_per_second"].value > 0
    assert graph.metadata("activations")["tokens_per_second"].value > 0
    graph.run()
    assert "tokens_per_second" not in graph.metadata(LAYERS[0])


def test_every_layers_table_is_checked(built: Graph) -> None:
    records = built.instance.event_log_storage.get_asset_check_summary_records(
        [dg.AssetCheckKey(dg.AssetKey(layer.split("/")), check) for layer in LAYERS for check in CHECKS]
    )
    assert len(records) == 6
    for record in records.values():
        execution = record.last_check_execution_record
        assert execution is not None
        assert execution.status.value == "SUCCEEDED"


def test_a_second_run_computes_nothing_and_gives_the_same_versions(graph: Graph) -> None:
    graph.run()
    dashboard = (graph.project / "output" / "lora_activations_dashboard.html").read_bytes()
    assert set(graph.run().values()) == {"hit"}
    assert (graph.project / "output" / "lora_activations_dashboard.html").read_bytes() == dashboard


def test_one_layer_can_be_materialised_alone(graph: Graph) -> None:
    graph.run()
    graph.change(tables={"top_k": 3})
    assert graph.run(LAYERS[1]) == {LAYERS[1]: "miss"}
    assert graph.run() == {
        **dict.fromkeys(STAGES, "hit"),
        **{LAYERS[0]: "miss", LAYERS[1]: "hit", LAYERS[2]: "miss"},
        **dict.fromkeys(OUTPUTS, "miss"),
    }


def test_a_layer_without_its_inputs_says_what_to_do(graph: Graph) -> None:
    assert graph.run(LAYERS[1], success=False) == {}


def test_what_is_left_out_is_counted_and_said_and_the_data_file_stays(graph: Graph) -> None:
    graph.run()
    output = graph.project / "output"
    data = (output / "activations_data.json").read_bytes()
    full = pq.read_table(output / "tables" / "statistics.parquet")
    prompts = pq.read_table(output / "tables" / "prompts.parquet")["token_ids"].to_pylist()
    graph.change(tables={"exclude_special_tokens": True, "exclude_first_positions": 3, "max_per_example": 2})
    graph.run()
    special = sum(token_id < 3 for ids in prompts for token_id in ids)
    both = sum(token_id < 3 or position < 3 for ids in prompts for position, token_id in enumerate(ids))
    left_out = {"special_tokens": special, "first_positions": 3 * len(prompts), "all": both}
    assert graph.metadata(LAYERS[0])["left_out"].value == left_out
    tokens = sum(map(len, prompts))
    text = shown(output / "lora_activations_dashboard.html")
    reasons = f"special tokens {special}, first 3 positions {3 * len(prompts)}"
    assert f"Lists and samples leave out {both} of {tokens:,} tokens: {reasons}" in text
    assert "16, distinct contexts, at most 2 of one example" in text
    assert (output / "activations_data.json").read_bytes() == data
    statistics = pq.read_table(output / "tables" / "statistics.parquet")
    assert statistics.filter(~pc.field("filtered")).equals(full)
    counts = statistics.filter(pc.field("filtered"))["count"].to_pylist()
    assert counts == [tokens - both] * full.num_rows
    for name in ("top_tokens", "samples"):
        listed = pq.read_table(output / "tables" / f"{name}.parquet")
        assert listed.num_rows > 0
        assert min(listed["token_id"].to_pylist()) > 2
        assert min(listed["position"].to_pylist()) > 2
    for layer in LAYERS:
        assert (graph.entry(layer) / "samples.parquet").is_file()


def test_an_id_that_the_tokenizer_does_not_have_is_refused_before_the_model_runs(graph: Graph) -> None:
    graph.change(tables={"exclude_token_ids": [100_000]})
    assert "activations" not in graph.run(success=False)
    graph.change(tables={"exclude_token_ids": []})
    graph.run()
    graph.change(tables={"exclude_token_ids": [100_000]})
    assert graph.run(LAYERS[0], success=False) == {}


def test_a_note_reaches_table_report_and_dashboard(graph: Graph) -> None:
    graph.run()
    note = {"text": "reacts to 'of'", "starred": True, "lastModified": "2024-01-20T10:30:00Z"}
    notes = {"layer_1_gate_proj_positive": note, "layer_9_gate_proj_positive": {"text": "gone", "starred": False}}
    (graph.project / "interpretations.json").write_text(json.dumps({"interpretations": notes}))
    caches = graph.run()
    misses = {name for name, cache in caches.items() if cache == "miss"}
    assert misses == {"interpretations", "dashboard", "interpretation_report", "annotated_features"}
    assert graph.metadata("interpretations")["unknown_keys"].value == ["layer_9_gate_proj_positive"]
    output = graph.project / "output"
    with (output / "interpretation_report.csv").open(newline="") as file:
        report = {row["key"]: row for row in csv.DictReader(file)}
    assert report["layer_1_gate_proj_positive"]["text"] == "reacts to 'of'"
    wanted = {"layer": 1, "projection": "gate_proj", "polarity": "positive", "rank": 1}
    tops = pq.read_table(output / "tables" / "top_tokens.parquet").to_pylist()
    (best,) = (row for row in tops if wanted.items() <= row.items())
    assert np.float32(report["layer_1_gate_proj_positive"]["best_activation"]) == np.float32(best["activation"])


def test_damaged_recordings_are_found_and_made_again(graph: Graph) -> None:
    graph.run()
    chunk = next(graph.entry("activations").glob("chunk-*.safetensors"))
    good = chunk.read_bytes()
    chunk.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert graph.run(LAYERS[0], success=False) == {}  # never a table from damaged numbers
    next_second()
    caches = graph.run()
    # Equal content stops the wave at the tables; what shows when it was recorded is made anew.
    assert {name for name, cache in caches.items() if cache == "miss"} == {"activations", *OUTPUTS}
    assert chunk.read_bytes() == good


def test_activations_that_are_not_finite_fail_the_check_and_are_not_ranked(graph: Graph) -> None:
    graph.run()
    weights = graph.project / "base" / "model.safetensors"
    tensors = load_file(weights)
    embedding = tensors["model.embed_tokens.weight"]
    embedding[1] = np.inf  # <|im_start|>
    save_file(tensors, weights, metadata={"format": "pt"})
    assert graph.run(LAYERS[0]) == {LAYERS[0]: "hit"}
    graph.run()
    key = dg.AssetCheckKey(dg.AssetKey(LAYERS[0].split("/")), "all_finite")
    execution = graph.instance.event_log_storage.get_asset_check_summary_records([key])[key].last_check_execution_record
    assert execution is not None
    assert execution.status.value == "FAILED"
    page = (graph.project / "output" / "activations_data.json").read_text()
    assert "NaN" not in page
    assert "Infinity" not in page


def test_an_unusable_adapter_fails_by_name_before_the_model_is_loaded(graph: Graph) -> None:
    weights = graph.project / "adapter" / "adapter_model.safetensors"
    tensors = load_file(weights)
    name = next(name for name in tensors if "layers.2.mlp.up_proj.lora_B" in name)
    del tensors[name]
    save_file(tensors, weights, metadata={"format": "pt"})
    outcome = (
        graph.definitions().resolve_job_def(BUILD_JOB).execute_in_process(instance=graph.instance, raise_on_error=False)
    )
    failures = [event for event in outcome.all_events if event.is_step_failure]
    assert [event.step_key for event in failures] == ["features"]
    failure = failures[0].step_failure_data.user_failure_data
    assert failure is not None
    assert failure.description is not None
    assert name in failure.description


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
def test_a_dora_of_rank_2_with_its_head_in_the_svd_basis(graph: Graph) -> None:
    save_adapter(
        graph.project / "adapter",
        graph.project / "base",
        r=2,
        use_dora=True,
        target_modules=["gate_proj", "up_proj", "down_proj", "lm_head"],
    )
    graph.change(tables={"basis": "svd"})
    caches = graph.run()
    assert caches["top_tokens/outside_layers"] == "miss"
    export = json.loads((graph.project / "output" / "activations_data.json").read_text())
    assert [layer["layerIdx"] for layer in export["layers"]] == [-1, 0, 1, 2]
    assert list(export["layers"][0]["lm_head"]) == ["0", "1"]  # components, in the raw basis
    assert len(export["layers"][1]["cosineSimilarities"]) == 36  # every ordered pair of three projections' components
    statistics = pq.read_table(graph.project / "output" / "tables" / "statistics.parquet").to_pylist()
    assert {row["basis"] for row in statistics} == {"raw", "svd"}
    text = shown(graph.project / "output" / "lora_activations_dashboard.html")
    assert "DoRA's rescaling" in text
    assert "layer_1_gate_proj_s1_negative" in text


def test_an_adapter_that_changed_since_it_was_catalogued_is_not_recorded(graph: Graph) -> None:
    """Else its activations would stand in the store under the name of the adapter before."""
    graph.run()
    shutil.rmtree(graph.entry("activations"))
    save_adapter(graph.project / "adapter", graph.project / "base", seed=7)
    assert graph.run("activations", success=False) == {}
    assert graph.run()["activations"] == "miss"


def test_a_base_model_that_changed_since_it_was_looked_at_is_not_recorded(graph: Graph) -> None:
    graph.run()
    shutil.rmtree(graph.entry("activations"))
    save_base(graph.project / "base", seed=7)
    assert graph.run("activations", success=False) == {}
    (graph.project / "base" / "README.md").write_text("no part of the model")
    assert graph.run()["activations"] == "miss"
    (graph.project / "base" / "README.md").write_text("still none")
    assert set(graph.run().values()) == {"hit"}


def test_a_page_drawn_alone_says_what_its_tables_were_made_with(graph: Graph) -> None:
    """Not what the settings are by now: the tables are still those of the last build."""
    graph.run()
    page = (graph.project / "output" / "lora_activations_dashboard.html").read_bytes()
    graph.change(tables={"basis": "svd", "top_k": 2}, dataset={"num_examples": 3})
    assert graph.run("dashboard") == {"dashboard": "hit"}
    assert (graph.project / "output" / "lora_activations_dashboard.html").read_bytes() == page


def test_layers_made_with_different_settings_are_not_put_on_one_page(graph: Graph) -> None:
    graph.run()
    graph.change(tables={"top_k": 2})
    graph.run(LAYERS[1])
    assert graph.run("dashboard", success=False) == {}


def test_correlations_in_another_basis_are_not_put_on_the_page(graph: Graph) -> None:
    graph.run()
    graph.change(tables={"basis": "svd"})
    graph.run(*LAYERS)
    assert graph.run("dashboard", success=False) == {}
    graph.run("coactivation")
    assert graph.run("dashboard") == {"dashboard": "miss"}


def test_a_damaged_reference_is_an_asset_to_make_again(graph: Graph) -> None:
    graph.run()
    Project(graph.settings()).reference("features").write_text("{")
    assert graph.run("geometry", success=False) == {}
    assert set(graph.run().values()) == {"hit"}


def test_a_run_goes_on_with_its_own_results_whatever_another_makes_meanwhile(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run of the same project, as by `loradash build --lora-path ./other` while the UI's runs."""
    save_adapter(graph.project / "other", graph.project / "base", seed=7)
    compute = geometry.mlp_cosines

    def disturbed(directions: list[ModuleDirections]) -> pa.Table:
        monkeypatch.undo()
        run(load_settings(graph.project, {"adapter": {"path": "./other"}}), None, upstream=True)
        return compute(directions)

    monkeypatch.setattr(geometry, "mlp_cosines", disturbed)
    assert graph.run()["activations"] == "miss"
    export = json.loads((graph.project / "output" / "activations_data.json").read_text())
    assert export["metadata"]["loraPath"] == "./adapter"
    assert set(graph.run().values()) == {"hit"}
