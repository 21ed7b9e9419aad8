"""A layer's tables against plain Python over the same recorded values, and against themselves in other chunks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from loradash_assets.compute.basis import SvdBasis, svd_basis
from loradash_assets.compute.passes import Block
from loradash_assets.compute.prefixes import prefix_numbers
from loradash_assets.compute.tables import LayerTables, TableOptions, layer_tables
from loradash_assets.schema import FEATURES, PROMPTS, STATISTICS, TOP_TOKENS

Floats = NDArray[np.float32]
RANKS = {"q_proj": 1, "gate_proj": 3}
SPECIAL = [0.0, np.nan, np.inf, -np.inf]


@dataclass(frozen=True)
class Recorded:
    """A recording in memory, in chunks of whole examples."""

    values: list[Floats]  # per prompt (features, length)
    chunking: list[list[int]]  # prompts in each chunk

    @property
    def blocks(self) -> list[Block]:
        return [Block(slice(0, sum(RANKS.values())))]

    def chunks(self) -> Iterator[list[tuple[NDArray[np.int64], Floats]]]:
        bounds = np.cumsum([0, *(value.shape[1] for value in self.values)])
        for prompts in self.chunking:
            numbers = [np.arange(bounds[prompt], bounds[prompt + 1]) for prompt in prompts]
            yield [(np.concatenate(numbers), np.concatenate([self.values[prompt] for prompt in prompts], axis=1))]


@dataclass(frozen=True)
class Case:
    """A small layer: features, prompts, their values, and the bases."""

    ids: list[list[int]]
    values: list[Floats]
    bases: dict[str, SvdBasis]

    @property
    def examples(self) -> list[int]:
        return [2 * prompt + 1 for prompt in range(len(self.ids))]

    @property
    def prompts(self) -> pa.Table:
        columns = {
            "example": self.examples,
            "text": ["".join(map(_text, ids)) for ids in self.ids],
            "token_ids": self.ids,
            "tokens": [list(map(_text, ids)) for ids in self.ids],
            "prefixes": prefix_numbers([np.array(ids, np.int32) for ids in self.ids]),
        }
        return pa.table(columns, schema=PROMPTS)

    @property
    def features(self) -> pa.Table:
        rows: list[dict[str, Any]] = []
        for projection, rank in RANKS.items():
            for component in range(rank):
                row = {"feature": 40 + len(rows), "layer": 4, "projection": projection, "component": component}
                row |= {"module": f"model.layers.4.{projection}", "rank": rank, "in_features": 8, "out_features": 6}
                row |= {"scaling": 2.0, "read_norm": 1.0, "write_norm": 0.5 + component, "variant": "lora"}
                rows.append({**row, "expert": -1})
        return pa.Table.from_pylist(rows, schema=FEATURES)

    def tables(self, options: TableOptions, chunking: list[list[int]] | None = None) -> LayerTables:
        everything = [list(range(len(self.ids)))] if self.ids else []
        recording = Recorded(self.values, everything if chunking is None else chunking)
        return layer_tables(recording, self.features, self.prompts, options, self.bases)


def _text(token_id: int) -> str:
    return "«é好\n"[token_id % 4] + str(token_id)


def _case(seed: int, ids: list[list[int]], distinct: int | None, *, special: bool) -> Case:
    """Values are determined by the prefix, as in a causal model; `distinct` values only, to make ties."""
    generator = np.random.default_rng(seed)
    known: dict[tuple[int, ...], Floats] = {}
    values: list[Floats] = []
    for row in ids:
        columns = np.zeros((4, len(row)), np.float32)
        for position in range(len(row)):
            drawn = generator.standard_normal(4).astype(np.float32)
            if distinct is not None:
                drawn = np.round(drawn * distinct) / np.float32(distinct)
            if special and generator.random() < 0.2:
                drawn[generator.integers(4)] = SPECIAL[generator.integers(4)]
            columns[:, position] = known.setdefault(tuple(row[: position + 1]), drawn)
        values.append(columns)
    names = [f"model.layers.4.{projection}" for projection in RANKS]
    weights = [(generator.standard_normal((rank, 8)), generator.standard_normal((6, rank))) for rank in RANKS.values()]
    bases = {name: svd_basis(a, b, 2.0) for name, (a, b) in zip(names, weights, strict=True)}
    return Case(ids, values, bases)


def _reference(case: Case, values: list[list[list[float]]], options: TableOptions, *, distinct: bool) -> list[Any]:
    """TOP_TOKENS rows, from values[feature][prompt][position], with sorted() and tuples."""
    labels = [(projection, component) for projection, rank in RANKS.items() for component in range(rank)]
    rows: list[Any] = []
    for (projection, component), feature in zip(labels, values, strict=True):
        for polarity, sign in (("positive", 1), ("negative", -1)):
            seen: dict[tuple[int, ...], int] = {}
            candidates: list[tuple[float, int, int]] = []
            for prompt, ids in enumerate(case.ids):
                for position in range(len(ids)):
                    prefix = tuple(ids[: position + 1])
                    seen[prefix] = seen.get(prefix, 0) + 1
                    value = feature[prompt][position]
                    if math.isfinite(value) and sign * value > 0 and not (distinct and seen[prefix] > 1):
                        candidates.append((-sign * value, prompt, position))
            for rank, (score, prompt, position) in enumerate(sorted(candidates)[: options.top_k], 1):
                ids = case.ids[prompt]
                start = max(0, position - options.context_window)
                around = slice(start, position + options.context_window + 1)
                row = {"layer": 4, "projection": projection, "component": component, "polarity": polarity}
                row |= {"rank": rank, "activation": -sign * score, "example": 2 * prompt + 1, "position": position}
                row |= {"token_id": ids[position], "token": _text(ids[position])}
                row |= {"occurrences": seen[tuple(ids[: position + 1])] if distinct else 1}
                row |= {"target_position": position - start, "context": [_text(token) for token in ids[around]]}
                row |= {"context_activations": [v if math.isfinite(v) else 0.0 for v in feature[prompt][around]]}
                rows.append(row)
    return rows


def _by_feature(values: list[Floats]) -> list[list[list[float]]]:
    return [[value[feature].tolist() for value in values] for feature in range(4)]


def _mapped(case: Case) -> list[Floats]:
    """The values in the svd basis, by numpy's product per prompt: equal up to rounding only."""
    first, second = case.bases.values()
    parts = [(first.map, slice(0, 1)), (second.map, slice(1, 4))]
    with np.errstate(invalid="ignore"):
        return [np.concatenate([m @ value[rows] for m, rows in parts]).astype(np.float32) for value in case.values]


