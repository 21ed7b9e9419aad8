"""Identical contexts, recognised by the tokens themselves: in a causal model they have identical activations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def prefix_numbers(token_ids: Sequence[NDArray[np.int32]]) -> list[NDArray[np.int64]]:
    """Number the prefixes: equal numbers iff the tokens from the example's start up to and including here are equal.

    token_ids: per example (length,) -> per example (length,). A prefix's number is the token number (counted over
    all examples, in order) of the first token that ends it. Exact: compared token by token, nothing is hashed.
    """
    lengths = np.array([ids.size for ids in token_ids], np.int64)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    flat = np.concatenate([*token_ids, np.empty(0, np.int32)]).astype(np.int64)
    numbers = np.arange(flat.size, dtype=np.int64)
    examples = np.arange(lengths.size, dtype=np.int64)  # those that still share their prefix with another
    parents = np.zeros(lengths.size, np.int64)  # which prefix they share: (examples,)
    position = 0
    while examples.size > 1:
        longer = lengths[examples] > position
        examples, parents = examples[longer], parents[longer]
        at = offsets[examples] + position
        pairs = (parents << 32) + flat[at]  # ids are 32 bits wide: no two (parent, id) meet
        _, first, prefix, sharers = np.unique(pairs, return_index=True, return_inverse=True, return_counts=True)
        numbers[at] = at[first][prefix]
        shared = sharers[prefix] > 1  # what nobody shares now, nobody shares later
        examples, parents = examples[shared], prefix[shared].astype(np.int64)
        position += 1
    return np.split(numbers, offsets[1:-1]) if lengths.size else []


def first_occurrences(prefixes: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """(mask, counts), both (tokens,), from the prefix number of every token in the order of token numbers.

    The mask keeps the first token of each prefix; counts says for every token how many tokens have its prefix.
    """
    _, first, inverse, counts = np.unique(prefixes, return_index=True, return_inverse=True, return_counts=True)
    mask = np.zeros(prefixes.size, np.bool_)
    mask[first] = True
    return mask, counts[inverse].astype(np.int64)
