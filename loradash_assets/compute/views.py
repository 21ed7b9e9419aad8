"""The bases in which a layer's recording is looked at: as recorded, or turned into singular directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loradash_assets.compute.arrays import ranges
from loradash_assets.compute.basis import SvdBasis
from loradash_assets.schema import Basis


@dataclass(frozen=True)
class View:
    """A basis in which to look at the recording, and the features that it has."""

    basis: Basis
    labels: Mapping[str, NDArray[Any]]  # STATISTICS columns that describe the feature, each (features,)
    maps: Sequence[tuple[slice, SvdBasis]] = ()  # per module: its recorded rows, and what maps them to the basis

    @property
    def features(self) -> int:
        """How many features it has."""
        return self.labels["component"].size

    def of(self, recorded: NDArray[np.float32]) -> NDArray[np.float32]:
        """Recorded activations (recorded features, tokens) -> this view's (features, tokens)."""
        if self.basis == "raw":
            return recorded
        return np.concatenate([basis.apply(recorded[rows]) for rows, basis in self.maps])


def raw_view(features: pa.Table) -> View:
    """Return the view of rows of the FEATURES schema as they were recorded."""
    labels = {name: features.column(name).to_numpy() for name in ("layer", "projection", "component")}
    effect_scale = features.column("scaling").to_numpy() * features.column("write_norm").to_numpy()
    tied = np.zeros(features.num_rows, np.bool_)
    return View("raw", {**labels, "tied": tied, "effect_scale": np.abs(effect_scale)})


def svd_view(features: pa.Table, bases: Mapping[str, SvdBasis]) -> View:
    """Return the view in singular directions; `bases` by full module name. Raises KeyError for one that is missing."""
    modules, starts = np.unique(features.column("module").to_numpy().astype(str), return_index=True)
    order = np.argsort(starts)
    bounds = [*starts[order].tolist(), features.num_rows]
    chosen = [bases[str(module)] for module in modules[order]]
    sizes = [basis.sigma.size for basis in chosen]
    first_rows = features.take(pa.array(np.repeat(starts[order], sizes)))
    labels = {name: first_rows.column(name).to_numpy() for name in ("layer", "projection")}
    labels["component"] = ranges(np.zeros(len(sizes), np.int64), np.array(sizes, np.int64))
    labels["tied"] = np.concatenate([basis.tied for basis in chosen])
    labels["effect_scale"] = np.concatenate([basis.sigma for basis in chosen])
    rows = [slice(start, stop) for start, stop in pairwise(bounds)]
    return View("svd", labels, list(zip(rows, chosen, strict=True)))
