"""Statistics of activations in memory, streamed as a recording would be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loradash_assets.compute.explained import Groups
from loradash_assets.compute.summary import Summary, TokenGroups
from loradash_assets.compute.views import View

Floats = NDArray[np.float32]


def summary(
    activations: Floats,
    bins: int = 50,
    order: NDArray[np.int64] | None = None,
    cuts: list[int] | None = None,
    ids: NDArray[np.int64] | None = None,
    positions: NDArray[np.int64] | None = None,
) -> pa.Table:
    """Return the STATISTICS rows of activations (features, tokens), given in chunks of tokens in this order.

    ids, positions: (tokens,), by default one and the same, and the token's number.
    """
    features, tokens = activations.shape
    order = np.arange(tokens) if order is None else order
    ids = np.zeros(tokens, np.int64) if ids is None else ids
    positions = np.arange(tokens) if positions is None else positions
    labels: dict[str, NDArray[Any]] = {
        "layer": np.zeros(features, np.int32),
        "projection": np.full(features, "up_proj"),
        "component": np.arange(features),
        "tied": np.zeros(features, np.bool_),
        "effect_scale": np.full(features, 0.5),
    }
    chunks = [(part, np.ascontiguousarray(activations[:, part])) for part in np.split(order, sorted(cuts or []))]
    made = Summary(View("raw", labels), bins, TokenGroups(Groups.by(ids), Groups.by(positions)))
    more = True
    while more:
        for numbers, values in chunks:
            made.update(numbers, values)
        more = made.next_pass()
    return made.table()


def serialised(table: pa.Table) -> bytes:
    """Return the table's content as bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return sink.getvalue().to_pybytes()
