"""The workers as Ray runs them: actors that are called, and what became of the calls. All of Ray is in here."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loradash_assets.compute.cluster.dispatch import AT_ONCE
from loradash_assets.compute.cluster.worker import Ready, Recorded, Task, Worker
from loradash_assets.compute.errors import ClusterError, ModelError

if TYPE_CHECKING:
    from loradash_assets.settings import ClusterSettings

SECONDS_TO_CONNECT = 10.0
OBJECT_STORE_BYTES = 100 << 20  # of a cluster of our own: next to nothing goes through Ray
# No statistics are sent; errors that nobody asks for any more, of other workers than the first, are not printed.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_IGNORE_UNHANDLED_ERRORS": "1"}
BEYOND_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # "0" binds to loopback on Linux too; read when Ray is imported


@dataclass(frozen=True)
class Event:
    """What became of a call to a worker: of its start, or of a chunk. An exception is the worker's own."""

    worker: int
    chunk: int | None
    outcome: Ready | Recorded | Exception


@dataclass(frozen=True)
class Death:
    """A worker is no more, for a reason."""

    worker: int
    reason: str


class Pool:
    """Actors on a Ray cluster, by numbers that are never used twice.

    Raises ClusterError if there is no such cluster or the workers do not fit into it, ModelError for a device that it
    does not have.
    """

    def __init__(self, settings: ClusterSettings, device: str) -> None:
        _connect(settings)
        self._actors: dict[int, Any] = {}
        self._calls: dict[Any, tuple[int, int | None]] = {}
        self._number = 0
        try:
            self._size, self._gpus = _size(settings, device)
        except BaseException:
            self.close()
            raise

    @property
    def workers(self) -> Sequence[int]:
        """The numbers of the workers."""
        return list(self._actors)

    def fill(self) -> None:
        """Add workers until there are as many as there should be."""
        while len(self._actors) < self._size:
            self.add()

    def add(self) -> int:
        """Add a worker, which comes up when the cluster has room for it; return its number."""
        import ray

        self._number += 1
        actor: Any = ray.remote(Worker)
        self._actors[self._number] = actor.options(
            num_cpus=1, num_gpus=self._gpus, max_concurrency=AT_ONCE, scheduling_strategy="SPREAD"
        ).remote()
        return self._number

    def start(self, worker: int, task: Task) -> None:
        """Have a worker load its model."""
        self._calls[self._actors[worker].start.remote(task)] = (worker, None)

    def record(self, worker: int, chunk: int) -> None:
        """Have a worker record a chunk."""
        self._calls[self._actors[worker].record.remote(chunk)] = (worker, chunk)

    def remove(self, worker: int) -> None:
        """Kill a worker, if it lives, and forget what it was called for."""
        import ray

        ray.kill(self._actors.pop(worker))
        self._calls = {call: of for call, of in self._calls.items() if of[0] != worker}

    def events(self, seconds: float) -> Generator[Event | Death]:
        """Wait until a call is at its end, or so long, and yield what became of all that are; a death is told once."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        calls = list(self._calls)
        if not calls:
            time.sleep(seconds)
            return
        ray.wait(calls, timeout=seconds)
        for call in ray.wait(calls, num_returns=len(calls), timeout=0)[0]:
            if call not in self._calls:  # of a worker that died
                continue
            worker, chunk = self._calls.pop(call)
            try:
                yield Event(worker, chunk, ray.get(call))
            except RayTaskError as error:
                yield Event(worker, chunk, error.cause)
            except RayError as error:
                self.remove(worker)
                yield Death(worker, _short(error))

    def stop(self) -> None:
        """Kill the workers that are at work."""
        for worker in {worker for worker, _ in self._calls.values()}:
            self.remove(worker)

    def close(self) -> None:
        """Kill the workers, and end the cluster if it is our own."""
        import ray

        for worker in self.workers:
            self.remove(worker)
        ray.shutdown()


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _size(settings: ClusterSettings, device: str) -> tuple[int, int]:
    """Return how many workers there are to be, and with how many GPUs each."""
    import ray

    machines: list[dict[str, float]] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    has_gpus = any(machine.get("GPU") for machine in machines)
    if device == "cuda" and not has_gpus:
        raise ModelError("model.device: no machine of the cluster has a GPU; use auto or cpu")
    gpus = settings.gpus_per_worker if has_gpus and device != "cpu" else 0
    room = sum(int(machine.get("GPU", 0) // gpus if gpus else machine.get("CPU", 0)) for machine in machines)
    size = settings.workers or (room if gpus else sum(machine.get("CPU", 0) >= 1 for machine in machines))
    if not 0 < size <= room:
        kind = f"{gpus} GPUs" if gpus else "a CPU"
        raise ClusterError(
            f"cluster.workers: the cluster has room for {room} workers with {kind} each, not for {max(size, 1)}"
        )
    return size, gpus


def _connect(settings: ClusterSettings) -> None:
    """Join the cluster that the settings name, or start one on this machine that nobody else can reach."""
    if settings.address is not None:
        _check_reachable(settings.address)
    own: dict[str, Any] = {
        "address": "local",
        "num_cpus": max(os.cpu_count() or 1, settings.workers or 1),
        "object_store_memory": OBJECT_STORE_BYTES,
        "include_dashboard": False,
    }
    joined: dict[str, Any] = {"address": settings.address}
    os.environ |= QUIET
    with _own_cluster_on_loopback() if settings.address is None else nullcontext(), _signals_kept():
        import ray

        try:
            ray.init(**(own if settings.address is None else joined), log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            where = settings.address or "of this machine"
            raise ClusterError(f"cluster.address: cannot use the Ray cluster {where}: {_short(error)}") from error


def _check_reachable(address: str) -> None:
    """Raise ClusterError unless something listens there: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_CONNECT).close()
    except OSError as error:
        raise ClusterError(
            f"cluster.address: nothing answers at {address} ({error}): start a cluster there ('ray start --head'), or "
            "set it to null for one of this machine alone"
        ) from error


@contextmanager
def _own_cluster_on_loopback() -> Generator[None]:
    before = os.environ.get(BEYOND_LOOPBACK)
    os.environ[BEYOND_LOOPBACK] = "0"
    try:
        yield
    finally:
        del os.environ[BEYOND_LOOPBACK]
        os.environ |= {} if before is None else {BEYOND_LOOPBACK: before}


@contextmanager
def _signals_kept() -> Generator[None]:
    """Ray takes SIGTERM for itself, by which Dagster stops a run."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
