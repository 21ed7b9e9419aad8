"""Seeded random priorities, and the entries of lowest priority kept while candidates stream by.

Taking the tokens of lowest priority is a uniform sample without replacement. A token's priority hangs on the seed and
its own number alone: the sample depends on neither the chunks nor their order nor what else is sampled.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

LAST = np.uint64(2**64 - 1)  # stands for "none": in 2**64 numbers one token could have it, and would lose a tie to none


def priorities(numbers: NDArray[np.int64], seed: int, stream: str) -> NDArray[np.uint64]:
    """The priority of each token number, (tokens,) -> (tokens,); no two are equal. Streams are independent.

    Number n gets the n-th output of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
    generators") from a state that seed and stream give. Every step maps 64 bits one to one, and wraps around.
    """
    state = np.frombuffer(hashlib.sha256(f"{seed} {stream}".encode()).digest()[:8], "<u8")
    mixed = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + state
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


class LowestPriorities:
    """For each of several owners the `size` entries of lowest priority, in their order."""

    def __init__(self, owners: int, size: int) -> None:
        self._priorities = np.full((owners, size), LAST)
        self.numbers = np.full((owners, size), -1, np.int64)  # -1 where there are fewer
        self.values = np.zeros((owners, size), np.float32)

    def bounds(self) -> NDArray[np.uint64]:
        """The priority per owner, (owners,), that another entry must be below."""
        return self._priorities[:, -1]

    def update(
        self,
        owners: NDArray[np.intp],
        priorities: NDArray[np.uint64],
        numbers: NDArray[np.int64],
        values: NDArray[np.float32],
    ) -> None:
        """Take in entries, all (n,); no owner may get a token twice."""
        touched = np.unique(owners)
        kept, slot = np.nonzero(self.numbers[touched] >= 0)
        kept = touched[kept]
        owners = np.concatenate((kept, owners))
        priorities = np.concatenate((self._priorities[kept, slot], priorities))
        numbers = np.concatenate((self.numbers[kept, slot], numbers))
        values = np.concatenate((self.values[kept, slot], values))
        order = np.lexsort((priorities, owners))
        ranks = np.arange(owners.size) - np.searchsorted(owners[order], owners[order])
        best = order[ranks < self.numbers.shape[1]]
        place = owners[best], ranks[ranks < self.numbers.shape[1]]
        self._priorities[place], self.numbers[place], self.values[place] = priorities[best], numbers[best], values[best]
