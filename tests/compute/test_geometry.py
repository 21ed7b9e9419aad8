"""Cosines in the MLP's hidden space against Python's own arithmetic."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np

from loradash_assets.compute.directions import ModuleDirections
from loradash_assets.compute.geometry import mlp_cosines
from loradash_assets.schema import COSINES

HIDDEN, MODEL = 6, 4


def _module(layer: int, projection: str, rank: int = 1, hidden: int = HIDDEN) -> ModuleDirections:
    generator = np.random.default_rng([layer + 1, *projection.encode()])
    shapes = (rank, hidden), (rank, MODEL)
    read, write = shapes if projection == "down_proj" else shapes[::-1]
    return ModuleDirections(layer, projection, generator.standard_normal(read), generator.standard_normal(write))


def _cosine(first: list[float], second: list[float]) -> float:
    return sum(map(float.__mul__, first, second)) / math.hypot(*first) / math.hypot(*second)


def _rows(modules: list[ModuleDirections]) -> dict[tuple[int, str, str], float]:
    table: Any = mlp_cosines(modules)
    assert table.schema.equals(COSINES, check_metadata=True)
    return {(row["layer"], row["first"], row["second"]): row["cosine"] for row in table.to_pylist()}


def test_every_ordered_pair_with_gate_and_up_by_b_and_down_by_a() -> None:
    modules = [_module(3, name) for name in ("gate_proj", "up_proj", "down_proj", "q_proj")]
    hidden = {m.projection: (m.read if m.projection == "down_proj" else m.write)[0].tolist() for m in modules[:3]}
    rows = _rows(modules)
    assert list(rows) == [(3, first, second) for first, second in product(hidden, hidden)]
    for (_, first, second), cosine in rows.items():
        assert math.isclose(cosine, _cosine(hidden[first], hidden[second]), abs_tol=1e-12)
    assert all(rows[3, name, name] == 1 for name in hidden)
    assert all(rows[3, a, b] == rows[3, b, a] for a, b in product(hidden, hidden))


def test_components_are_named_where_there_are_several() -> None:
    rows = _rows([_module(0, "gate_proj", rank=2), _module(0, "down_proj")])
    names = ["gate_proj_c0", "gate_proj_c1", "down_proj"]
    assert list(rows) == [(0, first, second) for first, second in product(names, names)]


def test_only_what_lives_in_one_hidden_space_is_compared() -> None:
    modules = [_module(1, "up_proj", hidden=8), _module(1, "down_proj"), _module(-1, "up_proj"), _module(0, "v_proj")]
    assert list(_rows(modules)) == [(1, "up_proj", "up_proj"), (1, "down_proj", "down_proj")]


def test_a_fresh_adapters_zeros_give_zero_not_nan() -> None:
    gate = ModuleDirections(0, "gate_proj", np.ones((1, MODEL)), np.zeros((1, HIDDEN)))
    rows = _rows([gate, _module(0, "down_proj")])
    assert [rows[0, "gate_proj", other] for other in ("gate_proj", "down_proj")] == [0, 0]
    assert rows[0, "down_proj", "down_proj"] == 1


def test_nothing_to_compare_gives_an_empty_table() -> None:
    assert _rows([]) == {}
