"""Our tables in, the original's `activations_data.json` out: plain list, raw basis, the same bytes each time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from loradash_assets.site.from_tables import LayerTables, layer_from_tables
from loradash_assets.site.original import (
    COSINES,
    LAYER_INDEX,
    ActivationsData,
    ExportMetadata,
    OriginalExample,
    OriginalFeature,
    OriginalHistogram,
    OriginalStats,
)
from loradash_assets.site.page import Cosine, Example, Feature, Layer, Projection, Statistics


def activations_data(metadata: ExportMetadata, layers: Iterable[LayerTables]) -> bytes:
    """Return the file's content, strict JSON, from plain-list tables in the raw basis, in the order of `layers`.

    Raises ValueError, naming the feature, for a statistic that is not finite.
    """
    data = ActivationsData(metadata, tuple(_layer(layer_from_tables(tables)) for tables in layers))
    return msgspec.json.encode(data)


def _layer(layer: Layer) -> dict[str, Any]:
    return {
        LAYER_INDEX: layer.index,
        COSINES: {_pair(cosine): cosine.cosine for cosine in layer.cosines},
        **{projection.name: _projection(projection) for projection in layer.projections},
    }


def _pair(cosine: Cosine) -> str:
    return f"{cosine.first}_{cosine.second}"


def _projection(projection: Projection) -> OriginalFeature | dict[str, OriginalFeature]:
    features = projection.features
    if features[0].component is None:
        return _feature(features[0])
    return {str(feature.component): _feature(feature) for feature in features}


def _feature(feature: Feature) -> OriginalFeature:
    statistics = feature.statistics
    return OriginalFeature(
        top_positive=tuple(map(_example, feature.positive)),
        top_negative=tuple(map(_example, feature.negative)),
        stats=OriginalStats(statistics.min, statistics.max),
        histogram=_histogram(statistics),
    )


def _example(example: Example) -> OriginalExample:
    return OriginalExample(
        activation=example.activation,
        rollout_idx=example.example,
        token_idx=example.position,
        token=example.tokens[example.target],
        context=example.tokens,
        target_position=example.target,
        context_activations=example.activations,
    )


def _histogram(statistics: Statistics) -> OriginalHistogram | None:
    histogram = statistics.histogram
    if histogram is None or statistics.mean is None or statistics.std is None or statistics.count is None:
        return None
    return OriginalHistogram(
        bins=histogram.edges,
        total_counts=histogram.total,
        positive_counts=histogram.positive,
        negative_counts=histogram.negative,
        min=statistics.min,
        max=statistics.max,
        mean=statistics.mean,
        std=statistics.std,
        total_samples=statistics.count,
    )
