"""Recorded activations: chunk files that are written once, resumed after an interruption, and read layer by layer.

A chunk is a safetensors file with `tokens` (int64, (tokens,), global token numbers) and, for every layer, `layer.N`
(float32, (features of the layer that see every token, tokens)); its metadata hold the SHA-256 of these. It appears by
rename, so one that is there is complete.

For the I-th module with experts in a layer there are three more, sparse: only tokens that an expert sees have a
column. `layer.N.experts.I.offsets` (int64, (experts + 1,)) says which columns are an expert's, `….tokens` (int32,
(columns,)) each column's place in `tokens`, `….values` (float32, (features of an expert, columns)) the activations.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from loradash_assets.compute.batching import Batch
from loradash_assets.compute.passes import Block, Chunk
from loradash_assets.compute.routed import Recorded, joined

Forward = Callable[[Sequence[np.ndarray]], Recorded]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class RecordingPlan:
    """What to record: the examples' tokens, how they are batched, and what belongs to which layer.

    `layers` has the rows of the features that see every token, `experts` the modules that hold experts, in order.
    """

    token_ids: Sequence[np.ndarray]  # per example, (seq,)
    offsets: np.ndarray  # (examples + 1,), first global token number of each example
    chunks: Sequence[Sequence[Batch]]
    layers: Mapping[int, slice]
    experts: Mapping[int, Sequence[str]] = field(default_factory=dict[int, Sequence[str]])


def record(plan: RecordingPlan, forward: Forward, directory: Path, progress: Progress) -> int:
    """Record every chunk that is not in `directory` yet; return how many tokens that was. See `record_chunk`."""
    return sum(record_chunk(plan, number, forward, directory, progress) for number in range(len(plan.chunks)))


def record_chunk(plan: RecordingPlan, number: int, forward: Forward, directory: Path, progress: Progress) -> int:
    """Record one chunk, unless it is in `directory` already; return how many tokens that was.

    Chunks depend on the plan and on nothing else: several processes may record different ones of a directory.
    `forward` maps examples to their activations. `progress` is called with the number of tokens after every batch,
    or once for a chunk that was there.
    """
    batches = plan.chunks[number]
    tokens = _token_numbers(plan, batches)
    file = chunk_file(directory, number)
    if _is_complete(file, plan, tokens):
        progress(len(tokens))
        return 0
    parts: list[Recorded] = []
    for batch in batches:
        parts.append(forward([plan.token_ids[example] for example in batch]))
        progress(parts[-1].tokens)
    _write(file, plan, tokens, joined(parts))
    return len(tokens)


def chunk_file(directory: Path, number: int) -> Path:
    """Return the path of a chunk."""
    return directory / f"chunk-{number:05d}.safetensors"


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
    if _dense(layer) in names:
        yield tokens, chunk.get_tensor(_dense(layer))
    for number in itertools.count():
        if _sparse(layer, number)[0] not in names:
            return
        offsets, columns, values = (chunk.get_tensor(name) for name in _sparse(layer, number))
        for start, stop in pairwise(offsets.tolist()):
            yield tokens[columns[start:stop]], values[:, start:stop]


def chunk_tokens(directory: Path) -> Iterator[np.ndarray]:
    """Yield every chunk's token numbers, (tokens,) int64, in the order in which layers are read."""
    for file in _chunk_files(directory):
        with safe_open(file, framework="np") as chunk:
            yield chunk.get_tensor("tokens")


def _chunk_files(directory: Path) -> list[Path]:
    return sorted(directory.glob("chunk-*.safetensors"))


def _token_numbers(plan: RecordingPlan, batches: Sequence[Batch]) -> np.ndarray:
    spans = [
        np.arange(plan.offsets[example], plan.offsets[example + 1], dtype=np.int64)
        for batch in batches
        for example in batch
    ]
    return np.concatenate(spans)  # (tokens,)


def _is_complete(file: Path, plan: RecordingPlan, tokens: np.ndarray) -> bool:
    try:
        with safe_open(file, framework="np") as chunk:
            tensors = {name: chunk.get_tensor(name) for name in chunk.keys()}  # noqa: SIM118 (it is no mapping)
            return (
                set(tensors) == _names(plan)
                and np.array_equal(tensors["tokens"], tokens)
                and (chunk.metadata() or {}).get("sha256") == _digest(tensors)
            )
    except (OSError, SafetensorError):
        return False


def _write(file: Path, plan: RecordingPlan, tokens: np.ndarray, recorded: Recorded) -> None:
    tensors = {_dense(layer): np.ascontiguousarray(recorded.dense[rows]) for layer, rows in plan.layers.items()}
    tensors["tokens"] = tokens
    for layer, owners in plan.experts.items():
        for number, owner in enumerate(owners):
            routed = recorded.routed[owner]
            parts = (routed.offsets, routed.tokens, np.ascontiguousarray(routed.values))
            tensors |= dict(zip(_sparse(layer, number), parts, strict=True))
    temporary = file.with_suffix(".tmp")
    save_file(tensors, temporary, metadata={"sha256": _digest(tensors)})
    with temporary.open("rb") as written:
        os.fsync(written.fileno())
    temporary.replace(file)


def _digest(tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].data)
    return digest.hexdigest()


def _names(plan: RecordingPlan) -> set[str]:
    sparse = {
        name
        for layer, owners in plan.experts.items()
        for number in range(len(owners))
        for name in _sparse(layer, number)
    }
    return {"tokens", *map(_dense, plan.layers), *sparse}


def _dense(layer: int) -> str:
    return f"layer.{layer}"


def _sparse(layer: int, number: int) -> list[str]:
    return [f"layer.{layer}.experts.{number}.{part}" for part in ("offsets", "tokens", "values")]
