"""Imports and their undoing: nothing that was there is lost or changed unasked, all or nothing, whatever happens."""

from __future__ import annotations

import errno
import http.client
import json
import random
import signal
import threading
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from annotation_server import bulk
from annotation_server.bodies import FILE_BODY_BYTES
from annotation_server.document import Document, Entry
from annotation_server.durable import signature
from annotation_server.import_log import imports, imports_path
from annotation_server.merge import merged
from annotation_server.notes_file import read_file
from annotation_server.store import Edit, Store
from tests.annotation_server.faults import fail_at, watched
from tests.annotation_server.service import KEY, Reply, Service, exchange, running
from tests.annotation_server.test_notes_file import documents
from tests.annotation_server.untimed import UNTIMED

A, B, C = (f"layer_{number}_up_proj_positive" for number in range(3))
ADA, BEN = {"tags": ["dense"], "confidence": 4, "at": "2026-01-01T00:00:00Z"}, {"tags": [], "confidence": None}
SURE: dict[str, object] = {"confidence": 4}
BY_BEN = {"textBy": "Ben", "textAt": "2"}
THEIRS: dict[str, Any] = {"text": "theirs", "starred": True, "lastModified": "2025-07-21T05:00:10.069773"}


def content(notes: Mapping[str, object]) -> str:
    return json.dumps({"interpretations": notes})


def send(service: Service, notes: Mapping[str, object], **options: object) -> Reply:
    return service.request("POST", "/api/import", {"name": "n.json", "content": content(notes), **options})


def take(service: Service, notes: Mapping[str, object], **options: object) -> dict[str, Any]:
    """Imports, and is told what was done."""
    reply = send(service, notes, dryRun=False, **options)
    assert reply.status == 200, reply.body
    return reply.json


def undo(service: Service, report: Mapping[str, object]) -> Reply:
    return service.request("POST", f"/api/import/{report['import']}/undo", {})


def report(added: str = "", replaced: str = "", kept: str = "", same: int = 0) -> dict[str, Any]:
    names = {"A": A, "B": B, "C": C}
    lists = {"added": added, "replaced": replaced, "kept": kept}
    return {**{name: [names[key] for key in keys] for name, keys in lists.items()}, "same": same, "refused": []}


def without_id(reply: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in reply.items() if name != "import"}


@pytest.mark.parametrize(
    ("ours", "theirs", "replace", "result", "happened"),
    [
        ({"text": "a"}, {"text": "b"}, False, {"text": "a"}, "kept"),
        ({"text": "a"}, {"text": "b"}, True, {"text": "b"}, "replaced"),
        ({"text": ""}, {"text": "b"}, False, {"text": "b"}, "added"),
        ({"text": "a"}, {"text": ""}, True, {"text": "a"}, ""),
        ({"starred": False}, {"starred": True}, False, {"starred": True}, "added"),
        ({"starred": True}, {"starred": False}, True, {"starred": True}, ""),
        ({"text": "a"}, {"text": "a", "skipped": True}, False, {"text": "a", "skipped": True}, "added"),
        ({"mood": 1}, {"mood": 2, "more": 0}, False, {"mood": 1, "more": 0}, "added kept"),
        ({"mood": 1}, {"mood": 2, "more": 0}, True, {"mood": 2, "more": 0}, "added replaced"),
        ({"labels": {"Ada": ADA}}, {"labels": {"Ben": BEN}}, False, {"labels": {"Ada": ADA, "Ben": BEN}}, "added"),
        ({"labels": {"Ada": ADA}}, {"labels": {"Ada": BEN}}, False, {"labels": {"Ada": ADA}}, "kept"),
        ({"labels": {"Ada": ADA}}, {"labels": {"Ada": BEN}}, True, {"labels": {"Ada": BEN}}, "replaced"),
        ({"labels": {"Ada": ADA}}, {"labels": {"Ada": {**ADA, "at": "later"}}}, True, {"labels": {"Ada": ADA}}, ""),
        ({"labels": {"Ada": SURE}}, {"labels": {"Ada": {"tags": None, **SURE}}}, True, {"labels": {"Ada": SURE}}, ""),
        ({"labels": {"Ada": SURE}}, {"labels": {"Ada": ADA}}, False, {"labels": {"Ada": SURE}}, "kept"),
        (
            {"text": "a", "textBy": "Ada", "textAt": "1", "examplesSeen": ["0" * 8], "mood": 1},
            {"text": "b", **BY_BEN},
            True,
            {"text": "b", **BY_BEN, "mood": 1},
            "added replaced",
        ),
        (
            {"text": "a"},
            {"text": "b", **BY_BEN, "examplesSeen": ["0" * 8], "starred": True},
            False,
            {"text": "a", "starred": True},
            "added kept",
        ),
        ({"text": "a"}, {"text": "a", **BY_BEN}, False, {"text": "a", **BY_BEN}, "added"),
    ],
)  # fmt: skip
def test_how_an_entry_and_a_files_are_joined(
    ours: dict[str, object], theirs: dict[str, object], replace: bool, result: dict[str, object], happened: str
) -> None:
    found = merged(Entry.of(ours), Entry.of(theirs), "now", replace=replace)
    assert {name for name in ("added", "replaced", "kept") if getattr(found, name)} == set(happened.split())
    changed = found.added or found.replaced
    assert found.entry.fields == {**result, **({"lastModified": "now"} if changed else {})}


