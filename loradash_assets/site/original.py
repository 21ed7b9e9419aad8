"""The original's `activations_data.json`, field by field and in its order; read and written through the same types.

A layer's projections are keys of the layer itself, so a layer stays a mapping here. Beyond the original we add: any
projection under its own name, for rank > 1 a further level keyed by component, and layer -1 for the modules outside
the layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

LAYER_INDEX = "layerIdx"
COSINES = "cosineSimilarities"
ORIGINAL_PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


class ExportMetadata(msgspec.Struct, frozen=True, rename="camel"):
    """The run that an export describes; `generated_at` is when the activations were recorded, ISO 8601."""

    model_name: str
    lora_path: str
    num_layers: int  # of the model
    lora_layers: tuple[int, ...]  # layers that the adapter touches
    num_lora_layers: int
    num_examples: int
    top_k: int
    context_window: int
    generated_at: str


class OriginalExample(msgspec.Struct, frozen=True):
    """One top token: `rollout_idx` is the dataset row, `token_idx` the position in it."""

    activation: float
    rollout_idx: int
    token_idx: int
    token: str
    context: tuple[str, ...]
    target_position: int
    context_activations: tuple[float, ...]


class OriginalStats(msgspec.Struct, frozen=True):
    """Lowest and highest activation over every token."""

    min: float
    max: float


class OriginalHistogram(msgspec.Struct, frozen=True):
    """Counts over every token, with the moments that the original kept beside them."""

    bins: tuple[float, ...]  # (n + 1,) edges
    total_counts: tuple[int, ...]  # (n,)
    positive_counts: tuple[int, ...]  # (n,)
    negative_counts: tuple[int, ...]  # (n,)
    min: float
    max: float
    mean: float
    std: float
    total_samples: int


class OriginalFeature(msgspec.Struct, frozen=True, rename="camel"):
    """One direction: its lists, most extreme first, and its statistics."""

    top_positive: tuple[OriginalExample, ...]
    top_negative: tuple[OriginalExample, ...]
    stats: OriginalStats
    histogram: OriginalHistogram | None


class ActivationsData(msgspec.Struct, frozen=True):
    """The whole file, ready to be encoded; each layer in the order `layerIdx`, `cosineSimilarities`, projections."""

    metadata: ExportMetadata
    layers: tuple[Mapping[str, Any], ...]
