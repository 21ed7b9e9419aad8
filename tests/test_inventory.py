"""What the store holds and what may go: never what a current asset needs, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from filelock import FileLock

from loradash_assets.inventory import Holding, holdings, listing, remove
from loradash_assets.store import REFERENCES, Store, fingerprint

DAY = 86_400.0
NOW = 1_800_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two results of one asset, of which the first is its latest, and what is left of an interrupted run."""
    store = Store(tmp_path / "store")
    for number, (stage, name, size) in enumerate(
        [("activations", "now", 4000), ("activations", "before", 9000), ("features", "shared", 10)]
    ):
        entry, _ = store.build(stage, name, lambda directory, size=size: _fill(directory, size))
        _age(entry.path, number * DAY)
    partial = store.root / "activations" / "half.partial"
    partial.mkdir()
    _fill(partial, 70_000)
    _age(partial, 3 * DAY)
    refer(store, "activations", "activations/now")
    refer(store, "features", "features/shared")
    refer(store, "adapters/other/features", "features/shared")
    return store


def _fill(directory: Path, size: int) -> dict[str, int]:
    (directory / "data").write_bytes(bytes(size))
    return {}


def _age(directory: Path, seconds: float) -> None:
    for path in [*directory.iterdir(), directory]:
        os.utime(path, (NOW - seconds, NOW - seconds))


def refer(store: Store, asset: str, entry: str, project: str = "..") -> None:
    file = store.root / REFERENCES / fingerprint(project) / f"{asset}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"entry": entry, "project": project}))


def _named(store: Store, name: str) -> Holding:
    (holding,) = (each for each in holdings(store) if each.path.name == name)
    return holding


def test_everything_is_found_with_its_age_size_and_users(store: Store) -> None:
    found = [(each.path.name, each.assets, each.complete, NOW - each.changed) for each in holdings(store)]
    assert found == [
        ("now", ("activations",), True, 0),
        ("before", (), True, DAY),
        ("half.partial", (), False, 3 * DAY),
        ("shared", ("adapters/other/features", "features"), True, 2 * DAY),
    ]
    assert 4000 < _named(store, "now").bytes < 5000
    assert _named(store, "half.partial").bytes == 70_000


def test_the_list_has_used_results_in_one_line_and_the_others_by_size(store: Store) -> None:
    held = holdings(store)
    lines = [*listing(held, [_named(store, "before")], NOW)]
    ends = ("activations: 1 in use", "activations/half.partial: interrupted", "activations/before: not in use")
    assert all(line.endswith(end) for line, end in zip(lines[1:4], ends, strict=True)), lines
    assert [line.startswith("*") for line in lines] == [False, False, False, True, False, False]
    assert "3 days" in lines[2]
    assert "24 hours" in lines[3]
    assert re.search(r"83\.\d kB .*; 9\.\d kB of it marked \*, to be removed$", lines[-1])


def test_what_nothing_refers_to_goes_and_the_rest_stays(store: Store) -> None:
    for name in ("before", "half.partial"):
        assert remove(store, _named(store, name))
    assert [each.path.name for each in holdings(store)] == ["now", "shared"]
    assert store.find("activations", "now") is not None


def test_a_result_that_was_taken_into_use_after_it_was_listed_stays(store: Store) -> None:
    listed = _named(store, "before")
    refer(store, "activations", "activations/before")
    assert not remove(store, listed)
    assert store.find("activations", "before") is not None


def test_what_another_project_needs_stays_until_that_project_is_gone(store: Store, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    refer(store, "activations", "activations/before", "../other")
    assert _named(store, "before").assets == ("activations",)
    assert not remove(store, _named(store, "before"))
    (tmp_path / "other").rmdir()
    assert _named(store, "before").assets == ()
    assert remove(store, _named(store, "before"))


def test_what_a_builder_works_on_stays(store: Store) -> None:
    listed = _named(store, "half.partial")
    with FileLock(store.root / "activations" / "half.lock"):
        assert not remove(store, listed)
    assert listed.path.is_dir()
    assert remove(store, listed)
    assert not remove(store, listed)  # gone


def test_one_that_was_half_removed_is_no_result_and_goes_the_next_time(store: Store) -> None:
    before = _named(store, "before")
    before.path.rename(before.path.with_name("before.removed"))
    left = _named(store, "before.removed")
    assert not left.complete
    assert remove(store, left)
    assert store.find("activations", "before") is None


def test_a_damaged_reference_stops_everything(store: Store) -> None:
    (store.root / REFERENCES / fingerprint("..") / "activations.json").write_text("{")
    with pytest.raises(ValueError, match=r"activations\.json is damaged.*materialise it again"):
        holdings(store)