@given(documents(unknown=True), documents(unknown=True))
@settings(UNTIMED, max_examples=60)
def test_without_replace_nothing_that_was_there_changes(ours: Document, theirs: Document) -> None:
    file = read_file("x", bulk.exported(theirs, "json").decode())
    ours = Document({**ours.entries, **dict(zip(theirs.entries, ours.entries.values(), strict=False))})
    _, changed = bulk._planned(file, ours, "now", replace=False)
    for key, entry in changed.items():
        before = ours.entries.get(key)
        if before is None:
            assert entry == theirs.entries[key]
            continue
        for name, value in before.fields.items():
            of_no_text = not before.text and name in ("textBy", "examplesSeen")
            if value and not of_no_text and name not in ("lastModified", "textAt", "labels"):
                assert entry.fields[name] == value
        assert before.labels.items() <= entry.labels.items()


def test_a_dry_run_says_what_would_be_and_changes_nothing(service: Service) -> None:
    mine = {A: {"text": "mine", "starred": False}, B: {"text": "same", "starred": False}}
    take(service, mine)
    notes = {A: THEIRS, B: {"text": "same"}, C: THEIRS}
    for replace, expected in ((False, report("AC", "", "A", 1)), (True, report("C", "A", "", 1))):
        before = {path.name: path.read_bytes() for path in service.folder.iterdir()}
        would = send(service, notes, replace=replace).json
        assert would == {"import": None, **expected}
        assert {path.name: path.read_bytes() for path in service.folder.iterdir()} == before
        did = take(service, notes, replace=replace)
        assert (without_id(did), did["import"] is not None) == (expected, True)
        assert undo(service, did).json == {"undone": [A, C], "kept": []}
        assert service.notes.read_bytes() == before["interpretations.json"]


def test_nothing_is_overwritten_unless_asked_and_then_it_is_in_the_history(service: Service) -> None:
    take(service, {A: {"text": "mine", "starred": False}})
    assert without_id(take(service, {A: THEIRS, C: THEIRS})) == report("AC", "", "A")
    assert service.entries()[A]["text"] == "mine"
    assert service.entries()[C] == THEIRS
    assert without_id(take(service, {A: THEIRS, C: THEIRS}, replace=True, by="Ada")) == report("", "A", "", 1)
    assert service.entries()[A] == THEIRS
    (found,) = service.request("GET", f"/api/history/{A}").json["history"]
    assert (found["text"], found["replacedBy"], found["by"]) == ("mine", "import", "Ada")
    before = service.notes.read_bytes()
    assert take(service, {A: THEIRS, C: THEIRS}, replace=True) == {"import": None, **report(same=2)}
    assert service.notes.read_bytes() == before


