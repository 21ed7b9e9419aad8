"""The files that people open, each written from the stages' results: dashboard, report, data file, tables."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from loradash_assets.parquet import read_parquet
from loradash_assets.site.annotated import annotated_features
from loradash_assets.site.entries import entries, note_of_row
from loradash_assets.site.export import activations_data
from loradash_assets.site.files import remove_data, save_dashboard
from loradash_assets.site.from_tables import layer_from_tables
from loradash_assets.site.inputs import AdapterInputs, SiteInputs
from loradash_assets.site.page import Adapter, Layer, Page
from loradash_assets.site.report import report_csv, report_html
from loradash_assets.site.texts import ROWS_AT_A_TIME
from loradash_assets.store import Entry, copy_atomically, file_digest, known_digest, write_atomically

DATA_FILE = "activations_data.json"
DASHBOARD_FILE = "lora_activations_dashboard.html"
REPORT_FILES = ("interpretation_report.html", "interpretation_report.csv")
TABLES_DIRECTORY = "tables"
STALE_FACT = "stale"  # keys of notes whose examples have changed
ADAPTER_COLUMN = pa.field("adapter", pa.string(), nullable=False, metadata={"description": "how the adapter is called"})


def write_data(site: SiteInputs, target: Path) -> dict[str, int]:
    """Write the original's data file, of one adapter, and its companions: each example's text and tokens, by row."""
    (adapter,) = site.adapters
    content = activations_data(adapter.run.export_metadata(sorted(adapter.layers)), adapter.plain())
    write_atomically(target / DATA_FILE, content)
    for name, column in (("rollout_contexts.json", "text"), ("rollout_tokens.json", "tokens")):
        with (target / name).open("w", encoding="utf-8") as file:
            file.writelines(_by_row(site.prompts / "prompts.parquet", column))
    return {"bytes": len(content)}


def _by_row(prompts: Path, column: str) -> Iterator[str]:
    """Yield, piece by piece, a JSON object: an example's row to what the column has of it."""
    before = "{"
    with pq.ParquetFile(prompts) as file:
        for batch in file.iter_batches(ROWS_AT_A_TIME, columns=["example", column]):
            for row, value in zip(batch["example"].to_pylist(), batch[column].to_pylist(), strict=True):
                yield f'{before}"{row}": {json.dumps(value, ensure_ascii=False)}'
                before = ", "
    yield "}"


def write_tables(site: SiteInputs, target: Path) -> dict[str, int]:
    """Write one Parquet file per kind of table, all adapters and layers in each; return their row counts."""
    of_adapters = [_adapter_tables(adapter) for adapter in site.adapters]
    tables = {name: pa.concat_tables([tables[name] for tables in of_adapters]) for name in of_adapters[0]}
    (target / TABLES_DIRECTORY).mkdir()
    for name, table in tables.items():
        pq.write_table(table, target / TABLES_DIRECTORY / f"{name}.parquet")
    counts = {name: table.num_rows for name, table in tables.items()}
    for name, file in (("prompts", "prompts.parquet"), ("skipped_rows", "skipped.parquet")):
        copy = shutil.copyfile(site.prompts / file, target / TABLES_DIRECTORY / f"{name}.parquet")
        counts[name] = pq.read_metadata(copy).num_rows
    return counts


def _adapter_tables(adapter: AdapterInputs) -> dict[str, pa.Table]:
    """The tables of one adapter, its label before all columns."""
    assert adapter.coactivation is not None
    directories = [adapter.layers[layer] for layer in sorted(adapter.layers)]
    tables = {
        "top_tokens": pa.concat_tables([read_parquet(directory / "shown.parquet") for directory in directories]),
        "samples": pa.concat_tables([read_parquet(directory / "samples.parquet") for directory in directories]),
        "statistics": pa.concat_tables([read_parquet(directory / "statistics.parquet") for directory in directories]),
        "features": adapter.feature_table,
        "coactivation": read_parquet(adapter.coactivation / "coactivation.parquet"),
        "cosines": adapter.cosines,
        "neighbours": read_parquet(adapter.geometry / "neighbours.parquet"),
    }
    return {name: _labelled(adapter, table) for name, table in tables.items()}


def _labelled(adapter: AdapterInputs, table: pa.Table) -> pa.Table:
    return table.add_column(0, ADAPTER_COLUMN, pa.array([adapter.label] * table.num_rows, pa.string()))


