"""What people wrote about the features, as a table."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq

from loradash_assets.assets.keys import adapter_key, settings_key
from loradash_assets.assets.note_checks import FEATURES, note_check, without_feature
from loradash_assets.assets.project import IN_STORE, STORE_IO, Metadata, result, table_metadata
from loradash_assets.code_version import code_version
from loradash_assets.parquet import read_parquet
from loradash_assets.project import Project
from loradash_assets.settings import Settings
from loradash_assets.sources import Adapter
from loradash_assets.store import Entry, Facts, fingerprint, known_digest

MODULE = "loradash_assets.compute.interpretations"
KEY = dg.AssetKey("interpretations")
NO_FILE = fingerprint("none")
FILE_FACT = "_file"  # the hash of the file that the table was made from, no content of its own


def interpretations_file(settings: Settings) -> str:
    """Return a hash of the interpretations file, or a fixed value if there is none yet."""
    file = settings.resolve(settings.annotations.interpretations_file)
    return known_digest(file) if file.is_file() else NO_FILE


def interpretations_asset(adapters: Sequence[Adapter]) -> dg.AssetsDefinition:
    """Return the notes on all adapters."""
    by_input = {f"features_{number}": adapter for number, adapter in enumerate(adapters)}

    @dg.asset(
        ins={name: dg.AssetIn(adapter_key(adapter, "features")) for name, adapter in by_input.items()},
        group_name="annotations",
        kinds={"parquet"},
        deps=["interpretations_file", settings_key("annotations")],
        io_manager_key=STORE_IO,
        code_version=code_version(MODULE),
        metadata=IN_STORE,
        check_specs=[note_check(FEATURES, KEY)],
    )
    def interpretations(
        context: dg.AssetExecutionContext, project: dg.ResourceParam[Project], **features: Entry
    ) -> Iterator[dg.MaterializeResult[Entry] | dg.AssetCheckResult]:
        """Every note, its key taken apart; notes on features that no adapter has stay, with the reason."""
        by_adapter = {adapter.name: features[name] for name, adapter in by_input.items()}
        made = _interpretations(context, project, by_adapter)
        yield made
        yield without_feature(KEY, _unknown(made.value))

    return interpretations


def _interpretations(
    context: dg.AssetExecutionContext, project: Project, features: Mapping[str | None, Entry]
) -> dg.MaterializeResult[Entry]:
    file = project.settings.resolve(project.settings.annotations.interpretations_file)
    notes = file.read_bytes() if file.is_file() else None
    observed = NO_FILE if notes is None else hashlib.sha256(notes).hexdigest()

    def build(directory: Path) -> Facts:
        from loradash_assets.compute.interpretations import interpretations_table

        copy = directory / file.name  # of the bytes that were fingerprinted: the service may save while this runs
        if notes is not None:
            copy.write_bytes(notes)
        catalogues = {name: read_parquet(entry.path / "features.parquet") for name, entry in features.items()}
        table = interpretations_table(file if notes is None else copy, catalogues)
        pq.write_table(table, directory / "interpretations.parquet")
        return {"notes": table.num_rows, FILE_FACT: observed}

    def describe(entry: Entry) -> Metadata:
        table = read_parquet(entry.path / "interpretations.parquet")
        return {**table_metadata(table), "starred": sum(table["starred"].to_pylist()), "unknown_keys": _unknown(entry)}

    inputs = (
        observed,
        [(name, entry.digest) for name, entry in features.items()],
    )
    return result(context, project, KEY.to_user_string(), inputs, build, describe, module=MODULE)


def _unknown(entry: Entry) -> list[str]:
    table = read_parquet(entry.path / "interpretations.parquet", columns=["key", "known"])
    return [row["key"] for row in table.to_pylist() if not row["known"]]