def test_undoing_keeps_what_was_changed_since_and_works_once_also_after_a_restart(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        take(service, {A: {"text": "mine", "starred": False}})
        before = service.entries()
        did = take(service, dict.fromkeys((A, B, C), THEIRS), replace=True)
        assert service.patch({"tags": ["dense"], "by": "Ben"}, B).status == 200
        later = service.entries()[B]
    with running(tmp_path) as service:
        assert undo(service, did).json == {"undone": [A, C], "kept": [B]}
        assert service.entries() == {**before, B: later}
        texts = [each["text"] for each in service.request("GET", f"/api/history/{C}").json["history"]]
        assert texts == ["theirs"]
    with running(tmp_path) as service:
        again = undo(service, did)
        assert (again.status, again.code) == (409, "already_undone")
        unknown = undo(service, {"import": "../x"})
        assert unknown.status == 404
        unknown = undo(service, {"import": "0" * 16})
        assert (unknown.status, unknown.code) == (404, "no_such_import")
        assert service.entries() == {**before, B: later}


def test_a_note_edited_back_to_the_imported_text_counts_as_changed_by_a_person(service: Service) -> None:
    did = take(service, {A: THEIRS})
    for text in ("other", "theirs"):
        assert service.patch({"text": text, "by": "Ben"}, A, if_match="*").status == 200
    assert undo(service, did).json == {"undone": [], "kept": [A]}


def test_who_asks_for_changes_hears_of_an_import_and_of_its_undoing(service: Service) -> None:
    cursor = service.request("GET", "/api/changes").json["cursor"]
    did = take(service, {A: THEIRS})
    heard = service.request("GET", f"/api/changes?since={cursor}").json
    assert heard["entries"] == {A: THEIRS}
    undo(service, did)
    assert service.request("GET", f"/api/changes?since={heard['cursor']}").json["entries"] == {A: None}


def test_requests_that_make_no_sense_are_refused(shared_service: Service) -> None:
    for body, code in (
        ({"name": "n.json", "content": "{"}, "unreadable_file"),
        ({"name": "n\x1b.json", "content": "{}"}, "invalid_body"),
        ({"name": "n.json", "content": "{}", "by": " Ada"}, "invalid_body"),
        ({"name": "n.json", "content": "{}", "overwrite": True}, "invalid_body"),
        ({"content": "{}"}, "invalid_body"),
    ):
        reply = shared_service.request("POST", "/api/import", body)
        assert (reply.status, reply.code) == (422, code)
    unread = shared_service.request("GET", "/api/export?format=xml")
    assert (unread.status, unread.code) == (422, "invalid_format")
    assert not imports_path(shared_service.notes).exists()


def test_a_large_file_is_taken_and_a_larger_one_refused(service: Service) -> None:
    notes = {f"layer_{number}_up_proj_positive": {"text": "x" * 3000, "starred": False} for number in range(2000)}
    assert len(take(service, notes)["added"]) == 2000
    reply = service.request("POST", "/api/import", b" " * (FILE_BODY_BYTES + 1))
    assert (reply.status, reply.code) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("form", "name", "media_type"),
    [
        ("", "interpretations.json", "application/json"),
        ("?format=json", "interpretations.json", "application/json"),
        ("?format=json-short", "interpretations.json", "application/json"),
        ("?format=csv", "interpretations.csv", "text/csv; charset=utf-8"),
    ],
)
def test_an_export_is_a_file_that_an_import_elsewhere_takes(
    tmp_path: Path, form: str, name: str, media_type: str
) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    with running(tmp_path / "one") as one, running(tmp_path / "two") as two:
        take(one, {A: {**THEIRS, "labels": {"Ada": ADA}}, B: {"text": "=1+1\r\n", "starred": False}})
        exported = one.request("GET", f"/api/export{form}")
        assert exported.headers["content-disposition"] == f'attachment; filename="{name}"'
        assert exported.headers["content-type"] == media_type
        body = {"name": name, "content": exported.body.decode(), "dryRun": False}
        assert without_id(two.request("POST", "/api/import", body).json) == report("AB")
        assert two.notes.read_bytes() == one.notes.read_bytes()


