"""A layer's tables against plain Python over the same recorded values, and against themselves in other chunks."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Container, Iterable, Iterator
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
from loradash_assets.compute.prefixes import PrefixTree
from loradash_assets.compute.prompt_tokens import PromptTokens
from loradash_assets.compute.tables import LayerTables, TableOptions, layer_tables
from loradash_assets.schema import FEATURES, PROMPTS, SAMPLES, STATISTICS, TOP_TOKENS
from tests.end_to_end.plain import minimap

Floats = NDArray[np.float32]
RANKS = {"q_proj": 1, "gate_proj": 3}
SPECIAL = [0.0, np.nan, np.inf, -np.inf]
SPECIAL_TOKENS = [3]


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
        tree = PrefixTree()
        columns = {
            "example": self.examples,
            "text": ["".join(map(_text, ids)) for ids in self.ids],
            "token_ids": self.ids,
            "tokens": [list(map(_text, ids)) for ids in self.ids],
            "prefixes": [tree.add(np.array(ids, np.int32)) for ids in self.ids],
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
        tokens = PromptTokens.of([self.prompts])
        return layer_tables(recording, self.features, tokens, options, self.bases, SPECIAL_TOKENS)


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


LABELS = [(projection, component) for projection, rank in RANKS.items() for component in range(rank)]
PLAIN = {"distinct_contexts": False, "exclude_special_tokens": False, "exclude_first_positions": 0}
PLAIN |= {"exclude_token_ids": (), "max_per_example": None}


def _listed(case: Case, options: TableOptions) -> dict[tuple[int, int], int]:
    """How many tokens each listed (prompt, position) stands for."""
    seen: dict[tuple[int, ...], int] = {}
    first: dict[tuple[int, int], tuple[int, ...]] = {}
    for prompt, ids in enumerate(case.ids):
        for position, token_id in enumerate(ids):
            prefix = tuple(ids[: position + 1])
            seen[prefix] = seen.get(prefix, 0) + 1
            special = options.exclude_special_tokens and token_id in SPECIAL_TOKENS
            left_out = special or position < options.exclude_first_positions or token_id in options.exclude_token_ids
            if not left_out and not (options.distinct_contexts and seen[prefix] > 1):
                first[prompt, position] = prefix
    return {place: seen[prefix] if options.distinct_contexts else 1 for place, prefix in first.items()}


def _token_row(
    case: Case, values: list[list[float]], place: tuple[int, int], window: int, scale: float
) -> dict[str, Any]:
    """The columns that say which token it is and what surrounds it, from values[prompt][position]."""
    prompt, position = place
    ids = case.ids[prompt]
    start = max(0, position - window)
    around = slice(start, position + window + 1)
    return {
        **{"activation": values[prompt][position], "example": 2 * prompt + 1, "position": position},
        **{"token_id": ids[position], "token": _text(ids[position]), "occurrences": None},
        **{"target_position": position - start, "context": [_text(token) for token in ids[around]]},
        "context_activations": [v if math.isfinite(v) else 0.0 for v in values[prompt][around]],
        "minimap": minimap(values[prompt], scale),
    }


def _scale(values: list[list[float]], listed: Iterable[tuple[int, int]]) -> float:
    """The most extreme activation that a list may hold."""
    return max((abs(v) for p, t in listed if math.isfinite(v := values[p][t])), default=0.0)


def _is_plain(options: TableOptions) -> bool:
    """Whether these options show the plain list."""
    return options == replace(options, basis="raw", **PLAIN)


def _plain_reference(case: Case, options: TableOptions) -> list[Any]:
    """The rows of the plain list, where these options are what is shown."""
    rows = _reference(case, _by_feature(case.values), replace(options, **PLAIN))
    return rows if _is_plain(options) else [{**row, "minimap": []} for row in rows]


def _reference(case: Case, values: list[list[list[float]]], options: TableOptions) -> list[Any]:
    """TOP_TOKENS rows, from values[feature][prompt][position], with sorted() and tuples, walking the full ranking."""
    rows: list[Any] = []
    listed = _listed(case, options)
    for (projection, component), feature in zip(LABELS, values, strict=True):
        for polarity, sign in (("positive", 1), ("negative", -1)):
            ranking = sorted((-sign * feature[p][t], p, t) for p, t in listed if math.isfinite(feature[p][t]))
            taken: dict[int, int] = {}
            rank = 0
            for score, prompt, position in ranking:
                taken[prompt] = taken.get(prompt, 0) + 1
                over = options.max_per_example is not None and taken[prompt] > options.max_per_example
                if score >= 0 or over or rank == options.top_k:
                    continue
                rank += 1
                row = {"layer": 4, "projection": projection, "component": component, "polarity": polarity, "rank": rank}
                row |= _token_row(case, feature, (prompt, position), options.context_window, _scale(feature, listed))
                rows.append({**row, "occurrences": listed[prompt, position]})
    return rows


MASK = 2**64 - 1


def _priority(number: int, seed: int, stream: str) -> int:
    """SplitMix64 in Python's integers."""
    state = int.from_bytes(hashlib.sha256(f"{seed} {stream}".encode()).digest()[:8], "little")
    value = (state + 0x9E3779B97F4A7C15 * number) & MASK
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & MASK
    return value ^ value >> 31


