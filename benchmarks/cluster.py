"""Recording on a Ray cluster: what it costs here, a worker killed, and the schedule of 64 workers simulated.

    python -m benchmarks.cluster

Measured on a real cluster of this machine: the way of a call through Ray, the driver's work for a chunk, and the
recording of the demo by one worker and by two, undisturbed and with one of them killed in the middle; the bytes must be
those of one process. The simulation (`benchmarks/schedule.py`) is set beside these times, and beside those of 16
workers that sleep, which need no cores. Then it is asked about a model that takes as long for a token as
docs/large-models.md has it, with the spread of the times measured here.
"""

from __future__ import annotations

import os
import re
import signal
import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.demo import ROOT, Demo
from benchmarks.memory import synthetic_examples
from benchmarks.schedule import Costs, Schedule, drawn
from benchmarks.sleepers import ANSWERS, Sleeper, seconds_of
from benchmarks.timing import write_result
from loradash_assets.compute.activations import adapted_model
from loradash_assets.compute.batching import plan_recording
from loradash_assets.compute.catalogue import write_catalogue
from loradash_assets.compute.cluster import pool
from loradash_assets.compute.cluster.driver import Cluster
from loradash_assets.compute.encode import PROMPTS_FILE, Example, PromptsFile
from loradash_assets.compute.job import Job, Recording, tokens_per_chunk
from loradash_assets.compute.recording import run_chunk, tokens_of_chunk
from loradash_assets.settings import ClusterSettings, RecordingSettings

ROWS, FEW_ROWS = 40, 6  # of the demo
CHUNK_TOKENS = 512  # of the setting: chunks of half of it
CALLS = 300
SLEEPERS, SLEEPING_ROWS = 16, 240
WORKERS = 64
DRAWS = 9
TIMES_ALL = {"10 million": 1, "a billion": 100}
SETTINGS = (4096, 8192, 16_384, 32_768, 65_536, 131_072)  # recording.chunk_tokens
SECONDS_PER_TOKEN = 169e-6  # docs/large-models.md
FEATURES = 448
PUT_BYTES_PER_SECOND = 200e6
LOAD, NOTICE = 60.0, 60.0  # seconds: Python, its libraries and 65 GB at 2 GB/s; until Ray gives up a silent machine
ONE_OF, TIMES_AS_LONG = 100, 5.0  # chunks: a straggler
READY = re.compile(r"worker \d+ \(process (\d+) on .*\) is ready")


class Bench:
    """The demo's recording below a directory, of many or few rows, by one process and by workers."""

    def __init__(self, demo: Demo, directory: Path) -> None:
        self._demo, self._directory = demo, directory
        self._runs = 0
        self.many, self.few = (self._recording(rows, CHUNK_TOKENS) for rows in (ROWS, FEW_ROWS))
        self.one_by_one = self._recording(SLEEPING_ROWS, 2)

    def _recording(self, rows: int, chunk_tokens: int) -> Recording:
        demo, directory = self._demo, self._directory / f"rows-{rows}"
        directory.mkdir()
        write_catalogue(demo.adapter, demo.model, directory, allow_pickle=False, trust_remote_code=False, rank=None)
        with PromptsFile(directory / PROMPTS_FILE) as prompts:
            for row, ids in enumerate(demo.token_ids(rows)):
                texts = [f" {token}" for token in ids]
                prompts.add(row, Example("".join(texts), ids.tolist(), texts))
        settings = RecordingSettings(chunk_tokens=chunk_tokens)
        return Recording(
            prompts=directory / PROMPTS_FILE,
            catalogue=directory,
            model=demo.model,
            adapter=demo.adapter,
            dtype="float32",
            device="cpu",
            device_map=None,
            trust_remote_code=False,
            **settings.model_dump(),
        )

    def target(self) -> Path:
        """Return a new directory."""
        self._runs += 1
        target = self._directory / f"run-{self._runs}"
        target.mkdir()
        return target

    def alone(self) -> Alone:
        """Record many rows in this process, chunk by chunk as a worker does."""
        torch.set_num_threads(1)
        job, target = Job.read(self.many), self.target()
        model = adapted_model(job)
        answers = job.ask(model)
        plan, forward = job.plan(answers), job.forward(model, answers)
        run_chunk(plan, forward, 0)(target)  # warm
        seconds: list[float] = []
        for chunk in range(len(plan.batches.chunks)):
            started = time.perf_counter()
            run_chunk(plan, forward, chunk)(target)
            seconds.append(time.perf_counter() - started)
        tokens = [tokens_of_chunk(plan, chunk) for chunk in range(len(seconds))]
        return Alone(_files(target), seconds, tokens)


