"""The notes joined to what they are about: a row for each panel, noted or not, with its statistics and best example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from loradash_assets.schema import ANNOTATED_FEATURES, NOTE, POLARITIES, STATISTICS
from loradash_assets.site.from_tables import LayerTables
from loradash_assets.site.keys import feature_keys

NOTED = tuple(field.name for field in NOTE)
SHARED = tuple(name for name in ANNOTATED_FEATURES.names if name in STATISTICS.names)


def annotated_features(
    tables: LayerTables,
    ranks: Mapping[tuple[int, str], int],
    adapter: str | None,
    notes: Mapping[str, Mapping[str, Any]],
    stale: Mapping[str, bool],
) -> pa.Table:
    """Return a layer's rows of the ANNOTATED_FEATURES table, in the order of its statistics, positive first.

    tables: with at least the first of each list. ranks: of the adapter's modules, by layer and projection. notes: rows
    of the INTERPRETATIONS table by key; stale: of those whose examples are known, whether they may no longer fit.
    """
    best = {
        (row["projection"], row["component"], row["polarity"]): _best(row)
        for row in tables.top_tokens.to_pylist()
        if row["rank"] == 1
    }
    rows: list[dict[str, Any]] = []
    for shared in tables.statistics.select(list(SHARED)).to_pylist():
        layer, projection, component = shared["layer"], shared["projection"], shared["component"]
        numbered = component if ranks[layer, projection] > 1 else None
        keys = feature_keys(layer, projection, numbered, shared["basis"], adapter)
        for polarity in POLARITIES:
            key = keys[polarity]
            note = {name: notes[key][name] for name in NOTED} if key in notes else {}
            panel = {"key": key, "polarity": polarity, "stale": stale.get(key)}
            rows.append({**shared, **panel, **note, **best.get((projection, component, polarity), {})})
    return pa.Table.from_pylist(rows, ANNOTATED_FEATURES)


def _best(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{f"best_{name}": row[name] for name in ("activation", "token", "example", "position")},
        "best_context": "".join(row["context"]),
    }
