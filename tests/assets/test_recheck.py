"""The checks of a recording: they pass on what is right and stop everything after it where it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from loradash_assets.assets.activations import CHECKS
from loradash_assets.compute import forward, job, recording
from loradash_assets.compute.adapted_linear import fold
from loradash_assets.compute.adapter_files import SAFETENSORS
from loradash_assets.compute.recheck import Sample, share_beyond
from tests.assets.graph import Graph
from tests.projects import save_adapter, save_project

PLAIN, CHANGED = CHECKS


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Graph(save_project(tmp_path / "project"), instance)


def _evaluation(graph: Graph, check: str, asset: str = "activations") -> dg.AssetCheckEvaluation:
    key = dg.AssetCheckKey(dg.AssetKey(asset.split("/")), check)
    (record,) = graph.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    event: Any = record.event
    return event.dagster_event.asset_check_evaluation_data


def _numbers(graph: Graph, check: str) -> dict[str, Any]:
    return {name: value.value for name, value in _evaluation(graph, check).metadata.items()}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"r": 3, "use_dora": True},
        {"strength": 2.0},
        {"target_modules": ["embed_tokens", "q_proj", "down_proj"]},
    ],
    ids=["plain", "dora", "strong", "embeddings"],
)
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
def test_a_right_recording_passes(graph: Graph, options: dict[str, Any], dtype: str) -> None:
    graph.change(model={"dtype": dtype})
    save_adapter(graph.project / "adapter", graph.project / "base", **options)
    graph.run("dataset_rows", "base_model", "prompts", "features", "activations")
    assert _evaluation(graph, PLAIN).passed
    assert _evaluation(graph, CHANGED).passed
    assert _numbers(graph, PLAIN)["tokens"] == 48
    assert _numbers(graph, CHANGED)["change"] > 0.01


def _twice_folded(layer: Any, *args: Any, **options: Any) -> bool:
    """A fold that is put into the weights two times."""
    done = fold(layer, *args, **options)
    if done:
        layer.merged_adapters.clear()
        layer.merge()
    return done


def _next_ones(take: Callable[..., Any]) -> Callable[..., Any]:
    """Activations that are each the next token's."""
    return lambda recorded, tokens: take(recorded, np.roll(tokens, 1))


WRONG: dict[str, tuple[object, str, Any]] = {
    "folded twice": (forward, "fold", _twice_folded),
    "another token's": (recording.Recorded, "take", _next_ones(recording.Recorded.take)),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_recording_stops_all_that_is_made_from_it(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(job, "FOLD_FROM", 0)
    monkeypatch.setattr(*WRONG[name])
    ran = graph.run(success=False)
    assert not _evaluation(graph, PLAIN).passed
    assert _numbers(graph, PLAIN)["share_off"] > 0.2
    assert not {each for each in ran if each.startswith(("top_tokens", "dashboard", "coactivation"))}
    assert not (graph.project / "output" / "lora_activations_dashboard.html").exists()


def test_an_adapter_that_changes_nothing_is_said_and_stops_only_what_has_weights(graph: Graph) -> None:
    weights = graph.project / "adapter" / SAFETENSORS
    tensors = load_file(weights)
    zero = {name: torch.zeros_like(tensor) if ".lora_B." in name else tensor for name, tensor in tensors.items()}
    save_file(zero, weights)
    assert "dashboard" in graph.run()  # an untrained one
    untrained = _evaluation(graph, CHANGED)
    assert (untrained.passed, untrained.severity) == (False, dg.AssetCheckSeverity.WARN)
    tiny = {name: tensor * 1e-30 if ".lora_B." in name else tensor for name, tensor in tensors.items()}
    save_file(tiny, weights)
    assert "dashboard" not in graph.run(success=False)
    silent = _evaluation(graph, CHANGED)
    assert (silent.passed, silent.severity) == (False, dg.AssetCheckSeverity.ERROR)


def test_a_result_from_the_store_is_judged_by_what_was_found_when_it_was_made(graph: Graph) -> None:
    graph.run()
    first = _numbers(graph, PLAIN)
    assert graph.run()["activations"] == "hit"
    assert _numbers(graph, PLAIN) == first


def test_a_sample_is_of_examples_with_enough_tokens_from_first_to_last() -> None:
    lengths = [3, 20, 0, 40, 16, 17, 2]
    ids = [np.arange(length) for length in lengths]
    assert Sample.of(ids) == Sample([1, 3, 5], 16)
    assert [row.tolist() for row in Sample.of(ids).rows(ids)] == [list(range(16))] * 3
    assert Sample.of([np.arange(3), np.arange(5)]) == Sample([1], 5)
    assert Sample.of([np.arange(0)]).examples == []


def test_rounding_is_no_fault_and_a_wrong_number_is() -> None:
    plain = np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32)
    plain[:, 0] *= 1000  # as an attention sink's are
    assert share_beyond(plain * np.float32(1 + 1e-6), plain, "float32")[0] == 0
    noise = np.random.default_rng(1).normal(scale=0.01, size=plain.shape).astype(np.float32)
    assert share_beyond(plain + noise, plain, "bfloat16")[0] == 0
    for wrong in (plain[::-1], np.roll(plain[:, 1:], 1, axis=1), plain * np.float32(1.5), -plain):
        expected = plain[:, 1:] if wrong.shape[1] == 49 else plain
        assert share_beyond(np.ascontiguousarray(wrong), expected, "float32")[0] > 0.5
    assert share_beyond(np.where(plain > 1, np.nan, plain), plain, "float32")[0] > 0.1