def _sample_reference(case: Case, values: list[list[list[float]]], options: TableOptions) -> list[Any]:
    """SAMPLES rows: of every interval, and of all, the tokens of lowest priority."""
    rows: list[Any] = []
    listed = _listed(case, options)
    offsets = [sum(map(len, case.ids[:prompt])) for prompt in range(len(case.ids))]
    for (projection, component), feature in zip(LABELS, values, strict=True):
        finite = [place for place in listed if math.isfinite(feature[place[0]][place[1]])]
        reached = [feature[prompt][position] for prompt, position in finite] or [0.0]
        low, high, n = min(reached), max(reached), options.intervals
        edges = [*(i * ((high - low) / n) + low for i in range(n)), high] if n else []
        groups: list[tuple[int, float, float, str, int, list[tuple[int, int]]]] = [
            (i, edges[i], edges[i + 1], "intervals", options.interval_samples, []) for i in range(n)
        ]
        for prompt, position in finite if n else ():
            groups[sum(feature[prompt][position] >= edge for edge in edges[1:-1])][5].append((prompt, position))
        groups.append((-1, low, high, "all", options.random_samples, finite))
        for interval, lower, upper, stream, size, places in groups:
            drawn = sorted(places, key=lambda at: _priority(offsets[at[0]] + at[1], options.sample_seed, stream))
            for draw, place in enumerate(drawn[:size], 1):
                row = {"layer": 4, "projection": projection, "component": component, "interval": interval}
                row |= {"low": lower + 0.0, "high": upper + 0.0, "count": len(places), "draw": draw}
                row |= _token_row(case, feature, place, options.context_window, _scale(feature, finite))
                rows.append({**row, "occurrences": listed[place]})
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
    exclude_special_tokens=st.booleans(),
    exclude_first_positions=st.sampled_from([0, 0, 1, 3, 2**31 - 1]),
    exclude_token_ids=st.lists(st.integers(0, 3), max_size=2).map(tuple),
    max_per_example=st.none() | st.integers(1, 4),
    intervals=st.sampled_from([0, 1, 2, 7, 100]),
    interval_samples=st.integers(1, 4),
    random_samples=st.sampled_from([0, 1, 5, 60]),
    sample_seed=st.integers(0, 2**31 - 1),
)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 999), IDS, OPTIONS, st.sampled_from([None, 2]), st.booleans())
def test_tables_equal_a_sort(
    seed: int, ids: list[list[int]], options: TableOptions, distinct: int | None, special: bool
) -> None:
    case = _case(seed, ids, distinct, special=special)
    tables = case.tables(options)
    values = _by_feature(case.values)
    _same(tables.plain.to_pylist(), _plain_reference(case, options))
    _same(tables.shown.to_pylist(), _reference(case, values, options))
    _same(tables.samples.to_pylist(), _sample_reference(case, values, options))
    for table, schema in (
        (tables.plain, TOP_TOKENS),
        (tables.shown, TOP_TOKENS),
        (tables.samples, SAMPLES),
        (tables.statistics, STATISTICS),
    ):
        assert table.schema.equals(schema, check_metadata=True)
        table.validate(full=True)


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(0, 999), IDS, st.sampled_from(["raw", "svd"]), OPTIONS)
def test_other_chunks_in_another_order_give_the_same_bytes(
    data: st.DataObject, seed: int, ids: list[list[int]], basis: Any, options: TableOptions
) -> None:
    case = _case(seed, ids, 3, special=True)
    options = replace(options, basis=basis)
    order = data.draw(st.permutations(range(len(ids))))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=3)))
    chunking = [part.tolist() for part in np.split(np.array(order, int), cuts) if part.size]
    whole, parts = case.tables(options), case.tables(options, chunking)
    for name in ("plain", "shown", "samples", "statistics"):
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
    _same(tables.plain.to_pylist(), _plain_reference(case, options))
    rows, expected = tables.shown.to_pylist(), _reference(case, _by_feature(_mapped(case)), options)
    rounded = {"activation": 1e-6, "context_activations": 1e-6, "minimap": 1}
    _same([_without(row, rounded) for row in rows], [_without(row, rounded) for row in expected])
    for name, tolerance in rounded.items():
        got, wanted = (np.hstack([row[name] for row in table]) for table in (rows, expected))
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=tolerance)


def _without(row: dict[str, Any], names: Container[str]) -> dict[str, Any]:
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


@pytest.mark.parametrize("basis", ["raw", "svd"])
def test_statistics_of_the_tokens_that_are_not_left_out_stand_beside_the_full_ones(basis: Any) -> None:
    ids = [[1, 2, 3]] * 5 + [[1, 2, 5, 6], [], [9], [3, 3]]
    case = _case(5, ids, None, special=False)
    full = case.tables(TableOptions(basis=basis))
    options = TableOptions(
        basis=basis, exclude_special_tokens=True, exclude_first_positions=1, exclude_token_ids=[6, 77]
    )
    tables = case.tables(options)
    assert full.left_out == {}
    assert tables.left_out == {"special_tokens": 7, "first_positions": 8, "token_ids": 1, "all": 15}
    assert tables.statistics.slice(0, full.statistics.num_rows).equals(full.statistics)
    filtered = tables.statistics.slice(full.statistics.num_rows)
    kept = [[p for p in range(1, len(row)) if row[p] not in (3, 6)] for row in ids]
    ids = [[row[p] for p in places] for row, places in zip(ids, kept, strict=True)]
    values = [value[:, places] for value, places in zip(case.values, kept, strict=True)]
    alone = replace(case, ids=ids, values=values).tables(TableOptions(basis=basis)).statistics
    assert filtered["filtered"].to_pylist() == [True] * alone.num_rows
    assert filtered.drop_columns("filtered").equals(alone.drop_columns("filtered"))
    assert filtered["count"].to_pylist() == [7] * alone.num_rows


def test_everything_can_be_left_out() -> None:
    tables = _case(5, [[1, 2], [3]], None, special=False).tables(TableOptions(exclude_first_positions=9))
    assert (tables.shown.num_rows, tables.samples.num_rows) == (0, 0)
    assert tables.plain.num_rows > 0
    assert tables.statistics["count"].to_pylist() == [3] * 4 + [0] * 4


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
