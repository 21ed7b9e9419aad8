"""Which tokens are left out, and that tokens with the same context are left out together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loradash_assets.compute.errors import DatasetError
from loradash_assets.compute.filters import check_token_ids, counts, left_out
from loradash_assets.compute.prefixes import PrefixTree
from loradash_assets.compute.tokens import TokenIndex

IDS = st.lists(st.lists(st.integers(0, 3), max_size=6), max_size=8)


@settings(max_examples=200, deadline=None)
@given(IDS, st.sets(st.integers(0, 4)), st.integers(0, 7), st.lists(st.integers(0, 4), max_size=2))
def test_reasons_are_counted_one_by_one_and_together(
    ids: list[list[int]], special: set[int], first: int, unwanted: list[int]
) -> None:
    index = TokenIndex.of_lengths(range(len(ids)), [len(row) for row in ids])
    flat = np.array([token_id for row in ids for token_id in row], np.int32)
    masks = left_out(index, flat, special_tokens=special, first_positions=first, token_ids=unwanted)
    places = [(position, token_id) for row in ids for position, token_id in enumerate(row)]
    expected = {
        **({"special_tokens": [token_id in special for _, token_id in places]} if special else {}),
        **({"first_positions": [position < first for position, _ in places]} if first else {}),
        **({"token_ids": [token_id in unwanted for _, token_id in places]} if unwanted else {}),
    }
    if expected:
        expected["all"] = [any(reasons) for reasons in zip(*expected.values(), strict=True)]
    assert {reason: mask.tolist() for reason, mask in masks.items()} == expected
    assert counts(masks) == {reason: sum(mask) for reason, mask in expected.items()}


@settings(max_examples=200, deadline=None)
@given(IDS, st.sets(st.integers(0, 4)), st.integers(0, 7), st.lists(st.integers(0, 4), max_size=2))
def test_equal_contexts_are_left_out_together(
    ids: list[list[int]], special: set[int], first: int, unwanted: list[int]
) -> None:
    index = TokenIndex.of_lengths(range(len(ids)), [len(row) for row in ids])
    flat = np.array([token_id for row in ids for token_id in row], np.int32)
    masks = left_out(index, flat, special_tokens=special, first_positions=first, token_ids=unwanted)
    tree = PrefixTree()
    prefixes = np.concatenate([*(tree.add(np.array(row, np.int32)) for row in ids), np.empty(0, np.int64)])
    for mask in masks.values():
        assert len(set(zip(prefixes.tolist(), mask.tolist(), strict=True))) == len(set(prefixes.tolist()))


def test_ids_that_the_tokenizer_does_not_have_are_refused() -> None:
    check_token_ids([0, 9, 9], 10)
    with pytest.raises(DatasetError, match=r"^tables\.exclude_token_ids: 10: the tokenizer's ids run from 0 to 9$"):
        check_token_ids([11, 3, 10], 10)
