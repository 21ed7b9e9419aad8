"""Each feature's neighbours, from the tables that number the adapter's features: by direction and by co-activation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from loradash_assets.schema import COACTIVATION, NEIGHBOURS
from loradash_assets.site.arrow import row_bounds, shortest
from loradash_assets.site.page import Neighbour, Neighbours

SHOWN = 10  # of each kind


class FeatureName(NamedTuple):
    """What a feature of an adapter is called on the page."""

    layer: int
    projection: str
    component: int | None


class NeighbourTables(NamedTuple):
    """An adapter's tables in one basis, and what its features are called there, in the order of their numbers."""

    directions: pa.Table  # NEIGHBOURS
    coactivation: pa.Table  # COACTIVATION
    names: Sequence[FeatureName]

    def of_layer(self, layer: int) -> NeighbourTables:
        """Return the same with the rows of one layer."""
        here = pc.field("layer") == layer
        return self._replace(directions=self.directions.filter(here), coactivation=self.coactivation.filter(here))


def no_neighbours() -> NeighbourTables:
    """Return tables without a neighbour."""
    return NeighbourTables(NEIGHBOURS.empty_table(), COACTIVATION.empty_table(), ())


def neighbours_of(tables: NeighbourTables) -> Mapping[tuple[str, int], Neighbours]:
    """Return the neighbours of a layer's features by projection and component, the 10 strongest of each kind.

    A feature with a cosine or correlation of 0 is no neighbour.
    """
    directions, names = tables.directions, tables.names
    read = _partners(directions.filter(pc.field("kind") == "read"), "cosines", names)
    write = _partners(directions.filter(pc.field("kind") == "write"), "cosines", names)
    together = _partners(tables.coactivation, "correlations", names)
    return {
        key: Neighbours(read.get(key, ()), write.get(key, ()), together.get(key, ()))
        for key in {**read, **write, **together}
    }


def _partners(
    table: pa.Table, likeness: str, names: Sequence[FeatureName]
) -> dict[tuple[str, int], tuple[Neighbour, ...]]:
    """Return the first partners in each row of a table, by projection and component."""
    lists = table["partners"].combine_chunks()
    numbers, values = lists.flatten().to_numpy(), table[likeness].combine_chunks().flatten().to_numpy()
    rows = zip(table["projection"].to_pylist(), table["component"].to_pylist(), row_bounds(lists), strict=True)
    found: dict[tuple[str, int], tuple[Neighbour, ...]] = {}
    for projection, component, (start, end) in rows:
        first = slice(start, min(end, start + SHOWN))
        near = zip((names[number] for number in numbers[first].tolist()), shortest(values[first]).tolist(), strict=True)
        found[projection, component] = tuple(
            Neighbour(name.layer, name.projection, name.component, value) for name, value in near if value
        )
    return found
