"""Recording on a cluster: hands out the chunks and collects what the workers put.

Through Ray go paths, keys, hashes and numbers. Files go through the shared place: the inputs to the workers, answers
and chunks back. A chunk counts once its file is in the recording's directory with the hash that its worker named; one
that is there already is not run again, whichever engine it comes from.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from loradash_assets.compute.activations import halved_line, progress_bar
from loradash_assets.compute.adapter_files import ADAPTER_FILES
from loradash_assets.compute.catalogue import DIRECTIONS_FILE, FEATURES_FILE
from loradash_assets.compute.cluster.dispatch import Dispatch
from loradash_assets.compute.cluster.installed import check_installed
from loradash_assets.compute.cluster.pool import Death, Event, Pool
from loradash_assets.compute.cluster.shared import Shared
from loradash_assets.compute.cluster.worker import HubModel, Ready, Recorded, Task, versions_here, weights_here
from loradash_assets.compute.errors import ClusterError, InputError, ModelError
from loradash_assets.compute.forecast import free_bytes
from loradash_assets.compute.job import Answers, Job, Ran, Recording
from loradash_assets.compute.recheck import Plain
from loradash_assets.compute.recording import CHUNK_SUFFIX, RecordingPlan, chunk_file, is_recorded, tokens_of_chunk
from loradash_assets.compute.row_groups import row_groups
from loradash_assets.compute.token_ids import TokenIds
from loradash_assets.store import file_digest

if TYPE_CHECKING:
    from loradash_assets.settings import ClusterSettings

Log = Callable[[str], None]
SECONDS_BETWEEN_LOOKS = 0.2  # at what has arrived; what a worker reports is seen at once
COLLECTORS = 4  # threads that take files from the shared place


class Cluster:
    """The cluster of the settings, for one recording after another; joined or started when the first one begins.

    With `several` to come, workers keep the base model from one to the next. Leave the context to end the workers.
    """

    def __init__(self, settings: ClusterSettings, *, several: bool = False) -> None:
        self._settings = settings
        self._several = several
        self._pool: Pool | None = None

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.close()

    def record(
        self,
        recording: Recording,
        target: Path,
        log: Log,
        *,
        place: str,
        hub: HubModel | None = None,
        free: Callable[[Path], int] = free_bytes,
    ) -> dict[str, Any]:
        """Record every feature on every token into chunk files in `target`; return what people want to know of it.

        `place` is shared with the workers (see `Shared`) and of this recording alone: chunks that are there already are
        taken first, and it is removed at the end, however that comes. A worker that lacks the base model's directory
        downloads `hub`. Raises ModelError, AdapterError or StorageError as `record_activations` does, and ClusterError.
        """
        check_installed(self._settings)
        _check_device(recording.device)
        job = Job.read(recording)
        job.check_room(target, log, free)
        shared = Shared(place)
        with shared.refusals():
            _take_over(shared, target)
            task = self._task(recording, shared, place, hub)
        pool = self._started(recording.device)
        where = self._settings.address or "a Ray cluster of this machine"
        log(f"recording on {where}, {len(pool.workers)} workers asked for, by way of {place}")
        try:
            return _Run(pool, task, job, shared, target, self._settings.attempts, log).facts()
        finally:
            pool.stop()
            _take_over(shared, target)
            shared.clear()

    def _started(self, device: str) -> Pool:
        if self._pool is None:
            self._pool = Pool(self._settings, device)
        self._pool.fill()
        return self._pool

    def _task(self, recording: Recording, shared: Shared, place: str, hub: HubModel | None) -> Task:
        adapter = [recording.adapter / name for name in ADAPTER_FILES]
        with shared.scratch() as scratch:
            ids = Path(scratch, recording.prompts.name)
            _write_ids(recording.prompts, ids)
            prompts = shared.share([ids])
        return Task(
            place=place,
            recording=recording,
            prompts=prompts,
            catalogue=shared.share([recording.catalogue / name for name in (FEATURES_FILE, DIRECTIONS_FILE)]),
            adapter=shared.share([file for file in adapter if file.is_file()]),
            hub=hub,
            versions=versions_here(),
            weights=weights_here(recording.model),
            threads=self._settings.threads or _threads_here(),
            several=self._several,
        )


class _Run:
    """One recording on the pool's workers."""

    def __init__(self, pool: Pool, task: Task, job: Job, shared: Shared, target: Path, attempts: int, log: Log) -> None:
        self._pool, self._task, self._job = pool, task, job
        self._shared, self._target, self._attempts, self._log = shared, target, attempts, log
        self._dispatch = Dispatch(attempts)
        self._ready: dict[int, Ready] = {}
        self._failed_starts = 0  # since the last one that succeeded
        self._halved: dict[int, int] = {}  # by worker
        self._travelling: dict[Future[None], tuple[int, int]] = {}  # worker, chunk
        self._planned: tuple[Answers, RecordingPlan] | None = None
        self._plain: Plain | None = None
        self._there = 0  # tokens that were recorded before
        self._started = time.monotonic()

    def facts(self) -> dict[str, Any]:
        """Record everything; return what people want to know of it."""
        for worker in self._pool.workers:
            self._pool.start(worker, self._task)
        with progress_bar(self._job, self._log) as progress, ThreadPoolExecutor(COLLECTORS) as collectors:
            try:
                while self._planned is None or not self._dispatch.finished:
                    for event in self._pool.events(SECONDS_BETWEEN_LOOKS):
                        self._note(event, progress, collectors)
                    self._collect(progress)
                    for order in self._dispatch.orders(time.monotonic()):
                        self._pool.record(order.worker, order.chunk)
            finally:
                collectors.shutdown(cancel_futures=True)
        return self._facts(*self._planned)

    def _facts(self, answers: Answers, plan: RecordingPlan) -> dict[str, Any]:
        halved = sum(self._halved.values())
        if halved:
            self._log(halved_line(halved))
        ran = Ran(int(plan.offsets[-1]) - self._there, time.monotonic() - self._started, halved)
        again = self._dispatch.run_again
        self._log(f"recorded by {len(self._ready)} workers; chunks that were sent once more: {again or 'none'}")
        rechecked = self._job.recheck(plan, self._target, answers, self._plain)
        return self._job.facts(answers, plan, ran, rechecked) | {"_workers": len(self._ready), "_run_again": again}

    def _note(self, event: Event | Death, progress: Callable[[int], None], collectors: ThreadPoolExecutor) -> None:
        match event:
            case Death(worker, reason):
                self._replace(worker, reason)
            case Event(worker, outcome=Ready() as ready):
                self._join(worker, ready, progress)
            case Event(worker, int(chunk), Recorded(digest, halved)):
                self._halved[worker] = halved
                if self._dispatch.recorded(worker, chunk, time.monotonic()):
                    taken = collectors.submit(take_chunk, self._shared, self._target, chunk, digest)
                    self._travelling[taken] = (worker, chunk)
            case Event(outcome=InputError() as error):
                raise error
            case Event(worker, int(chunk), error):
                self._log(f"chunk {chunk} failed on {self._name(worker)}: {error}")
                self._dispatch.failed(worker, chunk, time.monotonic(), str(error))
            case Event(worker, outcome=error):
                self._pool.remove(worker)
                self._replace(worker, f"it could not start: {error}")

    def _join(self, worker: int, ready: Ready, progress: Callable[[int], None]) -> None:
        self._failed_starts = 0
        if self._planned is None:
            self._plan(ready, progress)
        first = next(iter(self._ready.values()), ready)
        if ready.answers != first.answers:
            raise ClusterError(
                f"cluster.address: the model on {ready.machine} answers otherwise than on {first.machine}: use "
                "machines of one kind, or the results would not be the same"
            )
        self._ready[worker] = ready
        self._dispatch.joined(worker)
        self._log(f"{self._name(worker)} is ready")

    def _plan(self, ready: Ready, progress: Callable[[int], None]) -> None:
        answers = Answers(**json.loads(self._shared.read(ready.answers)))
        for line in answers.lines():
            self._log(line)
        self._plain = None if ready.plain is None else Plain.of_bytes(self._shared.read(ready.plain))
        plan = self._job.plan(answers)
        missing: list[int] = []
        for chunk in range(len(plan.batches.chunks)):
            if is_recorded(plan, self._target, chunk):
                progress(tokens_of_chunk(plan, chunk))
                self._there += tokens_of_chunk(plan, chunk)
            else:
                missing.append(chunk)
        # The large ones first: what is left at the end, when some have nothing to do any more, is small.
        self._dispatch.extend(sorted(missing, key=lambda chunk: tokens_of_chunk(plan, chunk), reverse=True))
        self._planned = answers, plan
        self._started = time.monotonic()

    def _replace(self, worker: int, reason: str) -> None:
        """Give the chunks of a worker that died to others, and start another worker, unless they all die at once."""
        if worker in self._ready:
            self._log(f"{self._name(worker)} died, and others go on: {reason}")
            chunks = self._dispatch.died(worker, reason)
            self._log(f"chunks {', '.join(map(str, chunks)) or 'none'} of worker {worker} go to other workers")
        else:
            self._failed_starts += 1
            self._log(f"worker {worker} died before it was ready: {reason}")
        if self._failed_starts < self._attempts:
            self._pool.start(self._pool.add(), self._task)
        elif not self._pool.workers:
            raise ClusterError(f"cluster.attempts: {self._failed_starts} workers in a row died at the start: {reason}")

    def _collect(self, progress: Callable[[int], None]) -> None:
        """Note the files that have arrived."""
        for arrived in wait(self._travelling, timeout=0).done:
            worker, chunk = self._travelling.pop(arrived)
            try:
                arrived.result()
            except Exception as error:  # the file system's, a bucket's library's
                self._log(f"chunk {chunk} of {self._name(worker)} did not arrive: {error}")
                self._dispatch.lost(worker, chunk, str(error))
            else:
                assert self._planned is not None
                self._dispatch.kept(chunk)
                progress(tokens_of_chunk(self._planned[1], chunk))

    def _name(self, worker: int) -> str:
        ready = self._ready[worker]
        return f"worker {worker} (process {ready.process} on {ready.machine})"


