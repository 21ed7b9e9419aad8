"""Each feature's neighbours by direction: the features of the adapter that read, or write, most nearly what it does."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations_with_replacement

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loradash_assets.compute.arrays import ranges, table
from loradash_assets.compute.directions import KINDS, Kind, ModuleDirections
from loradash_assets.compute.spaces import space_of
from loradash_assets.compute.strongest import Strongest
from loradash_assets.schema import NEIGHBOURS, Basis

PARTNERS = 10
_BLOCK = 1024  # directions that meet as many others at a time


def neighbours(modules: Sequence[ModuleDirections], basis: Basis) -> pa.Table:
    """Return the NEIGHBOURS rows of an adapter's modules in one basis: what features read, then what they write.

    modules: all of them, in the order of the features. What is compared with what: see `spaces`. Equal cosines go by
    the partner's number. A direction that is all zeros has no neighbours and is none. Memory: the
    directions of one space in float32, and of two blocks in float64.
    """
    features = sum(len(module.read) for module in modules)
    found: dict[Kind, _Found] = {kind: _Found(features) for kind in KINDS}
    for sides in _spaces(modules).values():
        directions, numbers = np.concatenate([side.directions for side in sides]), _numbers(sides)
        kinds = np.repeat([side.kind for side in sides], [len(side.directions) for side in sides])
        there = directions.any(axis=1)
        strongest = _strongest(directions[there])
        for kind, each in found.items():
            mine = kinds[there] == kind
            each.put(numbers[there][mine], numbers[there][strongest.partners[mine]], strongest.values[mine])
    return pa.concat_tables([each.table(modules, basis, kind) for kind, each in found.items()])


@dataclass(frozen=True)
class _Side:
    """What a module's components read or write, (components, width), and the number of the first."""

    kind: Kind
    first: int
    directions: NDArray[np.floating]


def _spaces(modules: Sequence[ModuleDirections]) -> dict[Hashable, list[_Side]]:
    """The sides in each space, in the order of the features."""
    spaces: dict[Hashable, list[_Side]] = {}
    firsts = accumulate((len(module.read) for module in modules), initial=0)
    for module, first in zip(modules, firsts, strict=False):
        for kind in KINDS:
            spaces.setdefault(space_of(module, kind), []).append(_Side(kind, first, module.of(kind)))
    return spaces


def _numbers(sides: Sequence[_Side]) -> NDArray[np.int64]:
    firsts, counts = ([side.first for side in sides], [len(side.directions) for side in sides])
    return ranges(np.array(firsts, np.int64), np.array(counts, np.int64))


def _strongest(directions: NDArray[np.floating]) -> Strongest:
    """The partners of each of these directions, (n, width), by their places among them."""
    n = len(directions)
    strongest = Strongest(n, max(0, min(PARTNERS, n - 1)))
    blocks = [slice(first, min(first + _BLOCK, n)) for first in range(0, n, _BLOCK)]
    for rows, columns in combinations_with_replacement(blocks, 2):
        cosines = _cosines(directions[rows], directions[columns])
        strongest.update(rows, columns, cosines)
        if rows != columns:
            strongest.update(columns, rows, cosines.T)
    return strongest


def _cosines(rows: NDArray[np.floating], columns: NDArray[np.floating]) -> NDArray[np.float32]:
    """Cosines (rows, columns) as multiples of 2**-24, all of which float32 holds.

    So what is equal stays equal, 0 with 0 too, whatever a product in float64 makes of its last bits on a machine.
    """
    return (np.rint(_units(rows) @ _units(columns).T * 2**24) / 2**24 + 0.0).astype(np.float32)  # + 0.0: no -0.0


def _units(directions: NDArray[np.floating]) -> NDArray[np.float64]:
    wide = directions.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


class _Found:
    """The partners and cosines of so many features, for what they read or for what they write."""

    def __init__(self, features: int) -> None:
        self._partners = np.full((features, PARTNERS), -1, np.int32)
        self._cosines = np.zeros((features, PARTNERS), np.float32)

    def put(self, features: NDArray[np.int64], partners: NDArray[np.int64], cosines: NDArray[np.float32]) -> None:
        """Set the partners (n, k) and cosines (n, k) of some features (n,); k <= PARTNERS."""
        self._partners[features, : partners.shape[1]] = partners
        self._cosines[features, : cosines.shape[1]] = cosines

    def table(self, modules: Sequence[ModuleDirections], basis: Basis, kind: Kind) -> pa.Table:
        """Return the NEIGHBOURS rows, in the order of the features."""
        counts = [len(module.read) for module in modules]
        there = self._partners >= 0
        offsets = pa.array(np.concatenate(([0], np.cumsum(there.sum(axis=1)))), pa.int32())
        columns = {
            "layer": np.repeat([module.layer for module in modules], counts),
            "projection": np.repeat([module.projection for module in modules], counts),
            "component": ranges(np.zeros(len(counts), np.int64), np.array(counts, np.int64)),
            "basis": np.full(sum(counts), basis),
            "kind": np.full(sum(counts), kind),
            "partners": pa.ListArray.from_arrays(offsets, self._partners[there]),
            "cosines": pa.ListArray.from_arrays(offsets, self._cosines[there]),
        }
        return table(columns, NEIGHBOURS)
