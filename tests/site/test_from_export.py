"""Files that the original wrote are read; files that are not its format are refused by file and field."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from loradash_assets.site.from_export import ExportError, page_from_export

Change = Callable[[dict[str, Any]], object]


def example(activation: float) -> dict[str, Any]:
    return {
        "activation": activation,
        "rollout_idx": 3,
        "token_idx": 17,
        "token": " two",
        "context": ["one", " two", "\n"],
        "target_position": 1,
        "context_activations": [0.5, activation, -0.25],
    }


def projection(histogram: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "topPositive": [example(2.5), example(1.5)],
        "topNegative": [example(-3.5)],
        "stats": {"min": -3.5, "max": 2.5},
        "histogram": histogram,
    }


def original() -> dict[str, Any]:
    """A file as the original wrote it, by hand."""
    names = ("gate_proj", "up_proj", "down_proj")
    histogram = {
        "bins": [-3.5, 0.0, 2.5],
        "total_counts": [4, 6],
        "positive_counts": [0, 5],
        "negative_counts": [4, 0],
        **{"min": -3.5, "max": 2.5, "mean": 0.1, "std": 1.25, "total_samples": 10},
    }
    return {
        "metadata": {
            **{"modelName": "Qwen/Qwen2.5-32B-Instruct", "loraPath": "/models/lora", "numLayers": 64},
            **{"loraLayers": [10], "numLoraLayers": 1, "numExamples": 100, "topK": 16, "contextWindow": 10},
            "generatedAt": "2025-07-21T05:00:10.069773",
        },
        "layers": [
            {
                "layerIdx": 10,
                "cosineSimilarities": {f"{a}_{b}": 1.0 if a == b else 0.25 for a in names for b in names},
                "gate_proj": projection(histogram),
                "up_proj": projection(),
                "down_proj": projection(),
            }
        ],
    }


def read(data: object) -> Any:
    return page_from_export(json.dumps(data).encode(), "old.json")


def test_a_file_of_the_original() -> None:
    page = read(original())
    gate, up, _ = page.adapters[0].layers[0].projections
    feature = gate.features[0]
    assert page.adapters[0].metadata["Model"] == "Qwen/Qwen2.5-32B-Instruct"
    assert page.adapters[0].metadata["Recorded"] == "2025-07-21T05:00:10.069773"
    assert (gate.name, feature.component) == ("gate_proj", None)
    assert feature.keys == {"positive": "layer_10_gate_proj_positive", "negative": "layer_10_gate_proj_negative"}
    assert [each.activation for each in feature.positive] == [2.5, 1.5]
    assert feature.negative[0].tokens == ("one", " two", "\n")
    assert (feature.statistics.count, feature.statistics.std, feature.statistics.effect_scale) == (10, 1.25, None)
    assert up.features[0].statistics.histogram is None
    assert ("gate_proj", "up_proj", 0.25) in [(c.first, c.second, c.cosine) for c in page.adapters[0].layers[0].cosines]


def test_cosines_are_optional_and_other_fields_are_passed_over() -> None:
    data = original()
    del data["layers"][0]["cosineSimilarities"]
    data["metadata"]["somethingNew"] = 1
    assert read(data).adapters[0].layers[0].cosines == ()


def gate(data: dict[str, Any]) -> dict[str, Any]:
    return data["layers"][0]["gate_proj"]


BAD: list[tuple[str, Change]] = [
    ("$.metadata: Object missing required field `topK`", lambda d: d["metadata"].pop("topK")),
    ("$.metadata.numLayers: Expected `int`, got `str`", lambda d: d["metadata"].update(numLayers="64")),
    ("$: Object missing required field `layers`", lambda d: d.pop("layers")),
    ("$.layers: Expected `array`, got `object`", lambda d: d.update(layers={})),
    ("$.layers[0]: Object missing required field `layerIdx`", lambda d: d["layers"][0].pop("layerIdx")),
    ("$.layers: layer [10] stands there twice", lambda d: d["layers"].append(d["layers"][0])),
    ("$.layers[0].layerIdx: Expected `int`, got `float`", lambda d: d["layers"][0].update(layerIdx=1.5)),
    ("$.layers[0].gate_proj: Object missing required field `stats`", lambda d: gate(d).pop("stats")),
    ("$.layers[0].gate_proj: Expected `object`, got `array`", lambda d: d["layers"][0].update(gate_proj=[])),
    (
        "$.layers[0].gate_proj.topPositive[1].context[0]: Expected `str`, got `int`",
        lambda d: gate(d)["topPositive"][1].update(context=[1, "b", "c"]),
    ),
    (
        "$.layers[0].gate_proj.topNegative[0].context_activations: needs one value per context token",
        lambda d: gate(d)["topNegative"][0]["context"].pop(),
    ),
    (
        "$.layers[0].gate_proj.topPositive[0].target_position: 3 is outside the context",
        lambda d: gate(d)["topPositive"][0].update(target_position=3),
    ),
    (
        "$.layers[0].gate_proj.histogram: needs one more bin edge than counts",
        lambda d: gate(d)["histogram"]["bins"].pop(),
    ),
    (
        "$.layers[0].cosineSimilarities.gate_proj_q_proj: does not name two projections of this layer",
        lambda d: d["layers"][0]["cosineSimilarities"].update(gate_proj_q_proj=0.5),
    ),
    (
        "$.layers[0].cosineSimilarities[...]: Expected `float`, got `null`",
        lambda d: d["layers"][0]["cosineSimilarities"].update(gate_proj_up_proj=None),
    ),
    (
        "$.layers[0].<b>: projection '<b>': ",
        lambda d: d["layers"][0].update({"<b>": projection()}),
    ),
]


@pytest.mark.parametrize(("message", "change"), BAD, ids=[message for message, _ in BAD])
def test_what_does_not_fit_is_named_by_file_and_field(message: str, change: Change) -> None:
    data = original()
    change(data)
    with pytest.raises(ExportError) as caught:
        read(data)
    assert str(caught.value).startswith(f"old.json: {message}")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"metadata": NaN, "layers": []}', b'"\\ud800"', b"null"],
    ids=["empty", "cut", "not UTF-8", "deep", "NaN", "surrogate", "null"],
)
def test_what_is_no_json_of_ours_is_refused(content: bytes) -> None:
    with pytest.raises(ExportError, match=r"^old\.json: \$"):
        page_from_export(content, "old.json")


def test_not_a_number_in_a_list_is_refused_by_field() -> None:
    text = json.dumps(original()).replace("2.5", "NaN")
    with pytest.raises(ExportError, match=r"^old\.json: \$"):
        page_from_export(text.encode(), "old.json")
