"""The export has the original's fields in the original's order, and reads back as what it was made from."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from loradash_assets.site.export import activations_data
from loradash_assets.site.from_export import page_from_export
from loradash_assets.site.from_tables import layer_from_tables
from loradash_assets.site.page import Example, Feature, Layer
from tests.site import samples
from tests.site.hostile import HOSTILE

METADATA_FIELDS = (
    *("modelName", "loraPath", "numLayers", "loraLayers", "numLoraLayers"),
    *("numExamples", "topK", "contextWindow", "generatedAt"),
)
FEATURE_FIELDS = ("topPositive", "topNegative", "stats", "histogram")
EXAMPLE_FIELDS = (
    *("activation", "rollout_idx", "token_idx", "token", "context"),
    *("target_position", "context_activations"),
)
HISTOGRAM_FIELDS = (
    *("bins", "total_counts", "positive_counts", "negative_counts"),
    *("min", "max", "mean", "std", "total_samples"),
)


def export(**options: Any) -> dict[str, Any]:
    tables = samples.layer_tables(4, samples.texts(2), **options)
    return json.loads(activations_data(samples.METADATA, [tables]), parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def carried(layer: Layer) -> Layer:
    """Drop what the original's format has no field for."""

    def example(each: Example) -> Example:
        return msgspec.structs.replace(each, token_id=None, occurrences=1, minimap=b"")

    def feature(each: Feature) -> Feature:
        unknown = ("non_finite", "skewness", "kurtosis", "quantiles", "density", "effect_scale", "rms_effect")
        unknown += ("token_omega_squared", "position_omega_squared")
        statistics = msgspec.structs.replace(each.statistics, tied=False, **dict.fromkeys(unknown))
        lists = {"positive": tuple(map(example, each.positive)), "negative": tuple(map(example, each.negative))}
        return msgspec.structs.replace(each, statistics=statistics, **lists, samples=())

    projections = tuple(
        msgspec.structs.replace(each, features=tuple(map(feature, each.features))) for each in layer.projections
    )
    return msgspec.structs.replace(layer, projections=projections)


def test_fields_stand_in_the_original_s_order() -> None:
    data = export(projections=samples.MLP)
    layer = data["layers"][0]
    feature = layer["gate_proj"]
    assert tuple(data) == ("metadata", "layers")
    assert tuple(data["metadata"]) == METADATA_FIELDS
    assert tuple(layer) == ("layerIdx", "cosineSimilarities", *samples.MLP)
    assert tuple(feature) == FEATURE_FIELDS
    assert tuple(feature["topPositive"][0]) == EXAMPLE_FIELDS
    assert tuple(feature["stats"]) == ("min", "max")
    assert tuple(feature["histogram"]) == HISTOGRAM_FIELDS


def test_every_ordered_pair_of_cosines_is_there() -> None:
    cosines = export()["layers"][0]["cosineSimilarities"]
    assert list(cosines) == [f"{first}_{second}" for first in samples.MLP for second in samples.MLP]


def test_the_extremes_are_the_first_examples() -> None:
    feature = export()["layers"][0]["down_proj"]
    assert feature["topPositive"][0]["activation"] == feature["stats"]["max"] == feature["histogram"]["max"]
    assert feature["topNegative"][0]["activation"] == feature["stats"]["min"] == feature["histogram"]["min"]
    first = feature["topPositive"][0]
    assert first["context"][first["target_position"]] == first["token"]
    assert first["context_activations"][first["target_position"]] == first["activation"]


def test_components_of_a_higher_rank_stand_one_level_deeper() -> None:
    layer = export(rank=3, projections=samples.MLP)["layers"][0]
    assert list(layer["up_proj"]) == ["0", "1", "2"]
    assert tuple(layer["up_proj"]["2"]) == FEATURE_FIELDS
    assert "gate_proj_c0_up_proj_c2" in layer["cosineSimilarities"]


def test_exporting_twice_gives_the_same_bytes() -> None:
    first, second = (activations_data(samples.METADATA, [samples.layer_tables(0, samples.texts(2))]) for _ in range(2))
    assert first == second


def test_an_export_reads_back_as_its_tables() -> None:
    tokens = [*samples.texts(2), list(HOSTILE)]
    tables = [samples.layer_tables(layer, tokens, rank=rank) for layer, rank in ((0, 1), (9, 2), (-1, 1))]
    page = page_from_export(activations_data(samples.METADATA, tables), "ours.json")
    assert page.adapters[0].layers == tuple(carried(layer_from_tables(each)) for each in tables)
