"""The model-based test of the notes at full length: 2,000 sequences of 50 steps, each compared with a plain model.

What the steps are, `tests/annotation_server/test_model.py` says: texts, stars and labels of two people, edits by hand,
minutes that pass, restarts. The controls are stores with one bug each; what is counted is the sequences until it shows.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from unittest.mock import patch

from hypothesis import Phase, settings
from hypothesis.stateful import invariant, run_state_machine_as_test

from annotation_server import history, store
from annotation_server.document import Entry
from annotation_server.preconditions import Precondition
from annotation_server.store import Store
from tests.annotation_server.test_model import Notes
from tests.annotation_server.untimed import UNTIMED

SEQUENCES, STEPS = 2000, 50
SOME_ARE_SHORTER = 1.5  # Hypothesis draws some with fewer steps
CHANGED, LABELLED, BURST = Entry.changed, Entry._labelled, store._burst  # pyright: ignore[reportPrivateUsage]


class Counted(Notes):
    """The test's machine, counting."""

    lengths: ClassVar[list[int]] = []  # of the sequences so far, in steps

    def __init__(self) -> None:
        super().__init__()
        self.lengths.append(-1)

    @invariant()
    def one_more(self) -> None:
        """Count the step; the first time there was none yet."""
        self.lengths[-1] += 1


def _star_erases(entry: Entry, changes: Mapping[str, object], now: str) -> Entry:
    return CHANGED(entry, {"text": "", **changes} if "starred" in changes else changes, now)


def _label_replaces_all(entry: Entry, changes: Mapping[str, object], now: str) -> Mapping[str, object]:
    return {person: label for person, label in LABELLED(entry, changes, now).items() if person == changes["by"]}


def _whoever_writes(burst: Any, old: Any, edit: Any, time: Any) -> Any:
    return BURST(None if burst is None else burst._replace(by=edit.changes.get("by")), old, edit, time)


BUGS: Mapping[str, tuple[object, str, Callable[..., Any]]] = {
    "a star erases the text": (Entry, "changed", _star_erases),
    "a label takes the other person's away": (Entry, "_labelled", _label_replaces_all),
    "a stale save is taken": (Precondition, "holds", lambda *_: True),
    "an edit by hand goes unseen": (Store, "_follow_file", lambda _: None),
    "the history keeps nothing": (history, "loses_text", lambda *_: False),
    "texts of a minute count as one, whoever writes": (store, "_burst", _whoever_writes),
}


def play(sequences: int, steps: int = STEPS) -> list[int]:
    """Play sequences, and fail if one is not as the model says; return how many steps each had."""
    Counted.lengths.clear()
    run_state_machine_as_test(
        Counted,
        settings=settings(
            UNTIMED,
            max_examples=sequences,
            stateful_step_count=steps,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
        ),
    )
    return [*Counted.lengths]


def sequences_until_found(bug: str, sequences: int) -> int | None:
    """Play on a store with a bug; return in how many sequences it was seen and seen again, None if it was not."""
    with patch.object(*BUGS[bug]), contextlib.redirect_stdout(io.StringIO()):
        try:
            play(sequences)
        except Exception:  # whatever the bug made of it
            return len(Counted.lengths)
    return None


def measure() -> dict[str, Any]:
    """Return the figures and those of the controls."""
    found = {bug: sequences_until_found(bug, SEQUENCES) for bug in BUGS}
    lengths = play(round(SEQUENCES * SOME_ARE_SHORTER))
    return {
        "sequences": len(lengths),
        "of_at_least_50_steps": sum(length >= STEPS for length in lengths),
        "steps": sum(lengths),
        "unlike_the_model": 0,  # it would have ended above
        "control": {"store": "has one bug", "sequences_until_it_shows": found},
    }
