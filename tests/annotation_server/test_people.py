"""Several people at one file: whose text and labels these are, what was replaced, and what others changed meanwhile."""

from __future__ import annotations

import json
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from annotation_server.store import Edit, Store
from tests.annotation_server.service import Service, entry_path, running

KEY = "layer_3_up_proj_negative"


class Clock:
    """A clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 20, 10, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Generator[Store]:
    store = Store(tmp_path / "notes.json", clock)
    yield store
    store.close()


def write(store: Store, text: str, by: str | None = None) -> None:
    changes = {"text": text} if by is None else {"text": text, "by": by}
    assert store.submit(Edit(KEY, changes)).result(timeout=30).saved


def replaced(store: Store) -> list[tuple[str, str | None, str | None]]:
    """Text, writer and who replaced it, the oldest first."""
    return [(each.text, each.textBy, each.by) for each in reversed(store.replaced(KEY))]


def save(service: Service, changes: object, key: str = KEY) -> dict[str, Any]:
    reply = service.patch(changes, key, if_match=service.etag(key))
    assert reply.status == 200, reply.body
    assert reply.json["interpretation"] == service.entries()[key]
    return reply.json["interpretation"]


def history(service: Service, key: str = KEY) -> list[dict[str, Any]]:
    return service.request("GET", entry_path(key).replace("interpretations", "history")).json["history"]


def test_a_text_is_its_last_writers(service: Service) -> None:
    entry = save(service, {"text": "dates", "by": "Ada", "examplesSeen": ["0123abcd"]})
    assert (entry["textBy"], entry["textAt"], entry["examplesSeen"]) == ("Ada", entry["lastModified"], ["0123abcd"])
    starred = save(service, {"starred": True, "by": "Grace"})
    assert (starred["textBy"], starred["textAt"]) == ("Ada", entry["textAt"])
    unsigned = save(service, {"text": "dates and years"})
    assert unsigned.keys() == {"text", "starred", "lastModified"}
    assert history(service) == []


def test_each_persons_label_stands_beside_the_others(service: Service) -> None:
    save(service, {"by": "Ada", "tags": ["dense", "π", "dense"], "confidence": 2})
    save(service, {"by": "Ada", "confidence": 5})
    labels = save(service, {"by": "Grace", "tags": ["unclear"], "text": "dates"})["labels"]
    assert {person: (label["tags"], label["confidence"]) for person, label in labels.items()} == {
        "Ada": (["dense", "π"], 5),
        "Grace": (["unclear"], None),
    }
    assert set(save(service, {"by": "Ada", "tags": None})["labels"]) == {"Grace"}
    assert "labels" not in save(service, {"by": "Grace", "tags": None})


def test_a_confidence_alone_says_nothing_of_tags(service: Service) -> None:
    def label_after(**changes: object) -> dict[str, Any] | None:
        label = save(service, {"by": "Ada", **changes}).get("labels", {}).get("Ada")
        return label and {name: value for name, value in label.items() if name != "at"}

    assert label_after(confidence=3) == {"confidence": 3}
    assert label_after(tags=[]) == {"tags": [], "confidence": 3}
    assert label_after(tags=None, confidence=3) == {"confidence": 3}
    assert label_after(confidence=None) is None
    assert label_after(confidence=None) is None
    assert label_after(tags=["dense"], confidence=2) == {"tags": ["dense"], "confidence": 2}
    assert label_after(confidence=None) == {"tags": ["dense"], "confidence": None}
    assert label_after(confidence=5) == {"tags": ["dense"], "confidence": 5}
    assert label_after(tags=None) is None


def test_a_label_repeated_is_saved_once(service: Service) -> None:
    first = save(service, {"by": "Ada", "tags": ["dense"]})
    before = service.notes.stat().st_ino
    assert save(service, {"by": "Ada", "tags": ["dense"]}) == first
    assert service.notes.stat().st_ino == before


@pytest.mark.parametrize(
    "changes",
    [
        {"by": "Ada"},
        {"tags": ["dense"]},
        {"confidence": 3},
        {"by": "", "tags": []},
        {"by": " Ada", "tags": []},
        {"by": "Ada ", "tags": []},
        {"by": "A\nda", "tags": []},
        {"by": "Ada\n", "tags": []},
        {"by": "A" * 81, "tags": []},
        {"by": "Ada", "tags": [""]},
        {"by": "Ada", "tags": ["a\u2028b"]},
        {"by": "Ada", "tags": ["t"] * 33},
        {"by": "Ada", "tags": "dense"},
        {"by": "Ada", "confidence": 0},
        {"by": "Ada", "confidence": 6},
        {"by": "Ada", "confidence": 2.5},
        {"by": "Ada", "confidence": True},
        {"examplesSeen": ["0123ABCD"]},
        {"examplesSeen": ["0123abcd\n"]},
        {"examplesSeen": ["0123abcd"] * 65},
        {"labels": {}},
        {"textBy": "Ada"},
    ],
)
def test_what_is_no_label_is_refused(shared_service: Service, changes: object) -> None:
    reply = shared_service.patch(changes, "layer_9_refused_positive")
    assert (reply.status, reply.code) == (422, "invalid_body")
    assert not shared_service.notes.exists()


def test_history_says_who_wrote_and_who_replaced(service: Service) -> None:
    save(service, {"text": "dates", "by": "Ada"})
    save(service, {"text": "years", "by": "Grace"})
    save(service, {"text": "", "by": "Ada"})
    newest, oldest = history(service)
    assert (newest["text"], newest["textBy"], newest["by"]) == ("years", "Grace", "Ada")
    assert (oldest["text"], oldest["textBy"], oldest["by"]) == ("dates", "Ada", "Grace")
    assert oldest["replacedBy"] == "request"
    assert oldest["replacedAt"] >= oldest["lastModified"]
    assert history(service, "layer_1_up_proj_positive") == []


def test_a_history_of_before_there_were_names_is_read_and_torn_lines_are_passed_over(service: Service) -> None:
    old = {"featureKey": KEY, "text": "old", "lastModified": None, "replacedAt": "then", "replacedBy": "file"}
    lines = [json.dumps(old), f'{{"featureKey": "{KEY}", "te', "[]", json.dumps({**old, "featureKey": "other"})]
    (service.folder / "interpretations.json.history.jsonl").write_text("\n".join(lines))
    assert history(service) == [
        {"text": "old", "textBy": None, "lastModified": None, "replacedAt": "then", "replacedBy": "file", "by": None}
    ]


def test_one_persons_texts_of_a_minute_count_as_one(store: Store, clock: Clock) -> None:
    write(store, "first", "Ada")
    clock.wait(600)
    for text in ("second", "third", "fourth"):
        write(store, text, "Ada")
        clock.wait(25)
    assert replaced(store) == [("first", "Ada", "Ada")]
    write(store, "fifth", "Ada")
    assert replaced(store) == [("first", "Ada", "Ada"), ("fourth", "Ada", "Ada")]


def test_what_stood_before_a_minutes_writing_is_kept_also_if_it_first_only_grew(store: Store, clock: Clock) -> None:
    write(store, "first", "Ada")
    clock.wait(600)
    write(store, "first and more", "Ada")
    write(store, "anew", "Ada")
    write(store, "anew again", "Ada")
    assert replaced(store) == [("first", "Ada", "Ada")]


def test_two_people_within_a_minute_lose_nothing(store: Store) -> None:
    for text, by in (("one", "Ada"), ("two", "Grace"), ("three", "Ada"), ("four", None), ("five", None)):
        write(store, text, by)
    assert [text for text, _, _ in replaced(store)] == ["one", "two", "three", "four"]


def test_an_edit_by_hand_within_a_persons_minute_is_kept(store: Store) -> None:
    write(store, "mine", "Ada")
    content = json.loads(store.path.read_bytes())
    content["interpretations"][KEY]["text"] = "by hand"
    store.path.write_text(json.dumps(content))
    write(store, "mine again", "Ada")
    assert [text for text, _, _ in replaced(store)] == ["mine", "by hand"]


def test_changes_are_what_others_did_since(service: Service) -> None:
    def ask(cursor: str | None = None) -> dict[str, Any]:
        return service.request("GET", "/api/changes" + (f"?since={cursor}" if cursor else "")).json

    save(service, {"starred": True}, "layer_0_up_proj_positive")
    start = ask()
    assert (start["complete"], set(start["entries"])) == (True, {"layer_0_up_proj_positive"})
    assert ask(start["cursor"]) == {"cursor": start["cursor"], "complete": False, "entries": {}}
    save(service, {"text": "a"})
    save(service, {"text": "ab"})
    later = ask(start["cursor"])
    assert (later["complete"], later["entries"]) == (False, {KEY: service.entries()[KEY]})
    content = {"interpretations": {KEY: {"text": "by hand"}}}  # the other one is gone
    service.notes.write_text(json.dumps(content))
    assert ask(later["cursor"])["entries"] == {KEY: {"text": "by hand"}, "layer_0_up_proj_positive": None}
    assert set(ask(start["cursor"])["entries"]) == {KEY, "layer_0_up_proj_positive"}


@pytest.mark.parametrize("cursor", ["x", "0", "0123456789abcdef-0", "0123456789abcdef-99999999999999999999"])
def test_a_cursor_of_another_run_gets_everything(service: Service, cursor: str) -> None:
    save(service, {"starred": True})
    found = service.request("GET", f"/api/changes?since={cursor}").json
    assert (found["complete"], set(found["entries"])) == (True, {KEY})


def test_a_cursor_outlives_no_restart(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        save(service, {"starred": True})
        cursor = service.request("GET", "/api/changes").json["cursor"]
    with running(tmp_path) as service:
        assert service.request("GET", f"/api/changes?since={cursor}").json["complete"]
