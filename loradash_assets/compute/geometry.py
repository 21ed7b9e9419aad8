"""How the adapter's directions lie to each other: in the MLP's hidden space, and each one's neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from loradash_assets.compute.directions import ModuleDirections, read_directions
from loradash_assets.compute.neighbours import neighbours
from loradash_assets.compute.spaces import INTO_HIDDEN, OUT_OF_HIDDEN
from loradash_assets.schema import COSINES, OUTSIDE_LAYERS

COSINES_FILE = "cosines.parquet"
NEIGHBOURS_FILE = "neighbours.parquet"


def write_geometry(catalogue: Path, target: Path) -> dict[str, int]:
    """Write the COSINES table and the NEIGHBOURS table, of both bases, to `target`; return their row counts."""
    raw = read_directions(catalogue, "raw")
    cosines = mlp_cosines(raw)
    near = pa.concat_tables([neighbours(raw, "raw"), neighbours(read_directions(catalogue, "svd"), "svd")])
    pq.write_table(cosines, target / COSINES_FILE)
    pq.write_table(near, target / NEIGHBOURS_FILE)
    return {"cosines": cosines.num_rows, "neighbours": near.num_rows}


def mlp_cosines(
    modules: Iterable[ModuleDirections],
    into_hidden: Sequence[str] = INTO_HIDDEN,
    out_of_hidden: Sequence[str] = OUT_OF_HIDDEN,
) -> pa.Table:
    """Cosines between MLP directions, a table of the COSINES schema: per layer every ordered pair, diagonal included.

    Projections named in `into_hidden` count with what they write, those in `out_of_hidden` with what they read, all
    others and modules outside the layers not at all. Pairs of different length are left out. A direction that is
    all zeros (a fresh adapter's B) has cosine 0 with everything, itself included.
    """
    layers: dict[int, dict[str, NDArray[np.float64]]] = {}
    for module in modules:
        if module.layer != OUTSIDE_LAYERS and module.projection in (*into_hidden, *out_of_hidden):
            hidden = module.write if module.projection in into_hidden else module.read
            layers.setdefault(module.layer, {}).update(_named(module.projection, hidden))
    rows = [
        {"layer": layer, "first": first, "second": second, "cosine": _cosine(directions[first], directions[second])}
        for layer, directions in sorted(layers.items())
        for first in directions
        for second in directions
        if directions[first].size == directions[second].size
    ]
    return pa.Table.from_pylist(rows, schema=COSINES)


def _named(projection: str, hidden: NDArray[np.floating]) -> dict[str, NDArray[np.float64]]:
    """Unit vectors by name; the component is part of the name where there are several."""
    vectors = hidden.astype(np.float64)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    if len(units) == 1:
        return {projection: units[0]}
    return {f"{projection}_c{component}": unit for component, unit in enumerate(units)}


def _cosine(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    if first is second:
        return float(first.any())  # exactly 1, where rounding would leave 0.9999999999999999
    return float(np.clip(first @ second, -1.0, 1.0))