OLD = {A: {"text": "old", "starred": False}, B: {"text": "stays", "starred": False}}
NEW = read_file("new.json", content({A: THEIRS, C: THEIRS}))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "notes.json"
    path.write_text(content(OLD))
    return path


@pytest.fixture
def store(path: Path) -> Generator[Store]:
    store = Store(path)
    yield store
    store.close()


def stored(path: Path) -> dict[str, Any]:
    return json.loads(path.read_bytes())["interpretations"]


def test_whichever_call_fails_all_of_an_import_is_there_or_nothing_and_undoing_it_leaves_what_was(path: Path) -> None:
    number = 0
    while fails_cleanly_at(number, path):
        number += 1
    assert number >= 18  # every call of a commit, of the log and of the history was made to fail once


def fails_cleanly_at(number: int, path: Path) -> bool:
    """Makes one system call of an import fail and looks at what is left; False if there are not that many calls."""
    path.write_text(content(OLD))
    imports_path(path).unlink(missing_ok=True)
    store = Store(path)
    try:
        with watched(fail_at(number, errno.ENOSPC)) as calls:
            error = bulk.take_in(store, NEW, replace=True, by=None).exception(timeout=30)
        failed = len(calls.calls) > number
        assert isinstance(error, OSError) == failed
        assert stored(path) in (OLD, {**OLD, A: THEIRS, C: THEIRS})
        for import_id in imports(path):
            assert bulk.undo(store, import_id).result(timeout=30).kept == []
            assert stored(path) == OLD
        return failed
    finally:
        store.close()


def test_whichever_call_of_an_undoing_fails_it_can_be_repeated(path: Path) -> None:
    number = 0
    while undoing_can_be_repeated_after(number, path):
        number += 1
    assert number >= 18


def undoing_can_be_repeated_after(number: int, path: Path) -> bool:
    path.write_text(content(OLD))
    store = Store(path)
    try:
        imported = import_of(store)
        with watched(fail_at(number, errno.ENOSPC)) as calls:
            error = bulk.undo(store, imported).exception(timeout=30)
        failed = len(calls.calls) > number
        assert isinstance(error, OSError) == failed
        assert stored(path) in (OLD, {**OLD, A: THEIRS, C: THEIRS})
        again = bulk.undo(store, imported).exception(timeout=30)
        assert again is None or isinstance(again, bulk.AlreadyUndone)
        assert stored(path) == OLD
        assert isinstance(bulk.undo(store, imported).exception(timeout=30), bulk.AlreadyUndone)
        return failed
    finally:
        store.close()


def test_a_repeated_import_whose_directory_sync_failed_is_written_anew(store: Store) -> None:
    bulk.undo(store, import_of(store)).result(timeout=30)  # so that log and history are there
    with watched() as calls:
        imported = import_of(store)
    bulk.undo(store, imported).result(timeout=30)
    last_sync = len(calls.calls) - 1 - calls.calls[::-1].index("fsync")
    with watched(fail_at(last_sync)):
        assert isinstance(bulk.take_in(store, NEW, replace=True, by=None).exception(timeout=30), OSError)
    with watched() as calls:
        assert bulk.take_in(store, NEW, replace=True, by=None).result(timeout=30).same == 2
    assert "replace" in calls.calls


def import_of(store: Store) -> str:
    found = bulk.take_in(store, NEW, replace=True, by=None).result(timeout=30).id
    assert found is not None
    return found


