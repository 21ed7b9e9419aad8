"""The one writer of the notes file: edits wait in a queue, and all that wait are saved in one commit.

Where many save at once, a commit is put off a little: those who were in the last one are about to send their next
edits, and would else wait for the commit of whoever is first, and then for their own.

An edit is acknowledged (its future resolves) after the new file's fsync, its rename and the directory's fsync. The file
is the truth: when somebody else changed it, it is read again before the next edit is judged, and its entries win; texts
that it no longer holds go to the history. An edit of the file in the few microseconds between the last look at it and
the rename is the one thing that goes unseen.
"""

from __future__ import annotations

import logging
import os
import queue
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, cast

from annotation_server import durable, history
from annotation_server.changes import Changes
from annotation_server.document import EMPTY_ENTRY, Document, DocumentError, Entry, parse_document, serialise
from annotation_server.import_log import imports_path
from annotation_server.owner import announce, lock_path, owner
from annotation_server.preconditions import UNCONDITIONAL, Precondition

Result = TypeVar("Result")
_LOG = logging.getLogger(__name__)
_ATTEMPTS = 20  # commits begun anew because the file changed meanwhile
_PATIENCE = 0.05  # seconds that a commit is put off at most
_BURST = timedelta(minutes=1)  # in which one person's texts of one note count as one


class StoreError(Exception):
    """The notes file cannot be served: another server has it, it is not a file of notes, its place is not there."""


