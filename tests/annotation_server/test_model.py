"""Random sequences of edits, stars, hand edits and restarts leave the file as a plain dictionary says."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from annotation_server.history import history_path
from annotation_server.preconditions import Precondition, etag
from annotation_server.store import Edit, Store
from tests.annotation_server.untimed import UNTIMED

KEYS = st.sampled_from(["a", "b", "c"])
TEXTS = st.text("xyz", max_size=3)


class Notes(RuleBasedStateMachine):
    """Each rule does the same to the store and to `self.model`, which maps keys to (text, starred)."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "notes.json"
        self.path.write_text('{"interpretations": {}}')
        self.store = Store(self.path)
        self.model: dict[str, tuple[str, bool]] = {}
        self.written: set[str] = set()
        self.last_seen: dict[str, str] = {}

    @rule(key=KEYS)
    def look(self, key: str) -> None:
        self.last_seen[key] = etag(self.store.read().entries.get(key))

    @rule(key=KEYS, text=TEXTS)
    def type_text(self, key: str, text: str) -> None:
        """Saves with the ETag of the last look, which may be stale by now."""
        seen = self.last_seen.get(key, etag(None))
        outcome = self.store.submit(Edit(key, {"text": text}, Precondition(frozenset({seen})))).result(timeout=30)
        old_text, starred = self.model.get(key, ("", False))
        current = etag(self.store.read().entries.get(key))
        if outcome.saved:
            self.model[key] = (text, starred)
            self.written.add(text)
            self.last_seen[key] = current
        else:
            assert ("" if outcome.entry is None else outcome.entry.text) == old_text
            assert seen != current

    @rule(key=KEYS, starred=st.booleans())
    def star(self, key: str, starred: bool) -> None:
        assert self.store.submit(Edit(key, {"starred": starred})).result(timeout=30).saved
        self.model[key] = (self.model.get(key, ("", False))[0], starred)

    @rule(key=KEYS, text=st.none() | TEXTS)
    def edit_by_hand(self, key: str, text: str | None) -> None:
        """Changes or removes (None) an entry in the file, as an editor would: a new file in the old one's place."""
        content: dict[str, Any] = json.loads(self.path.read_bytes())
        if text is None:
            content["interpretations"].pop(key, None)
            self.model.pop(key, None)
        else:
            content["interpretations"][key] = {"text": text, "starred": True}
            self.model[key] = (text, True)
        other = self.path.with_suffix(".edited")
        other.write_text(json.dumps(content))
        other.replace(self.path)

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = Store(self.path)

    @invariant()
    def the_file_is_as_the_model_says(self) -> None:
        entries = json.loads(self.path.read_bytes())["interpretations"]
        assert {key: (entry["text"], entry["starred"]) for key, entry in entries.items()} == self.model
        served = self.store.read().entries
        assert {key: (entry.text, entry.starred) for key, entry in served.items()} == self.model

    @invariant()
    def nothing_that_was_saved_is_gone(self) -> None:
        self.store.read()
        history = history_path(self.path)
        lines = history.read_text().splitlines() if history.exists() else []
        kept = [json.loads(line)["text"] for line in lines] + [text for text, _ in self.model.values()]
        assert all(any(text in other for other in kept) for text in self.written if text)

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


TestNotes = Notes.TestCase
TestNotes.settings = settings(UNTIMED, max_examples=25, stateful_step_count=25)