def test_an_import_takes_its_turn_among_edits(store: Store, path: Path) -> None:
    def edit(text: str) -> Any:
        return store.submit(Edit(A, {"text": text}))

    first_is_writing, go_on = threading.Event(), threading.Event()

    def before(_: int, name: str) -> None:
        if name == "replace" and not go_on.is_set():
            first_is_writing.set()
            go_on.wait(timeout=30)

    with watched(before) as calls:
        waiting = [edit("one")]
        assert first_is_writing.wait(timeout=30)
        waiting += [edit("two"), bulk.take_in(store, NEW, replace=True, by=None), edit("three"), edit("four")]
        go_on.set()
        outcomes = [each.result(timeout=30) for each in waiting]
    assert calls.calls.count("replace") == 4
    assert outcomes[2].replaced == [A]
    assert [each.text for each in store.replaced(A)] == ["three", "theirs", "two", "one", "old"]
    assert (stored(path)[A]["text"], stored(path)[C]) == ("four", THEIRS)


def test_a_text_written_in_one_go_is_not_lost_by_an_import(store: Store) -> None:
    for text in ("a", "b"):
        store.submit(Edit(B, {"text": text, "by": "Ada"})).result(timeout=30)
    other = read_file("x", content({B: {"text": "c"}}))
    bulk.take_in(store, other, replace=True, by=None).result(timeout=30)
    store.submit(Edit(B, {"text": "d", "by": "Ada"})).result(timeout=30)
    assert [each.text for each in store.replaced(B)] == ["c", "b", "stays"]


def test_a_torn_or_foreign_line_in_the_log_spoils_no_other(store: Store, path: Path) -> None:
    imports_path(path).write_bytes(b'[[[[{}\n{"record": "other"}\n{"record": "import", "id": "to')
    bulk.undo(store, import_of(store)).result(timeout=30)
    assert stored(path) == OLD


ROUNDS = 6
MANY = 500  # so many that writing them takes its time


def import_until_killed(service: Service, done: list[dict[str, Any]], counted: threading.Semaphore) -> None:
    """Imports ever other texts of the same notes, and undoes every third import, until the connection breaks."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    try:
        for number in range(len(done), len(done) + 100_000):
            notes = {f"layer_{each}_up_proj_positive": {"text": str(number), "starred": False} for each in range(MANY)}
            body = {"name": "n.json", "content": content(notes), "replace": True, "dryRun": False}
            reply = exchange(connection, "POST", "/api/import", body)
            assert reply.status == 200
            done.append({"number": number, "import": reply.json["import"]})
            if number % 3 == 2:
                undone = exchange(connection, "POST", f"/api/import/{reply.json['import']}/undo", {})
                assert undone.status == 200
            counted.release()
    except (http.client.HTTPException, OSError):
        connection.close()


def test_a_service_killed_while_importing_has_all_of_an_import_or_nothing(tmp_path: Path) -> None:
    chance = random.Random(11)
    for number in range(ROUNDS):
        done: list[dict[str, Any]] = []
        counted = threading.Semaphore(0)
        with running(tmp_path) as service:
            take(service, {KEY: {"text": "beside", "starred": False}})
            thread = threading.Thread(target=import_until_killed, args=(service, done, counted))
            thread.start()
            for _ in range(chance.randint(1, 12)):
                assert counted.acquire(timeout=30)
            file = service.notes if number % 2 else imports_path(service.notes)
            before = signature(file)
            while signature(file) == before and thread.is_alive():
                pass  # until the next import or undoing is just here in its commit
            service.process.send_signal(signal.SIGKILL)
            thread.join()
        with running(tmp_path) as service:
            entries = service.entries()
            assert entries.pop(KEY)["text"] == "beside"
            texts = {entry["text"] for entry in entries.values()}
            assert (len(texts), len(entries)) in ((1, MANY), (0, 0))
            *_, (last, record) = imports(service.notes).items()
            if record is not None:  # else the last was undone
                assert undo(service, {"import": last}).json["kept"] == []
            left = {entry["text"] for key, entry in service.entries().items() if key != KEY}
            assert len(left) <= 1
            assert left <= {str(each["number"]) for each in done} | texts
