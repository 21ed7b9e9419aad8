"""The plan against the tokens themselves: brute force over every token of small datasets."""

from __future__ import annotations

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
    """Parents run before what comes after them, everything that an example needs runs, and once."""
    ids = _tokens(rows)
    plan = plan_recording(ids, budget, size, share=share)
    elsewhere: dict[int, int] = {}
    for number, chunk in enumerate(plan.chunks):
        run: set[int] = set()
        for together in chunk.runs:
            assert all(plan.segments[s].parent in run | {None} for s in together)
            assert run.isdisjoint(together)
            run |= set(together)
        assert {s for row in chunk.examples for s in plan.path(plan.ends[row])} <= run
        assert run <= {s for row in chunk.examples for s in _path_of_longest(plan, ids, row)}
        assert list(chunk.examples) == sorted(chunk.examples)
        assert len(chunk.examples) == 1 or sum(len(ids[row]) for row in chunk.examples) <= size
        for segment in run - set(chunk.carried):  # what runs in batches runs in no other chunk
            assert elsewhere.setdefault(segment, number) == number
    assert {s for chunk in plan.chunks for run in chunk.runs for s in run} == set(range(len(plan.segments)))


def _path_of_longest(plan: Plan, ids: list[np.ndarray], row: int) -> list[int]:
    """All segments that belong to an example that starts with this one's tokens."""
    tokens = ids[row].tolist()
    longer = [other for other in range(len(ids)) if ids[other][: len(tokens)].tolist() == tokens]
    return [segment for other in longer for segment in plan.path(plan.ends[other])]


@settings(max_examples=300, deadline=None)
@given(EXAMPLES, BUDGETS, CHUNKS, st.booleans())
def test_batches_keep_to_the_budget(rows: list[list[int]], budget: int, size: int, share: bool) -> None:
    plan = plan_recording(_tokens(rows), budget, size, share=share)
    padded = 0
    for chunk in plan.chunks:
        for batch in chunk.batches:
            own = max(plan.segments[segment].length for segment in batch)
            past = max(plan.segments[segment].start for segment in batch)
            padded += len(batch) * own
            assert len(batch) == 1 or len(batch) * own <= budget
            assert len(batch) == 1 or len(batch) * (past + own) <= PASTS * budget
    carried = {segment for chunk in plan.chunks for segment in chunk.carried}
    assert plan.computed_tokens == padded + sum(plan.segments[segment].length for segment in carried)
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
        for number, run in enumerate(chunk.runs):
            for segment in run:
                if (parent := plan.segments[segment].parent) is not None:
                    expected[parent] = number
        assert plan.last_uses(chunk) == expected


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
    assert plan.chunks[0].carried == ()
    small = plan_recording(ids, 2048, 5000)
    assert small.tokens == distinct
    assert len(small.chunks) > 5
    carried = [{small.segments[segment].length for segment in chunk.carried} for chunk in small.chunks]
    assert set().union(*carried) == {300, 200, 250}
    assert {300, 200} in carried  # no chunk asks for more than it needs
    assert {300, 250} in carried


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
    (chunk,) = plan_recording([np.concatenate([past, row]) for row in own], 512, 10**6).chunks
    assert [len(batch) for batch in chunk.batches] == [1, *[PASTS * 512 // 905] * 30]


@pytest.mark.parametrize("share", [True, False])
def test_padding_is_small(share: bool) -> None:
    lengths = np.random.default_rng(0).integers(60, 500, 240)
    ids = _random(*lengths.tolist())
    for size in (65_536, 20_000):
        plan = plan_recording(ids, 2048, size, share=share)
        assert 0 < plan.padding < 0.03
        assert sum(len(chunk.batches) for chunk in plan.chunks) < 1.3 * sum(lengths) / 2048


def test_kept_states_are_bounded() -> None:
    """Of 200 questions with four answers each, no more prefixes wait for their answers than the settings allow."""
    questions = _random(*[100] * 200)
    ids = [np.concatenate([question, answer]) for question in questions for answer in _random(*[50] * 4)]
    plan = plan_recording(ids, 512, 10**6)
    (chunk,) = plan.chunks
    last = plan.last_uses(chunk)
    for number in range(len(chunk.runs)):
        ran = chain.from_iterable(chunk.runs[: number + 1])
        waiting = sum(plan.segments[segment].length for segment in ran if last.get(segment, -1) > number)
        assert waiting <= PASTS * 512
    assert plan.tokens == 200 * 100 + 800 * 50


def test_batches_cost_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against every way to cut the sorted lengths."""
    monkeypatch.setattr(batching, "RUN", 7)
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
        assert plan.computed_tokens + 7 * len(plan.chunks[0].batches) == min(costs)
