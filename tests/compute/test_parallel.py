"""Several pieces at once: in order, really at once, and to an end when one fails."""

from __future__ import annotations

import time
from threading import Barrier, BrokenBarrierError, Event

import pytest

from loradash_assets.compute.parallel import Check, StoppedError, in_order

SECONDS = 10  # until a test that waits for what never comes gives up


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
