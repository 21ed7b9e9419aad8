"""What every asset needs of its project: one way to build, describe and hand on a result.

A result is an entry of the content-addressed store. Between assets travels only its name, in a small reference file
per asset; that is also how a single asset, materialised alone in the UI, finds its latest inputs. Projects that share a
store share its entries, and each has references of its own.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from loradash_assets.code_version import code_version
from loradash_assets.compute.errors import InputError, may_pass
from loradash_assets.project import Project
from loradash_assets.store import DamagedError, Entry, Facts, fingerprint, is_intact, write_atomically

STORE_IO = "store_io"
IN_STORE = {"dagster/io_manager_key": STORE_IO}
PREVIEW_ROWS = 5
# Of what asks the hub: after 10, 30 and 70 seconds. Failures that a user must act on are not retried.
RETRIES = dg.RetryPolicy(max_retries=3, delay=10, backoff=dg.Backoff.EXPONENTIAL)
Metadata = Mapping[str, Any]


class References:
    """Which entry is the latest of each of a project's assets, whoever made it."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._intact: set[Path] = set()  # entries that this process built or checked

    def note(self, key: dg.AssetKey, entry: Entry) -> None:
        """Make an entry, just built or checked, the asset's latest."""
        self._intact.add(entry.path)
        place = str(entry.path.relative_to(self._project.store.root))
        noted = {"entry": place, "project": self._project.place}
        write_atomically(self._project.reference("/".join(key.path)), json.dumps(noted).encode())

    def latest(self, key: dg.AssetKey) -> Entry:
        """Return an asset's latest entry; fail clearly if there is none or it is damaged."""
        asset = "/".join(key.path)
        try:
            entry = self._project.noted(asset)
        except DamagedError as error:
            raise dg.Failure(f"{error}: materialise '{asset}' again", allow_retries=False) from error
        if entry is None:
            raise dg.Failure(f"'{asset}' has not been materialised yet: materialise it first", allow_retries=False)
        if entry.path not in self._intact and not is_intact(entry):
            raise dg.Failure(f"what '{asset}' stored is damaged or gone: materialise it again", allow_retries=False)
        self._intact.add(entry.path)
        return entry


class StoreIOManager(dg.IOManager):
    """Hands store entries from asset to asset by reference, during one run.

    What a run made or found it goes on with, whatever other runs of the project make meanwhile.
    """

    def __init__(self, project: Project) -> None:
        self._references = References(project)
        self._entries: dict[dg.AssetKey, Entry] = {}

    def handle_output(self, context: dg.OutputContext, obj: Entry) -> None:
        """Note which entry the asset's latest materialisation is."""
        self._references.note(context.asset_key, obj)
        self._entries[context.asset_key] = obj

    def load_input(self, context: dg.InputContext) -> Entry:
        """Return the upstream asset's entry; fail as `latest`."""
        return self.latest(context.asset_key)

    def latest(self, key: dg.AssetKey) -> Entry:
        """Return an asset's entry: this run's, else the project's latest; fail as `References.latest`."""
        if key not in self._entries:
            self._entries[key] = self._references.latest(key)
        return self._entries[key]


def _for_one_run(context: dg.InitResourceContext) -> Iterator[StoreIOManager]:
    """Nothing is removed from the store meanwhile."""
    project: Project = context.resources.project
    with project.store.in_use():
        yield StoreIOManager(project)


# Dagster takes a generator, as of every resource that has an end; its types do not say so.
store_io = dg.IOManagerDefinition(_for_one_run, required_resource_keys={"project"})  # pyright: ignore[reportArgumentType]


@contextmanager
def user_errors() -> Generator[None]:
    """Turn an error that the user can act on into a Dagster failure that shows its message.

    It is retried only where a network or a server may answer again in a while.
    """
    try:
        yield
    except InputError as error:
        raise dg.Failure(str(error), allow_retries=may_pass(error)) from error


@dataclass(frozen=True)
class Made:
    """An entry, whether the store had it, and the seconds until it was there."""

    entry: Entry
    hit: bool
    seconds: float


def make(
    project: Project,
    stage: str,
    inputs: tuple[object, ...],
    builder: Callable[[Path], Facts],
    *,
    module: str,
    libraries: Sequence[str] = (),
    resumable: bool = False,
) -> Made:
    """Build the entry of `stage` made from `inputs` unless the store has it. Can be called in any thread.

    `module` holds the code that makes it: its version is part of the fingerprint, and so are those of `libraries`
    that the content hangs on.
    """
    started = time.monotonic()
    with user_errors():
        made_from = fingerprint(code_version(module), {name: version(name) for name in libraries}, *inputs)
        entry, hit = project.store.build(stage, made_from, builder, resumable=resumable)
    return Made(entry, hit, time.monotonic() - started)


