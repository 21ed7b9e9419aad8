"""The asset graph is what was reviewed."""

from __future__ import annotations

from tests.assets.snapshot import FILE, snapshot


def test_the_graph_is_the_one_that_was_read() -> None:
    assert FILE.read_text(encoding="utf-8") == snapshot(), "run `python -m tests.assets.snapshot` and read what changed"
