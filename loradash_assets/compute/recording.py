"""Recorded activations: chunk files that are written once, resumed after an interruption, and read layer by layer.

A chunk is a safetensors file with `tokens` (int64, (tokens,), global token numbers) and, for every layer, `layer.N`
(float32, (features of the layer that see every token, tokens)); its metadata hold the SHA-256 of the kind of device
that ran the model and of these. It appears by rename, so one that is there is complete.

For the I-th module with experts in a layer there are three more, sparse: only tokens that an expert sees have a
column. `layer.N.experts.I.offsets` (int64, (experts + 1,)) says which columns are an expert's, `….tokens` (int32,
(columns,)) each column's place in `tokens`, `….values` (float32, (features of an expert, columns)) the activations.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from loradash_assets.compute.batching import Chunk as PlannedChunk
from loradash_assets.compute.batching import Plan
from loradash_assets.compute.experts import NO_EXPERT, experts_of
from loradash_assets.compute.passes import Block, Chunk
from loradash_assets.compute.routed import Pending, Recorded, joined

if TYPE_CHECKING:
    from loradash_assets.compute.features import AdaptedModule

Progress = Callable[[int], None]
CHUNK_SUFFIX = ".safetensors"


class Forward(Protocol):
    """Runs a batch."""

    def __call__(self, rows: Sequence[NDArray[np.integer]], pasts: Sequence[Any], keep: Sequence[int], /) -> Pending:
        """Run rows of tokens (seq,), each after its past (None: none), and keep the pasts that end with some rows."""
        ...


@dataclass(frozen=True)
class RecordingPlan:
    """What to record: the examples' tokens, how they are batched, and what belongs to which layer.

    `layers` has the rows of the features that see every token, `experts` the modules that hold experts, in order.
    Only chunks that were recorded on the same kind of `device` are taken for done.
    """

    token_ids: Sequence[NDArray[np.integer]]  # per example, (seq,)
    offsets: NDArray[np.int64]  # (examples + 1,), first global token number of each example
    batches: Plan
    layers: Mapping[int, slice]
    experts: Mapping[int, Sequence[str]] = field(default_factory=dict[int, Sequence[str]])
    device: str = "cpu"

    @staticmethod
    def of(
        token_ids: Sequence[NDArray[np.integer]], batches: Plan, modules: Sequence[AdaptedModule], device: str = "cpu"
    ) -> RecordingPlan:
        """Return the plan for `modules`, in the order of their layers, whose features are recorded in that order."""
        offsets = np.cumsum([0, *map(len, token_ids)])
        return RecordingPlan(token_ids, offsets, batches, _layer_slices(modules), _layer_experts(modules), device)


def _layer_slices(modules: Sequence[AdaptedModule]) -> dict[int, slice]:
    slices: dict[int, slice] = {}
    start = 0
    for module in modules:
        if module.expert != NO_EXPERT:
            continue
        first = slices[module.layer].start if module.layer in slices else start
        start += module.rank
        slices[module.layer] = slice(first, start)
    return slices


def _layer_experts(modules: Sequence[AdaptedModule]) -> dict[int, list[str]]:
    owners: dict[int, dict[str, None]] = {}
    for module in modules:
        if module.expert != NO_EXPERT:
            owners.setdefault(module.layer, {})[experts_of(module.name)[0]] = None
    return {layer: list(of_layer) for layer, of_layer in owners.items()}


def record(
    plan: RecordingPlan,
    forward: Forward,
    directory: Path,
    progress: Progress,
    chunks: Sequence[int] | None = None,
) -> int:
    """Record the chunks (all, if none are named) that are not in `directory` yet; return how many tokens that was.

    Chunks depend on the plan and on nothing else: several processes may record different ones of a directory. A chunk
    is written while the next one runs, and before that one has run to its end, so that no kill costs two. `progress` is
    called with a number of tokens after every batch, or once for a chunk that was there.
    """
    wanted = [*range(len(plan.batches.chunks))] if chunks is None else chunks
    ran: dict[int, _Ran] = {}
    recorded = 0
    written: Future[None] | None = None

    def wait() -> None:
        if written is not None:
            written.result()

    with ThreadPoolExecutor(max_workers=1) as writer:
        for number, following in zip_longest(wanted, wanted[1:]):
            chunk, file = plan.batches.chunks[number], chunk_file(directory, number)
            tokens = _token_numbers(plan, chunk.examples)
            if _is_complete(file, plan, tokens):
                progress(len(tokens))
                continue
            later = () if following is None else plan.batches.chunks[following].batches
            ran = _run(plan, chunk, forward, ran, later, _in_steps(progress, len(tokens), chunk, plan.batches), wait)
            parts = {batch: ran[batch].part for batch in chunk.batches}
            ran = {batch: ran[batch] for batch in ran.keys() & later}
            written = writer.submit(_write_parts, file, plan, chunk, tokens, parts)
            recorded += len(tokens)
        wait()
    return recorded


def run_chunk(plan: RecordingPlan, forward: Forward, number: int) -> Callable[[Path], None]:
    """Run what one chunk needs; what is returned waits for the results and writes them into a directory."""
    chunk = plan.batches.chunks[number]
    ran = _run(plan, chunk, forward, {}, (), lambda _: None, lambda: None)
    parts = {batch: ran[batch].part for batch in chunk.batches}
    tokens = _token_numbers(plan, chunk.examples)
    return lambda directory: _write_parts(chunk_file(directory, number), plan, chunk, tokens, parts)


def is_recorded(plan: RecordingPlan, directory: Path, number: int) -> bool:
    """Whether a chunk is in `directory` already."""
    tokens = _token_numbers(plan, plan.batches.chunks[number].examples)
    return _is_complete(chunk_file(directory, number), plan, tokens)


def tokens_of_chunk(plan: RecordingPlan, number: int) -> int:
    """Return how many tokens a chunk has."""
    return sum(len(plan.token_ids[example]) for example in plan.batches.chunks[number].examples)


@dataclass(frozen=True)
class _Ran:
    """A batch that ran: its activations, and the pasts that end with its segments, of those that are still needed."""

    part: Pending
    pasts: dict[int, Any]


def _run(
    plan: RecordingPlan,
    chunk: PlannedChunk,
    forward: Forward,
    before: Mapping[int, _Ran],
    later: Collection[int],
    progress: Progress,
    wait: Callable[[], None],
) -> dict[int, _Ran]:
    """Start the batches that a chunk needs, those that are not in `before`; pasts stay for the batches in `later`.

    `wait` is called before the last of them.
    """
    to_run = [number for number in chunk.batches if number not in before]
    if not to_run:
        wait()
    batches, segments, last = plan.batches.batches, plan.batches.segments, plan.batches.last_uses(chunk)
    ran: dict[int, _Ran] = {}
    pasts: dict[int | None, Any] = {None: None}
    for number in chunk.batches:
        batch = batches[number]
        if number not in before:
            if number == to_run[-1]:
                wait()
            rows = [plan.token_ids[segments[s].example][segments[s].start : segments[s].stop] for s in batch]
            keep = [row for row, segment in enumerate(batch) if segment in plan.batches.parents]
            part = forward(rows, [pasts[segments[segment].parent] for segment in batch], keep)
            kept = dict(zip([batch[row] for row in keep], part.pasts, strict=True))
        else:
            part, kept = before[number].part, before[number].pasts
        ran[number] = _Ran(Pending(part.result), kept if number in later else {})
        pasts |= {segment: past for segment, past in kept.items() if segment in last}
        for segment in [segment for segment, use in last.items() if use == number]:
            del pasts[segment]
        progress(sum(segments[segment].length for segment in batch))
    return ran


def _in_steps(progress: Progress, tokens: int, chunk: PlannedChunk, plan: Plan) -> Progress:
    """Report a chunk's stored tokens as its batches, of fewer or more tokens, come to their end."""
    total = max(1, sum(plan.segments[segment].length for batch in plan.runs(chunk) for segment in batch))
    run = reported = 0

    def advance(more: int) -> None:
        nonlocal run, reported
        run += more
        progress(tokens * run // total - reported)
        reported = tokens * run // total

    return advance


def _write_parts(
    file: Path, plan: RecordingPlan, chunk: PlannedChunk, tokens: NDArray[np.int64], parts: Mapping[int, Pending]
) -> None:
    segments, places = plan.batches.sources(chunk)
    order = [segment for batch in plan.batches.runs(chunk) for segment in batch]
    starts = np.zeros(len(plan.batches.segments), np.int64)
    starts[order] = np.cumsum([0, *(plan.batches.segments[segment].length for segment in order)])[:-1]
    recorded = joined([parts[batch].result() for batch in chunk.batches])
    _write(file, plan, tokens, recorded.take(starts[segments] + places))


def chunk_file(directory: Path, number: int) -> Path:
    """Return the path of a chunk."""
    return directory / f"chunk-{number:05d}{CHUNK_SUFFIX}"


@dataclass(frozen=True)
class LayerActivations:
    """One layer's recorded activations, read chunk by chunk."""

    directory: Path
    layer: int
    blocks: Sequence[Block]

    def chunks(self) -> Iterator[Sequence[Chunk]]:
        """Yield, of every chunk, token numbers (tokens,) int64 and activations (features, tokens) float32 per block."""
        for file in _chunk_files(self.directory):
            with safe_open(file, framework="np") as chunk:
                yield list(_blocks(chunk, self.layer))


def _blocks(chunk: Any, layer: int) -> Iterator[Chunk]:
    names = set(chunk.keys())
    tokens = chunk.get_tensor("tokens")
    if dense_name(layer) in names:
        yield tokens, chunk.get_tensor(dense_name(layer))
    for number in itertools.count():
        if sparse_names(layer, number)[0] not in names:
            return
        offsets, columns, values = (chunk.get_tensor(name) for name in sparse_names(layer, number))
        for start, stop in pairwise(offsets.tolist()):
            yield tokens[columns[start:stop]], values[:, start:stop]


def recorded_example(plan: RecordingPlan, directory: Path, example: int) -> NDArray[np.float32]:
    """Return what was recorded of an example, (features that see every token, tokens), by its place in the plan."""
    number, chunk = next(
        (number, chunk) for number, chunk in enumerate(plan.batches.chunks) if example in chunk.examples
    )
    first = sum(len(plan.token_ids[each]) for each in itertools.takewhile(lambda each: each != example, chunk.examples))
    columns = slice(first, first + len(plan.token_ids[example]))
    with safe_open(chunk_file(directory, number), framework="np") as tensors:
        layers = [tensors.get_slice(dense_name(layer))[:, columns] for layer in plan.layers]
    return np.concatenate([np.empty((0, columns.stop - columns.start), np.float32), *layers])


def chunk_tokens(directory: Path) -> Iterator[np.ndarray]:
    """Yield every chunk's token numbers, (tokens,) int64, in the order in which layers are read."""
    for file in _chunk_files(directory):
        with safe_open(file, framework="np") as chunk:
            yield chunk.get_tensor("tokens")


def _chunk_files(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"chunk-*{CHUNK_SUFFIX}"))


