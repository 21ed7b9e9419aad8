"""Small real tables, as the pipeline writes them, with values made from a seed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from loradash_assets.schema import COSINES, FEATURES, POLARITIES, SAMPLES, STATISTICS, TOP_TOKENS
from loradash_assets.site.from_tables import LayerTables, layer_from_tables
from loradash_assets.site.original import ExportMetadata
from loradash_assets.site.page import Adapter, Page
from tests.end_to_end.plain import minimap

LLAMA = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
METADATA = ExportMetadata(
    model_name="HuggingFaceTB/SmolLM2-135M-Instruct",
    lora_path="examples/gsm_symbolic/adapter",
    num_layers=30,
    lora_layers=tuple(range(30)),
    num_lora_layers=30,
    num_examples=64,
    top_k=16,
    context_window=10,
    generated_at="2026-01-20T10:30:00Z",
)
HELD_OUT = Path(__file__).parents[2] / "examples" / "gsm_symbolic" / "held_out.jsonl"


def texts(count: int) -> list[list[str]]:
    """Return the demo's problems and solutions, cut into words with their leading space, as a tokenizer would."""
    rows = [json.loads(line) for line in HELD_OUT.read_text("utf-8").splitlines()[:count]]
    return [_words(f"{row['question']}\n{row['deepseek_thinking_trajectory']}") for row in rows]


def _words(text: str) -> list[str]:
    return [piece for line in text.split("\n") for piece in [*line.replace(" ", "\0 ").split("\0"), "\n"] if piece]


def layer_tables(
    layer: int,
    tokens: Sequence[Sequence[str]],
    projections: Sequence[str] = LLAMA,
    rank: int = 1,
    k: int = 4,
    window: int = 3,
    seed: int = 0,
) -> LayerTables:
    """Return one layer's tables over `tokens` (example, position), activations drawn from a seeded distribution."""
    random = np.random.default_rng([seed, layer + 1])
    top: list[dict[str, object]] = []
    statistics: list[dict[str, object]] = []
    features: list[dict[str, object]] = []
    drawn: list[dict[str, object]] = []
    for projection in projections:
        for component in range(rank):
            name: dict[str, object] = {"layer": layer, "projection": projection, "component": component}
            values = [random.laplace(0.2, 0.6, len(row)).astype(np.float32) for row in tokens]
            top += _lists(name, values, tokens, k, window)
            statistics.append(name | _statistics(np.concatenate(values)))
            features.append(name | _feature(len(features), rank))
            drawn += _samples(name, values, tokens, window)
    return LayerTables(
        layer,
        pa.Table.from_pylist(top, TOP_TOKENS),
        pa.Table.from_pylist(statistics, STATISTICS),
        pa.Table.from_pylist(_cosines(layer, projections, rank, random), COSINES),
        pa.Table.from_pylist(features, FEATURES),
        pa.Table.from_pylist(drawn, SAMPLES),
    )


def without_samples(tables: LayerTables) -> LayerTables:
    """Return the tables as they are when nothing was drawn."""
    return dataclasses.replace(tables, samples=SAMPLES.empty_table())


def page(layers: Sequence[LayerTables], title: str = "LoRA activations", warnings: Sequence[str] = ()) -> Page:
    """Return the page of `layers` with a typical header."""
    metadata = {"Model": METADATA.model_name, "Adapter": METADATA.lora_path, "Dataset": "gsm_symbolic, 64 rows"}
    drawn = tuple(layer_from_tables(tables) for tables in layers)
    return Page(title, (Adapter(None, "adapter", metadata, drawn, tuple(warnings)),))


def _lists(
    name: dict[str, object],
    values: Sequence[np.ndarray],
    tokens: Sequence[Sequence[str]],
    k: int,
    window: int,
) -> list[dict[str, object]]:
    places = [(row, position) for row, each in enumerate(values) for position in range(len(each))]
    rows: list[dict[str, object]] = []
    for polarity, sign in zip(POLARITIES, (1, -1), strict=True):
        order = sorted(places, key=lambda place: -sign * float(values[place[0]][place[1]]))[:k]
        rows += [
            name | {"polarity": polarity, "rank": rank} | _example(values, tokens, (row, position), window, rank)
            for rank, (row, position) in enumerate(order, 1)
            if sign * values[row][position] > 0
        ]
    return rows


