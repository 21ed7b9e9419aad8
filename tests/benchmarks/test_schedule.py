"""The simulated schedule: what can be worked out by hand, and the share of linear that is claimed for 64 workers."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.cluster import CASES, share_of_linear
from benchmarks.schedule import Costs, Schedule

FREE = Costs(way=0.0, driver=0.0, load=10.0, put=0.0, notice=0.0)


@pytest.mark.parametrize(("chunks", "workers", "seconds"), [(12, 4, 3.0), (13, 4, 4.0), (1, 4, 1.0), (7, 1, 7.0)])
def test_equal_chunks_take_as_many_rounds_as_they_must(chunks: int, workers: int, seconds: float) -> None:
    for warm, load in ((True, 0.0), (False, 10.0)):
        outcome = Schedule(chunks, lambda _: 1.0, FREE, workers=workers, warm=warm).run()
        assert outcome.seconds == pytest.approx(load + seconds)
        assert outcome.run_again == 0


def test_what_is_sent_and_put_costs_its_time_once_while_others_run() -> None:
    """One worker: the way there, five chunks with the next one always at hand, the last one's file, the way back."""
    costs = Costs(way=0.1, driver=0.01, load=0.0, put=0.5, notice=0.0)
    outcome = Schedule(5, lambda _: 1.0, costs, workers=1, warm=True).run()
    assert outcome.seconds == pytest.approx(0.1 + 5 + 0.5 + 0.1 + 2 * 0.01, abs=0.011)


def test_a_driver_that_is_too_slow_is_what_everything_waits_for() -> None:
    slow = Costs(way=0.0, driver=0.5, load=0.0, put=0.0, notice=0.0)
    assert Schedule(100, lambda _: 1.0, slow, workers=64, warm=True).run().seconds >= 50


def test_a_worker_that_is_lost_costs_its_chunks_and_its_time() -> None:
    """Of two workers one is lost after 2.5 chunks: what it ran and what waited behind are sent again."""
    outcome = Schedule(10, lambda _: 1.0, FREE, workers=2, warm=True).run(lost_at=2.5)
    assert outcome.run_again == 2
    assert outcome.seconds == pytest.approx(8.0)


def test_a_straggler_at_the_end_is_overtaken() -> None:
    seconds = iter([1.0] * 7 + [100.0] + [1.0] * 9)
    outcome = Schedule(8, lambda _: next(seconds), FREE, workers=4, warm=True).run()
    assert outcome.run_again == 1
    assert outcome.seconds < 5


@pytest.mark.parametrize(
    ("chunks", "case", "enough"),
    [(2000, "and a worker lost", True), (2000, "as measured", True), (330, "as measured", False)],
)
def test_64_workers_reach_nine_tenths_of_linear_if_there_are_chunks_enough(
    chunks: int, case: str, enough: bool
) -> None:
    """Ten million tokens in chunks of equal size, on workers that are warm."""
    costs = Costs(way=0.001, driver=0.002, load=0.0, put=0.0, notice=0.0)
    spread = np.linspace(0.9, 1.1, 21).tolist()
    assert (share_of_linear([10_000_000 // chunks] * chunks, costs, spread, CASES[case]) >= 0.9) == enough
