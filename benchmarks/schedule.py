"""A recording's schedule on many workers, simulated: the real `Dispatch` decides, an event clock stands for Ray.

What takes time: loading the model, running a chunk, putting its file (while the next one runs), the way of an order to
its worker and of the answer back, and the driver, which handles one event after another.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loradash_assets.compute.cluster.dispatch import Dispatch
from loradash_assets.compute.cluster.driver import SECONDS_BETWEEN_LOOKS

ATTEMPTS = 3


@dataclass(frozen=True)
class Costs:
    """Seconds that things take.

    `way`: an order's way to its worker, or an answer's back; `driver`: the driver's work for one event; `load`: until a
    worker's model is ready; `put`: a chunk's file to the shared store; `notice`: until a lost machine is known to be.
    """

    way: float
    driver: float
    load: float
    put: float
    notice: float


@dataclass(frozen=True)
class Outcome:
    """A simulated recording: its seconds, and how many chunks were sent once more."""

    seconds: float
    run_again: int


@dataclass
class _Worker:
    """The chunks that have arrived at a worker, and whether one of them runs."""

    waiting: deque[int] = field(default_factory=deque[int])
    runs: bool = False


class Schedule:
    """Workers that record chunks. `seconds_of` says how long a chunk runs, each time that it does."""

    def __init__(
        self, chunks: int, seconds_of: Callable[[int], float], costs: Costs, *, workers: int, warm: bool
    ) -> None:
        self._dispatch = Dispatch(ATTEMPTS, range(chunks))
        self._seconds_of = seconds_of
        self._costs = costs
        self._workers: dict[int, _Worker] = {}
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = itertools.count()  # of events at one time
        self._driver_free = 0.0
        for _ in range(workers):
            self._come_up(0.0, 0.0 if warm else costs.load)

    def run(self, lost_at: float | None = None) -> Outcome:
        """Run to the end; at `lost_at` seconds one worker is lost, and another one begins to load."""
        if lost_at is not None:
            self._at(lost_at, self._lose_one)
        self._at(SECONDS_BETWEEN_LOOKS, self._look)
        now = 0.0
        while not self._dispatch.finished:
            now, _, happens = heapq.heappop(self._events)
            happens(now)
        return Outcome(now, len(self._dispatch.run_again))

    def _at(self, seconds: float, happens: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (seconds, next(self._order), happens))

    def _come_up(self, now: float, load: float) -> None:
        number = next(self._numbers)
        self._at(now + load, lambda now: self._driver(now, lambda _: self._join(number)))

    def _join(self, worker: int) -> None:
        self._workers[worker] = _Worker()
        self._dispatch.joined(worker)

    def _lose_one(self, now: float) -> None:
        worker = next(iter(self._workers))
        del self._workers[worker]
        noticed = now + self._costs.notice
        self._at(noticed, lambda now: self._driver(now, lambda _: self._dispatch.died(worker, "lost")))
        self._come_up(noticed, self._costs.load)

    def _look(self, now: float) -> None:
        self._driver(now, lambda _: None)
        self._at(now + SECONDS_BETWEEN_LOOKS, self._look)

    def _driver(self, now: float, does: Callable[[float], object]) -> None:
        """Let the driver do something as soon as it is free, and send what is to be sent then."""
        self._driver_free = max(self._driver_free, now) + self._costs.driver

        def happens(now: float) -> None:
            does(now)
            for order in self._dispatch.orders(now):
                self._at(now + self._costs.way, lambda now, order=order: self._arrive(now, order.worker, order.chunk))

        self._at(self._driver_free, happens)

    def _arrive(self, now: float, worker: int, chunk: int) -> None:
        if worker in self._workers:
            self._workers[worker].waiting.append(chunk)
            self._go_on(now, worker)

    def _go_on(self, now: float, worker: int) -> None:
        """Begin the next chunk, if one waits and none runs."""
        state = self._workers[worker]
        if state.runs or not state.waiting:
            return
        state.runs, chunk = True, state.waiting.popleft()
        self._at(now + self._seconds_of(chunk), lambda now: self._end(now, worker, chunk))

    def _end(self, now: float, worker: int, chunk: int) -> None:
        if worker not in self._workers:
            return
        self._workers[worker].runs = False
        self._go_on(now, worker)
        self._at(now + self._costs.put + self._costs.way, lambda now: self._report(now, worker, chunk))

    def _report(self, now: float, worker: int, chunk: int) -> None:
        if worker in self._workers:
            self._driver(now, lambda now: self._note(now, worker, chunk))

    def _note(self, now: float, worker: int, chunk: int) -> None:
        if worker in self._workers and self._dispatch.recorded(worker, chunk, now):
            self._dispatch.kept(chunk)


def drawn(
    tokens: Sequence[int], seconds_per_token: float, factors: NDArray[np.float64], seed: int
) -> Callable[[int], float]:
    """Return what says how long a chunk of so many tokens runs: with another one of the factors each time."""
    random = np.random.default_rng(seed)
    return lambda chunk: tokens[chunk] * seconds_per_token * float(factors[random.integers(len(factors))])