def _example(
    values: Sequence[np.ndarray], tokens: Sequence[Sequence[str]], place: tuple[int, int], window: int, rank: int
) -> dict[str, object]:
    row, position = place
    start = max(position - window, 0)
    around = slice(start, position + window + 1)
    return {
        "activation": values[row][position],
        "example": row,
        "position": position,
        "token_id": 1000 + position,
        "token": tokens[row][position],
        "occurrences": 3 if rank == 2 else 1,
        "target_position": position - start,
        "context": tokens[row][around],
        "context_activations": values[row][around],
        "minimap": minimap(values[row].tolist(), max(float(np.abs(each).max()) for each in values)),
    }


def _samples(
    name: dict[str, object], values: Sequence[np.ndarray], tokens: Sequence[Sequence[str]], window: int
) -> list[dict[str, object]]:
    """Return the first token of each half of the range, where there is one, and the first two of all."""
    flat = np.concatenate(values)
    middle = float(flat.min() + flat.max()) / 2
    bounds = {
        0: (float(flat.min()), middle),
        1: (middle, float(flat.max())),
        -1: (float(flat.min()), float(flat.max())),
    }
    places = [(row, position) for row, each in enumerate(values) for position in range(len(each))]
    rows: list[dict[str, object]] = []
    for interval, (low, high) in bounds.items():
        inside = [place for place in places if low <= values[place[0]][place[1]] <= high]
        rows += [
            name
            | {"interval": interval, "low": low, "high": high, "count": len(inside), "draw": draw}
            | _example(values, tokens, (row, position), window, rank=1)
            for draw, (row, position) in enumerate(inside[: 2 if interval < 0 else 1], 1)
        ]
    return rows


def _statistics(values: np.ndarray) -> dict[str, object]:
    edges = np.linspace(values.min(), values.max(), 51, dtype=np.float64)
    total, positive, negative = (
        np.histogram(each, edges)[0] for each in (values, values[values > 0], values[values < 0])
    )
    return {
        "basis": "raw",
        "filtered": False,
        "tied": False,
        "count": len(values),
        "non_finite": 0,
        "min": float(values.min()),
        "max": float(values.max()),
        "mean": values.mean(dtype=np.float64),
        "std": values.std(dtype=np.float64),
        **_shape(values.astype(np.float64)),
        "effect_scale": 0.731,
        "rms_effect": 0.731 * float(np.sqrt((values.astype(np.float64) ** 2).mean())),
        "token_omega_squared": 0.634,
        "position_omega_squared": 0.0,
        "bin_edges": edges,
        "total_counts": total,
        "positive_counts": positive,
        "negative_counts": negative,
    }


def _shape(values: np.ndarray) -> dict[str, object]:
    centred, shares = values - values.mean(), (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)
    return {
        "skewness": (centred**3).mean() / values.std() ** 3,
        "kurtosis": (centred**4).mean() / values.std() ** 4 - 3,
        "quantiles": np.quantile(values, shares, method="inverted_cdf"),
        "density": [(np.abs(values) > multiple * values.std()).mean() for multiple in (1, 2, 3, 5)],
    }


def _feature(index: int, rank: int) -> dict[str, object]:
    numbers = {"in_features": 8, "out_features": 8, "scaling": 16.0, "read_norm": 1.0, "write_norm": 1.0}
    return {"feature": index, "module": "m", "expert": -1, "rank": rank, "variant": "lora", **numbers}


def _cosines(layer: int, projections: Sequence[str], rank: int, random: np.random.Generator) -> list[dict[str, object]]:
    names = [
        name if rank == 1 else f"{name}_c{component}"
        for name in projections
        if name in MLP
        for component in range(rank)
    ]
    return [
        {"layer": layer, "first": first, "second": second, "cosine": 1.0 if first == second else random.uniform(-1, 1)}
        for first in names
        for second in names
    ]
