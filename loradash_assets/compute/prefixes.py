"""Identical contexts, recognised by the tokens themselves: in a causal model they have identical activations."""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray

from loradash_assets.compute.arrays import blocks, gather, ranges


class PrefixTree:
    """Numbers the prefixes of examples that are added one by one, exactly: token by token, nothing is hashed.

    It is a radix tree, with a node per place where two examples part and an edge for what is between. Memory: 4 bytes
    per token, and at most two edges per example.
    """

    def __init__(self) -> None:
        self._ids = array("i")  # of all tokens
        # Prefix number of a node (-1 at the start) and the id that follows -> the tokens of the edge that begins so,
        # by their numbers. These are the prefix numbers too, as the edge's tokens are the first to end their prefixes.
        self._edges: dict[tuple[int, int], tuple[int, int]] = {}

    def add(self, ids: NDArray[np.int32]) -> NDArray[np.int64]:
        """Number the prefixes of the next example, (length,) -> (length,).

        Two have one number iff the tokens from the example's start up to and including here are equal: the token number
        (counted over all examples, in order) of the first token that ends it.
        """
        first, length = len(self._ids), ids.size
        self._ids.frombytes(np.ascontiguousarray(ids, np.int32).tobytes())
        stretches: list[tuple[int, int]] = []  # of prefix numbers
        node, position = -1, 0
        while position < length:
            key = node, self._ids[first + position]
            if key not in self._edges:
                self._edges[key] = first + position, first + length
                stretches.append(self._edges[key])
                break
            start, stop = self._edges[key]
            end = start + self._shared(start, first + position, min(stop - start, length - position))
            stretches.append((start, end))
            position += end - start
            node = end - 1
            if end < stop and position < length:  # it leaves the edge: here two examples part
                self._edges[key] = start, end
                self._edges[node, self._ids[end]] = end, stop
        starts, stops = np.array(stretches, np.int64).reshape(-1, 2).T
        return ranges(starts, stops - starts)

    def _shared(self, one: int, other: int, length: int) -> int:
        """In how many tokens, at least 1 and at most `length`, these two stretches are the same from the start on."""
        if length == 1 or self._ids[one : one + length] == self._ids[other : other + length]:
            return length
        stretches = (np.frombuffer(self._ids[start : start + length], np.int32) for start in (one, other))
        return int(np.not_equal(*stretches).argmax())


def first_occurrences(prefixes: NDArray[np.integer]) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    """(mask, counts), both (tokens,), from the prefix number of every token in the order of token numbers.

    The mask keeps the first token of each prefix; counts says for every token how many tokens have its prefix.
    prefixes: numbers from 0 on. Memory beside: 8 bytes per number up to the largest.
    """
    numbers = int(prefixes.max(initial=-1)) + 1
    first = np.full(numbers, prefixes.size, np.int32)
    count = np.zeros(numbers, np.int32)
    for block in blocks(prefixes.size):
        np.minimum.at(first, prefixes[block], np.arange(block.start, block.stop, dtype=np.int32))
        np.add.at(count, prefixes[block], np.int32(1))
    mask = np.zeros(prefixes.size, np.bool_)
    for block in blocks(prefixes.size):
        mask[block] = first[prefixes[block]] == np.arange(block.start, block.stop)
    return mask, gather(count, prefixes)
