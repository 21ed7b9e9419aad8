"""Prefix numbers against dictionaries of tuples."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from loradash_assets.compute.prefixes import PrefixTree, first_occurrences

EXAMPLES = st.lists(st.lists(st.sampled_from([0, 1, 2, 2**31 - 1]), max_size=6), max_size=12)


@settings(max_examples=300, deadline=None)
@given(EXAMPLES)
def test_numbers_name_the_first_token_with_the_same_prefix(examples: list[list[int]]) -> None:
    tree = PrefixTree()
    numbers = [tree.add(np.array(ids, np.int32)) for ids in examples]
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
@given(st.lists(st.integers(0, 6), max_size=20))
def test_first_occurrences_and_counts(prefixes: list[int]) -> None:
    mask, counts = first_occurrences(np.array(prefixes, np.int64))
    assert mask.tolist() == [number not in prefixes[:i] for i, number in enumerate(prefixes)]
    assert counts.tolist() == [prefixes.count(number) for number in prefixes]


def test_long_examples_that_part_at_the_first_token() -> None:
    tree = PrefixTree()
    numbers = np.concatenate([tree.add(np.arange(start, start + 200_000, dtype=np.int32)) for start in (0, 1, 2)])
    np.testing.assert_array_equal(numbers, np.arange(600_000))


def test_long_examples_that_part_late_and_again() -> None:
    common = np.arange(50_000, dtype=np.int32)
    ends = [common.size, 30_000, common.size, 40_000, 30_000, 30_001]
    tails = [[], [7], [8, 9], [7], [7, 7], []]
    tree = PrefixTree()
    examples = [np.append(common[:end], tail).astype(np.int32) for end, tail in zip(ends, tails, strict=True)]
    numbers = [tree.add(ids) for ids in examples]
    first = np.arange(common.size)
    second = common.size + 30_000  # the first token that ends 30,000 common ones and a 7
    third = common.size + 30_001 + common.size
    np.testing.assert_array_equal(numbers[0], first)
    np.testing.assert_array_equal(numbers[1], [*first[:30_000], second])
    np.testing.assert_array_equal(numbers[2], [*first, third, third + 1])
    np.testing.assert_array_equal(numbers[3], [*first[:40_000], third + 2 + 40_000])
    np.testing.assert_array_equal(numbers[4], [*first[:30_000], second, third + 2 + 40_001 + 30_001])
    np.testing.assert_array_equal(numbers[5], first[:30_001])
