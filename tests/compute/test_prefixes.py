"""Prefix numbers against dictionaries of tuples."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from loradash_assets.compute.prefixes import first_occurrences, prefix_numbers

EXAMPLES = st.lists(st.lists(st.sampled_from([0, 1, 2, 2**31 - 1]), max_size=6), max_size=12)


@settings(max_examples=300, deadline=None)
@given(EXAMPLES)
def test_numbers_name_the_first_token_with_the_same_prefix(examples: list[list[int]]) -> None:
    numbers = prefix_numbers([np.array(ids, np.int32) for ids in examples])
    first: dict[tuple[int, ...], int] = {}
    expected: list[list[int]] = []
    token = 0
    for ids in examples:
        expected.append([])
        for end in range(1, len(ids) + 1):
            expected[-1].append(first.setdefault(tuple(ids[:end]), token))
            token += 1
    assert [row.tolist() for row in numbers] == expected
    assert all(row.dtype == np.int64 for row in numbers)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-3, 3), max_size=20))
def test_first_occurrences_and_counts(prefixes: list[int]) -> None:
    mask, counts = first_occurrences(np.array(prefixes, np.int64))
    assert mask.tolist() == [number not in prefixes[:i] for i, number in enumerate(prefixes)]
    assert counts.tolist() == [prefixes.count(number) for number in prefixes]


def test_long_examples_that_part_at_the_first_token() -> None:
    examples = [np.arange(start, start + 200_000, dtype=np.int32) for start in (0, 1, 2)]
    numbers = np.concatenate(prefix_numbers(examples))
    np.testing.assert_array_equal(numbers, np.arange(600_000))