def take_chunk(shared: Shared, target: Path, chunk: int, digest: str) -> None:
    """Take a chunk's file from the shared place into `target`. Raises OSError unless its SHA-256 is `digest`."""
    file = chunk_file(target, chunk)
    arriving = file.with_suffix(".tmp")
    shared.take(file.name, arriving)
    if file_digest(arriving) != digest:
        raise OSError(f"{file.name} has another SHA-256 than its worker named")
    arriving.replace(file)


def _take_over(shared: Shared, target: Path) -> None:
    """Take the chunks that a run that was interrupted has left in the shared place."""
    for key in shared.keys() - {file.name for file in target.iterdir()}:
        file = target / key
        if file.suffix == CHUNK_SUFFIX:
            shared.take(key, file.with_suffix(".tmp"))
            file.with_suffix(".tmp").replace(file)


def _write_ids(prompts: Path, target: Path) -> None:
    """Write what a recording needs of the prompts: a third of their bytes, and none of their text."""
    groups = row_groups(prompts, TokenIds.COLUMNS)
    first = next(groups)
    with pq.ParquetWriter(target, first.schema) as written:
        for group in chain([first], groups):
            written.write_table(group)


def _check_device(device: str) -> None:
    if device.startswith("cuda:"):
        raise ModelError(
            f"model.device: {device} is one GPU of one machine; with cluster.engine ray write cuda, and Ray gives each "
            "worker its own"
        )


def _threads_here() -> int:
    import torch

    return torch.get_num_threads()
