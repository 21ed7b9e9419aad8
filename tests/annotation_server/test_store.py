"""The store: what is acknowledged is on the disk, whatever fails, and nothing that a person wrote is gone."""

from __future__ import annotations

import errno
import json
import os
import re
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from annotation_server.document import DocumentError
from annotation_server.history import history_path
from annotation_server.preconditions import Precondition, etag
from annotation_server.store import Edit, Outcome, Store, StoreError
from tests.annotation_server.faults import fail_at, watched

OLD_A: dict[str, Any] = {"text": "old", "starred": True, "ratings": {"x": [1]}}
OLD: dict[str, Any] = {"interpretations": {"a": OLD_A, "L2_odd": {}}, "version": 3}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notes.json"


@pytest.fixture
def store(path: Path) -> Generator[Store]:
    path.write_text(json.dumps(OLD))
    store = Store(path)
    yield store
    store.close()


def save(store: Store, key: str, text: str) -> Outcome:
    return store.submit(Edit(key, {"text": text})).result(timeout=30)


def entries(path: Path) -> dict[str, dict[str, Any]]:
    return json.loads(path.read_bytes())["interpretations"]


def texts(path: Path) -> dict[str, str | None]:
    return {key: entry.get("text") for key, entry in entries(path).items()}


def history(path: Path) -> list[tuple[str, str, str]]:
    lines = history_path(path).read_text().splitlines() if history_path(path).exists() else []
    return [(line["featureKey"], line["text"], line["replacedBy"]) for line in map(json.loads, lines)]


def leftovers(path: Path) -> set[str]:
    kept = {path.name, f".{path.name}.lock", history_path(path).name}
    return {other.name for other in path.parent.iterdir()} - kept


def test_an_edit_changes_its_fields_and_keeps_all_others(store: Store, path: Path) -> None:
    save(store, "a", "new")
    content = json.loads(path.read_bytes())
    stamp = content["interpretations"]["a"].pop("lastModified")
    assert content == {"interpretations": {"a": {**OLD_A, "text": "new"}, "L2_odd": {}}, "version": 3}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", stamp)


def test_a_new_entry_stands_at_the_end_with_the_fields_that_every_entry_has(store: Store, path: Path) -> None:
    store.submit(Edit("b", {"starred": True})).result(timeout=30)
    assert list(entries(path)) == ["a", "L2_odd", "b"]
    assert list(entries(path)["b"]) == ["text", "starred", "lastModified"]


def test_the_acknowledgement_comes_after_file_sync_rename_and_directory_sync(store: Store) -> None:
    done_early: list[str] = []
    saving = None

    def before(_: int, name: str) -> None:
        if saving is not None and saving.done():
            done_early.append(name)

    with watched(before) as calls:
        saving = store.submit(Edit("a", {"text": "old and more"}))
        saving.result(timeout=30)
    steps = [name for name in calls.calls if name in ("write", "fsync", "replace")]
    assert steps == ["write", "fsync", "replace", "fsync"]
    assert done_early == []


@pytest.mark.parametrize("text", ["new", "old and more"])  # with and without a line of history
def test_whichever_call_fails_nothing_lost_is_acknowledged_and_no_temporary_file_stays(path: Path, text: str) -> None:
    number = 0
    while fails_cleanly_at(number, path, text):
        number += 1
    assert number >= 13  # every call of a commit was made to fail once


def fails_cleanly_at(number: int, path: Path, text: str) -> bool:
    """Makes one system call of a commit fail and looks at what is left; False if there are not that many calls."""
    path.write_text(json.dumps(OLD))
    store = Store(path)
    try:
        with watched(fail_at(number, errno.ENOSPC)) as calls:
            saving = store.submit(Edit("a", {"text": text}))
            error = saving.exception(timeout=30)
        assert leftovers(path) == set()
        if len(calls.calls) <= number:
            assert error is None
            return False
        assert isinstance(error, OSError)
        assert texts(path) in ({"a": "old", "L2_odd": None}, {"a": text, "L2_odd": None})
        save(store, "b", "later")
        assert texts(path)["b"] == "later"
        return True
    finally:
        store.close()


