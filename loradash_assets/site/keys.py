"""A feature's keys in interpretations.json; the grammar itself is the annotation service's."""

from __future__ import annotations

from annotation_server.keys import FeatureKey
from loradash_assets.schema import OUTSIDE_LAYERS, POLARITIES, Basis, Polarity


def feature_keys(
    layer: int, projection: str, component: int | None, basis: Basis, adapter: str | None = None
) -> dict[Polarity, str]:
    """Return the key of each polarity; `component` is None for a module of rank 1, `adapter` for the first one.

    Raises InvalidKey, a ValueError, if the layer or a name cannot be part of a key.
    """
    place = None if layer == OUTSIDE_LAYERS else layer
    number = None if component is None else ("c" if basis == "raw" else "s", component)
    return {polarity: str(FeatureKey(adapter, place, projection, number, polarity)) for polarity in POLARITIES}
