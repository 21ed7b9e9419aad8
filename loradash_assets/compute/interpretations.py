"""What people wrote, as a table: each note's key taken apart and checked against the adapter's features."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from annotation_server.document import DocumentError, Entry, Label, read_interpretations
from annotation_server.keys import FeatureKey, InvalidKey, parse_key
from loradash_assets.compute.errors import InputError
from loradash_assets.schema import INTERPRETATIONS, OUTSIDE_LAYERS, Basis

BASES: Mapping[str, Basis] = {"c": "raw", "s": "svd"}  # by the letter of a component in a key
CONFIDENCES = range(1, 6)
Ranks = Mapping[tuple[str | None, int, str], int]  # by adapter, layer and projection


def interpretations_table(file: Path, features: Mapping[str | None, pa.Table]) -> pa.Table:
    """Return the INTERPRETATIONS table in the file's order; a missing file gives no rows.

    features: the FEATURES table of each adapter by its name, None for the first. Notes whose keys have another shape,
    or name no feature of theirs, stay in it as unknown. Raises InputError naming file and place if the file cannot be
    read.
    """
    try:
        document = read_interpretations(file)
    except (DocumentError, OSError) as error:
        raise InputError(f"annotations.interpretations_file: {error}") from error
    ranks = {
        (adapter, row["layer"], row["projection"]): row["rank"]
        for adapter, table in features.items()
        for row in table.select(["layer", "projection", "rank"]).to_pylist()
    }
    rows = [{"key": key, **_parts(key, features, ranks), **_note(entry)} for key, entry in document.entries.items()]
    return pa.Table.from_pylist(rows, schema=INTERPRETATIONS)


def _note(entry: Entry) -> dict[str, Any]:
    labels = [
        {"person": person, "tags": label.tags, "confidence": _confidence(label), "at": label.at}
        for person, label in entry.labels.items()
    ]
    writer = () if entry.text_by is None else (entry.text_by,)
    return {
        "text": entry.text,
        "starred": entry.starred,
        "skipped": entry.skipped,
        "last_modified": entry.last_modified,
        "text_by": entry.text_by,
        "text_at": entry.text_at,
        "people": list(dict.fromkeys([*writer, *entry.labels])),
        "tags": list(dict.fromkeys(tag for label in entry.labels.values() for tag in label.tags or ())),
        "labels": labels,
        "examples_seen": entry.examples_seen,
    }


def _confidence(label: Label) -> int | None:
    """Return it where it is one: a file written by hand may hold any number."""
    return label.confidence if label.confidence in CONFIDENCES else None


def _parts(text: str, adapters: Container[str | None], ranks: Ranks) -> dict[str, Any]:
    try:
        key = parse_key(text)
    except InvalidKey:
        return {"known": False, "unknown_because": "not a key"}
    layer = OUTSIDE_LAYERS if key.layer is None else key.layer
    basis, component = key.component or (None, None)
    known = names_feature(key, ranks.get((key.adapter, layer, key.projection), 0))
    missing = "no such feature" if key.adapter in adapters else "no such adapter"
    return {
        "adapter": key.adapter,
        "layer": layer,
        "projection": key.projection,
        "component": component,
        "basis": None if basis is None else BASES[basis],
        "polarity": key.polarity,
        "known": known,
        "unknown_because": None if known else missing,
    }


def names_feature(key: FeatureKey, rank: int) -> bool:
    """Whether a key is the one spelling of a feature of a module of this rank (0: there is no such module).

    At rank 1 it has no component, above it always one.
    """
    if rank == 0:
        return False
    if rank == 1:
        return key == replace(key, component=None)
    return key.component is not None and key.component[1] < rank
