"""A worker of the cluster: one warm model in a process of its own, which records one chunk after another.

It is told where things are and answers with numbers and hashes; files go through the shared place. Only one chunk runs
at a time; while its results are written and put, the next one runs in the actor's other thread.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING

from loradash_assets.code_version import code_version
from loradash_assets.compute.activations import SharedBase, adapted_model
from loradash_assets.compute.allocator import freed_memory_kept
from loradash_assets.compute.cluster.shared import Shared
from loradash_assets.compute.errors import ClusterError, ModelError
from loradash_assets.compute.job import LIBRARIES, Answers, Job, Recording
from loradash_assets.compute.model import download_model
from loradash_assets.compute.recording import Forward, RecordingPlan, chunk_file, run_chunk
from loradash_assets.store import file_digest, fingerprint

if TYPE_CHECKING:
    from loradash_assets.compute.forward import AdaptedModel

CODE = "loradash_assets.compute.activations"
SAMPLED = 1 << 20  # bytes of each file of weights, its last ones


@dataclass(frozen=True)
class HubModel:
    """A base model that workers may download: its name and commit."""

    name: str
    revision: str


@dataclass(frozen=True)
class Task:
    """A recording for workers: the keys of its inputs in the shared place, and what they must find on their machine.

    `recording` has the driver's paths, of which only the model's counts. `versions` and `weights` are what the driver
    found of itself; `threads` are torch's on the CPU. With `several` the base model stays for the next recording.
    """

    place: str
    recording: Recording
    prompts: str
    catalogue: str
    adapter: str
    hub: HubModel | None
    versions: dict[str, str]
    weights: str
    threads: int
    several: bool


@dataclass(frozen=True)
class Ready:
    """A worker whose model is loaded: the process, its machine, and the keys of what it put.

    These are its answers, and what the plain model says of the sample, if there is one.
    """

    process: int
    machine: str
    answers: str
    plain: str | None


@dataclass(frozen=True)
class Recorded:
    """A chunk that was put: the SHA-256 of its file, and how many batches have run in halves since the start."""

    digest: str
    halved: int


@dataclass(frozen=True)
class _Warm:
    """A model, how it runs a batch, and what it records."""

    model: AdaptedModel
    forward: Forward
    plan: RecordingPlan
    shared: Shared


class Worker:
    """The actor. Its methods may be called by two threads at once."""

    def __init__(self) -> None:
        self._turn = Lock()  # of the model
        self._shared_base = SharedBase()
        self._warm: _Warm | None = None
        self._while_alive = ExitStack()

    def start(self, task: Task) -> Ready:
        """Load the model, ask it, plan, and put the answers.

        Raises ModelError, AdapterError or ClusterError saying what is wrong on this machine.
        """
        import torch

        machine = socket.gethostname()
        _check_versions(task.versions, machine)
        recording = replace(task.recording, model=_model_directory(task, machine))
        with self._turn, TemporaryDirectory(prefix="loradash-") as scratch:
            torch.set_num_threads(task.threads)
            self._warm = None  # its memory is free for the next one
            shared = Shared(task.place)
            recording = replace(
                recording,
                prompts=shared.fetch(task.prompts, Path(scratch)) / recording.prompts.name,
                catalogue=shared.fetch(task.catalogue, Path(scratch)),
                adapter=shared.fetch(task.adapter, Path(scratch)),
            )
            job = Job.read(recording)
            model = (self._shared_base if task.several else adapted_model)(job)
            answers = job.ask(model)
            self._warm = _Warm(model, job.forward(model, answers), job.plan(answers), shared)
            if model.device.type == "cpu":
                self._while_alive.close()
                self._while_alive.enter_context(freed_memory_kept())
        plain = None if model.plain is None else _put(shared, "plain", model.plain.to_bytes())
        return Ready(os.getpid(), machine, put_answers(shared, answers), plain)

    def record(self, number: int) -> Recorded:
        """Record a chunk and put its file."""
        warm = self._warm
        assert warm is not None
        with self._turn:
            write = run_chunk(warm.plan, warm.forward, number)
        with warm.shared.scratch() as scratch:
            write(Path(scratch))
            file = chunk_file(Path(scratch), number)
            digest = file_digest(file)
            warm.shared.put(file, file.name)
        return Recorded(digest, warm.model.halved)


def put_answers(shared: Shared, answers: Answers) -> str:
    """Put the answers; return their key, which is the same for equal ones."""
    return _put(shared, "answers", json.dumps(asdict(answers), sort_keys=True).encode())


def _put(shared: Shared, name: str, content: bytes) -> str:
    key = f"{name}-{hashlib.sha256(content).hexdigest()}"
    with shared.scratch() as scratch:
        file = Path(scratch, key)
        file.write_bytes(content)
        shared.put(file, key)
    return key


def versions_here() -> dict[str, str]:
    """Return what the bytes of a recording hang on besides its inputs: the code, and the libraries."""
    return {"loradash's code": code_version(CODE), **{name: version(name) for name in LIBRARIES}}


def weights_here(directory: Path) -> str:
    """Return a hash that tells base models apart without reading all of them: configuration, sizes, and samples."""
    weights = sorted(directory.glob("*.safetensors"))
    config = file_digest(directory / "config.json")
    return fingerprint(config, [(file.name, file.stat().st_size, _sample(file)) for file in weights])


def _sample(file: Path) -> str:
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - SAMPLED))
        return fingerprint(stream.read().hex())


def _check_versions(expected: dict[str, str], machine: str) -> None:
    for name, here in versions_here().items():
        if here != expected[name]:
            raise ClusterError(
                f"cluster.address: on {machine} {name} is {here}, where the run was started it is {expected[name]}: "
                "install the same on every machine, or the results would not be the same"
            )


def _model_directory(task: Task, machine: str) -> Path:
    directory = task.recording.model
    if not directory.is_dir() and task.hub is not None:
        directory = download_model(task.hub.name, task.hub.revision)
    if not directory.is_dir():
        raise ModelError(
            f"model.base_model: {directory} is not there on {machine}: put the same files at the same path on every "
            "machine of the cluster, or name a model on the hub"
        )
    if weights_here(directory) != task.weights:
        raise ModelError(
            f"model.base_model: {directory} on {machine} is another model than where the run was started: put the "
            "same files there"
        )
    return directory
