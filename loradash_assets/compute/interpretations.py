"""What people wrote, as a table: each note's key taken apart and checked against the adapter's features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from annotation_server.document import DocumentError, read_interpretations
from annotation_server.keys import FeatureKey, InvalidKey, parse_key
from loradash_assets.compute.errors import InputError
from loradash_assets.schema import INTERPRETATIONS, OUTSIDE_LAYERS


def interpretations_table(file: Path, features: pa.Table) -> pa.Table:
    """Return the INTERPRETATIONS table in the file's order; a missing file gives no rows.

    Notes whose keys have another shape, or name no feature of FEATURES, stay in it as unknown. Raises InputError
    naming file and place if the file cannot be read.
    """
    try:
        document = read_interpretations(file)
    except (DocumentError, OSError) as error:
        raise InputError(f"annotations.interpretations_file: {error}") from error
    ranks = {(row["layer"], row["projection"]): row["rank"] for row in features.to_pylist()}
    rows = [
        {
            "key": key,
            **_parts(key, ranks),
            "text": entry.text,
            "starred": entry.starred,
            "last_modified": entry.last_modified,
        }
        for key, entry in document.entries.items()
    ]
    return pa.Table.from_pylist(rows, schema=INTERPRETATIONS)


def _parts(text: str, ranks: dict[tuple[int, str], int]) -> dict[str, Any]:
    try:
        key = parse_key(text)
    except InvalidKey:
        return {"known": False}
    layer = OUTSIDE_LAYERS if key.layer is None else key.layer
    basis, component = key.component or (None, None)
    return {
        "layer": layer,
        "projection": key.projection,
        "component": component,
        "basis": None if basis is None else {"c": "raw", "s": "svd"}[basis],
        "polarity": key.polarity,
        "known": _is_known(key, ranks.get((layer, key.projection), 0)),
    }


def _is_known(key: FeatureKey, rank: int) -> bool:
    if key.adapter is not None:
        return False
    return rank == 1 if key.component is None else key.component[1] < rank