def _token_numbers(plan: RecordingPlan, examples: Sequence[int]) -> NDArray[np.int64]:
    spans = [np.arange(plan.offsets[example], plan.offsets[example + 1], dtype=np.int64) for example in examples]
    return np.concatenate([np.empty(0, np.int64), *spans])  # (tokens,)


def _is_complete(file: Path, plan: RecordingPlan, tokens: np.ndarray) -> bool:
    try:
        with safe_open(file, framework="np") as chunk:
            tensors = {name: chunk.get_tensor(name) for name in chunk.keys()}  # noqa: SIM118 (it is no mapping)
            return (
                set(tensors) == _names(plan)
                and np.array_equal(tensors["tokens"], tokens)
                and chunk.metadata() == _metadata(plan, tensors)
            )
    except (OSError, SafetensorError):
        return False


def _write(file: Path, plan: RecordingPlan, tokens: np.ndarray, recorded: Recorded) -> None:
    tensors = {dense_name(layer): np.ascontiguousarray(recorded.dense[rows]) for layer, rows in plan.layers.items()}
    tensors["tokens"] = tokens
    for layer, owners in plan.experts.items():
        for number, owner in enumerate(owners):
            routed = recorded.routed[owner]
            parts = (routed.offsets, routed.tokens, np.ascontiguousarray(routed.values))
            tensors |= dict(zip(sparse_names(layer, number), parts, strict=True))
    temporary = file.with_suffix(".tmp")
    save_file(tensors, temporary, metadata=_metadata(plan, tensors))
    with temporary.open("rb") as written:
        os.fsync(written.fileno())
    temporary.replace(file)


def _metadata(plan: RecordingPlan, tensors: Mapping[str, np.ndarray]) -> dict[str, str]:
    digest = hashlib.sha256(plan.device.encode())
    for name in sorted(tensors):
        digest.update(tensors[name].data)
    return {"sha256": digest.hexdigest()}  # one entry: safetensors writes several in any order


def _names(plan: RecordingPlan) -> set[str]:
    sparse = {
        name
        for layer, owners in plan.experts.items()
        for number in range(len(owners))
        for name in sparse_names(layer, number)
    }
    return {"tokens", *map(dense_name, plan.layers), *sparse}


def dense_name(layer: int) -> str:
    """Return the name of a layer's tensor of features that see every token."""
    return f"layer.{layer}"


def sparse_names(layer: int, number: int) -> list[str]:
    """Return the names of the three tensors of a layer's `number`-th module with experts."""
    return [f"layer.{layer}.experts.{number}.{part}" for part in ("offsets", "tokens", "values")]
