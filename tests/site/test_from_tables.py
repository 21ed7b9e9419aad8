"""Tables become the page without losing or changing anything."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from loradash_assets.schema import STATISTICS
from loradash_assets.site.arrow import shortest
from loradash_assets.site.from_tables import LayerTables, layer_from_tables
from loradash_assets.site.page import Feature, Layer
from tests.site import samples

TOKENS = [["a", " b", "c", "\n"], [" d", "e"]]


def with_statistics(tables: LayerTables, **changes: object) -> LayerTables:
    rows = [row | changes for row in tables.statistics.to_pylist()]
    return dataclasses.replace(tables, statistics=pa.Table.from_pylist(rows, STATISTICS))


def features(layer: Layer) -> list[Feature]:
    return [feature for projection in layer.projections for feature in projection.features]


def test_projections_keep_the_tables_order_and_examples_theirs_by_rank() -> None:
    tables = samples.layer_tables(2, TOKENS, k=6)
    shuffled = tables.top_tokens.take(np.random.default_rng(1).permutation(tables.top_tokens.num_rows))
    layer = layer_from_tables(dataclasses.replace(tables, top_tokens=shuffled))
    assert [projection.name for projection in layer.projections] == list(samples.LLAMA)
    for feature in features(layer):
        positive, negative = ([e.activation for e in feature.examples(p)] for p in ("positive", "negative"))
        assert positive == sorted(positive, reverse=True)
        assert negative == sorted(negative)
        assert len(positive) + len(negative) == 6


def test_an_example_is_its_table_row() -> None:
    tables = samples.layer_tables(2, TOKENS, projections=["up_proj"], k=3, window=1)
    row = tables.top_tokens.to_pylist()[1]
    example = features(layer_from_tables(tables))[0].positive[1]
    assert (example.example, example.position, example.token_id) == (row["example"], row["position"], row["token_id"])
    assert (
        (example.target, example.occurrences)
        == (row["target_position"], row["occurrences"])
        == (row["target_position"], 3)
    )
    assert list(example.tokens) == row["context"]
    assert np.array(example.activations, np.float32).tolist() == row["context_activations"]
    assert np.float32(example.activation) == row["activation"]
    assert np.frombuffer(example.minimap, np.int8).tolist() == row["minimap"]
    assert len(example.minimap) == len(TOKENS[example.example])


def test_samples_come_from_the_highest_interval_down_each_in_the_order_drawn() -> None:
    tables = samples.layer_tables(2, TOKENS, projections=["q_proj", "up_proj"], rank=2, window=1)
    shuffled = tables.samples.take(np.random.default_rng(1).permutation(tables.samples.num_rows))
    for feature in features(layer_from_tables(dataclasses.replace(tables, samples=shuffled))):
        assert [sample.interval for sample in feature.samples] == [1, 0, None]
        place = (feature.projection, feature.component)
        rows = [row for row in tables.samples.to_pylist() if (row["projection"], row["component"]) == place]
        for sample in feature.samples:
            drawn = [row for row in rows if row["interval"] == (-1 if sample.interval is None else sample.interval)]
            assert [(e.example, e.position) for e in sample.examples] == [(r["example"], r["position"]) for r in drawn]
            assert [np.float32(e.activation) for e in sample.examples] == [row["activation"] for row in drawn]
            assert (sample.low, sample.high, sample.count) == tuple(drawn[0][n] for n in ("low", "high", "count"))


def test_filtered_statistics_stand_beside_the_full_ones() -> None:
    tables = samples.layer_tables(2, TOKENS, projections=["up_proj"])
    layer = layer_from_tables(dataclasses.replace(tables, filtered=with_statistics(tables, max=0.25).statistics))
    (feature,) = features(layer)
    assert feature.filtered is not None
    assert (feature.filtered.max, feature.statistics.max) == (0.25, samples_max(tables))
    assert features(layer_from_tables(tables))[0].filtered is None


def samples_max(tables: LayerTables) -> float:
    return float(str(np.float32(tables.statistics.to_pylist()[0]["max"])))


@pytest.mark.parametrize(
    ("layer", "rank", "basis", "key"),
    [
        (7, 1, "raw", "layer_7_up_proj_positive"),
        (7, 1, "svd", "layer_7_up_proj_positive"),
        (7, 2, "raw", "layer_7_up_proj_c1_positive"),
        (7, 2, "svd", "layer_7_up_proj_s1_positive"),
        (-1, 1, "raw", "model_up_proj_positive"),
    ],
)
def test_keys_follow_the_grammar(layer: int, rank: int, basis: str, key: str) -> None:
    tables = with_statistics(samples.layer_tables(layer, TOKENS, projections=["up_proj"], rank=rank), basis=basis)
    assert features(layer_from_tables(tables))[-1].keys["positive"] == key


def test_the_one_direction_left_of_a_module_of_rank_two_keeps_its_component() -> None:
    tables = samples.layer_tables(7, TOKENS, projections=["up_proj"], rank=2)
    left = with_statistics(dataclasses.replace(tables, statistics=tables.statistics.slice(0, 1)), basis="svd")
    assert features(layer_from_tables(left))[0].keys["positive"] == "layer_7_up_proj_s0_positive"


@pytest.mark.parametrize("field", ["min", "max", "mean", "std", "kurtosis", "rms_effect"])
def test_a_statistic_that_is_not_finite_is_named(field: str) -> None:
    tables = with_statistics(samples.layer_tables(3, TOKENS, projections=["up_proj"]), **{field: float("nan")})
    with pytest.raises(ValueError, match=f"layer 3 up_proj component 0: {field} is nan"):
        layer_from_tables(tables)


def test_every_statistic_of_the_table_is_on_the_page() -> None:
    tables = samples.layer_tables(2, TOKENS, projections=["up_proj"])
    (row,) = tables.statistics.to_pylist()
    statistics = features(layer_from_tables(tables))[0].statistics
    names = [name for name in row if name in statistics.__struct_fields__ and name not in ("quantiles", "density")]
    assert len(names) == 13
    for name in names:
        value = getattr(statistics, name)
        assert (float(np.float32(value)) if name in ("min", "max") else value) == row[name]
    assert [float(np.float32(value)) for value in statistics.quantiles or ()] == row["quantiles"]
    assert list(statistics.density or ()) == row["density"]


def test_a_statistic_that_is_not_defined_is_not_known() -> None:
    undefined = dict.fromkeys(("skewness", "kurtosis", "token_omega_squared", "position_omega_squared"))
    tables = with_statistics(samples.layer_tables(2, TOKENS, projections=["up_proj"]), **undefined)
    statistics = features(layer_from_tables(tables))[0].statistics
    assert [getattr(statistics, name) for name in undefined] == [None] * 4


def test_float32_is_written_as_short_as_it_can_be_and_reads_back_the_same() -> None:
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32) * np.float32(1e-4)
    short = shortest(values).tolist()
    assert np.array_equal(np.array(short, np.float32), values)
    assert max(len(repr(value).split("e")[0].lstrip("-0.").replace(".", "")) for value in short) <= 9
    assert shortest(np.array([0.1, -3e20, 0.0], np.float32)).tolist() == [0.1, -3e20, 0.0]
