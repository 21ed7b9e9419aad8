"""The plan against the tokens themselves: brute force over every token of small datasets."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loradash_assets.compute import batching, prefix_tree
from loradash_assets.compute.batching import PASTS, Plan, plan_recording

# Few tokens, so that prefixes meet; each stands for itself `STRETCH` times, so that it pays to share them.
STRETCH = 70
EXAMPLES = st.lists(st.lists(st.integers(0, 2), max_size=5), max_size=14)
BUDGETS = st.sampled_from([0, 60, 200, 700, 3000])
CHUNKS = st.sampled_from([1, 230, 700, 1800, 20_000])


def _tokens(rows: list[list[int]]) -> list[np.ndarray]:
    return [np.repeat(np.array(row, np.int64), STRETCH) for row in rows]


@settings(max_examples=300, deadline=None)
@given(EXAMPLES, BUDGETS, CHUNKS, st.booleans())
@example([[0, 1, 2], [0, 1, 2], [0, 1], [0], []], 700, 230, True)
def test_a_path_is_the_examples_tokens(rows: list[list[int]], budget: int, size: int, share: bool) -> None:
    """The tokens from the first segment's start to where the example ends, read from other examples, are its own."""
    ids = _tokens(rows)
    plan = plan_recording(ids, budget, size, share=share)
    for number, row in enumerate(ids):
        path = plan.path(plan.ends[number])
        position = 0
        for segment in (plan.segments[segment] for segment in path):
            assert segment.start == position < segment.stop
            position = segment.stop
        read = [int(ids[plan.segments[s].example][i]) for s in path for i in _positions(plan, s)]
        assert read[: len(row)] == row.tolist()
        assert len(row) <= position
        assert not path or plan.segments[path[-1]].start < len(row)  # nothing that the example does not need
    placed = list(chain.from_iterable(chunk.examples for chunk in plan.chunks))
    assert len(placed) == len(set(placed))
    assert {row for row, tokens in enumerate(rows) if tokens} <= set(placed)
    if not share or not budget:
        assert [s for s in plan.segments if s.parent is not None or s.length != len(ids[s.example])] == []
        assert len(plan.segments) == sum(1 for row in rows if row)


def _positions(plan: Plan, segment: int) -> range:
    return range(plan.segments[segment].start, plan.segments[segment].stop)


@settings(max_examples=300, deadline=None)
@given(EXAMPLES, BUDGETS, CHUNKS, st.booleans())
def test_a_chunk_can_be_recorded_by_itself(rows: list[list[int]], budget: int, size: int, share: bool) -> None:
    """Parents run before what comes after them, everything that an example needs runs, and no batch for nothing."""
    ids = _tokens(rows)
    plan = plan_recording(ids, budget, size, share=share)
    for chunk in plan.chunks:
        run: set[int] = set()
        for together in plan.runs(chunk):
            assert all(plan.segments[s].parent in run | {None} for s in together)
            assert run.isdisjoint(together)
            run |= set(together)
        assert {s for row in chunk.examples for s in plan.path(plan.ends[row])} <= run
        needed = {s for row in chunk.examples for s in plan.path(plan.ends[row])}
        while (
            more := {s for batch in plan.batches if needed & set(batch) for t in batch for s in plan.path(t)} - needed
        ):
            needed |= more
        assert run == needed
        assert list(chunk.examples) == sorted(chunk.examples)
        assert len(chunk.examples) == 1 or sum(len(ids[row]) for row in chunk.examples) <= size
    assert sorted(s for batch in plan.batches for s in batch) == list(range(len(plan.segments)))
    assert {number for chunk in plan.chunks for number in chunk.batches} == set(range(len(plan.batches)))


@settings(max_examples=300, deadline=None)
@given(EXAMPLES, BUDGETS, CHUNKS, st.booleans())
def test_what_runs_together_does_not_depend_on_the_chunks(
    rows: list[list[int]], budget: int, size: int, share: bool
) -> None:
    plan = plan_recording(_tokens(rows), budget, size, share=share)
    whole = plan_recording(_tokens(rows), budget, 10**6, share=share)
    assert replace(plan, chunks=whole.chunks) == whole


