"""Chunk files: killed at any point and resumed, they are byte for byte those of an uninterrupted run."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from loradash_assets.compute import recording
from loradash_assets.compute.batching import plan_recording
from loradash_assets.compute.recording import LayerActivations, RecordingPlan, chunk_file, record
from loradash_assets.compute.routed import Pending, Recorded, Routed

LENGTHS = [5, 17, 3, 9, 9, 1, 30, 12, 8, 2]
LAYERS = {-1: slice(0, 1), 0: slice(1, 4), 7: slice(4, 9)}
EXPERTS = {0: ["0.moe"], 8: ["8.first", "8.second"]}  # layer 8 has nothing that sees every token
NUMBER_OF_EXPERTS = 5
REPOSITORY = Path(__file__).parents[2]


def _plan(chunk_tokens: int = 24, budget: int = 20) -> RecordingPlan:
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
    ids = [np.arange(start, stop, dtype=np.int64) for start, stop in pairwise(offsets)]
    return RecordingPlan(ids, offsets, plan_recording(ids, budget, chunk_tokens), LAYERS, EXPERTS)


def _dense(tokens: np.ndarray) -> np.ndarray:
    return np.sin(np.arange(1, 10, dtype=np.float32)[:, None] * tokens.astype(np.float32))  # (features, tokens)


def _sees(expert: int, tokens: np.ndarray) -> np.ndarray:
    """Which of the tokens an expert sees: two experts per token, the last one sees none."""
    return (tokens % 4 == expert) | (tokens // 4 % 4 == expert)


def _of_expert(owner: str, expert: int, tokens: np.ndarray) -> np.ndarray:
    """(two features, tokens)."""
    return np.cos(np.array([[1], [2]], np.float32) * (tokens + 10 * expert + len(owner)).astype(np.float32))


def _forward(rows: Sequence[np.ndarray], *_: object) -> Pending:
    """Stand for a model: every token's activations follow from its id, which here is its number."""
    return Pending(lambda: _activations(np.concatenate(rows)))


def _activations(tokens: np.ndarray) -> Recorded:
    seen = [np.flatnonzero(_sees(expert, tokens)) for expert in range(NUMBER_OF_EXPERTS)]
    offsets = np.cumsum([0, *map(len, seen)])
    routed = {
        owner: Routed(
            offsets,
            np.concatenate(seen).astype(np.int32),
            np.concatenate([_of_expert(owner, expert, tokens[of]) for expert, of in enumerate(seen)], axis=1),
        )
        for owners in EXPERTS.values()
        for owner in owners
    }
    return Recorded(_dense(tokens), routed)


def _in_columns(rows: Sequence[np.ndarray], *_: object) -> Pending:
    recorded = _activations(np.concatenate(rows))
    routed = {
        owner: Routed(of.offsets, of.tokens, np.asfortranarray(of.values)) for owner, of in recorded.routed.items()
    }
    return Pending(lambda: Recorded(np.asfortranarray(recorded.dense), routed))


def _record(directory: Path, plan: RecordingPlan | None = None) -> int:
    directory.mkdir(exist_ok=True)
    return record(plan or _plan(), _forward, directory, lambda _: None)


