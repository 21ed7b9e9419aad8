"""Dataset rows from a file, a directory or the hub, read from the first and no further than asked."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from loradash_assets.compute.errors import DatasetError
from loradash_assets.compute.row_groups import RowGroups
from loradash_assets.schema import ROWS

Row = Mapping[str, Any]
LARGEST_CSV_FIELD = 2**31 - 1  # characters; the module's own limit is 128 Ki
_READ_AT_ONCE = 2**20  # bytes of a column
_ROW_BYTES = 200  # of a row's Python objects beside its characters


class _Unreadable(str):
    """Stands for a row that could not be read; the text says why."""


def write_rows(rows: Iterable[Row | _Unreadable], limit: int, file: Path) -> int:
    """Write the first `limit` rows to a file in the ROWS schema; unreadable ones keep their place and say why.

    Returns how many there were.
    """
    written = 0
    with RowGroups(file, ROWS) as groups:
        for number, row in enumerate(itertools.islice(rows, limit)):
            unreadable = isinstance(row, _Unreadable)
            text = "null" if unreadable else json.dumps(row, default=_plain)
            error = str(row) if unreadable else ""
            groups.add({"row": number, "json": text, "error": error}, _ROW_BYTES + len(text) + len(error))
            written += 1
    return written


def _plain(value: object) -> object:
    """Bytes are no text: as a list of numbers no prompt format takes them for one."""
    return list(value) if isinstance(value, bytes) else str(value)


def local_rows(path: Path, split: str) -> Iterator[Row | _Unreadable]:
    """Yield the rows of a .jsonl, .json, .parquet, .csv or .txt file or of a dataset directory.

    A line that is not valid is one unreadable row and stops nothing. Raises DatasetError if the file as a whole
    cannot be read.
    """
    if path.is_dir():
        return _directory_rows(path, split)
    reader = READERS.get(path.suffix)
    if reader is None:
        raise DatasetError(f"dataset.path: {path} must end in one of {', '.join(READERS)} or be a directory")
    return _naming(path, reader)


def hub_rows(name: str, config: str | None, split: str, revision: str) -> Iterator[Row]:
    """Yield the rows of a hub dataset at a commit, streamed. Raises DatasetError naming it if it cannot be read."""
    try:
        yield from _streamed(name, config, split, revision)
    except Exception as error:  # the library raises its own, the hub's and the file system's
        raise DatasetError(f"dataset.path: cannot read '{name}' (split '{split}') on the hub: {error}") from error


def _directory_rows(path: Path, split: str) -> Iterator[Row]:
    import datasets

    try:
        if (path / "state.json").exists() or (path / "dataset_dict.json").exists():
            saved = datasets.load_from_disk(str(path))
            chosen = saved[split] if isinstance(saved, datasets.DatasetDict) else saved
            yield from _undecoded(chosen.to_iterable_dataset())
        else:
            yield from _streamed(str(path), None, split, None)
    except Exception as error:  # as in hub_rows
        raise DatasetError(f"dataset.path: cannot read directory {path} (split '{split}'): {error}") from error


def _streamed(name: str, config: str | None, split: str, revision: str | None) -> Iterator[Row]:
    """Read Parquet in this thread: the library's scanner leaves threads that can abort the process as it ends.

    That is apache/arrow#45214.
    """
    import datasets
    from datasets.packaged_modules.parquet.parquet import Parquet

    builder = datasets.load_dataset_builder(name, config, revision=revision)
    dataset = builder.as_streaming_dataset(split)  # names the splits there are if this is none of them
    if not isinstance(builder, Parquet):
        yield from _undecoded(dataset)
        return
    files = cast("Mapping[str, list[str]]", builder.config.data_files)
    for part in map(str, files) if split == "all" else split.split("+"):
        for file in files[part.strip()]:
            with fsspec.open(file) as handle:
                yield from _parquet(handle)


def _undecoded(dataset: Any) -> Iterable[Row]:
    """Decoding an image or a sound would open the file that the row names."""
    return dataset.decode(False)


def _naming(path: Path, reader: Callable[[Path], Iterator[Row | _Unreadable]]) -> Iterator[Row | _Unreadable]:
    try:
        yield from reader(path)
    except (OSError, ValueError, RecursionError, pa.ArrowException, csv.Error) as error:
        raise DatasetError(f"dataset.path: cannot read {path}: {error}") from error


def _json_lines(path: Path) -> Iterator[Row | _Unreadable]:
    with path.open("rb") as lines:
        for line in lines:
            if line.strip():
                yield _json_row(line)


def _json_row(line: bytes) -> Row | _Unreadable:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return _Unreadable(f"not valid JSON: {error}")
    return _object(value)


def _object(value: object) -> Row | _Unreadable:
    if isinstance(value, dict):
        return cast("Row", value)
    return _Unreadable(f"must be a JSON object, not {type(value).__name__}")


def _json_array(path: Path) -> Iterator[Row | _Unreadable]:
    values = json.loads(path.read_bytes())
    if not isinstance(values, list):
        raise ValueError("must hold a JSON array of objects (one object per line: name it .jsonl)")
    yield from map(_object, cast("list[object]", values))


def _parquet(source: Path | Any) -> Iterator[Row]:
    with pq.ParquetFile(source, buffer_size=_READ_AT_ONCE) as file:
        for batch in file.iter_batches(batch_size=64):
            yield from cast("list[Row]", batch.to_pylist())


def _csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(LARGEST_CSV_FIELD)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        yield from csv.DictReader(lines, restkey="")


def _text_lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
        yield from ({"text": line.removesuffix("\n").removesuffix("\r")} for line in lines)


READERS: dict[str, Callable[[Path], Iterator[Row | _Unreadable]]] = {
    ".jsonl": _json_lines,
    ".json": _json_array,
    ".parquet": _parquet,
    ".csv": _csv,
    ".txt": _text_lines,
}