def _same(rows: list[Any], expected: list[Any]) -> None:
    """Equality that tells -0.0 from 0.0."""
    assert repr(rows) == repr(expected)


IDS = st.lists(st.lists(st.integers(0, 3), max_size=7), max_size=7)
OPTIONS = st.builds(
    TableOptions,
    top_k=st.integers(1, 9),
    context_window=st.integers(0, 4),
    histogram_bins=st.sampled_from([3, 50]),
    basis=st.just("raw"),
    distinct_contexts=st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 999), IDS, OPTIONS, st.sampled_from([None, 2]), st.booleans())
def test_tables_equal_a_sort(
    seed: int, ids: list[list[int]], options: TableOptions, distinct: int | None, special: bool
) -> None:
    case = _case(seed, ids, distinct, special=special)
    tables = case.tables(options)
    values = _by_feature(case.values)
    _same(tables.plain.to_pylist(), _reference(case, values, options, distinct=False))
    _same(tables.shown.to_pylist(), _reference(case, values, options, distinct=options.distinct_contexts))
    for table, schema in (
        (tables.plain, TOP_TOKENS),
        (tables.shown, TOP_TOKENS),
        (tables.statistics, STATISTICS),
    ):
        assert table.schema.equals(schema, check_metadata=True)
        table.validate(full=True)


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(0, 999), IDS, st.sampled_from(["raw", "svd"]), st.booleans())
def test_other_chunks_in_another_order_give_the_same_bytes(
    data: st.DataObject, seed: int, ids: list[list[int]], basis: Any, distinct: bool
) -> None:
    case = _case(seed, ids, 3, special=True)
    options = TableOptions(top_k=4, context_window=2, basis=basis, distinct_contexts=distinct)
    order = data.draw(st.permutations(range(len(ids))))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=3)))
    chunking = [part.tolist() for part in np.split(np.array(order, int), cuts) if part.size]
    whole, parts = case.tables(options), case.tables(options, chunking)
    for name in ("plain", "shown", "statistics"):
        assert _bytes(getattr(whole, name)) == _bytes(getattr(parts, name))