@dataclass(frozen=True)
class Alone:
    """What one process recorded: its files, and seconds and tokens of each chunk."""

    files: Mapping[str, bytes]
    seconds: Sequence[float]
    tokens: Sequence[int]

    @property
    def spread(self) -> list[float]:
        """Each chunk's seconds per token, as a factor of the mean."""
        rates = np.array(self.seconds) / np.array(self.tokens)
        return (rates / rates.mean()).tolist()


@dataclass(frozen=True)
class Run:
    """A recording by workers that were warm: its seconds, those of the driver's thread, and what was sent again."""

    seconds: float
    driver_seconds: float
    workers: int
    run_again: Sequence[int]
    files: Mapping[str, bytes]
    log: Sequence[str]


def _files(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def _run(cluster: Cluster, recording: Recording, target: Path, *, kill: bool = False) -> Run:
    """Record; with `kill`, end the first worker that is ready when a third of the chunks is there."""
    log: list[str] = []
    killer = threading.Thread(target=_kill_one, args=(target, log), daemon=True)
    if kill:
        killer.start()
    before = time.thread_time()
    facts = cluster.record(recording, target, log.append, place=f"{target}-shared")
    spent = time.thread_time() - before
    seconds = facts["tokens"] / facts["_tokens_per_second"]
    return Run(seconds, spent, facts["_workers"], facts["_run_again"], _files(target), log)


def _kill_one(target: Path, log: Sequence[str]) -> None:
    while len(list(target.glob("chunk-*"))) < ROWS // 6:
        time.sleep(0.01)
    process = next(found[1] for line in log if (found := READY.fullmatch(line)))
    os.kill(int(process), signal.SIGKILL)


class _Echo:
    def call(self) -> None:
        """Do nothing."""


def _way() -> float:
    """The seconds that a call takes to a worker or back, half of what an empty one takes."""
    import ray

    actor: Any = ray.remote(_Echo).remote()
    seconds: list[float] = []
    for _ in range(CALLS):
        started = time.perf_counter()
        ray.get(actor.call.remote())
        seconds.append(time.perf_counter() - started)
    ray.kill(actor)
    return statistics.median(seconds) / 2


def measure(bench: Bench) -> tuple[dict[str, Any], Costs, list[float]]:
    """Run everything that is real; return figures, costs and spread. Raises AssertionError if a byte differs."""
    alone = bench.alone()
    settings = ClusterSettings(engine="ray", workers=1, threads=1)
    with Cluster(settings, several=True) as cluster:
        _run(cluster, bench.few, bench.target())
        few = _run(cluster, bench.few, bench.target())
        one = _run(cluster, bench.many, bench.target())
        way = _way()
    with Cluster(settings.model_copy(update={"workers": 2}), several=True) as cluster:
        _run(cluster, bench.few, bench.target())
        two = _run(cluster, bench.many, bench.target())
        killed = _run(cluster, bench.many, bench.target(), kill=True)
    assert one.files == two.files == killed.files == alone.files
    assert killed.run_again
    more = len(one.files) - len(few.files)
    costs = Costs(way, max(0.0, one.driver_seconds - few.driver_seconds) / more, 0.0, 0.0, 0.0)
    figures = {
        "chunks": len(alone.seconds),
        "tokens": sum(alone.tokens),
        "seconds_of_one_process": round(sum(alone.seconds), 2),
        "longest_chunk_of_mean": round(max(alone.spread), 2),
        "way_milliseconds": round(way * 1000, 2),
        "driver_milliseconds_per_chunk": round(costs.driver * 1000, 2),
        "one_worker": _beside_simulated(one, alone, costs, 1),
        "two_workers": _beside_simulated(two, alone, costs, 2),
        "sleepers": _sleepers(bench, costs),
        "killed": {
            "sent_again": len(killed.run_again),
            "same_bytes": True,
        },
    }
    return figures, costs, alone.spread


def _sleepers(bench: Bench, costs: Costs) -> dict[str, Any]:
    """Have workers that sleep record every example as a chunk, once they are all there."""
    settings = ClusterSettings(engine="ray", workers=SLEEPERS, threads=1)
    os.environ["PYTHONPATH"] = str(ROOT)  # of the workers, which import this package
    with patch.object(pool, "Worker", Sleeper), Cluster(settings, several=True) as cluster:
        while _run(cluster, bench.one_by_one, bench.target()).workers < SLEEPERS:
            pass
        run = _run(cluster, bench.one_by_one, bench.target())
    job = Job.read(bench.one_by_one)
    plan = job.plan(ANSWERS)
    order = sorted(range(len(run.files)), key=lambda chunk: tokens_of_chunk(plan, chunk), reverse=True)
    seconds = [seconds_of(chunk) for chunk in order]
    simulated = Schedule(len(order), seconds.__getitem__, costs, workers=SLEEPERS, warm=True).run().seconds
    return {
        "workers": SLEEPERS,
        "chunks": len(order),
        "seconds": round(run.seconds, 2),
        "simulated_seconds": round(simulated, 2),
        "share_of_linear": round(sum(seconds) / SLEEPERS / run.seconds, 3),
    }


def _beside_simulated(run: Run, alone: Alone, costs: Costs, workers: int) -> dict[str, float]:
    order = sorted(range(len(alone.tokens)), key=lambda chunk: alone.tokens[chunk], reverse=True)
    seconds = [alone.seconds[chunk] for chunk in order]
    simulated = Schedule(len(seconds), seconds.__getitem__, costs, workers=workers, warm=True).run().seconds
    return {"seconds": round(run.seconds, 2), "simulated_seconds": round(simulated, 2)}


@dataclass(frozen=True)
class Case:
    """What happens while 64 workers record."""

    stragglers: bool = False
    lost: bool = False
    warm: bool = True


CASES = {
    "as measured": Case(),
    "stragglers": Case(stragglers=True),
    "and a worker lost": Case(stragglers=True, lost=True),
    "and cold": Case(stragglers=True, lost=True, warm=False),
}


def simulate(costs: Costs, spread: Sequence[float]) -> list[dict[str, Any]]:
    """Return, of every size and setting, the chunks and the share of linear in each case: the lowest of the draws."""
    examples = [np.array(ids, np.int32) for ids in synthetic_examples(10_000_000)]
    rows: list[dict[str, Any]] = []
    for name, times in TIMES_ALL.items():
        for setting in SETTINGS:
            plan = plan_recording(examples, RecordingSettings().batch_tokens, tokens_per_chunk(setting, FEATURES))
            sizes = [sum(len(examples[example]) for example in chunk.examples) for chunk in plan.chunks]
            tokens = sorted(sizes * times, reverse=True)
            shares = {case: share_of_linear(tokens, costs, spread, CASES[case]) for case in CASES}
            rows.append({"tokens": name, "chunk_tokens": setting, "chunks": len(tokens), "shares": shares})
    return rows


def share_of_linear(tokens: Sequence[int], costs: Costs, spread: Sequence[float], case: Case) -> float:
    """Return what 64 workers gain, as a share of 64, on chunks of so many tokens: the lowest of several draws.

    One worker takes the mean of what is drawn for each chunk, after loading unless all are warm.
    """
    factors = np.array(spread)
    if case.stragglers:
        factors = np.concatenate([np.tile(factors, ONE_OF - 1), np.full(len(factors), TIMES_AS_LONG)])
    alone = sum(tokens) * SECONDS_PER_TOKEN * float(factors.mean())
    load = 0.0 if case.warm else LOAD
    put = float(np.mean(tokens)) * FEATURES * 4 / PUT_BYTES_PER_SECOND
    costs = Costs(costs.way, costs.driver, LOAD, put, NOTICE)
    half = load + alone / WORKERS / 2
    shares: list[float] = []
    for seed in range(DRAWS if len(tokens) < 10_000 else 1):
        seconds_of = drawn(tokens, SECONDS_PER_TOKEN, factors, seed)
        schedule = Schedule(len(tokens), seconds_of, costs, workers=WORKERS, warm=case.warm)
        shares.append((alone + load) / WORKERS / schedule.run(half if case.lost else None).seconds)
    return round(min(shares), 3)


def main() -> None:
    """Measure, simulate, and write the result."""
    with TemporaryDirectory() as scratch:
        measured, costs, spread = measure(Bench(Demo.prepare(), Path(scratch)))
    print(measured, flush=True)
    figures = {
        "measured": measured,
        "assumed": {
            "workers": WORKERS,
            "seconds_per_token": SECONDS_PER_TOKEN,
            "features": FEATURES,
            "put_bytes_per_second": PUT_BYTES_PER_SECOND,
            "load_seconds": LOAD,
            "notice_seconds": NOTICE,
            "stragglers": 1 / ONE_OF,
            "times_as_long": TIMES_AS_LONG,
        },
        "simulated": simulate(costs, spread),
    }
    print(write_result("cluster", figures))


if __name__ == "__main__":
    main()