def described(
    context: dg.AssetExecutionContext,
    name: str,
    made: Made,
    describe: Callable[[Entry], Metadata],
    *,
    asset_key: dg.AssetKey | None = None,
    check: Callable[[Entry], Iterable[dg.AssetCheckResult]] = lambda _: (),
    tokens: int | None = None,
) -> dg.MaterializeResult[Entry]:
    """Return what was made as the asset's result, and log it under its name.

    The data version is the digest of the content, so equal content stops a recomputation from spreading. Of a stage
    that goes through `tokens`, what it computes has a speed.
    """
    entry, hit, seconds = made.entry, made.hit, made.seconds
    context.log.info(f"{name}: {'unchanged, taken from the store' if hit else f'computed in {seconds:.1f} s'}")
    speed = {} if hit or tokens is None else {"tokens_per_second": tokens / seconds}
    state = {"cache": "hit" if hit else "miss", "seconds": seconds, "store_bytes": entry.size(), **speed}
    return dg.MaterializeResult(
        value=entry,
        asset_key=asset_key,
        data_version=dg.DataVersion(entry.digest),
        metadata={**state, **describe(entry)},
        check_results=[*check(entry)],
    )


def result(
    context: dg.AssetExecutionContext,
    project: Project,
    stage: str,
    inputs: tuple[object, ...],
    builder: Callable[[Path], Facts],
    describe: Callable[[Entry], Metadata],
    *,
    module: str,
    libraries: Sequence[str] = (),
    resumable: bool = False,
    asset_key: dg.AssetKey | None = None,
    check: Callable[[Entry], Iterable[dg.AssetCheckResult]] = lambda _: (),
    tokens: int | None = None,
) -> dg.MaterializeResult[Entry]:
    """`make`, and `described` under the asset's name, or else the stage's."""
    made = make(project, stage, inputs, builder, module=module, libraries=libraries, resumable=resumable)
    name = "/".join(asset_key.path) if asset_key else stage
    return described(context, name, made, describe, asset_key=asset_key, check=check, tokens=tokens)


def picture(svg: str, text: str) -> dg.MarkdownMetadataValue:
    """Return an SVG as metadata that the UI shows."""
    return dg.MetadataValue.md(f"![{text}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})")


def dashboard_link(project: Project, **place: str | int) -> Metadata:
    """Return a link to a place on the dashboard, where `loradash annotate` serves it, if its address is settled."""
    if (port := project.settings.annotations.port) == 0:
        return {}
    return {"on_the_dashboard": dg.MetadataValue.url(f"http://127.0.0.1:{port}/#{urlencode(place)}".removesuffix("#"))}


def table_metadata(table: pa.Table, columns: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Return row count, column schema and a preview of the first rows (of `columns` only, if given)."""
    return _metadata(
        table.schema, table.num_rows, table.slice(0, PREVIEW_ROWS).select(list(columns or table.schema.names))
    )


def file_metadata(file: Path, columns: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Return the same of a Parquet file, of which no more than the first rows are read."""
    with pq.ParquetFile(file) as parquet:
        schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
        names = list(columns or schema.names)
        first = next(parquet.iter_batches(PREVIEW_ROWS, columns=names), schema.empty_table().select(names))
    return _metadata(schema, rows, first)


def _metadata(schema: pa.Schema, rows: int, shown: pa.Table | pa.RecordBatch) -> dict[str, Any]:
    columns = [dg.TableColumn(field.name, str(field.type), _description(field)) for field in schema]
    return {
        "dagster/row_count": rows,
        "dagster/column_schema": dg.TableSchema(columns),
        "preview": dg.MetadataValue.md(_markdown(shown.to_pylist())),
    }


def _description(field: pa.Field) -> str | None:
    return (field.metadata or {}).get(b"description", b"").decode() or None


def _markdown(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "no rows"
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    """Return the value on one line, short, with nothing in it that Markdown or HTML would act on."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    short = text if len(text) <= 80 else f"{text[:79]}…"
    return "".join(f"&#{ord(character)};" if character in "|<>&`[]()*_\\\n\r#!~" else character for character in short)