def write_annotated_features(site: SiteInputs, target: Path) -> dict[str, int]:
    """Write one table of every panel of all adapters: its note, if it has one, beside statistics and best example."""
    notes = {row["key"]: row for row in site.notes().to_pylist()}
    seen = {entry.key: entry.seen for entry in entries(_noted_page(site, others=False), site.notes())}
    stale = {key: each.stale for key, each in seen.items() if each is not None}
    tables = [
        _labelled(adapter, annotated_features(layer, adapter.ranks, adapter.name, notes, stale))
        for adapter in site.adapters
        for layer in adapter.strongest()
    ]
    (target / TABLES_DIRECTORY).mkdir()
    table = pa.concat_tables(tables)
    pq.write_table(table, target / TABLES_DIRECTORY / "annotated_features.parquet")
    return {"panels": table.num_rows, "notes": table.num_rows - table["text"].null_count}


def write_dashboard(site: SiteInputs, target: Path) -> dict[str, int]:
    """Write the dashboard: one HTML file, if its data fit, that needs nothing else, with the notes known now."""
    notes = {row["key"]: note_of_row(row) for row in site.notes().to_pylist()}
    return save_dashboard(dashboard_page(site), notes, target / DASHBOARD_FILE, site.largest_file)


def dashboard_page(site: SiteInputs) -> Page:
    """Return what the dashboard shows; one layer at a time is read, when it is gone through."""
    return Page(site.title, tuple(_adapter(adapter, _ShownLayers(adapter)) for adapter in site.adapters), site.texts())


@dataclass(frozen=True)
class _ShownLayers(Iterable[Layer]):
    """What the dashboard shows of an adapter's layers, made from their tables whenever it is gone through."""

    adapter: AdapterInputs

    def __iter__(self) -> Iterator[Layer]:
        return (layer_from_tables(tables, self.adapter.name) for tables in self.adapter.shown())


def write_report(site: SiteInputs, target: Path) -> dict[str, Any]:
    """Write every note beside its feature's best tokens, who agrees, what is open, and how much is annotated."""
    notes, page = site.notes(), _noted_page(site, others=True)
    for name, text in zip(REPORT_FILES, (report_html(page, notes), report_csv(page, notes)), strict=True):
        write_atomically(target / name, text.encode())
    stale = [entry.key for entry in entries(page, notes) if entry.seen is not None and entry.seen.stale]
    return {"notes": notes.num_rows, STALE_FACT: stale}


def _noted_page(site: SiteInputs, *, others: bool) -> Page:
    """Return what the dashboard shows of the layers that have notes, and of `others` all but lists."""
    noted = set(site.notes()["layer"].to_pylist())
    return Page(site.title, tuple(_adapter(each, _described(each, noted, others=others)) for each in site.adapters))


def _described(adapter: AdapterInputs, noted: Collection[int], *, others: bool) -> tuple[Layer, ...]:
    return tuple(layer_from_tables(tables, adapter.name) for tables in adapter.described(noted, others=others))


def _adapter(adapter: AdapterInputs, layers: Iterable[Layer]) -> Adapter:
    run = adapter.run
    metadata = run.labels(sorted(adapter.layers))
    return Adapter(adapter.name, adapter.label, metadata, layers, tuple(run.warnings()))


def is_published(entry: Entry, target: Path) -> bool:
    """Whether every file of the entry lies in `target` as the entry has it."""
    files = {target / name: digest for name, digest in entry.manifest["files"].items()}
    return all(file.is_file() and known_digest(file) == digest for file, digest in files.items())


def publish(source: Path, target: Path) -> None:
    """Copy every result file below `source` to `target`, each atomically, unless it is there with the same bytes.

    A page comes after the data files that it needs; those that no page needs any more go.
    """
    files = [file for file in source.rglob("*") if file.is_file() and file.name != "manifest.json"]
    for file in sorted(files, key=lambda file: (file.parent == source, file)):
        copy = target / file.relative_to(source)
        if not copy.is_file() or file_digest(copy) != file_digest(file):
            copy_atomically(file, copy)
    if (source / DASHBOARD_FILE).is_file():
        remove_data(target / DASHBOARD_FILE, keep={file.name for file in files})
