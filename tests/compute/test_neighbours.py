"""Neighbours by direction against Python's own arithmetic over every pair, space by space."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loradash_assets.compute import neighbours as module
from loradash_assets.compute.activations import record_activations
from loradash_assets.compute.coactivation import write_coactivation
from loradash_assets.compute.directions import ModuleDirections, read_directions
from loradash_assets.compute.geometry import write_geometry
from loradash_assets.compute.neighbours import PARTNERS, neighbours
from loradash_assets.schema import NEIGHBOURS, Basis
from tests.experts import FAMILIES
from tests.projects import save_adapter, save_base
from tests.recordings import recording_of

MODEL, HIDDEN = 5, 7
Row = dict[str, Any]
# By module: what space its reads and its writes lie in, written out.
RESIDUAL_READ, RESIDUAL_WRITE = "what reads the residual stream", "what writes it"
LLAMA: dict[str, tuple[str, str]] = {
    "q_proj": (RESIDUAL_READ, "q_proj writes"),
    "v_proj": (RESIDUAL_READ, "v_proj writes"),
    "o_proj": ("o_proj reads", RESIDUAL_WRITE),
    "gate_proj": (RESIDUAL_READ, "hidden"),
    "up_proj": (RESIDUAL_READ, "hidden"),
    "down_proj": ("hidden", RESIDUAL_WRITE),
}


def _module(
    layer: int, projection: str, rank: int, read: int, write: int, expert: int = -1, levels: int | None = None
) -> ModuleDirections:
    """Random directions; few `levels` make many of equal cosine."""
    generator = np.random.default_rng([layer + 1, expert + 1, *projection.encode()])
    shapes = (rank, read), (rank, write)
    first, second = (
        (generator.standard_normal(shape) if levels is None else generator.integers(-levels, levels + 1, shape))
        for shape in shapes
    )
    return ModuleDirections(layer, projection, first.astype(np.float32), second.astype(np.float32), expert)


def _llama(layers: int, rank: int, levels: int | None = None) -> list[ModuleDirections]:
    widths = {"q_proj": (MODEL, 4), "v_proj": (MODEL, 4), "o_proj": (4, MODEL), "down_proj": (HIDDEN, MODEL)}
    return [
        _module(layer, name, rank, read, write, levels=levels)
        for layer in range(layers)
        for name in LLAMA
        for read, write in (widths.get(name, (MODEL, HIDDEN)),)
    ]


def _spaces(modules: list[ModuleDirections]) -> dict[str, list[tuple[str, object]]]:
    """The space of each feature's side of a Llama's modules, by kind, in the order of the features."""
    shared = (RESIDUAL_READ, RESIDUAL_WRITE)
    return {
        kind: [
            (space, None if space in shared else each.layer)
            for each in modules
            for space in [LLAMA[each.projection][kind == "write"]] * len(each.read)
        ]
        for kind in ("read", "write")
    }


def _expected(
    modules: list[ModuleDirections], spaces: dict[str, list[Any]]
) -> dict[str, list[list[tuple[int, float]]]]:
    """All pairs, by fsum and sorted()."""
    sides = {
        "read": [row.tolist() for each in modules for row in each.read],
        "write": [row.tolist() for each in modules for row in each.write],
    }
    found: dict[str, list[list[tuple[int, float]]]] = {}
    for kind in ("read", "write"):
        found[kind] = []
        for number, own in enumerate(sides[kind]):
            near = [
                (other, cosine)
                for partner_kind in ("read", "write")
                for other, direction in enumerate(sides[partner_kind])
                if other != number and spaces[partner_kind][other] == spaces[kind][number]
                if (cosine := _cosine(own, direction)) is not None
            ]
            near.sort(key=lambda each: (-abs(round(each[1] * 2**24)), each[0]))
            found[kind].append(near[:PARTNERS])
    return found


def _cosine(first: list[float], second: list[float]) -> float | None:
    norms = math.hypot(*first) * math.hypot(*second)
    return math.fsum(a * b for a, b in zip(first, second, strict=True)) / norms if norms else None


def _check(table: pa.Table, modules: list[ModuleDirections], spaces: dict[str, list[Any]]) -> None:
    assert table.schema.equals(NEIGHBOURS, check_metadata=True)
    table.validate(full=True)
    labels = [(each.layer, each.projection, row) for each in modules for row in range(len(each.read))]
    rows = table.to_pylist()
    assert [(row["kind"], row["layer"], row["projection"], row["component"]) for row in rows] == [
        (kind, *label) for kind in ("read", "write") for label in labels
    ]
    expected = _expected(modules, spaces)
    for row, near in zip(rows, [*expected["read"], *expected["write"]], strict=True):
        assert row["partners"] == [number for number, _ in near], row
        np.testing.assert_allclose(row["cosines"], [cosine for _, cosine in near], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("block", [1, 5, 1024])
@pytest.mark.parametrize(("layers", "rank", "levels"), [(3, 1, None), (4, 3, None), (3, 4, 1)])
def test_each_feature_has_the_ten_of_highest_cosine_in_its_space(
    monkeypatch: pytest.MonkeyPatch, block: int, layers: int, rank: int, levels: int | None
) -> None:
    """With few levels there are ties, directions that are equal or opposite, and some that are all zeros."""
    monkeypatch.setattr(module, "_BLOCK", block)
    modules = _llama(layers, rank, levels)
    zeros = sum(not row.any() for each in modules for side in (each.read, each.write) for row in side)
    assert (zeros > 0) == (levels is not None)
    _check(neighbours(modules, "raw"), modules, _spaces(modules))


def test_a_direction_of_zeros_has_no_neighbours_and_is_none() -> None:
    modules = [_module(layer, "o_proj", 1, 3, 4) for layer in range(3)]
    modules[1] = ModuleDirections(1, "o_proj", modules[1].read, np.zeros((1, 4), np.float32))
    assert neighbours(modules, "raw")["partners"].to_pylist() == [[], [], [], [2], [], [0]]


@pytest.mark.parametrize(
    ("modules", "alike"),
    [
        pytest.param([(0, "attn.c_proj", 4, 8), (1, "mlp.c_proj", 6, 8)], (False, True), id="GPT-2 writes"),
        pytest.param([(0, "c_attn", 8, 24), (1, "c_fc", 8, 32)], (True, False), id="GPT-2 reads"),
        pytest.param([(0, "query_key_value", 8, 4), (3, "dense_h_to_4h", 8, 4)], (True, False), id="GPT-NeoX reads"),
        pytest.param([(0, "dense", 8, 4), (3, "dense_4h_to_h", 8, 4)], (False, True), id="GPT-NeoX writes"),
        pytest.param([(-1, "embed_tokens", 9, 8), (2, "o_proj", 9, 8)], (False, True), id="embedding"),
        pytest.param([(-1, "lm_head", 8, 9), (2, "q_proj", 8, 9)], (True, False), id="head"),
        pytest.param([(0, "q_proj", 8, 4), (1, "q_proj", 6, 4)], (False, False), id="other widths"),
        pytest.param([(0, "gate_proj", 8, 9), (1, "up_proj", 8, 9)], (True, False), id="hidden, another layer"),
        pytest.param([(0, "x_proj", 8, 4), (0, "y_proj", 8, 4)], (False, False), id="unknown names"),
        pytest.param([(0, "x_proj", 8, 4), (1, "x_proj", 8, 4)], (False, False), id="unknown, another layer"),
    ],
)
def test_only_what_lies_in_one_space_is_compared(
    modules: list[tuple[int, str, int, int]], alike: tuple[bool, bool]
) -> None:
    found = neighbours([_module(layer, name, 1, read, write) for layer, name, read, write in modules], "raw")
    first, second = ([[1], [0]] if each else [[], []] for each in alike)
    assert found["partners"].to_pylist() == [*first, *second]


def test_experts_are_compared_within_themselves() -> None:
    modules = [
        *(
            _module(0, f"experts.{expert}.{name}", 2, 6, 6, expert)
            for expert in range(2)
            for name in ("w1", "down_proj")
        ),
        _module(0, "down_proj", 2, 6, 6),
    ]
    pairs = [[number ^ 1] for number in range(10)]
    assert neighbours(modules, "raw")["partners"].to_pylist() == 2 * pairs


def test_no_modules_give_an_empty_table() -> None:
    assert neighbours([], "raw").num_rows == 0


@pytest.mark.parametrize("kind", ["llama", "experts"])
def test_features_are_numbered_as_in_coactivation(tmp_path: Path, kind: str) -> None:
    """In both bases; the svd basis drops directions of the modules of rank 9 on a width of 8."""
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    if kind == "llama":
        save_base(base)
        save_adapter(adapter, base, r=3, rank_pattern={"k_proj": 9})
    else:
        save_base(base, FAMILIES["gpt-oss"].config)
        save_adapter(adapter, base, r=2, target_modules=["q_proj"], target_parameters=FAMILIES["gpt-oss"].both)
    recording = recording_of(tmp_path, base, adapter)
    (tmp_path / "recorded").mkdir()
    record_activations(recording, tmp_path / "recorded", lambda _: None)
    write_geometry(tmp_path, tmp_path)
    found = pq.read_table(tmp_path / "neighbours.parquet").to_pylist()
    counts: dict[str, int] = {}
    for basis in ("raw", "svd"):
        labels = [_label(row) for row in found if row["basis"] == basis and row["kind"] == "read"]
        write_coactivation(tmp_path, tmp_path / "recorded", tmp_path, basis)
        numbered = pq.read_table(tmp_path / "coactivation.parquet").to_pylist()
        assert labels == [_label(row) for row in numbered]
        assert labels == [_label(row) for row in found if row["basis"] == basis and row["kind"] == "write"]
        counts[basis] = len(labels)
    assert (counts["svd"] < counts["raw"]) == (kind == "llama")


def _label(row: Row) -> tuple[int, str, int]:
    return row["layer"], row["projection"], row["component"]


def test_the_table_has_both_bases(tmp_path: Path) -> None:
    save_base(tmp_path / "base")
    save_adapter(tmp_path / "adapter", tmp_path / "base", r=2)
    recording_of(tmp_path, tmp_path / "base", tmp_path / "adapter")
    facts = write_geometry(tmp_path, tmp_path)
    table = pq.read_table(tmp_path / "neighbours.parquet")
    bases: tuple[Basis, ...] = ("raw", "svd")
    assert table.equals(pa.concat_tables([neighbours(read_directions(tmp_path, basis), basis) for basis in bases]))
    assert facts["neighbours"] == table.num_rows == 2 * 2 * 2 * 21
