"""Which features of an adapter fire together."""

from pathlib import Path

import dagster as dg

from loradash_assets.assets.keys import adapter_group, adapter_key, adapter_tags, settings_key
from loradash_assets.assets.project import IN_STORE, STORE_IO, Metadata, result, table_metadata
from loradash_assets.code_version import code_version
from loradash_assets.parquet import read_parquet
from loradash_assets.project import Project
from loradash_assets.sources import Adapter
from loradash_assets.store import Entry, Facts

MODULE = "loradash_assets.compute.coactivation"
PREVIEW = ("layer", "projection", "component", "basis")


def coactivation_asset(adapter: Adapter) -> dg.AssetsDefinition:
    """Return the correlations of an adapter's features, over all layers."""
    key = adapter_key(adapter, "coactivation")

    @dg.asset(
        key=key,
        ins={name: dg.AssetIn(adapter_key(adapter, name)) for name in ("features", "activations")},
        deps=[settings_key("tables")],
        group_name=adapter_group(adapter, "tables"),
        kinds={"parquet"},
        io_manager_key=STORE_IO,
        code_version=code_version(MODULE),
        tags=adapter_tags(adapter),
        metadata=IN_STORE,
    )
    def coactivation(
        context: dg.AssetExecutionContext, project: dg.ResourceParam[Project], features: Entry, activations: Entry
    ) -> dg.MaterializeResult[Entry]:
        """Each feature's correlations with the adapter's other features, strongest first, over every token."""
        basis = project.settings.tables.basis

        def build(directory: Path) -> Facts:
            from loradash_assets.compute.coactivation import write_coactivation

            return {**write_coactivation(features.path, activations.path, directory, basis), "basis": basis}

        def describe(entry: Entry) -> Metadata:
            table = read_parquet(entry.path / "coactivation.parquet")
            return {**table_metadata(table, PREVIEW), **entry.facts}

        inputs = (features.digest, activations.digest, basis)
        return result(context, project, "coactivation", inputs, build, describe, module=MODULE, asset_key=key)

    return coactivation