def _files(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def _layer(directory: Path, layer: int) -> np.ndarray:
    """(features, tokens) in the order of the token numbers."""
    numbers, values = zip(*(blocks[0] for blocks in LayerActivations(directory, layer, []).chunks()), strict=True)
    order = np.argsort(np.concatenate(numbers))
    assert np.concatenate(numbers)[order].tolist() == list(range(sum(LENGTHS)))
    return np.concatenate(values, axis=1)[:, order]


@pytest.mark.parametrize("chunk_tokens", [1, 24, 50, 10_000])
@pytest.mark.parametrize("budget", [0, 20, 1_000])
def test_the_values_do_not_depend_on_batches_and_chunks(tmp_path: Path, chunk_tokens: int, budget: int) -> None:
    plan = _plan(chunk_tokens, budget)
    progress: list[int] = []
    assert record(plan, _forward, tmp_path, progress.append) == sum(LENGTHS) == sum(progress)
    assert len(list(tmp_path.iterdir())) == len(plan.batches.chunks)
    expected = _dense(np.arange(sum(LENGTHS)))
    for layer, rows in LAYERS.items():
        values = _layer(tmp_path, layer)
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, expected[rows])
    for layer, owners in EXPERTS.items():
        blocks = list(zip(*LayerActivations(tmp_path, layer, []).chunks(), strict=True))[layer in LAYERS :]
        assert len(blocks) == NUMBER_OF_EXPERTS * len(owners)
        for place, chunks in enumerate(blocks):
            owner, expert = owners[place // NUMBER_OF_EXPERTS], place % NUMBER_OF_EXPERTS
            numbers, values = (np.concatenate(parts, axis=-1) for parts in zip(*chunks, strict=True))
            assert sorted(numbers.tolist()) == np.flatnonzero(_sees(expert, np.arange(sum(LENGTHS)))).tolist()
            assert values.dtype == np.float32
            np.testing.assert_array_equal(values, _of_expert(owner, expert, numbers))


def test_what_experts_do_not_see_takes_no_room(tmp_path: Path) -> None:
    record(_plan(10_000, 1_000), _forward, tmp_path, lambda _: None)
    (file,) = tmp_path.iterdir()
    tensors = load_file(file)
    assert len(tensors) == 1 + len(LAYERS) + 3 * 3
    columns = sum(int(_sees(expert, np.arange(sum(LENGTHS))).sum()) for expert in range(NUMBER_OF_EXPERTS))
    assert tensors["layer.8.experts.1.values"].shape == (2, columns)
    assert columns < 2 * sum(LENGTHS)


def test_the_order_of_the_values_in_memory_changes_nothing(tmp_path: Path) -> None:
    _record(tmp_path / "rows")
    (tmp_path / "columns").mkdir()
    record(_plan(), _in_columns, tmp_path / "columns", lambda _: None)
    assert _files(tmp_path / "columns") == _files(tmp_path / "rows")


def test_of_the_chunks_that_have_run_all_but_one_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = recording.save_file
    plan = _plan(1, 0)  # every chunk has one batch
    missing: list[list[int]] = []

    def slowly(*arguments: Any, **options: Any) -> None:
        time.sleep(0.05)
        write(*arguments, **options)

    def forward(rows: Sequence[np.ndarray], *rest: object) -> Pending:
        missing.append([number for number in range(len(missing)) if not chunk_file(tmp_path, number).exists()])
        return _forward(rows, *rest)

    monkeypatch.setattr(recording, "save_file", slowly)
    record(plan, forward, tmp_path, lambda _: None)
    assert missing == [[]] * len(LENGTHS)


def test_what_is_there_is_kept_and_counted_as_progress(tmp_path: Path) -> None:
    _record(tmp_path)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    progress: list[int] = []

    def never(*_: object) -> Pending:
        raise AssertionError("recorded again")

    assert record(_plan(), never, tmp_path, progress.append) == 0
    assert sum(progress) == sum(LENGTHS)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("kept", [0, 7, 8, 60, -4, -1])
def test_a_truncated_leftover_is_redone_and_only_that(tmp_path: Path, kept: int) -> None:
    _record(tmp_path)
    before = _files(tmp_path)
    broken = chunk_file(tmp_path, 1)
    broken.write_bytes(before[broken.name][:kept])
    assert _record(tmp_path) == load_file(chunk_file(tmp_path, 1))["tokens"].size
    assert _files(tmp_path) == before


@pytest.mark.parametrize("place", [-1, -1000, 900])
def test_a_leftover_with_one_wrong_bit_is_redone_and_only_that(tmp_path: Path, place: int) -> None:
    _record(tmp_path)
    before = _files(tmp_path)
    broken = chunk_file(tmp_path, 1)
    content = bytearray(before[broken.name])
    content[place] ^= 1
    broken.write_bytes(content)
    assert _record(tmp_path) == load_file(chunk_file(tmp_path, 1))["tokens"].size
    assert _files(tmp_path) == before


def test_a_chunk_of_other_tokens_or_layers_is_redone(tmp_path: Path) -> None:
    _record(tmp_path)
    before = _files(tmp_path)
    broken = chunk_file(tmp_path, 1)
    tensors = load_file(broken)
    for wrong in (
        {**tensors, "tokens": tensors["tokens"] + 1},
        {name: tensor for name, tensor in tensors.items() if name != "layer.7"},
        {**tensors, "layer.8": tensors["layer.7"]},
        {name: tensor for name, tensor in tensors.items() if name != "layer.8.experts.1.tokens"},
        {**tensors, "layer.7.experts.0.offsets": tensors["layer.0.experts.0.offsets"]},
    ):
        content = b"cpu" + b"".join(np.ascontiguousarray(wrong[name]).tobytes() for name in sorted(wrong))
        save_file(wrong, broken, metadata={"sha256": hashlib.sha256(content).hexdigest()})
        assert _record(tmp_path) == tensors["tokens"].size
        assert _files(tmp_path) == before


def test_a_chunk_of_another_kind_of_device_is_redone(tmp_path: Path) -> None:
    _record(tmp_path)
    assert _record(tmp_path, replace(_plan(), device="cuda")) == sum(LENGTHS)
    assert _record(tmp_path, replace(_plan(), device="cuda")) == 0
    assert _record(tmp_path) == sum(LENGTHS)


KILLED = """
import os, signal, sys
from pathlib import Path
from loradash_assets.compute import recording
from tests.compute.test_recording import _forward, _plan

place, left, write = sys.argv[2], int(sys.argv[3]), recording.save_file

def reach(moment, file=None):
    global left
    left -= moment == place
    if left < 0:
        if file is not None:
            file.write_bytes(file.read_bytes()[:-9])
        os.kill(os.getpid(), signal.SIGKILL)

def forward(*batch):
    reach("forward")
    return _forward(*batch)

def save_file(tensors, file, **options):
    write(tensors, file, **options)
    reach("half written", file)
    reach("written")

recording.save_file = save_file
recording.record(_plan(), forward, Path(sys.argv[1]), lambda tokens: print(tokens, flush=True))
"""
BATCHES = len(_plan().batches.batches)
MOMENTS = [*(("forward", batch) for batch in range(BATCHES)), ("half written", 1), ("written", 2)]


@pytest.mark.parametrize(("place", "when"), MOMENTS)
def test_killed_at_any_moment_and_resumed_the_files_are_those_of_an_uninterrupted_run(
    tmp_path: Path, place: str, when: int
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    _record(whole)
    killed.mkdir()
    command = [sys.executable, "-c", KILLED, str(killed), place, str(when)]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr
    there = {name: content for name, content in _files(killed).items() if name.endswith(".safetensors")}
    assert len(there) < len(_plan().batches.chunks)
    assert there.items() <= _files(whole).items()  # a chunk is there complete or not at all
    done = sum(map(int, run.stdout.split()))
    redone = done + _record(killed) - sum(LENGTHS)
    *_, smaller, largest = sorted(load_file(file)["tokens"].size for file in whole.iterdir())
    assert 0 <= redone < smaller + largest  # a chunk that was being written, and what had run of the next
    assert _files(killed) == _files(whole)
