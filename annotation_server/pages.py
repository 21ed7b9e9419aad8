"""What the service shows besides notes: the dashboard that a build made, and the texts that lie beside it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

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

_INDEX = re.compile("0|[1-9][0-9]{0,8}")
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

    def dashboard(self) -> bytes | None:
        """The dashboard's HTML, None if there is none. Read each time: a build may have replaced it."""
        try:
            return self._dashboard.read_bytes()
        except FileNotFoundError:
            return None

    def rollout_context(self, index: str) -> RolloutContext | None:
        """The example of that number, None if the companions do not have it. Raises `DocumentError`."""
        text, tokens = self._texts.content().get(index), self._tokens.content().get(index)
        if text is None or tokens is None or not _INDEX.fullmatch(index):
            return None
        return RolloutContext(int(index), text, tokens)
