"""Rows of the table of notes, as the asset `interpretations` makes them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from loradash_assets.schema import INTERPRETATIONS


def note(key: str, text: str = "", starred: bool = False, unknown: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return a row of the notes; `labels` as {person: (tags or None, confidence)}."""
    labels = fields.pop("labels", {})
    return {
        **dict.fromkeys(INTERPRETATIONS.names),
        **{"key": key, "text": text, "starred": starred, "skipped": False},
        **{"known": unknown is None, "unknown_because": unknown},
        **{"people": [*labels], "tags": [*dict.fromkeys(tag for tags, _ in labels.values() for tag in tags or ())]},
        "labels": [
            {"person": person, "tags": tags, "confidence": confidence, "at": "2026-03-01T00:00:00Z"}
            for person, (tags, confidence) in labels.items()
        ],
        **fields,
    }


def table(*notes: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(notes), INTERPRETATIONS)
