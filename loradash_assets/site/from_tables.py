"""Our tables in, what the page shows out: one layer at a time, each from its own tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from loradash_assets.schema import POLARITIES, SAMPLES, STATISTICS, Polarity
from loradash_assets.site.arrow import row_bounds, shortest
from loradash_assets.site.from_neighbours import NeighbourTables, neighbours_of, no_neighbours
from loradash_assets.site.keys import feature_keys
from loradash_assets.site.page import (
    Cosine,
    Example,
    Feature,
    Histogram,
    Layer,
    Neighbours,
    Projection,
    Sample,
    Statistics,
)

FINITE = (
    *("min", "max", "mean", "std", "skewness", "kurtosis", "effect_scale", "rms_effect"),
    *("token_omega_squared", "position_omega_squared"),
)
Lists = dict[tuple[str, int, Polarity], list[Example]]
Key = tuple[str, int]  # projection and component


@dataclass(frozen=True)
class LayerTables:
    """One layer's tables, with the schemas TOP_TOKENS, STATISTICS (over all tokens) and COSINES.

    `features` (FEATURES, of any layers) gives each module's rank; without it the rank is the number of components in
    `statistics`, which holds in the raw basis but not in the svd basis, where directions may be dropped. `samples`
    (SAMPLES), `filtered` (STATISTICS over the tokens that no filter leaves out) and `neighbours` are shown where they
    are given.
    """

    layer: int
    top_tokens: pa.Table
    statistics: pa.Table
    cosines: pa.Table
    features: pa.Table | None = None
    samples: pa.Table = field(default_factory=SAMPLES.empty_table)
    filtered: pa.Table = field(default_factory=STATISTICS.empty_table)
    neighbours: NeighbourTables = field(default_factory=no_neighbours)


def layer_from_tables(tables: LayerTables, adapter: str | None = None) -> Layer:
    """Return one layer of an adapter, by its name; its features are those of the statistics, which list each once.

    Projections and components keep the tables' order. Raises ValueError, naming the feature, for a statistic that is
    not finite.
    """
    lists, samples, ranks = _top_tokens(tables.top_tokens), _samples(tables.samples), _ranks(tables)
    filtered = {(row["projection"], row["component"]): _statistics(row) for row in tables.filtered.to_pylist()}
    neighbours = neighbours_of(tables.neighbours)
    projections: dict[str, list[Feature]] = {}
    # Those of the rows of A are no cosines of singular directions; where the rank is 1, they are the same.
    raw = max(ranks.values(), default=1) == 1 or "svd" not in tables.statistics["basis"].to_pylist()
    for row in tables.statistics.to_pylist():
        name = row["projection"]
        key = name, row["component"]
        found = _Found(lists, tuple(samples.get(key, ())), filtered.get(key), neighbours.get(key, Neighbours()))
        feature = _feature(row, ranks[name], found, adapter)
        projections.setdefault(name, []).append(feature)
    return Layer(
        tables.layer,
        tuple(Projection(name, tuple(features)) for name, features in projections.items()),
        tuple(Cosine(row["first"], row["second"], row["cosine"]) for row in tables.cosines.to_pylist() if raw),
    )


def _ranks(tables: LayerTables) -> dict[str, int]:
    if tables.features is None:
        names = tables.statistics.column("projection").to_pylist()
        return {name: names.count(name) for name in names}
    columns = (tables.features[name].to_pylist() for name in ("layer", "projection", "rank"))
    return {projection: rank for layer, projection, rank in zip(*columns, strict=True) if layer == tables.layer}


@dataclass(frozen=True)
class _Found:
    """What the tables say of a feature beside its statistics."""

    lists: Lists
    samples: tuple[Sample, ...]
    filtered: Statistics | None
    neighbours: Neighbours


def _feature(row: Mapping[str, Any], rank: int, found: _Found, adapter: str | None) -> Feature:
    layer, name, component = row["layer"], row["projection"], row["component"]
    positive, negative = (tuple(found.lists.get((name, component, polarity), ())) for polarity in POLARITIES)
    shown = component if rank > 1 else None
    keys = feature_keys(layer, name, shown, row["basis"], adapter)
    beside = found.samples, found.filtered, found.neighbours
    return Feature(layer, name, shown, keys, _statistics(row), positive, negative, *beside)


def _statistics(row: Mapping[str, Any]) -> Statistics:
    for name in FINITE:
        value = row[name]
        if value is not None and not math.isfinite(value):
            raise ValueError(
                f"layer {row['layer']} {row['projection']} component {row['component']}: {name} is {value}"
            )
    counts = (tuple(row[f"{name}_counts"]) for name in ("total", "positive", "negative"))
    return Statistics(
        min=_recorded(row["min"]),
        max=_recorded(row["max"]),
        count=row["count"],
        non_finite=row["non_finite"],
        mean=row["mean"],
        std=row["std"],
        skewness=row["skewness"],
        kurtosis=row["kurtosis"],
        quantiles=tuple(map(_recorded, row["quantiles"])),
        density=tuple(row["density"]),
        effect_scale=row["effect_scale"],
        rms_effect=row["rms_effect"],
        token_omega_squared=row["token_omega_squared"],
        position_omega_squared=row["position_omega_squared"],
        tied=row["tied"],
        histogram=Histogram(tuple(row["bin_edges"]), *counts) if row["total_counts"] else None,
    )


def _top_tokens(table: pa.Table) -> Lists:
    """Return the examples per projection, component and polarity, by rank."""
    lists: Lists = {}
    table = table.sort_by("rank")
    for row, example in _examples(table, ("projection", "component", "polarity")):
        lists.setdefault((row["projection"], row["component"], row["polarity"]), []).append(example)
    return lists


def _samples(table: pa.Table) -> dict[Key, list[Sample]]:
    """Return the samples per projection and component, from the highest interval down, those from all last."""
    found: dict[Key, list[Sample]] = {}
    table = table.sort_by([("interval", "descending"), ("draw", "ascending")])
    drawn = _examples(table, ("projection", "component", "interval", "low", "high", "count"))
    parts: dict[tuple[Any, ...], list[Example]] = {}
    for row, example in drawn:
        parts.setdefault(tuple(row.values()), []).append(example)
    for (projection, component, interval, low, high, count), examples in parts.items():
        sample = Sample(interval if interval >= 0 else None, low, high, count, tuple(examples))
        found.setdefault((projection, component), []).append(sample)
    return found


def _examples(table: pa.Table, names: tuple[str, ...]) -> Iterator[tuple[dict[str, Any], Example]]:
    """Yield each row's example, with its columns `names`."""
    table = table.combine_chunks()
    contexts = _split(table["context_activations"].combine_chunks())
    minimaps = _bytes(table["minimap"].combine_chunks())
    activations = shortest(table["activation"].to_numpy()).tolist()
    rows = table.drop_columns(["context_activations", "activation", "minimap"]).to_pylist()
    for row, activation, context, minimap in zip(rows, activations, contexts, minimaps, strict=True):
        example = Example(
            activation=activation,
            example=row["example"],
            position=row["position"],
            token_id=row["token_id"],
            tokens=tuple(row["context"]),
            activations=context,
            target=row["target_position"],
            occurrences=row["occurrences"],
            minimap=minimap,
        )
        yield {name: row[name] for name in names}, example


def _split(lists: pa.ListArray) -> list[tuple[float, ...]]:
    """Return the rows of a list<float32> column, every value in its shortest form."""
    values = shortest(lists.flatten().to_numpy()).tolist()
    return [tuple(values[start:end]) for start, end in row_bounds(lists)]


def _bytes(lists: pa.ListArray) -> list[bytes]:
    """Return the rows of a list<int8> column."""
    values = lists.flatten().to_numpy().tobytes()
    return [values[start:end] for start, end in row_bounds(lists)]


def _recorded(value: float) -> float:
    """Return the same for a float64 that holds a recorded float32, and any other value as it is."""
    single = np.float32(value)
    return float(str(single)) if float(single) == value else value
