"""The benchmark of the tables at a small size: its gates hold, and can fail."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import tables


def test_every_part_has_a_figure() -> None:
    found = tables.measure(8_000, pairs=1)
    assert set(tables.TARGETS) <= set(found["measured"])
    assert all(each["activations_per_second"] > 0 for each in found["measured"].values())


def test_wrong_lists_stop_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, numbers = tables.activations(2_000)[0], np.arange(2_000, dtype=np.int64)
    tables.check_lists(layer, numbers)
    right = tables.top_k
    monkeypatch.setattr(tables, "top_k", lambda _, numbers: right(layer[::-1], numbers))
    with pytest.raises(AssertionError):
        tables.check_lists(layer, numbers)
