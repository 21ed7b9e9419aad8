"""From prompts, catalogue and model files to recorded activations: the one stage that runs the model."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from loradash_assets.compute.allocator import freed_memory_kept
from loradash_assets.compute.forecast import free_bytes
from loradash_assets.compute.job import Job, Ran, Recording
from loradash_assets.compute.model import choose_device, load_model
from loradash_assets.compute.recording import record

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from loradash_assets.compute.forward import AdaptedModel

SECONDS_BETWEEN_LOG_LINES = 10


def load_base(recording: Recording) -> PreTrainedModel:
    """Return the recording's base model, loaded. Raises ModelError."""
    return load_model(
        recording.model,
        dtype=recording.dtype,
        device=choose_device(recording.device),
        trust_remote_code=recording.trust_remote_code,
        device_map=recording.device_map,
    )


def adapted_model(job: Job, base: PreTrainedModel | None = None) -> AdaptedModel:
    """Return the job's adapter on `base`, which becomes the adapted model; if there is none yet, it is loaded.

    Raises ModelError or AdapterError.
    """
    return _adapted(job, load_base(job.recording) if base is None else base, own_base=True)


class SharedBase:
    """Puts several adapters on one base model, which is loaded once; a quantised one again for each.

    bitsandbytes moves a weight out of its parameter at the first forward pass, so another one finds it gone.
    """

    def __init__(self) -> None:
        self._loaded: tuple[Recording, PreTrainedModel] | None = None

    def __call__(self, job: Job) -> AdaptedModel:
        """Return the job's adapter on the base model. Raises ModelError or AdapterError."""
        return _adapted(job, self._base(job.recording), own_base=False)

    def _base(self, recording: Recording) -> PreTrainedModel:
        if self._loaded is not None and _same_base(self._loaded[0], recording):
            return self._loaded[1]
        model = load_base(recording)
        self._loaded = None if getattr(model, "is_quantized", False) else (recording, model)
        return model


def _same_base(one: Recording, other: Recording) -> bool:
    return one == replace(other, adapter=one.adapter, catalogue=one.catalogue, prompts=one.prompts)


def _adapted(job: Job, base: PreTrainedModel, *, own_base: bool) -> AdaptedModel:
    from loradash_assets.compute.forward import AdaptedModel  # imports torch and PEFT, which a cache hit can do without

    adapter, sample = job.recording.adapter, job.sample_rows()
    return AdaptedModel(base, adapter, job.modules, own_base=own_base, folds=job.folds, sample=sample)


def record_activations(
    recording: Recording,
    target: Path,
    log: Callable[[str], None],
    adapt: Callable[[Job], AdaptedModel] = adapted_model,
    free: Callable[[Path], int] = free_bytes,
) -> dict[str, Any]:
    """Record every feature on every token into chunk files in `target`; return what people want to know of it.

    Chunks that are in `target` already are kept. `adapt` loads the model and puts the adapter on it. Raises ModelError
    or AdapterError naming what cannot be used, and StorageError before anything is loaded if the disk has not as many
    bytes left, says `free`, as are still to be written.
    """
    job = Job.read(recording)
    job.check_room(target, log, free)
    model = adapt(job)
    answers = job.ask(model)
    for line in answers.lines():
        log(line)
    plan = job.plan(answers)
    started = time.monotonic()
    kept = freed_memory_kept() if model.device.type == "cpu" else nullcontext()
    with kept, progress_bar(job, log) as progress:
        tokens = record(plan, job.forward(model, answers), target, progress)
    seconds = time.monotonic() - started
    if model.halved:
        log(halved_line(model.halved))
    rechecked = job.recheck(plan, target, answers, model.plain)
    return job.facts(answers, plan, Ran(tokens, seconds, model.halved), rechecked)


def halved_line(batches: int) -> str:
    """Say that batches ran in halves, and what to do about it."""
    return f"{batches} batches did not fit into memory and ran in halves: lower recording.batch_tokens"


@contextmanager
def progress_bar(job: Job, log: Callable[[str], None]) -> Generator[Callable[[int], None]]:
    """Show how many of the job's tokens are recorded, and log it now and then; call what is yielded with each few."""
    with tqdm(total=job.tokens.index.tokens, unit="token", desc="recording", smoothing=0.1) as bar:
        yield _progress(bar, log)


def _progress(bar: Any, log: Callable[[str], None]) -> Callable[[int], None]:
    last = time.monotonic()

    def advance(tokens: int) -> None:
        nonlocal last
        bar.update(tokens)
        if time.monotonic() - last >= SECONDS_BETWEEN_LOG_LINES:
            last = time.monotonic()
            log(f"recorded {bar.n:,} of {bar.total:,} tokens")

    return advance