def test_repeating_a_save_whose_directory_sync_failed_writes_anew(store: Store, path: Path) -> None:
    with watched() as calls:
        save(store, "b", "first")
    last_sync = len(calls.calls) - 1 - calls.calls[::-1].index("fsync")
    with watched(fail_at(last_sync)):
        assert isinstance(store.submit(Edit("b", {"text": "first, on"})).exception(timeout=30), OSError)
    assert texts(path)["b"] == "first, on"  # renamed, but not known to be on the disk
    with watched() as calls:
        save(store, "b", "first, on")
    assert "replace" in calls.calls


def test_short_writes_are_completed(store: Store, path: Path) -> None:
    real = os.write
    with watched() as calls:
        calls.write = lambda descriptor, data: real(descriptor, data[:7])  # pyright: ignore[reportAttributeAccessIssue]
        save(store, "a", "x" * 1000)
    assert texts(path)["a"] == "x" * 1000


def test_who_saves_again_and_again_beside_others_is_waited_for(store: Store) -> None:
    """Else every other commit is that of whoever is first, and all others wait for it and then for their own."""
    people, rounds = 8, 6

    def write(key: str) -> None:
        for number in range(rounds):
            save(store, key, f"draft {number}")

    with watched(lambda _, name: time.sleep(0.3 if name == "fsync" else 0.0)) as calls:
        with ThreadPoolExecutor(people) as pool:
            list(pool.map(write, map(str, range(people))))
        commits = calls.calls.count("replace")
        save(store, "0", "alone")
    assert commits <= rounds + 3  # the first ones have to be learned from


def test_all_that_wait_are_saved_in_one_commit(store: Store, path: Path) -> None:
    first_is_writing, go_on = threading.Event(), threading.Event()

    def before(_: int, name: str) -> None:
        if name == "replace" and not go_on.is_set():
            first_is_writing.set()
            go_on.wait(timeout=30)

    with watched(before) as calls:
        first = store.submit(Edit("k0", {"text": "first"}))
        assert first_is_writing.wait(timeout=30)
        rest = [store.submit(Edit(f"k{number % 3}", {"text": f"text {number}"})) for number in range(1, 20)]
        go_on.set()
        outcomes = [saving.result(timeout=30) for saving in [first, *rest]]
    assert calls.calls.count("replace") == 2
    assert [outcome.entry.text for outcome in outcomes if outcome.entry] == [
        "first",
        *(f"text {n}" for n in range(1, 20)),
    ]
    assert (texts(path)["k0"], texts(path)["k1"], texts(path)["k2"]) == ("text 18", "text 19", "text 17")
    kept = {text for _, text, _ in history(path)} | set(texts(path).values())
    assert kept >= {"first", *(f"text {number}" for number in range(1, 20))}


def test_a_precondition_is_judged_against_what_earlier_edits_of_the_same_commit_left(store: Store) -> None:
    tag = etag(store.read().entries["a"])
    edits = [Edit("a", {"text": f"by {name}"}, Precondition(frozenset({tag}))) for name in ("one", "two")]
    outcomes = [saving.result(timeout=30) for saving in [store.submit(edit) for edit in edits]]
    assert [(outcome.saved, outcome.entry and outcome.entry.text) for outcome in outcomes] == [
        (True, "by one"),
        (False, "by one"),
    ]


def test_a_repeated_save_is_not_stale(store: Store) -> None:
    edit = Edit("a", {"text": "new"}, Precondition(frozenset({etag(store.read().entries["a"])})))
    first, again = (store.submit(edit).result(timeout=30) for _ in range(2))
    assert again == first
    assert again.saved


def test_an_edit_by_hand_is_merged_and_what_it_replaced_is_kept(store: Store, path: Path) -> None:
    save(store, "b", "by the service")
    save(store, "c", "stays")
    content = json.loads(path.read_bytes())
    del content["interpretations"]["b"]
    content["interpretations"]["a"]["text"] = "by hand"
    content["interpretations"]["d"] = {"text": "added by hand", "mood": "good"}
    path.write_text(json.dumps(content))
    assert store.read().entries["a"].text == "by hand"
    save(store, "e", "after")
    assert texts(path) == {"a": "by hand", "L2_odd": None, "c": "stays", "d": "added by hand", "e": "after"}
    assert entries(path)["d"]["mood"] == "good"
    assert history(path) == [("a", "old", "file"), ("b", "by the service", "file")]