@settings(max_examples=300, deadline=None)
@given(EXAMPLES, BUDGETS, CHUNKS, st.booleans())
def test_batches_keep_to_the_budget(rows: list[list[int]], budget: int, size: int, share: bool) -> None:
    plan = plan_recording(_tokens(rows), budget, size, share=share)
    padded = 0
    for batch in plan.batches:
        own = max(plan.segments[segment].length for segment in batch)
        past = max(plan.segments[segment].start for segment in batch)
        padded += len(batch) * own
        assert len(batch) == 1 or len(batch) * own <= budget
        assert len(batch) == 1 or len(batch) * (past + own) <= PASTS * budget
    assert plan.computed_tokens == padded
    assert plan.tokens == sum(segment.stop - segment.start for segment in plan.segments)
    assert plan_recording(_tokens(rows), budget, size, share=share) == plan


@settings(max_examples=200, deadline=None)
@given(EXAMPLES, CHUNKS)
def test_stored_tokens_come_from_where_they_were_computed(rows: list[list[int]], size: int) -> None:
    ids = _tokens(rows)
    plan = plan_recording(ids, 700, size)
    for chunk in plan.chunks:
        segments, places = plan.sources(chunk)
        expected = [(row, position) for row in chunk.examples for position in range(len(ids[row]))]
        assert len(segments) == len(places) == len(expected)
        for (row, position), number, place in zip(expected, segments.tolist(), places.tolist(), strict=True):
            segment = plan.segments[number]
            assert segment.start + place == position < segment.stop
            assert (ids[segment.example][: position + 1] == ids[row][: position + 1]).all()


@settings(max_examples=200, deadline=None)
@given(EXAMPLES, CHUNKS)
def test_last_uses(rows: list[list[int]], size: int) -> None:
    plan = plan_recording(_tokens(rows), 200, size)
    for chunk in plan.chunks:
        expected: dict[int, int] = {}
        for number in chunk.batches:
            for segment in plan.batches[number]:
                if (parent := plan.segments[segment].parent) is not None:
                    expected[parent] = number
        assert plan.last_uses(chunk) == expected
    assert plan.parents == {segment.parent for segment in plan.segments} - {None}


@settings(max_examples=300, deadline=None)
@given(EXAMPLES)
def test_nearly_every_distinct_token_runs_once(rows: list[list[int]]) -> None:
    """What runs twice is what it does not pay to share: at most `RUN` tokens for each place where examples part."""
    ids = _tokens(rows)
    plan = plan_recording(ids, 10_000, 100_000)
    prefixes = {tuple(row[:stop].tolist()) for row in ids for stop in range(1, len(row) + 1)}
    parting = {tuple(a[: _common(a, b)]) for a in rows for b in rows if a != b} - {()}
    assert len(prefixes) <= plan.tokens <= len(prefixes) + prefix_tree.RUN * len(parting)


