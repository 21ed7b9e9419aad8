"""Who records what: every chunk is kept in the end, whatever fails, and a worker has two chunks at most."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from loradash_assets.compute.cluster.dispatch import AT_ONCE, LATE, Dispatch
from loradash_assets.compute.errors import ClusterError


def _sent(dispatch: Dispatch, now: float = 0.0) -> list[tuple[int, int]]:
    return [(order.worker, order.chunk) for order in dispatch.orders(now)]


def _joined(dispatch: Dispatch, workers: int) -> Dispatch:
    for worker in range(workers):
        dispatch.joined(worker)
    return dispatch


class Recordings(RuleBasedStateMachine):
    """Workers join, record, fail, die and lose files in any order; each chunk fails less often than is allowed."""

    @initialize(chunks=st.integers(0, 12))
    def start(self, chunks: int) -> None:
        self.dispatch = Dispatch(1000, range(chunks))
        self.chunks, self.now, self.born = chunks, 0.0, 0
        self.has: dict[int, list[int]] = {}  # by worker, as they were sent
        self.travelling: list[tuple[int, int]] = []
        self.kept: list[int] = []

    def _send(self) -> None:
        for order in self.dispatch.orders(self.now):
            self.has[order.worker].append(order.chunk)

    @rule()
    def join(self) -> None:
        self.dispatch.joined(self.born)
        self.has[self.born] = []
        self.born += 1
        self._send()

    @rule(data=st.data(), seconds=st.floats(0, 10))
    def report(self, data: st.DataObject, seconds: float) -> None:
        self.now += seconds
        worker, chunk = self._one(data)
        if worker >= 0:
            self.has[worker].remove(chunk)
            if self.dispatch.recorded(worker, chunk, self.now):
                self.travelling.append((worker, chunk))
            self._send()

    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        worker, chunk = self._one(data)
        if worker >= 0:
            self.has[worker].remove(chunk)
            self.dispatch.failed(worker, chunk, self.now, "no reason")
            self._send()

    def _one(self, data: st.DataObject) -> tuple[int, int]:
        pairs = [(worker, chunk) for worker, chunks in self.has.items() for chunk in chunks]
        return data.draw(st.sampled_from(pairs)) if pairs else (-1, -1)

    @precondition(lambda self: self.has)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.has)))
        assert self.dispatch.died(worker, "killed") == self.has.pop(worker)
        self._send()

    @precondition(lambda self: self.travelling)
    @rule(whole=st.booleans())
    def arrive(self, whole: bool) -> None:
        worker, chunk = self.travelling.pop(0)
        if whole:
            self.dispatch.kept(chunk)
            self.kept.append(chunk)
        else:
            self.dispatch.lost(worker, chunk, "damaged")
            self._send()

    @invariant()
    def nobody_has_too_much(self) -> None:
        assert all(len(chunks) <= AT_ONCE for chunks in self.has.values())
        assert all(len(set(chunks)) == len(chunks) for chunks in self.has.values())

    @invariant()
    def no_chunk_is_kept_twice(self) -> None:
        assert len(set(self.kept)) == len(self.kept)
        assert self.dispatch.finished == (len(self.kept) == self.chunks)

    @invariant()
    def nobody_is_idle_for_nothing(self) -> None:
        """A worker that is alone has something to do as long as there is something."""
        if [*self.has.values()] == [[]]:
            assert {*self.kept, *(chunk for _, chunk in self.travelling)} == {*range(self.chunks)}

    def teardown(self) -> None:
        """Whatever happened: with one worker that does its work, everything is kept."""
        if not hasattr(self, "dispatch"):
            return
        for worker in [*self.has]:
            self.dispatch.died(worker, "killed")
            del self.has[worker]
        self.join()
        while self.travelling or self.has[self.born - 1]:
            for chunk in [*self.has[self.born - 1]]:
                self.has[self.born - 1].remove(chunk)
                if self.dispatch.recorded(self.born - 1, chunk, self.now):
                    self.travelling.append((self.born - 1, chunk))
            while self.travelling:
                self.arrive(whole=True)
            self._send()
        assert sorted(self.kept) == [*range(self.chunks)]


TestRecordings = Recordings.TestCase
TestRecordings.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


def test_a_worker_has_one_chunk_that_runs_and_the_next_until_the_end_is_near() -> None:
    dispatch = _joined(Dispatch(3, range(7)), 2)
    assert _sent(dispatch) == [(0, 0), (1, 1), (0, 2), (1, 3)]
    assert dispatch.recorded(0, 0, 10.0)
    assert _sent(dispatch, 10.0) == [(0, 4)]
    assert dispatch.recorded(1, 1, 11.0)
    assert _sent(dispatch, 11.0) == [(1, 5)]
    assert dispatch.recorded(0, 2, 20.0)
    assert _sent(dispatch, 20.0) == []  # one is left: for whoever is free first
    assert dispatch.recorded(1, 3, 21.0)
    assert dispatch.recorded(1, 5, 22.0)
    assert _sent(dispatch, 22.0) == [(1, 6)]


def test_the_chunks_of_a_worker_that_died_go_first_to_others() -> None:
    dispatch = _joined(Dispatch(3, range(9)), 2)
    _sent(dispatch)
    assert dispatch.died(0, "killed") == [0, 2]
    dispatch.recorded(1, 1, 10.0)
    assert _sent(dispatch, 10.0) == [(1, 0)]
    assert dispatch.run_again == [2, 0]


def test_a_chunk_that_failed_goes_to_another_worker_and_back_only_if_there_is_no_other() -> None:
    dispatch = _joined(Dispatch(3, [5]), 2)
    assert _sent(dispatch) == [(0, 5)]
    dispatch.failed(0, 5, 1.0, "no luck")
    assert _sent(dispatch, 1.0) == [(1, 5)]
    dispatch.died(1, "killed")
    assert _sent(dispatch, 2.0) == [(0, 5)]


@pytest.mark.parametrize("how", ["failed", "died", "lost"])
def test_a_chunk_that_fails_too_often_ends_the_run_with_its_number_and_the_reason(how: str) -> None:
    dispatch = _joined(Dispatch(2, [5, 6]), 3)

    def fail(reason: str) -> None:
        worker = next(order.worker for order in dispatch.orders(0.0) if order.chunk == 5)
        if how == "lost":
            dispatch.recorded(worker, 5, 0.0)
            dispatch.lost(worker, 5, reason)
        elif how == "failed":
            dispatch.failed(worker, 5, 0.0, reason)
        else:
            dispatch.died(worker, reason)

    fail("once")
    with pytest.raises(ClusterError, match=r"cluster\.attempts: chunk 5 failed 2 times, at last on worker \d: twice"):
        fail("twice")


def test_chunks_of_a_late_worker_also_go_to_one_that_has_nothing_to_do_and_the_first_result_counts() -> None:
    dispatch = _joined(Dispatch(3, range(3)), 3)
    assert _sent(dispatch) == [(0, 0), (1, 1), (2, 2)]
    dispatch.recorded(1, 1, 1.0)
    assert _sent(dispatch, LATE) == []
    assert _sent(dispatch, LATE + 0.1) == [(1, 0)]
    assert dispatch.recorded(1, 0, 2.0)
    assert not dispatch.recorded(0, 0, 2.0)
    assert dispatch.run_again == [0]


def test_where_the_second_worker_is_late_too_a_third_one_is_asked() -> None:
    dispatch = _joined(Dispatch(3, range(3)), 3)
    _sent(dispatch)
    dispatch.recorded(1, 1, 1.0)
    dispatch.recorded(2, 2, 1.0)
    assert _sent(dispatch, 2.0) == [(1, 0)]
    assert _sent(dispatch, 2.0 + LATE) == []
    assert _sent(dispatch, 2.1 + LATE) == [(2, 0)]
