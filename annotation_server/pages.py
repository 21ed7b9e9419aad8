"""What the service shows besides notes: the dashboard that a build made, and the texts and data that lie beside it."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

import msgspec

from annotation_server import durable
from annotation_server.document import DocumentError

CONTEXTS = "rollout_contexts.json"  # {"0": the text of example 0}
TOKENS = "rollout_tokens.json"  # {"0": [its tokens]}
NO_DASHBOARD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>No dashboard yet</title></head>
<body><h1>No dashboard yet</h1>
<p>Make one with <code>loradash build</code>, in the project's directory, then reload this page.</p>
<p>If yours lies elsewhere, start the service with
<code>python -m annotation_server --dashboard path/to/lora_activations_dashboard.html</code>.</p>
</body></html>
"""

INDEX_PATTERN = "0|[1-9][0-9]{0,8}"  # of an example: its dataset row
DATA_FILE_PATTERN = r"[a-z0-9-]{1,80}\.js"
_INDEX, _DATA_FILE = re.compile(INDEX_PATTERN), re.compile(DATA_FILE_PATTERN)
Content = TypeVar("Content")


@dataclass(frozen=True)
class RolloutContext:
    """One example of the dataset: its row, what the model read, and that text's tokens."""

    rollout_idx: int
    text: str
    tokens: list[str]


class _JsonFile(Generic[Content]):
    """A JSON file's content, read again when the file changes."""

    def __init__(self, path: Path, kind: type[Content], empty: Content) -> None:
        self._path, self._kind, self._empty = path, kind, empty
        self._cached: tuple[tuple[int, ...] | None, Content] = (None, empty)

    def content(self) -> Content:
        """What the file holds, `empty` if there is none. Raises `DocumentError`."""
        seen, content = self._cached
        if durable.signature(self._path) != seen:
            seen, content = self._cached = self._read()
        return content

    def _read(self) -> tuple[tuple[int, ...] | None, Content]:
        found = durable.read(self._path)
        if found is None:
            return None, self._empty
        data, seen = found
        try:
            return seen, msgspec.json.decode(data, type=self._kind)
        except (msgspec.DecodeError, RecursionError) as error:
            raise DocumentError(f"{self._path.name}: {error}") from None


class Pages:
    """The dashboard and its companions, in the state in which they lie on the disk."""

    def __init__(self, dashboard: Path) -> None:
        self._dashboard = dashboard
        self._texts = _JsonFile(dashboard.with_name(CONTEXTS), dict[str, str], {})
        self._tokens = _JsonFile(dashboard.with_name(TOKENS), dict[str, list[str]], {})

    def dashboard(self) -> BinaryIO | None:
        """The dashboard's file as it is now, open for reading; None if there is none. A build may replace it."""
        try:
            return self._dashboard.open("rb")
        except FileNotFoundError:
            return None

    def data_file(self, directory: str, name: str) -> BinaryIO | None:
        """A file of a large dashboard's data, open for reading.

        None for anything but a regular file directly inside `NAME_data`, beside a dashboard `NAME.html`.
        """
        if directory != f"{self._dashboard.stem}_data" or not _DATA_FILE.fullmatch(name):
            return None
        file = self._dashboard.with_name(directory) / name
        try:  # of the name itself: what a symlink leads to is not inside, and a pipe would be waited for
            return file.open("rb") if stat.S_ISREG(file.lstat().st_mode) else None
        except (FileNotFoundError, NotADirectoryError):
            return None

    def rollout_context(self, index: str) -> RolloutContext | None:
        """The example of that number, None if the companions do not have it. Raises `DocumentError`."""
        text, tokens = self._texts.content().get(index), self._tokens.content().get(index)
        if text is None or tokens is None or not _INDEX.fullmatch(index):
            return None
        return RolloutContext(int(index), text, tokens)