def test_an_edit_by_hand_while_a_commit_is_being_written_is_merged(store: Store, path: Path) -> None:
    edited: list[str] = []

    def before(_: int, name: str) -> None:
        if name == "fsync" and not edited:
            edited.append(name)
            content = json.loads(path.read_bytes())
            content["interpretations"]["d"] = {"text": "by hand"}
            path.write_text(json.dumps(content))

    with watched(before):
        save(store, "b", "by the service")
    assert (texts(path)["d"], texts(path)["b"]) == ("by hand", "by the service")


def test_a_file_broken_by_hand_is_never_overwritten_and_serves_again_when_mended(store: Store, path: Path) -> None:
    path.write_text('{"interpretations": {')
    with pytest.raises(DocumentError, match="line 1"):
        save(store, "b", "x")
    with pytest.raises(DocumentError, match="line 1"):
        store.read()
    assert path.read_text() == '{"interpretations": {'
    path.write_text('{"interpretations": {"z": {"text": "mended"}}}')
    save(store, "b", "x")
    assert texts(path) == {"z": "mended", "b": "x"}
    assert ("a", "old", "file") in history(path)


def test_a_deleted_file_is_written_anew(store: Store, path: Path) -> None:
    path.unlink()
    assert store.read().entries["a"].text == "old"
    save(store, "b", "x")
    assert texts(path) == {"a": "old", "L2_odd": None, "b": "x"}


def test_history_keeps_replaced_texts_and_not_what_only_grew(store: Store, path: Path) -> None:
    for text in ("t", "text", "text that grew", "another", ""):
        save(store, "b", text)
    assert history(path) == [("b", "text that grew", "request"), ("b", "another", "request")]


def test_a_torn_line_of_history_spoils_no_other(store: Store, path: Path) -> None:
    history_path(path).write_bytes(b'{"featureKey": "to')
    save(store, "a", "new")
    torn, whole = history_path(path).read_text().splitlines()
    assert torn == '{"featureKey": "to'
    assert json.loads(whole)["text"] == "old"


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664])
def test_the_mode_is_kept_and_the_history_no_more_open(path: Path, mode: int) -> None:
    path.write_text(json.dumps(OLD))
    path.chmod(mode)
    store = Store(path)
    save(store, "a", "new")
    store.close()
    assert path.stat().st_mode & 0o777 == mode
    assert history_path(path).stat().st_mode & 0o777 & ~mode == 0


def test_a_symlink_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "real.json", tmp_path / "notes.json"
    target.write_text(json.dumps(OLD))
    link.symlink_to(target)
    store = Store(link)
    with pytest.raises(StoreError, match="another annotation server"):
        Store(target)
    save(store, "a", "new")
    store.close()
    assert link.is_symlink()
    assert texts(target)["a"] == "new"


def test_a_file_that_does_not_parse_is_refused_and_left_as_it_is(path: Path) -> None:
    broken = b'{"interpretations": {"a": {"text": "x"}\n "b": {}}}'
    path.write_bytes(broken)
    with pytest.raises(StoreError, match=r"notes\.json: line 2, column 2"):
        Store(path)
    assert path.read_bytes() == broken
    path.write_text('{"interpretations": {}}')
    Store(path).close()  # the refusal gave the lock back


def test_places_without_a_file_of_notes_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere: no such directory"):
        Store(tmp_path / "nowhere" / "notes.json")
    with pytest.raises(StoreError, match="not a regular file"):
        Store(tmp_path)


def test_what_a_killed_server_left_half_written_is_removed(path: Path) -> None:
    stray = path.with_name(f".{path.name}.tmp")
    stray.write_text('{"interpre')
    Store(path).close()
    assert not stray.exists()
    assert not path.exists()  # nothing was written, so there is no file yet


def test_closing_saves_what_waits(path: Path) -> None:
    store = Store(path)
    waiting = [store.submit(Edit(f"k{number}", {"text": "x"})) for number in range(50)]
    store.close()
    assert all(saving.result(timeout=0).saved for saving in waiting)
    assert len(entries(path)) == 50
    with pytest.raises(StoreError, match="closed"):
        store.submit(Edit("late", {"text": "x"}))
