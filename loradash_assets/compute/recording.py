"""Recorded activations: chunk files that are written once, resumed after an interruption, and read layer by layer.

A chunk is a safetensors file with `tokens` (int64, (tokens,), global token numbers) and, for every layer, `layer.N`
(float32, (features of the layer, tokens)); its metadata hold the SHA-256 of these. It appears by rename, so one that
is there is complete.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from loradash_assets.compute.batching import Batch
from loradash_assets.compute.passes import Block, Chunk

Forward = Callable[[Sequence[np.ndarray]], np.ndarray]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class RecordingPlan:
    """What to record: the examples' tokens, how they are batched, and which feature rows belong to which layer."""

    token_ids: Sequence[np.ndarray]  # per example, (seq,)
    offsets: np.ndarray  # (examples + 1,), first global token number of each example
    chunks: Sequence[Sequence[Batch]]
    layers: Mapping[int, slice]


def record(plan: RecordingPlan, forward: Forward, directory: Path, progress: Progress) -> int:
    """Record every chunk that is not in `directory` yet; return how many tokens that was.

    `forward` maps examples to activations (features, tokens). `progress` is called with the number of tokens after
    every batch, and once for each chunk that was there already.
    """
    recorded = 0
    for number, batches in enumerate(plan.chunks):
        tokens = _token_numbers(plan, batches)
        file = chunk_file(directory, number)
        if _is_complete(file, plan, tokens):
            progress(len(tokens))
            continue
        parts: list[np.ndarray] = []
        for batch in batches:
            parts.append(forward([plan.token_ids[example] for example in batch]))
            progress(parts[-1].shape[1])
        _write(file, plan, tokens, np.concatenate(parts, axis=1))
        recorded += len(tokens)
    return recorded


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
                yield [(chunk.get_tensor("tokens"), chunk.get_tensor(f"layer.{self.layer}"))]


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
                set(tensors) == {"tokens", *map(_name, plan.layers)}
                and np.array_equal(tensors["tokens"], tokens)
                and (chunk.metadata() or {}).get("sha256") == _digest(tensors)
            )
    except (OSError, SafetensorError):
        return False


def _write(file: Path, plan: RecordingPlan, tokens: np.ndarray, activations: np.ndarray) -> None:
    tensors = {_name(layer): np.ascontiguousarray(activations[rows]) for layer, rows in plan.layers.items()}
    tensors["tokens"] = tokens
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


def _name(layer: int) -> str:
    return f"layer.{layer}"
