"""Random sequences of what people do at notes, by hand and after restarts too, leave the file as a plain model says."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from annotation_server.history import history_path
from annotation_server.preconditions import Precondition, etag
from annotation_server.store import Edit, Outcome, Store
from tests.annotation_server.untimed import UNTIMED

KEYS = st.sampled_from(["a", "b", "c"])
TEXTS = st.text("xyz", max_size=3)
PEOPLE = st.sampled_from(["Ada", "Bo"])
TAGS = st.lists(st.sampled_from(["dense", "digits", "rare"]), unique=True, max_size=3)
CONFIDENCE = st.none() | st.integers(1, 5)
SEEN = st.lists(st.sampled_from(["00000001", "00000002"]), unique=True, min_size=1)
MINUTE = timedelta(minutes=1)
Label = tuple[tuple[str, ...] | None, int | None]  # tags (None: nothing said of them), confidence


@dataclass(frozen=True)
class Note:
    """A note as the model has it."""

    text: str = ""
    starred: bool = False
    by: str | None = None
    seen: tuple[str, ...] | None = None
    labels: Mapping[str, Label] = field(default_factory=dict[str, Label])  # by person

    @staticmethod
    def of(entry: Mapping[str, Any]) -> Note:
        """The note that an entry of the file is."""
        labels: dict[str, Label] = {
            name: (tuple(label["tags"]) if "tags" in label else None, label["confidence"])
            for name, label in entry.get("labels", {}).items()
        }
        seen = entry.get("examplesSeen")
        return Note(entry["text"], entry["starred"], entry.get("textBy"), seen and tuple(seen), labels)


class Notes(RuleBasedStateMachine):
    """Each rule does the same to the store and to `self.model`."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "notes.json"
        self.path.write_text('{"interpretations": {}}')
        self.now = datetime(2024, 1, 20, tzinfo=UTC)
        self.store = self.opened()
        self.model: dict[str, Note] = {}
        self.kept: dict[str, list[str]] = {}  # by key: the texts that must stand in the note or in its history
        self.bursts: dict[str, tuple[str, datetime]] = {}  # by key: who writes alone, since when
        self.last_seen: dict[str, str] = {}

    def opened(self) -> Store:
        return Store(self.path, lambda: self.now)

    @rule(key=KEYS)
    def look(self, key: str) -> None:
        self.last_seen[key] = etag(self.store.read().entries.get(key))

    @rule(key=KEYS, text=TEXTS, by=st.none() | PEOPLE, seen=st.none() | SEEN)
    def type_text(self, key: str, text: str, by: str | None, seen: list[str] | None) -> None:
        """Saves with the ETag of the last look, which may be stale by now."""
        given = {"by": by, "examplesSeen": seen}
        changes = {"text": text, **{name: value for name, value in given.items() if value is not None}}
        tag, current = self.last_seen.get(key, etag(None)), etag(self.store.read().entries.get(key))
        outcome = self.edit(key, changes, Precondition(frozenset({tag})))
        old = self.model.get(key, Note())
        if text == old.text:
            new = replace(old, seen=tuple(seen) if seen else old.seen)
        else:
            new = replace(old, text=text, by=by, seen=seen and tuple(seen))
        assert outcome.saved == (tag == current or self.model.get(key) == new)
        if outcome.saved:
            self.note_text(key, old.text, text, by)
            self.model[key] = new
            self.last_seen[key] = etag(outcome.entry)
        else:
            assert ("" if outcome.entry is None else outcome.entry.text) == old.text

    @rule(key=KEYS, starred=st.booleans())
    def star(self, key: str, starred: bool) -> None:
        assert self.edit(key, {"starred": starred}).saved
        self.model[key] = replace(self.model.get(key, Note()), starred=starred)

    @rule(
        key=KEYS,
        by=PEOPLE,
        given=st.fixed_dictionaries({}, optional={"tags": st.none() | TAGS, "confidence": CONFIDENCE}),
    )
    def label(self, key: str, by: str, given: dict[str, Any]) -> None:
        """Changes a person's label, or takes it away where nothing is given; one in which nothing is left goes."""
        given = given or {"tags": None}
        assert self.edit(key, {"by": by, **given}).saved
        old = self.model.get(key, Note())
        tags, confidence = old.labels.get(by, (None, None))
        if "tags" in given:
            tags, confidence = (None, None) if given["tags"] is None else (tuple(given["tags"]), confidence)
        label = tags, given.get("confidence", confidence)
        labels = {name: each for name, each in {**old.labels, by: label}.items() if each != (None, None)}
        self.model[key] = replace(old, labels=labels)

    @rule(key=KEYS, text=st.none() | TEXTS)
    def edit_by_hand(self, key: str, text: str | None) -> None:
        """Changes or removes (None) an entry in the file, as an editor would: a new file in the old one's place."""
        content: dict[str, Any] = json.loads(self.path.read_bytes())
        if text is None:
            content["interpretations"].pop(key, None)
            self.model.pop(key, None)
        else:
            content["interpretations"][key] = {"text": text, "starred": True}
            self.model[key] = Note(text, starred=True)
            self.kept.setdefault(key, []).append(text)
        self.bursts.pop(key, None)
        other = self.path.with_suffix(".edited")
        other.write_text(json.dumps(content))
        other.replace(self.path)

    @rule(seconds=st.sampled_from([1, 30, 60]))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = self.opened()
        self.bursts.clear()

    def edit(self, key: str, changes: Mapping[str, object], precondition: Precondition | None = None) -> Outcome:
        return self.store.submit(Edit(key, changes, precondition or Precondition())).result(timeout=30)

    def note_text(self, key: str, old: str, new: str, by: str | None) -> None:
        """Takes down that `new` is to be kept. What one person replaces within a minute of writing is not."""
        if new == old:
            return
        kept = self.kept.setdefault(key, [])
        who, since = self.bursts.get(key, (None, self.now))
        if by is not None and by == who and self.now - since < MINUTE:
            kept.remove(old)
        elif by is not None:
            self.bursts[key] = by, self.now
        else:
            self.bursts.pop(key, None)
        kept.append(new)

    @invariant()
    def the_file_is_as_the_model_says(self) -> None:
        entries = json.loads(self.path.read_bytes())["interpretations"]
        assert {key: Note.of(entry) for key, entry in entries.items()} == self.model
        served = self.store.read().entries
        assert {key: Note.of(entry.fields) for key, entry in served.items()} == self.model

    @invariant()
    def no_text_is_gone(self) -> None:
        """Each stands in the note or in its history, or was gone on with there."""
        self.store.read()
        history = history_path(self.path)
        lines = [json.loads(line) for line in history.read_text().splitlines()] if history.exists() else []
        for key, texts in self.kept.items():
            known = [line["text"] for line in lines if line["featureKey"] == key]
            known += [self.model[key].text] if key in self.model else []
            assert all(any(each.startswith(text) for each in known) for text in texts if text)

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


TestNotes = Notes.TestCase
TestNotes.settings = settings(UNTIMED, max_examples=25, stateful_step_count=25)