class FileTaken(StoreError):
    """Another process has the notes file; `owner` is the service in it, if it is one that says so."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: another annotation server is running on this file")
        self.owner = owner(path)


@dataclass(frozen=True)
class Edit:
    """A change of one entry, made only if the precondition holds; `changes` as in `Entry.changed`."""

    key: str
    changes: Mapping[str, object]
    precondition: Precondition = UNCONDITIONAL


@dataclass(frozen=True)
class Outcome:
    """The entry after the edit (None: not there), and whether the edit is in it or was refused as stale."""

    entry: Entry | None
    saved: bool


@dataclass(frozen=True)
class Changed:
    """Entries that changed (None: no longer there); `complete` if these are all that there are."""

    cursor: str
    complete: bool
    entries: Mapping[str, Entry | None]


@dataclass(frozen=True)
class Rewritten(Generic[Result]):
    """What a change of many entries comes to: the entries (None: taken out), and what whoever asked for it is told.

    `before` and `after` go into the log of imports before and after the file changes; `by` is who is to be named in
    the history.
    """

    result: Result
    changed: Mapping[str, Entry | None] = field(default_factory=dict[str, "Entry | None"])
    before: bytes = b""
    after: bytes = b""
    by: str | None = None


class Declined(Exception):
    """A change of many entries that is not to be made as the file stands; the message says why."""


Decide = Callable[[Document, str], Rewritten[Result]]  # of the document and the time, in ISO 8601


class _Burst(NamedTuple):
    """Since when one person alone has been writing at a note, and the note before if nothing else keeps its text."""

    by: str | None
    began: datetime
    before: Entry | None


@dataclass(frozen=True)
class _State:
    document: Document
    signature: tuple[int, ...] | None  # of the file that `document` was read from or written to
    durable: bool  # whether that file is known to be on the disk, and not only in the system's memory


@dataclass(frozen=True)
class _Waiting:
    change: Edit | Decide[Any]
    outcome: Future[Any]


class Store:
    """Owner of one notes file until `close`. Raises `StoreError` where it cannot be."""

    def __init__(self, path: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock, self._bursts, self._changes = clock, dict[str, _Burst](), Changes()
        self.path = Path(os.path.realpath(path))  # a symlink stays: its target is replaced
        self._lock_descriptor = _own(self.path)
        try:
            durable.temporary_path(self.path).unlink(missing_ok=True)
            self._state = _load(self.path)
        except BaseException:
            os.close(self._lock_descriptor)
            raise
        self._busy = threading.Lock()
        self._closed = False
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._sizes = deque([1], maxlen=4)  # of the last batches
        self._seconds = 0.0  # that the last one took
        self._writer = threading.Thread(target=self._run, name="annotation-writer", daemon=True)
        self._writer.start()

    def announce(self, url: str) -> None:
        """Lets other processes know where the service is that has the file. To be called once."""
        announce(self._lock_descriptor, url)

    def read(self) -> Document:
        """The file's content now, edits by others included. Raises `DocumentError` or `OSError`."""
        if durable.signature(self.path) != self._state.signature:
            with self._busy:
                self._follow_file()
        return self._state.document

    def changes(self, cursor: str | None) -> Changed:
        """What changed since the call that gave `cursor`, edits by others included. Raises as `read` does."""
        self.read()
        now, keys = self._changes.since(cursor)
        entries = self._state.document.entries  # after the keys: what is newer than `now` comes again, none is missed
        return Changed(now, keys is None, {key: entries.get(key) for key in (entries if keys is None else keys)})

    def replaced(self, key: str) -> list[history.Replaced]:
        """The texts of one note that were replaced, the newest first. Raises `OSError`."""
        return history.replaced_texts(self.path, key)

    def submit(self, edit: Edit) -> Future[Outcome]:
        """Queues an edit. The future resolves once it is durable or refused as stale, and raises if it failed."""
        return self._enqueue(edit)

    def rewrite(self, decide: Decide[Result]) -> Future[Result]:
        """Queues a change of many entries, all or none of them, in one commit of its own.

        `decide` is called on the file's content when its turn comes, perhaps more than once; it may raise `Declined`.
        The future resolves once the change is durable, and raises if it failed or was declined.
        """
        return self._enqueue(decide)

    def _enqueue(self, change: Edit | Decide[Any]) -> Future[Any]:
        if self._closed:
            raise StoreError("the store is closed")
        waiting = _Waiting(change, Future())
        self._queue.put(waiting)
        return waiting.outcome

    def close(self) -> None:
        """Saves what waits and gives the file up."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._writer.join()
        os.close(self._lock_descriptor)

    def _run(self) -> None:
        going_on = True
        while going_on:
            batch, going_on = self._next_batch()
            started = time.monotonic()
            for commit in _commits(batch):
                self._settle(commit)
            self._seconds = min(time.monotonic() - started, _PATIENCE)
            self._sizes.append(len(batch))

    def _next_batch(self) -> tuple[list[_Waiting], bool]:
        """Everything that waits, at least one, and whether more may come.

        As many as there were in one of the last batches are waited for, no longer than the last one took.
        """
        batch: list[_Waiting] = []
        waiting = self._queue.get()
        end = time.monotonic() + self._seconds
        while waiting is not None:
            batch.append(waiting)
            left = end - time.monotonic() if len(batch) < max(self._sizes) else 0.0
            try:
                waiting = self._queue.get(timeout=left) if left > 0 else self._queue.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _settle(self, batch: list[_Waiting]) -> None:
        first = batch[0].change
        edits = [waiting.change for waiting in batch if isinstance(waiting.change, Edit)]
        try:
            with self._busy:
                outcomes = self._commit(edits) if isinstance(first, Edit) else [self._rewrite(first)]
        except Declined as declined:
            batch[0].outcome.set_exception(declined)
            return
        except Exception as error:  # whatever went wrong, nobody may be left waiting or told that it was saved
            _LOG.error("%s not saved: %s", self.path.name, error)
            for waiting in batch:
                waiting.outcome.set_exception(error)
            return
        for waiting, outcome in zip(batch, outcomes, strict=True):
            waiting.outcome.set_result(outcome)

    def _commit(self, edits: list[Edit]) -> list[Outcome]:
        for _ in range(_ATTEMPTS):
            self._follow_file()
            applied = _apply(self._state.document, edits, self._clock(), self._bursts)
            unsaved = applied.changed or not self._state.durable
            needed = unsaved and any(outcome.saved for outcome in applied.outcomes)
            if not needed or self._save(self._state.document.with_entries(applied.changed), applied.replaced):
                self._bursts |= applied.bursts
                self._changes.record(applied.changed)
                return applied.outcomes
        raise OSError(f"{self.path.name} keeps changing on the disk")

    def _rewrite(self, decide: Decide[Result]) -> Result:
        for _ in range(_ATTEMPTS):
            self._follow_file()
            document, now = self._state.document, _written(self._clock())
            made = decide(document, now)
            self._remember(made.before, imports_path(self.path))
            replaced = history.lines_lost(document.entries, made.changed, now, "import", made.by)
            needed = made.changed or (document.entries and not self._state.durable)
            if not needed or self._save(document.rewritten(made.changed), replaced):
                self._forget(made.changed)
                self._remember(made.after, imports_path(self.path))
                return made.result
        raise OSError(f"{self.path.name} keeps changing on the disk")

    def _forget(self, changed: Collection[str]) -> None:
        """For notes that changed otherwise than by an edit: who asks hears of it, and no burst of writing goes on."""
        self._changes.record(changed)
        for key in changed:
            self._bursts.pop(key, None)

    def _save(self, document: Document, replaced: bytes) -> bool:
        """Makes `document` the file's content, durably; False if somebody else changed the file meanwhile."""
        before = self._state
        self._state = replace(before, durable=False)
        self._remember(replaced, history.history_path(self.path))
        with durable.staged(self.path, serialise(document)) as temporary:
            written = durable.signature(temporary)
            if durable.signature(self.path) != before.signature:
                return False
            durable.publish(temporary, self.path)
        self._state = _State(document, written, durable=True)
        return True

    def _follow_file(self) -> None:
        """Takes over what somebody else wrote. A file that was deleted says nothing: the next save writes it anew."""
        if durable.signature(self.path) == self._state.signature:
            return
        found = durable.read(self.path)
        if found is None:
            self._state = replace(self._state, signature=None, durable=False)
            return
        data, seen = found
        old, document = self._state.document.entries, parse_document(data, self.path.name)
        new = document.entries
        changed = {key: new.get(key) for key in {**old, **new} if old.get(key) != new.get(key)}
        self._remember(
            history.lines_lost(old, changed, _written(self._clock()), "file"), history.history_path(self.path)
        )
        self._state = _State(document, seen, durable=False)
        self._forget(changed)

    def _remember(self, lines: bytes, log: Path) -> None:
        if lines:
            durable.append(log, lines, like=self.path)


