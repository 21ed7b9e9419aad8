"""An `activations_data.json` in, what the page shows out: files that the original wrote, and our own exports.

Nothing in such a file is trusted: the first thing that does not fit is reported by file and field.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import product
from typing import TypeVar

import msgspec

from loradash_assets.site.keys import feature_keys
from loradash_assets.site.original import (
    COSINES,
    LAYER_INDEX,
    ORIGINAL_PROJECTIONS,
    ExportMetadata,
    OriginalExample,
    OriginalFeature,
    OriginalHistogram,
)
from loradash_assets.site.page import Adapter, Cosine, Example, Feature, Histogram, Layer, Page, Projection, Statistics

T = TypeVar("T")


class ExportError(ValueError):
    """The file is not an `activations_data.json`: names the file and the field."""


class _File(msgspec.Struct):
    metadata: msgspec.Raw
    layers: list[dict[str, msgspec.Raw]]


def page_from_export(data: bytes, file: str, title: str = "LoRA activations") -> Page:
    """Return the page for the content of `file` (its name is used in messages only).

    Raises ExportError for anything that is not strict JSON in the format, lists whose lengths disagree, and layers
    that occur twice.
    """
    try:
        content = _decode(data, _File, "$")
        metadata = _decode(content.metadata, ExportMetadata, "$.metadata")
        layers = tuple(_layer(raw, f"$.layers[{place}]") for place, raw in enumerate(content.layers))
        twice = [index for index, times in Counter(layer.index for layer in layers).items() if times > 1]
        _require(not twice, "$.layers", f"layer {twice[:1]} stands there twice")
    except ExportError as error:
        raise ExportError(f"{file}: {error}") from None
    return Page(title, (Adapter(None, metadata.lora_path, metadata_labels(metadata), layers),))


def metadata_labels(metadata: ExportMetadata) -> dict[str, str]:
    """Return what the page's header says about a run."""
    return {
        "Model": metadata.model_name,
        "Adapter": metadata.lora_path,
        "Layers": f"{metadata.num_lora_layers} of {metadata.num_layers}",
        "Examples": str(metadata.num_examples),
        "Top k": str(metadata.top_k),
        "Context": f"±{metadata.context_window} tokens",
        "Recorded": metadata.generated_at,
    }


def _decode(raw: bytes | msgspec.Raw, kind: type[T], path: str) -> T:
    """Decode `raw`, turning msgspec's own place in the value into the place in the file."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$")
        raise ExportError(f"{path}{place.removesuffix('`')}: {problem}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ExportError(f"{path}: not valid JSON: {error}") from None


def _require(condition: bool, path: str, problem: str) -> None:
    if not condition:
        raise ExportError(f"{path}: {problem}")


def _layer(raw: Mapping[str, msgspec.Raw], path: str) -> Layer:
    _require(LAYER_INDEX in raw, path, f"Object missing required field `{LAYER_INDEX}`")
    index = _decode(raw[LAYER_INDEX], int, f"{path}.{LAYER_INDEX}")
    projections = tuple(
        _projection(index, name, value, f"{path}.{name}")
        for name, value in raw.items()
        if name not in (LAYER_INDEX, COSINES)
    )
    return Layer(index, projections, _cosines(raw, projections, f"{path}.{COSINES}"))


def _projection(layer: int, name: str, raw: msgspec.Raw, path: str) -> Projection:
    """Return a projection; for rank > 1 its fields stand one level deeper, under the component's number."""
    fields = _decode(raw, dict[str, msgspec.Raw], path)
    if not fields or not all(field.isdecimal() and field.isascii() for field in fields):
        return Projection(name, (_feature(layer, name, None, raw, path),))
    features = (_feature(layer, name, int(field), value, f"{path}.{field}") for field, value in fields.items())
    return Projection(name, tuple(sorted(features, key=lambda feature: feature.component or 0)))


def _feature(layer: int, name: str, component: int | None, raw: msgspec.Raw, path: str) -> Feature:
    fields = _decode(raw, OriginalFeature, path)
    try:
        keys = feature_keys(layer, name, component, "raw")
    except ValueError as error:
        raise ExportError(f"{path}: {error}") from None
    return Feature(
        layer,
        name,
        component,
        keys,
        _statistics(fields, f"{path}.histogram"),
        tuple(_example(example, f"{path}.topPositive[{place}]") for place, example in enumerate(fields.top_positive)),
        tuple(_example(example, f"{path}.topNegative[{place}]") for place, example in enumerate(fields.top_negative)),
    )


def _statistics(feature: OriginalFeature, path: str) -> Statistics:
    histogram, stats = feature.histogram, feature.stats
    if histogram is None:
        return Statistics(stats.min, stats.max)
    return Statistics(
        min=stats.min,
        max=stats.max,
        count=histogram.total_samples,
        mean=histogram.mean,
        std=histogram.std,
        histogram=_histogram(histogram, path),
    )


def _histogram(histogram: OriginalHistogram, path: str) -> Histogram:
    counts = (histogram.total_counts, histogram.positive_counts, histogram.negative_counts)
    _require(
        {len(histogram.bins) - 1} == {len(column) for column in counts}, path, "needs one more bin edge than counts"
    )
    return Histogram(histogram.bins, *counts)


def _example(example: OriginalExample, path: str) -> Example:
    same = len(example.context) == len(example.context_activations)
    _require(same, f"{path}.context_activations", "needs one value per context token")
    inside = 0 <= example.target_position < len(example.context)
    _require(inside, f"{path}.target_position", f"{example.target_position} is outside the context")
    return Example(
        activation=example.activation,
        example=example.rollout_idx,
        position=example.token_idx,
        token_id=None,
        tokens=example.context,
        activations=example.context_activations,
        target=example.target_position,
        occurrences=1,
    )


def _cosines(raw: Mapping[str, msgspec.Raw], projections: tuple[Projection, ...], path: str) -> tuple[Cosine, ...]:
    """Return the cosines; a key joins two names that hold `_` themselves, so the names decide where it splits."""
    values = _decode(raw[COSINES], dict[str, float], path) if COSINES in raw else {}
    names = [_direction(feature) for projection in projections for feature in projection.features]
    names += [name for name in ORIGINAL_PROJECTIONS if name not in names]
    pairs = {f"{first}_{second}": (first, second) for first, second in product(names, repeat=2)}
    for key in values:
        _require(key in pairs, f"{path}.{key}", "does not name two projections of this layer")
    return tuple(Cosine(*pairs[key], value) for key, value in values.items())


def _direction(feature: Feature) -> str:
    return feature.projection if feature.component is None else f"{feature.projection}_c{feature.component}"
