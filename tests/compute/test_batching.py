"""Batches and chunks: every example once, within the budget, the same whatever the chunk size."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise

from hypothesis import given
from hypothesis import strategies as st

from loradash_assets.compute.batching import Batch, plan_batches, plan_chunks

LENGTHS = st.lists(st.integers(1, 50), max_size=60)


def _flat(chunks: Sequence[Sequence[Batch]]) -> list[Batch]:
    return list(chain.from_iterable(chunks))


@given(LENGTHS, st.integers(0, 200))
def test_every_example_once_and_within_the_budget_unless_alone(lengths: list[int], budget: int) -> None:
    batches = plan_batches(lengths, budget)
    assert sorted(chain.from_iterable(batches)) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[example] for example in batch) <= budget
    assert plan_batches(lengths, budget) == batches
    assert plan_batches(lengths, 0) == sorted(
        [(example,) for example in range(len(lengths))], key=lambda b: lengths[b[0]]
    )


@given(LENGTHS, st.integers(1, 200))
def test_no_batch_could_take_the_next_example(lengths: list[int], budget: int) -> None:
    """Padding and batches are few: examples go by length, and a batch ends only where it is full."""
    batches = plan_batches(lengths, budget)
    order = [lengths[example] for example in chain.from_iterable(batches)]
    assert order == sorted(lengths)
    for batch, following in pairwise(batches):
        assert lengths[following[0]] * (len(batch) + 1) > budget


@given(LENGTHS, st.integers(0, 200), st.integers(1, 400))
def test_chunks_never_change_the_batches(lengths: list[int], budget: int, chunk_tokens: int) -> None:
    batches = plan_batches(lengths, budget)
    chunks = plan_chunks(batches, lengths, chunk_tokens)
    assert _flat(chunks) == batches
    assert all(chunks)
    for chunk in chunks:
        assert len(chunk) == 1 or sum(lengths[example] for example in chain.from_iterable(chunk)) <= chunk_tokens
