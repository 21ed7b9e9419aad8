"""One layer's tables from what the earlier stages left on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from loradash_assets.compute.basis import svd_basis
from loradash_assets.compute.catalogue import FEATURES_FILE, read_modules
from loradash_assets.compute.checks import listing_faults
from loradash_assets.compute.experts import NO_EXPERT, blocks, experts_of
from loradash_assets.compute.parallel import Check, Checked
from loradash_assets.compute.prompt_tokens import PromptTokens
from loradash_assets.compute.recording import LayerActivations
from loradash_assets.compute.tables import LayerTables, TableOptions, layer_tables
from loradash_assets.parquet import read_parquet

PLAIN = "plain.parquet"
SHOWN = "shown.parquet"
SAMPLES = "samples.parquet"
STATISTICS = "statistics.parquet"


def write_layer_tables(
    layer: int,
    catalogue: Path,
    recording: Path,
    tokens: PromptTokens,
    target: Path,
    options: TableOptions,
    write_norms: Mapping[str, Sequence[float]],
    special_tokens: Collection[int],
    check: Check = lambda: None,
) -> dict[str, Any]:
    """Write the layer's four tables to `target`; return how many features it has, how many of them the svd
    basis dropped, how many activations were not finite, how many tokens counted, and how many were left out, by reason;
    and how many rows of its lists are wrong (see `listing_faults`).

    `write_norms` are the norms that only the loaded model could tell (DoRA), by module; `special_tokens` are ids;
    `check` is called before every chunk of every pass, and what it raises ends the work.
    """
    features = layer_features(catalogue, layer, write_norms)
    bases = {
        module.name: svd_basis(module.A, module.B, module.scaling)
        for module in (read_modules(catalogue) if options.basis == "svd" else [])
        if module.layer == layer
    }
    if features.num_rows:
        activations = Checked(recorded_layer(recording, layer, features), check)
        tables = layer_tables(activations, features, tokens, options, bases, special_tokens)
    else:  # all that the adapter has in this layer is listed as unrecorded
        tables = LayerTables.empty()
    pq.write_table(tables.plain, target / PLAIN)
    pq.write_table(tables.shown, target / SHOWN)
    pq.write_table(tables.samples, target / SAMPLES)
    pq.write_table(tables.statistics, target / STATISTICS)
    faults = [listing_faults(listed, tokens.index) for listed in (tables.plain, tables.shown)]
    full = tables.statistics.filter(~pc.field("filtered"))
    raw, shown = (full.filter(pc.field("basis") == basis) for basis in ("raw", options.basis))
    return {
        "features": features.num_rows,
        "dropped": raw.num_rows - shown.num_rows,
        "non_finite": sum(raw.column("non_finite").to_pylist()),
        **_counts(features, full),
        **{name: plain + shown for (name, plain), shown in zip(faults[0].items(), faults[1].values(), strict=True)},
        "left_out": dict(tables.left_out),
    }


def _counts(features: pa.Table, statistics: pa.Table) -> dict[str, Any]:
    """How many tokens counted: each distinct count of features that see every token, each distinct sum over the
    experts of a parameter, and the most of one expert.
    """
    rows = zip(*(features.column(name).to_pylist() for name in ("projection", "expert", "module")), strict=True)
    parameters = {projection: experts_of(module) for projection, expert, module in rows if expert != NO_EXPERT}
    counted: set[int] = set()
    routed = Counter[tuple[str, str, int]]()
    busiest = 0
    for row in statistics.select(["projection", "basis", "component", "count", "non_finite"]).to_pylist():
        count = row["count"] + row["non_finite"]
        if row["projection"] not in parameters:
            counted.add(count)
            continue
        busiest = max(busiest, count)
        if row["basis"] == "raw":
            routed[*parameters[row["projection"]], row["component"]] += count
    return {"counted": sorted(counted), "routed": sorted(set(routed.values())), "busiest": busiest}


def recorded_layer(recording: Path, layer: int, features: pa.Table) -> LayerActivations:
    """Return what was recorded of a layer, given its slice of the FEATURES table."""
    return LayerActivations(recording, layer, blocks(features))


def layer_features(catalogue: Path, layer: int, write_norms: Mapping[str, Sequence[float]]) -> pa.Table:
    """Return the layer's slice of the FEATURES table, with the write norms that came from the loaded model."""
    features = read_parquet(catalogue / FEATURES_FILE).filter(pc.field("layer") == layer)
    norms = [
        write_norms[row["module"]][row["component"]] if row["module"] in write_norms else row["write_norm"]
        for row in features.to_pylist()
    ]
    place = features.schema.get_field_index("write_norm")
    return features.set_column(place, features.schema.field(place), pa.array(norms, pa.float64()))
