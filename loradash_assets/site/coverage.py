"""How much of each adapter has been annotated."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from loradash_assets.schema import POLARITIES
from loradash_assets.site.page import Adapter, Feature


@dataclass(frozen=True)
class Coverage:
    """How many panels (two per feature) have a text, and how many a tag."""

    done: int
    tagged: int
    total: int


@dataclass(frozen=True)
class AdapterCoverage:
    """One adapter's coverage, in all and by layer and projection; `names` are its projections."""

    label: str
    names: Sequence[str]
    total: Coverage
    layers: Mapping[int, Mapping[str, Coverage]]


def coverage(adapter: Adapter, noted: Collection[str], tagged: Collection[str]) -> AdapterCoverage:
    """Return an adapter's coverage, `noted` being the keys of the notes that have a text, `tagged` those with tags."""

    def count(features: Iterable[Feature]) -> Coverage:
        keys = [feature.keys[polarity] for feature in features for polarity in POLARITIES]
        return Coverage(sum(key in noted for key in keys), sum(key in tagged for key in keys), len(keys))

    layers = {
        layer.index: {projection.name: count(projection.features) for projection in layer.projections}
        for layer in adapter.layers
    }
    names = list(dict.fromkeys(name for projections in layers.values() for name in projections))
    return AdapterCoverage(adapter.label, names, count(adapter.features()), layers)