def _bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("distinct", [False, True])
def test_the_svd_basis_lists_mapped_values(distinct: bool) -> None:
    generator = np.random.default_rng(1)
    shared = generator.integers(0, 50, 12).tolist()
    ids = [shared[: n % 12] + generator.integers(0, 50, 5 + n).tolist() for n in range(20)]
    case = _case(2, ids, None, special=False)
    options = TableOptions(top_k=6, context_window=3, basis="svd", distinct_contexts=distinct)
    tables = case.tables(options)
    _same(tables.plain.to_pylist(), _reference(case, _by_feature(case.values), options, distinct=False))
    rows, expected = tables.shown.to_pylist(), _reference(case, _by_feature(_mapped(case)), options, distinct=distinct)
    rounded = ("activation", "context_activations")
    _same([_without(row, rounded) for row in rows], [_without(row, rounded) for row in expected])
    for name in rounded:
        got, wanted = (np.hstack([row[name] for row in table]) for table in (rows, expected))
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def _without(row: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def test_statistics_in_both_bases_are_over_every_token() -> None:
    ids = [[1, 2, 3]] * 5 + [[1, 2], [], [9]]
    case = _case(5, ids, None, special=False)
    rows = case.tables(TableOptions(basis="svd")).statistics.to_pylist()
    assert [row["basis"] for row in rows] == ["raw"] * 4 + ["svd"] * 4
    assert [(row["projection"], row["component"]) for row in rows[4:]] == [
        ("q_proj", 0),
        *(("gate_proj", component) for component in range(3)),
    ]
    columns = [np.concatenate(values, axis=1) for values in (case.values, _mapped(case))]
    for row, values in zip(rows, np.concatenate(columns), strict=True):
        wide = values.astype(np.float64)
        assert (row["count"], row["non_finite"]) == (18, 0)
        got = [row[name] for name in ("min", "max", "mean", "std")]
        np.testing.assert_allclose(got, [wide.min(), wide.max(), wide.mean(), wide.std()], rtol=1e-5, atol=1e-7)
        assert len(row["bin_edges"]) == 51
        assert sum(row["total_counts"]) == 18
        assert sum(row["positive_counts"]) == (wide > 0).sum()
        assert sum(row["negative_counts"]) == (wide < 0).sum()
    assert [row["effect_scale"] for row in rows[:4]] == [1.0, 1.0, 3.0, 5.0]
    sigmas = np.concatenate([basis.sigma for basis in case.bases.values()])
    assert [row["effect_scale"] for row in rows[4:]] == sigmas.tolist()


def test_ties_and_dropped_directions_of_the_svd_basis() -> None:
    case = _case(6, [[1, 2, 3]], None, special=False)
    basis = SvdBasis(np.eye(3)[:2], np.array([2.0, 1.999]), np.array([True, True]))
    case = replace(case, bases={**case.bases, "model.layers.4.gate_proj": basis})
    rows = case.tables(TableOptions(basis="svd")).statistics.to_pylist()[4:]
    assert [(row["projection"], row["component"], row["tied"]) for row in rows] == [
        ("q_proj", 0, False),
        ("gate_proj", 0, True),
        ("gate_proj", 1, True),
    ]


def test_a_recording_of_other_prompts_is_refused() -> None:
    case = _case(7, [[1, 2, 3], [4]], None, special=False)
    with pytest.raises(ValueError, match="3 tokens are recorded, but the prompts have 4"):
        case.tables(TableOptions(), [[0]])


def test_a_module_without_basis_is_refused() -> None:
    case = replace(_case(8, [[1]], None, special=False), bases={})
    with pytest.raises(KeyError, match="q_proj"):
        case.tables(TableOptions(basis="svd"))