def _common(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _random(*lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(sum(lengths))
    return [rng.integers(0, 50_000, length) for length in lengths]


def test_nested_prefixes_run_once() -> None:
    """A system prompt of all, few-shot blocks of some, several answers to a question."""
    system, *blocks = _random(300, 200, 250)
    questions = [(block, question) for block in blocks for question in _random(*range(70, 90))]
    answers = _random(*[100] * len(questions) * 2)
    ids = [np.concatenate([system, *questions[number // 2], answer]) for number, answer in enumerate(answers)]
    plan = plan_recording(ids, 2048, 65_536)
    distinct = 300 + 450 + sum(len(question) for _, question in questions) + sum(map(len, answers))
    assert plan.tokens == distinct
    assert plan.padding < 0.03
    assert len(plan.chunks) == 1
    small = plan_recording(ids, 2048, 5000)
    assert len(small.chunks) > 5
    assert small.batches == plan.batches


def test_what_too_much_comes_after_runs_by_itself() -> None:
    """And what comes after it waits for few others: a chunk runs little but what it stores."""
    system, *blocks = _random(300, 200, 250)
    ids = [
        np.concatenate([system, block, question, answer])
        for block in blocks
        for question in _random(*[100] * 60)
        for answer in _random(*[80] * 3)
    ]
    plan = plan_recording(ids, 512, 20_000)
    alone = [batch[0] for batch in plan.batches if len(batch) == 1]
    assert {plan.segments[segment].length for segment in alone} == {300, 200, 250}
    for chunk in plan.chunks:
        ran = sum(plan.segments[segment].length for batch in plan.runs(chunk) for segment in batch)
        own = {segment for row in chunk.examples for segment in plan.path(plan.ends[row])}
        assert ran <= sum(plan.segments[segment].length for segment in own) + 2 * PASTS * 512


def test_copies_of_an_example_are_stored_in_as_many_chunks_as_it_takes() -> None:
    (row,) = _random(100)
    plan = plan_recording([row] * 50, 2048, 1000)
    assert plan.tokens == 100
    assert [chunk.batches for chunk in plan.chunks] == [(0,)] * 5


def test_a_conversation_turn_by_turn_costs_its_last_turn() -> None:
    (whole,) = _random(1000)
    plan = plan_recording([whole[:stop] for stop in (100, 1000, 300, 1000, 700)], 2048, 65_536)
    assert [(s.start, s.stop) for s in plan.segments] == [(0, 1000)]


def test_common_first_words_do_not_shatter_batches() -> None:
    first, *rest = _random(20, *[200] * 3)
    plan = plan_recording([np.concatenate([first, row]) for row in rest], 2048, 65_536)
    assert [s.parent for s in plan.segments] == [None] * 3


def test_a_short_start_of_a_few_long_prefixes_is_not_run_apart() -> None:
    start, *blocks = _random(20, 300, 300)
    ids = [np.concatenate([start, block, own]) for block in blocks for own in _random(*range(60, 70))]
    nodes = [s for s in plan_recording(ids, 2048, 65_536).segments if s.parent is None]
    assert [(s.start, s.stop) for s in nodes] == [(0, 320)] * 2


def test_rows_after_a_long_past_are_few() -> None:
    past, *own = _random(900, *[5] * 60)
    plan = plan_recording([np.concatenate([past, row]) for row in own], 512, 10**6)
    assert [len(batch) for batch in plan.batches] == [1, *[PASTS * 512 // 905] * 30]


@pytest.mark.parametrize("share", [True, False])
def test_padding_is_small(share: bool) -> None:
    lengths = np.random.default_rng(0).integers(60, 500, 240)
    ids = _random(*lengths.tolist())
    for size in (65_536, 20_000):
        plan = plan_recording(ids, 2048, size, share=share)
        assert 0 < plan.padding < 0.03
        assert len(plan.batches) < 1.5 * sum(lengths) / 2048


def test_kept_states_are_bounded() -> None:
    """Of 200 questions with four answers each, no more prefixes wait for their answers than the settings allow."""
    questions = _random(*[100] * 200)
    ids = [np.concatenate([question, answer]) for question in questions for answer in _random(*[50] * 4)]
    plan = plan_recording(ids, 512, 10**6)
    (chunk,) = plan.chunks
    last = plan.last_uses(chunk)
    for number in range(len(plan.batches)):
        ran = chain.from_iterable(plan.batches[: number + 1])
        waiting = sum(plan.segments[segment].length for segment in ran if last.get(segment, -1) > number)
        assert waiting <= PASTS * 512
    assert plan.tokens == 200 * 100 + 800 * 50


def test_batches_cost_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against every way to cut the sorted lengths."""
    monkeypatch.setattr(batching, "BATCH", 7)
    for seed in range(20):
        lengths = sorted(np.random.default_rng(seed).integers(1, 30, 9).tolist())
        plan = plan_recording([np.full(length, token) for token, length in enumerate(lengths)], 60, 10**6)
        costs: list[int] = []
        for cuts in range(2 ** (len(lengths) - 1)):
            groups: list[list[int]] = [[]]
            for number, length in enumerate(lengths):
                groups[-1].append(length)
                if cuts >> number & 1:
                    groups.append([])
            if all(len(group) * max(group) <= 60 for group in groups):
                costs.append(sum(len(group) * max(group) + 7 for group in groups))
        assert plan.computed_tokens + 7 * len(plan.batches) == min(costs)
