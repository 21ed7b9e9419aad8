"""Neighbours on the page are those of the tables, by name: the ten strongest of each kind, and none with 0."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from loradash_assets.schema import STATISTICS, Basis
from loradash_assets.site.from_tables import LayerTables
from loradash_assets.site.outputs import dashboard_page
from loradash_assets.site.page import Neighbour
from tests.site import samples
from tests.site.inputs import coactivation, neighbours, save_adapter_inputs, save_site_inputs

TOKENS = [["a", " b"], ["c"]]


def _layers(basis: Basis) -> list[LayerTables]:
    """22 features: modules of rank 1 in the first layer, of rank 5 in the other."""
    layers = [
        samples.layer_tables(-1, TOKENS, ["lm_head", "embed_tokens"]),
        samples.layer_tables(3, TOKENS, ["q_proj", "o_proj", "up_proj", "down_proj"], rank=5),
    ]
    statistics = ([row | {"basis": basis} for row in tables.statistics.to_pylist()] for tables in layers)
    return [
        replace(tables, statistics=pa.Table.from_pylist(rows, STATISTICS))
        for tables, rows in zip(layers, statistics, strict=True)
    ]


def _as_neighbours(row: dict[str, Any], values: str, names: list[tuple[int, str, int | None]]) -> list[Any]:
    pairs = list(zip(row["partners"], row[values], strict=True))[:10]
    return [(*names[number], np.float32(value)) for number, value in pairs if value != 0]


def _named(found: tuple[Neighbour, ...]) -> list[Any]:
    return [(each.layer, each.projection, each.component, np.float32(each.likeness)) for each in found]


@pytest.mark.parametrize("basis", ["raw", "svd"])
def test_every_feature_has_the_strongest_of_its_rows(tmp_path: Path, basis: Basis) -> None:
    layers = _layers(basis)
    inputs = save_adapter_inputs(tmp_path, layers)
    tables = {
        (row.get("kind", "together"), row["layer"], row["projection"], row["component"]): row
        for row in (*coactivation(layers).to_pylist(), *neighbours(layers).to_pylist())
        if "kind" not in row or row["basis"] == basis
    }
    names = [(place[0], place[1], None if place[0] == -1 else place[2]) for kind, *place in tables if kind == "read"]
    in_basis = replace(inputs, run=replace(inputs.run, basis=basis))
    page = dashboard_page(save_site_inputs(tmp_path, [in_basis], TOKENS))
    features = [feature for _, feature in page.features()]
    assert len(features) == len(names) == 22
    for feature in features:
        place = (feature.layer, feature.projection, feature.component or 0)
        for kind, found, values in (
            ("read", feature.neighbours.read, "cosines"),
            ("write", feature.neighbours.write, "cosines"),
            ("together", feature.neighbours.coactivation, "correlations"),
        ):
            assert _named(found) == _as_neighbours(tables[kind, *place], values, names)
            assert len(found) == (9 if kind != "together" else 10)
