"""Assets called as the functions that they are: no job, no run, no instance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

from loradash_assets.assets.activations import recording_asset
from loradash_assets.assets.adapter import adapter_assets
from loradash_assets.assets.coactivation import coactivation_asset
from loradash_assets.assets.dashboard import output_assets
from loradash_assets.assets.interpretations import interpretations_asset
from loradash_assets.assets.model import base_model
from loradash_assets.assets.project import StoreIOManager
from loradash_assets.assets.prompts import dataset_rows, prompts
from loradash_assets.assets.tables import table_assets
from loradash_assets.project import Project
from loradash_assets.settings import load_settings
from loradash_assets.sources import adapters
from loradash_assets.store import Entry
from tests.assets.graph import Graph
from tests.projects import save_project

LAYERS = range(3)
TABLES = [f"top_tokens/layer_{layer:02d}" for layer in LAYERS]
Made = dg.MaterializeResult[Entry]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(load_settings(save_project(tmp_path / "project")))


def _call(asset: Callable[..., Any], project: Project, **inputs: Any) -> Made:
    return asset(dg.build_asset_context(), project=project, **inputs)


def _call_all(assets: Callable[..., Any], project: Project, **inputs: Any) -> list[Any]:
    """Call a step that yields what it makes."""
    return [*assets(dg.build_asset_context(), project=project, **inputs)]


def _steps(project: Project, store_io: StoreIOManager) -> Iterator[tuple[str, Made]]:
    """Call the assets one after the other, each with what those before returned; yield what each returns."""
    (adapter,) = adapters(project.settings)
    rows = _call(dataset_rows, project)
    yield "dataset_rows", rows
    base = _call(base_model, project)
    yield "base_model", base
    read = _call(prompts, project, dataset_rows=rows.value, base_model=base.value)
    yield "prompts", read
    catalogue, cosines = adapter_assets(adapter)
    features = _call(catalogue, project, base_model=base.value)
    yield "features", features
    yield "geometry", _call(cosines, project, features=features.value)
    (activations,) = _call_all(recording_asset([adapter]), project, store_io=store_io)
    yield "activations", activations
    inputs = {"prompts": read.value, "features": features.value, "activations": activations.value}
    yield from zip(TABLES, _call_all(table_assets(adapter, LAYERS), project, **inputs), strict=True)
    together = coactivation_asset(adapter)
    yield "coactivation", _call(together, project, features=features.value, activations=activations.value)
    notes, check = _call_all(interpretations_asset([adapter]), project, features_0=features.value)
    assert check.passed
    yield "interpretations", notes
    data, _, *pages = output_assets([(adapter, LAYERS)])
    for asset in (data, *pages):
        made, *_ = _call_all(asset, project, store_io=store_io)
        yield asset.key.to_user_string(), made


def test_called_one_after_the_other_they_make_what_a_run_of_the_graph_makes(project: Project) -> None:
    store_io = StoreIOManager(project)
    results: dict[str, Made] = {}
    for name, result in _steps(project, store_io):
        store_io.handle_output(dg.build_output_context(asset_key=dg.AssetKey(name.split("/"))), result.value)
        results[name] = result
    for result in results.values():
        assert result.metadata is not None
        assert result.metadata["cache"] == "miss"
        assert result.data_version == dg.DataVersion(result.value.digest)
    assert pq.read_table(results["prompts"].value.path / "prompts.parquet").num_rows == 7
    for asset in ("activations", *TABLES):
        checks = results[asset].check_results
        assert checks
        assert all(check.passed for check in checks)
    with dg.DagsterInstance.ephemeral() as instance:
        caches = Graph(project.settings.project, instance).run()
    assert {name for name, cache in caches.items() if cache == "hit"} == {*results}


def test_what_a_user_can_act_on_is_a_failure_with_its_message(project: Project) -> None:
    (project.settings.project / "rows.jsonl").unlink()
    with pytest.raises(dg.Failure) as failure:
        _call(dataset_rows, project)
    assert str(failure.value.description).startswith("dataset.path: ")
    assert not failure.value.allow_retries


def test_an_input_that_was_never_made_is_named(project: Project) -> None:
    recording = recording_asset(adapters(project.settings))
    with pytest.raises(dg.Failure, match="'base_model' has not been materialised yet: materialise it first"):
        _call_all(recording, project, store_io=StoreIOManager(project))
