"""Several layers at once: in order, really at once, to an end when one fails, and with the same tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Barrier, BrokenBarrierError, Event

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from loradash_assets.compute.catalogue import read_modules, write_catalogue
from loradash_assets.compute.encode import encode_rows
from loradash_assets.compute.layers import write_layer_tables
from loradash_assets.compute.parallel import StoppedError, in_order
from loradash_assets.compute.prompt_tokens import PromptTokens
from loradash_assets.compute.prompts import prompt_builder
from loradash_assets.compute.rows import write_rows
from loradash_assets.compute.tables import TableOptions
from tests.projects import LINES, save_adapter, save_base, tiny_tokenizer

SECONDS = 10  # until a test that waits for what never comes gives up
Check = Callable[[], None]


def test_pieces_run_at_once_and_come_in_order() -> None:
    both, second = Barrier(2, timeout=SECONDS), Event()

    def work(piece: int, _: Check) -> int:
        if piece < 2:
            both.wait()  # one alone would wait in vain
        if piece == 0:
            assert second.wait(SECONDS)
        if piece == 1:
            second.set()
        return 10 * piece

    assert list(in_order(work, range(5), threads=2)) == [0, 10, 20, 30, 40]


def test_no_more_run_at_once_than_are_allowed() -> None:
    both = Barrier(2)

    def work(_: int, __: Check) -> bool:
        try:
            both.wait(timeout=0.2)
        except BrokenBarrierError:
            return False
        return True

    assert not any(in_order(work, range(3), threads=1))


def test_an_error_comes_at_its_turn_and_ends_the_others() -> None:
    ended: list[int] = []
    running = Event()

    def work(piece: int, check: Check) -> int:
        if piece == 1:
            assert running.wait(SECONDS)
            raise ValueError("piece 1")
        if piece == 2:
            _until_stopped(check, running, ended, piece)
        if piece > 2:
            ended.append(piece)
        return piece

    results = in_order(work, range(9), threads=2)
    assert next(results) == 0
    with pytest.raises(ValueError, match="piece 1"):
        next(results)
    assert 2 in ended


def test_who_goes_on_no_more_does_not_wait_for_the_others_to_finish() -> None:
    ended: list[int] = []
    running = Event()

    def work(piece: int, check: Check) -> int:
        if piece == 1:
            _until_stopped(check, running, ended, piece)
        return piece

    results = in_order(work, range(9), threads=2)
    assert next(results) == 0
    assert running.wait(SECONDS)
    results.close()  # as where the step is interrupted
    assert ended == [1]


def _until_stopped(check: Check, running: Event, ended: list[int], piece: int) -> None:
    running.set()
    give_up = time.monotonic() + SECONDS
    while time.monotonic() < give_up:
        try:
            check()
        except StoppedError:
            ended.append(piece)
            raise


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Random activations of all layers of a tiny adapter."""
    save_base(tmp_path / "base")
    save_adapter(tmp_path / "adapter", tmp_path / "base", r=2)
    write_catalogue(
        tmp_path / "adapter", tmp_path / "base", tmp_path, allow_pickle=False, trust_remote_code=False, rank=None
    )
    write_rows([{"text": line} for line in LINES], 9, tmp_path / "rows.parquet")
    encode_rows(tmp_path / "rows.parquet", tmp_path, prompt_builder("text"), tiny_tokenizer(), None)
    lengths = [len(ids) for ids in pq.read_table(tmp_path / "prompts.parquet")["token_ids"].to_pylist()]
    modules, generator = read_modules(tmp_path), np.random.default_rng(0)
    heights = {layer: sum(module.rank for module in modules if module.layer == layer) for layer in _layers(tmp_path)}
    for number, part in enumerate(np.split(np.arange(sum(lengths)), np.cumsum(lengths)[:-1])):
        values = {
            f"layer.{layer}": generator.normal(size=(height, part.size)).astype(np.float32)
            for layer, height in heights.items()
        }
        save_file({"tokens": part, **values}, tmp_path / f"chunk-{number:05d}.safetensors")
    return tmp_path


def _layers(directory: Path) -> list[int]:
    return sorted({module.layer for module in read_modules(directory)})


def test_layers_made_at_once_have_the_same_tables_as_one_by_one(recorded: Path, tmp_path: Path) -> None:
    tokens = PromptTokens.read(recorded / "prompts.parquet")  # shared

    def write(piece: tuple[str, int], check: Check) -> dict[str, bytes]:
        target = tmp_path / piece[0] / str(piece[1])
        target.mkdir(parents=True)
        options = TableOptions(top_k=3, context_window=2, exclude_first_positions=1)
        write_layer_tables(piece[1], recorded, recorded, tokens, target, options, {}, [], check)
        return {file.name: file.read_bytes() for file in sorted(target.iterdir())}

    def made(name: str, threads: int) -> Iterator[dict[str, bytes]]:
        pieces: Sequence[tuple[str, int]] = [(name, layer) for layer in _layers(recorded)]
        return in_order(write, pieces, threads)

    together, alone = list(made("together", 3)), list(made("alone", 1))
    assert len(alone) > 1
    assert all(len(files) == 4 for files in alone)
    assert together == alone


def test_a_layer_stops_between_two_chunks(recorded: Path, tmp_path: Path) -> None:
    chunks = len(list(recorded.glob("chunk-*")))
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == chunks:
            raise StoppedError

    tokens, layer = PromptTokens.read(recorded / "prompts.parquet"), _layers(recorded)[0]
    with pytest.raises(StoppedError):
        write_layer_tables(layer, recorded, recorded, tokens, tmp_path, TableOptions(), {}, [], check)
    assert calls == chunks > 1
    assert not (tmp_path / "plain.parquet").exists()
