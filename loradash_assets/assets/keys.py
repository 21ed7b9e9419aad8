"""What assets are called: a project's first adapter has no prefix, another's assets stand below its name."""

import re

import dagster as dg

from loradash_assets.schema import OUTSIDE_LAYERS
from loradash_assets.sources import Adapter


def adapter_key(adapter: Adapter, *parts: str) -> dg.AssetKey:
    """Return the key of an asset that belongs to one adapter."""
    return dg.AssetKey([*adapter.place, *parts])


def adapter_group(adapter: Adapter, group: str) -> str:
    """Return the group of such an asset."""
    return f"{group}_{re.sub('[.-]', '_', adapter.name)}" if adapter.name else group


def adapter_tags(adapter: Adapter, layer: int | None = None) -> dict[str, str]:
    """Return the tags by which an adapter's assets, or those of one of its layers, are found in the UI."""
    where = {} if layer is None else {"loradash/layer": "outside" if layer == OUTSIDE_LAYERS else str(layer)}
    return {"loradash/adapter": re.sub(r"[^A-Za-z0-9_.-]", "_", adapter.label)[:63], **where}


def table_key(adapter: Adapter, layer: int) -> dg.AssetKey:
    """Return the key of a layer's table."""
    return adapter_key(adapter, "top_tokens", layer_name(layer))


def layer_name(layer: int) -> str:
    """Return `layer_07`, or `outside_layers`."""
    return "outside_layers" if layer == OUTSIDE_LAYERS else f"layer_{layer:02d}"


def settings_key(section: str) -> dg.AssetKey:
    """Return the key of a settings section's observable."""
    return dg.AssetKey(["settings", section])
