"""Each adapter's feature catalogue and the geometry of its directions."""

from pathlib import Path

import dagster as dg

from loradash_assets.assets.keys import adapter_group, adapter_key, adapter_tags, settings_key
from loradash_assets.assets.model import model_directory
from loradash_assets.assets.project import IN_STORE, RETRIES, STORE_IO, Metadata, result, table_metadata, user_errors
from loradash_assets.code_version import code_version
from loradash_assets.parquet import read_parquet
from loradash_assets.project import Project
from loradash_assets.sources import Adapter, adapter_directory, adapter_files, errors_of
from loradash_assets.store import Entry, Facts

FEATURES_MODULE = "loradash_assets.compute.catalogue"
GEOMETRY_MODULE = "loradash_assets.compute.geometry"
GROUP = "adapter"


def adapter_assets(adapter: Adapter) -> list[dg.AssetsDefinition]:
    """Return the assets that look at an adapter's weights alone."""
    return [_features(adapter), _geometry(adapter)]


def _features(adapter: Adapter) -> dg.AssetsDefinition:
    key = adapter_key(adapter, "features")

    @dg.asset(
        key=key,
        group_name=adapter_group(adapter, GROUP),
        kinds={"parquet", "huggingface"},
        deps=[adapter_key(adapter, "adapter_source"), settings_key("adapter")],
        io_manager_key=STORE_IO,
        code_version=code_version(FEATURES_MODULE),
        retry_policy=RETRIES,
        tags=adapter_tags(adapter),
        metadata=IN_STORE,
    )
    def features(
        context: dg.AssetExecutionContext, project: dg.ResourceParam[Project], base_model: Entry
    ) -> dg.MaterializeResult[Entry]:
        """Every direction of the adapter: layer, projection, component, norms; checked against the base model."""
        settings = project.settings
        with user_errors():
            files = adapter_directory(settings, adapter)

        def build(directory: Path) -> Facts:
            from loradash_assets.compute.base_names import NamedBase
            from loradash_assets.compute.catalogue import write_catalogue

            named = NamedBase(settings.model.base_model, base_model.facts["revision"])
            with errors_of(adapter):
                facts = write_catalogue(
                    files,
                    model_directory(base_model),
                    directory,
                    allow_pickle=settings.adapter.allow_pickle,
                    trust_remote_code=settings.model.trust_remote_code,
                    rank=settings.adapter.rank,
                    named=None if settings.adapter.allow_other_base else named,
                )
            return {**facts, "_adapter": adapter.path}  # how it is spelled is no content

        def describe(entry: Entry) -> Metadata:
            table = read_parquet(entry.path / "features.parquet")
            return {**table_metadata(table), "unrecorded": entry.facts["unrecorded"]}

        options = settings.adapter.fingerprint("rank", "allow_pickle", "allow_other_base")
        inputs = (adapter_files(files).fingerprint, base_model.digest, adapter.path, options)
        libraries = ("peft", "transformers")
        module = FEATURES_MODULE
        return result(
            context, project, "features", inputs, build, describe, module=module, libraries=libraries, asset_key=key
        )

    return features


def _geometry(adapter: Adapter) -> dg.AssetsDefinition:
    key = adapter_key(adapter, "geometry")

    @dg.asset(
        key=key,
        ins={"features": dg.AssetIn(adapter_key(adapter, "features"))},
        group_name=adapter_group(adapter, GROUP),
        kinds={"parquet"},
        io_manager_key=STORE_IO,
        code_version=code_version(GEOMETRY_MODULE),
        tags=adapter_tags(adapter),
        metadata=IN_STORE,
    )
    def geometry(
        context: dg.AssetExecutionContext, project: dg.ResourceParam[Project], features: Entry
    ) -> dg.MaterializeResult[Entry]:
        """Cosines in each layer's MLP hidden space (gate and up write it, down reads it); each feature's neighbours."""

        def build(directory: Path) -> Facts:
            from loradash_assets.compute.geometry import write_geometry

            return dict(write_geometry(features.path, directory))

        def describe(entry: Entry) -> Metadata:
            return {**table_metadata(read_parquet(entry.path / "cosines.parquet")), **entry.facts}

        inputs = (features.digest,)
        module = GEOMETRY_MODULE
        return result(context, project, "geometry", inputs, build, describe, module=module, asset_key=key)

    return geometry