def _commits(batch: list[_Waiting]) -> list[list[_Waiting]]:
    """What is saved at once: edits that follow one another, and each change of many entries by itself."""
    commits: list[list[_Waiting]] = []
    for waiting in batch:
        if commits and isinstance(waiting.change, Edit) and isinstance(commits[-1][-1].change, Edit):
            commits[-1].append(waiting)
        else:
            commits.append([waiting])
    return commits


class _Applied(NamedTuple):
    """What edits come to: the entries that changed, an outcome for each edit, the history's new lines."""

    changed: Mapping[str, Entry]
    outcomes: list[Outcome]
    replaced: bytes
    bursts: Mapping[str, _Burst]  # of the notes whose text changed


def _apply(document: Document, edits: list[Edit], time: datetime, bursts: Mapping[str, _Burst]) -> _Applied:
    changed: dict[str, Entry] = {}
    outcomes: list[Outcome] = []
    replaced: list[bytes] = []
    begun: dict[str, _Burst] = {}
    now = _written(time)
    for edit in edits:
        old = changed.get(edit.key) or document.entries.get(edit.key)
        outcome = _outcome(old, edit, now)
        outcomes.append(outcome)
        if outcome.entry is None or outcome.entry is old:
            continue
        changed[edit.key] = outcome.entry
        if old is not None and old.text == outcome.entry.text:
            continue
        begun[edit.key], lost = _burst(begun.get(edit.key) or bursts.get(edit.key), old, edit, time)
        if lost is not None and history.loses_text(lost, outcome.entry):
            replaced.append(history.line(edit.key, lost, now, "request", begun[edit.key].by))
            begun[edit.key] = begun[edit.key]._replace(before=None)
    return _Applied(changed, outcomes, b"".join(replaced), begun)


def _burst(burst: _Burst | None, old: Entry | None, edit: Edit, time: datetime) -> tuple[_Burst, Entry | None]:
    """The burst of writing that an edit of a text belongs to, and the note whose text must not be lost by it."""
    by = cast("str | None", edit.changes.get("by"))
    # Without a name, nobody knows that it is one person.
    if burst is None or by is None or burst.by != by or not timedelta() <= time - burst.began < _BURST:
        burst = _Burst(by, time, old)
    return burst, burst.before


def _outcome(old: Entry | None, edit: Edit, now: str) -> Outcome:
    # Before the precondition: a client that repeats a save because its reply was lost must not hear that it is stale.
    if old is not None and old.has(edit.changes):
        return Outcome(old, saved=True)
    if not edit.precondition.holds(old):
        return Outcome(old, saved=False)
    return Outcome((old or EMPTY_ENTRY).changed(edit.changes, now), saved=True)


def _own(path: Path) -> int:
    """The lock on the notes file. Raises `StoreError` where there can be none."""
    if not path.parent.is_dir():
        raise StoreError(f"{path.parent}: no such directory")
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        raise StoreError(f"{path}: not a regular file")
    try:
        return durable.lock(lock_path(path))
    except durable.FileInUse:
        raise FileTaken(path) from None
    except OSError as error:
        raise StoreError(f"{path}: cannot be locked: {error.strerror}") from None


def _load(path: Path) -> _State:
    try:
        found = durable.read(path)
        if found is None:
            return _State(Document(), None, durable=False)
        data, seen = found
        return _State(parse_document(data, str(path)), seen, durable=False)
    except DocumentError as error:
        raise StoreError(f"{error}\nThe file is left as it is; mend it or name another one.") from None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from None


def _written(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
