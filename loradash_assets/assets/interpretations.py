"""What people wrote about the features, as a table."""

import hashlib
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq

from loradash_assets.assets.project import IN_STORE, STORE_IO, Metadata, Project, result, table_metadata
from loradash_assets.assets.sources import settings_key
from loradash_assets.code_version import code_version
from loradash_assets.store import Entry, Facts

MODULE = "loradash_assets.compute.interpretations"


@dg.asset(
    group_name="annotations",
    kinds={"parquet"},
    deps=["interpretations_file", settings_key("annotations")],
    io_manager_key=STORE_IO,
    code_version=code_version(MODULE),
    metadata=IN_STORE,
)
def interpretations(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project], features: Entry
) -> dg.MaterializeResult[Entry]:
    """Every note, its key taken apart; notes on features that the adapter does not have are kept and marked."""
    file = project.settings.resolve(project.settings.annotations.interpretations_file)

    notes = file.read_bytes() if file.is_file() else None

    def build(directory: Path) -> Facts:
        from loradash_assets.compute.interpretations import interpretations_table

        copy = directory / file.name  # of the bytes that were fingerprinted: the service may save while this runs
        if notes is not None:
            copy.write_bytes(notes)
        table = interpretations_table(
            file if notes is None else copy, pq.read_table(features.path / "features.parquet")
        )
        pq.write_table(table, directory / "interpretations.parquet")
        return {"notes": table.num_rows}

    def describe(entry: Entry) -> Metadata:
        table = pq.read_table(entry.path / "interpretations.parquet")
        rows = table.select(["key", "known", "starred"]).to_pylist()
        return {
            **table_metadata(table),
            "starred": sum(row["starred"] for row in rows),
            "unknown_keys": [row["key"] for row in rows if not row["known"]],
        }

    inputs = (None if notes is None else hashlib.sha256(notes).hexdigest(), features.digest)
    return result(context, project, "interpretations", inputs, build, describe, module=MODULE)
