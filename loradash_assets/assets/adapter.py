"""The adapter's feature catalogue and the geometry of its directions."""

from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from loradash_assets.assets.model import model_directory
from loradash_assets.assets.project import IN_STORE, STORE_IO, Metadata, Project, result, table_metadata, user_errors
from loradash_assets.assets.sources import settings_key
from loradash_assets.code_version import code_version
from loradash_assets.sources import LocalSource, adapter_directory
from loradash_assets.store import Entry, Facts

FEATURES_MODULE = "loradash_assets.compute.catalogue"
GEOMETRY_MODULE = "loradash_assets.compute.geometry"
GROUP = "adapter"


@dg.asset(
    group_name=GROUP,
    kinds={"parquet", "huggingface"},
    deps=["adapter_source", settings_key("adapter")],
    io_manager_key=STORE_IO,
    code_version=code_version(FEATURES_MODULE),
    metadata=IN_STORE,
)
def features(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project], base_model: Entry
) -> dg.MaterializeResult[Entry]:
    """Every direction of the adapter: layer, projection, component, norms; checked against the base model's shapes."""
    settings = project.settings
    with user_errors():
        adapter = adapter_directory(settings)

    def build(directory: Path) -> Facts:
        from loradash_assets.compute.base_names import NamedBase
        from loradash_assets.compute.catalogue import write_catalogue

        named = NamedBase(settings.model.base_model, base_model.facts["revision"])
        facts = write_catalogue(
            adapter,
            model_directory(base_model),
            directory,
            allow_pickle=settings.adapter.allow_pickle,
            trust_remote_code=settings.model.trust_remote_code,
            rank=settings.adapter.rank,
            named=None if settings.adapter.allow_other_base else named,
        )
        return {**facts, "adapter": settings.adapter.path}

    def describe(entry: Entry) -> Metadata:
        table = pq.read_table(entry.path / "features.parquet")
        return {**table_metadata(table), "unrecorded": entry.facts["unrecorded"]}

    inputs = (LocalSource(adapter).fingerprint, base_model.digest, settings.adapter.fingerprint())
    libraries = ("peft", "transformers")
    return result(context, project, "features", inputs, build, describe, module=FEATURES_MODULE, libraries=libraries)


@dg.asset(
    group_name=GROUP,
    kinds={"parquet"},
    io_manager_key=STORE_IO,
    code_version=code_version(GEOMETRY_MODULE),
    metadata=IN_STORE,
)
def geometry(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project], features: Entry
) -> dg.MaterializeResult[Entry]:
    """Cosines between the directions that live in each layer's MLP hidden space: gate and up write, down reads."""

    def build(directory: Path) -> Facts:
        from loradash_assets.compute.catalogue import read_directions
        from loradash_assets.compute.geometry import mlp_cosines

        table: pa.Table = mlp_cosines(read_directions(features.path))
        pq.write_table(table, directory / "cosines.parquet")
        return {"cosines": table.num_rows}

    def describe(entry: Entry) -> Metadata:
        return table_metadata(pq.read_table(entry.path / "cosines.parquet"))

    return result(context, project, "geometry", (features.digest,), build, describe, module=GEOMETRY_MODULE)
