"""Who records which chunk: decided from what has happened so far, without Ray, so that it can be simulated.

A worker has one chunk that runs and at most one that waits behind it, so that it is never idle while a result travels.
Near the end chunks wait here instead, for whoever is free first. When nothing waits any more, the chunks of a worker
that takes longer than others do go to a second one as well; the first result counts, and both are the same bytes.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from loradash_assets.compute.errors import ClusterError

AT_ONCE = 2  # chunks that a worker has: the one that runs, and the next
LATE = 1.5  # times the median of the last chunks' seconds
LAST = 200  # chunks that the median is taken of


@dataclass(frozen=True)
class Order:
    """A chunk to be sent to a worker."""

    worker: int
    chunk: int


@dataclass
class _Worker:
    """The chunks that a worker has, the one that runs first, and since when that one runs."""

    chunks: list[int] = field(default_factory=list[int])
    since: float = 0.0


class Dispatch:
    """Hands out chunks, in the order in which they are given. Seconds come from any clock that does not go back.

    Raises ClusterError as soon as a chunk has failed `attempts` times, counting the workers that died on it.
    """

    def __init__(self, attempts: int, chunks: Iterable[int] = ()) -> None:
        self._waiting = deque[int]()
        self._attempts = attempts
        self._workers: dict[int, _Worker] = {}
        self._open = set[int]()  # not recorded yet
        self._travelling = set[int]()  # recorded, and not kept yet
        self._failures: dict[int, list[tuple[int, str]]] = {}  # by chunk: workers and reasons
        self._seconds = deque[float](maxlen=LAST)
        self.run_again: list[int] = []  # chunks that were sent once more, in that order
        self.extend(chunks)

    def extend(self, chunks: Iterable[int]) -> None:
        """Add chunks to be recorded."""
        self._waiting.extend(chunks)
        self._open.update(self._waiting)

    @property
    def finished(self) -> bool:
        """Whether every chunk is kept."""
        return not self._open and not self._travelling

    def joined(self, worker: int) -> None:
        """Note a worker that is ready."""
        self._workers[worker] = _Worker()

    def died(self, worker: int, reason: str) -> list[int]:
        """Note that a worker is no more; return the chunks that it had. It may have died of the one that ran."""
        had = self._workers.pop(worker).chunks
        if had:
            self._count(worker, had[0], reason)
        for chunk in reversed(had):
            if self._is_nowhere(chunk):
                self._waiting.appendleft(chunk)
                self.run_again.append(chunk)
        return had

    def recorded(self, worker: int, chunk: int, now: float) -> bool:
        """Note that a worker has recorded a chunk and is free for others; return whether it is the first to do so."""
        if self._workers[worker].chunks[0] == chunk:
            self._seconds.append(now - self._workers[worker].since)
        self._free(worker, chunk, now)
        first = chunk in self._open
        if first:
            self._open.remove(chunk)
            self._travelling.add(chunk)
        return first

    def failed(self, worker: int, chunk: int, now: float, reason: str) -> None:
        """Note that a worker could not record a chunk; another one will be asked at the end, if there is one."""
        self._free(worker, chunk, now)
        self._failed(worker, chunk, reason)

    def kept(self, chunk: int) -> None:
        """Note that a recorded chunk has arrived whole."""
        self._travelling.remove(chunk)

    def lost(self, worker: int, chunk: int, reason: str) -> None:
        """Note that what a worker recorded has not arrived whole."""
        self._travelling.remove(chunk)
        self._open.add(chunk)
        self._failed(worker, chunk, reason)

    def orders(self, now: float) -> list[Order]:
        """Return what is to be sent, which counts as sent."""
        return [*self._first_orders(now), *self._second_orders(now)]

    def _first_orders(self, now: float) -> Iterator[Order]:
        for depth in range(AT_ONCE):
            for worker, state in self._workers.items():
                if len(state.chunks) == depth and (depth == 0 or len(self._waiting) >= len(self._workers)):
                    chunk = next((chunk for chunk in self._waiting if self._may_run(worker, chunk)), None)
                    if chunk is not None:
                        self._waiting.remove(chunk)
                        yield self._send(worker, chunk, now)

    def _second_orders(self, now: float) -> Iterator[Order]:
        """Chunks that late workers have and nobody else, for those that have nothing to do."""
        if self._waiting or not self._seconds:
            return
        limit = now - LATE * statistics.median(self._seconds)
        in_time = {chunk for state in self._workers.values() if state.since >= limit for chunk in state.chunks}
        late = {chunk for state in self._workers.values() for chunk in state.chunks if chunk in self._open} - in_time
        idle = [worker for worker, state in self._workers.items() if not state.chunks]
        for worker, chunk in zip(idle, sorted(late), strict=False):
            self.run_again.append(chunk)
            yield self._send(worker, chunk, now)

    def _may_run(self, worker: int, chunk: int) -> bool:
        """Not where it has failed, as long as there are others."""
        refused = {number for number, _ in self._failures.get(chunk, ())}
        return worker not in refused or refused.issuperset(self._workers)

    def _send(self, worker: int, chunk: int, now: float) -> Order:
        state = self._workers[worker]
        if not state.chunks:
            state.since = now
        state.chunks.append(chunk)
        return Order(worker, chunk)

    def _free(self, worker: int, chunk: int, now: float) -> None:
        state = self._workers[worker]
        if state.chunks[0] == chunk:
            state.since = now
        state.chunks.remove(chunk)

    def _failed(self, worker: int, chunk: int, reason: str) -> None:
        self._count(worker, chunk, reason)
        if self._is_nowhere(chunk):
            self._waiting.append(chunk)
            self.run_again.append(chunk)

    def _count(self, worker: int, chunk: int, reason: str) -> None:
        failures = self._failures.setdefault(chunk, [])
        failures.append((worker, reason))
        if len(failures) >= self._attempts and chunk in self._open:
            raise ClusterError(
                f"cluster.attempts: chunk {chunk} failed {len(failures)} times, at last on worker {worker}: {reason}"
            )

    def _is_nowhere(self, chunk: int) -> bool:
        """Whether a chunk is neither recorded nor with a worker."""
        return chunk in self._open and not any(chunk in state.chunks for state in self._workers.values())
