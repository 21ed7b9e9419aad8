"""Where in a whole example a feature fires: at most 64 bins of 8 bits, from the example's start to its end."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loradash_assets.compute.arrays import ranges
from loradash_assets.compute.tokens import TokenIndex

BINS = 64  # an example of fewer tokens has one for each
_LARGEST = 127
_ACTIVATIONS = 1 << 20  # looked at together, so that their copies stay small


class Minimaps:
    """The minimaps of entries, each a token of a feature, collected while the recording streams by.

    The n tokens of an example are cut into m = min(64, n) bins as equal as can be: bin b has the positions from
    floor(b * n / m) to floor((b + 1) * n / m) - 1. It holds that of their activations which is farthest from 0, the
    positive one of two, as a share of the feature's scale: from -127 to 127, and what is beyond the scale is clipped.
    A token that the feature does not see counts as 0, and so does one that is not finite.

    features, numbers: (entries,), row in the view and token number of each entry; scales: (features,), |activation|
    that makes 127, or 0 for a feature whose minimaps are all 0. Memory: 512 bytes per feature and example with entries.
    """

    def __init__(
        self,
        index: TokenIndex,
        features: NDArray[np.intp],
        numbers: NDArray[np.int64],
        scales: NDArray[np.floating],
    ) -> None:
        self._offsets = index.offsets
        self._scales = scales.astype(np.float64)
        pairs, self._pair_of = np.unique(index.prompts_of(numbers) * scales.size + features, return_inverse=True)
        prompts, self._features = np.divmod(pairs, max(1, scales.size))  # (pairs,), prompt by prompt
        self._prompts, self._first_pairs = np.unique(prompts, return_index=True)  # (prompts,)
        self._pairs = np.diff(self._first_pairs, append=pairs.size)  # (prompts,), how many each has
        self._bins = np.minimum(np.diff(index.offsets)[prompts], BINS)  # (pairs,)
        self._starts = np.cumsum(self._bins) - self._bins  # (pairs,)
        self._highest, self._lowest = np.zeros((2, int(self._bins.sum())), np.float32)

    def update(self, ascending: NDArray[np.int64], order: NDArray[np.intp], activations: NDArray[np.float32]) -> None:
        """Take in a chunk: its token numbers in order, where each stands in the chunk, activations (features, tokens).

        An example may be spread over any number of chunks.
        """
        first, stop = (np.searchsorted(ascending, self._offsets[self._prompts + side]) for side in (0, 1))
        here = np.flatnonzero(stop > first)  # of the prompts
        firsts, edges = self._edges(self._prompts[here])
        places = np.searchsorted(ascending, edges)
        pairs, of_prompt = ranges(self._first_pairs[here], self._pairs[here]), np.repeat(here, self._pairs[here])
        bins = np.repeat(firsts, self._pairs[here])  # the first of each pair's, in `places`
        for block in _blocks((stop - first)[of_prompt]):
            self._merge(pairs[block], bins[block], places, order, activations)

    def _edges(self, prompts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Each prompt's first place in what follows: token numbers, where its bins begin and where the last ends."""
        lengths = self._offsets[prompts + 1] - self._offsets[prompts]
        bins = np.minimum(lengths, BINS)
        firsts = np.cumsum(bins + 1) - (bins + 1)
        number = ranges(np.zeros_like(bins), bins + 1)
        start, length, count = (np.repeat(each, bins + 1) for each in (self._offsets[prompts], lengths, bins))
        return firsts, start + number * length // count

    def _merge(
        self,
        pairs: NDArray[np.int64],
        first_bins: NDArray[np.int64],
        places: NDArray[np.intp],
        order: NDArray[np.intp],
        activations: NDArray[np.float32],
    ) -> None:
        """Take in the tokens of some pairs; a bin has order[places[bin] : places[bin + 1]]."""
        bins = ranges(first_bins, self._bins[pairs])
        slots = ranges(self._starts[pairs], self._bins[pairs])
        rows = np.repeat(self._features[pairs], self._bins[pairs])
        sizes = places[bins + 1] - places[bins]
        there = sizes > 0
        bins, slots, rows, sizes = bins[there], slots[there], rows[there], sizes[there]
        values = activations[np.repeat(rows, sizes), order[ranges(places[bins], sizes)]]
        values[~np.isfinite(values)] = 0
        starts = np.cumsum(sizes) - sizes
        self._highest[slots] = np.maximum(self._highest[slots], np.maximum.reduceat(values, starts))
        self._lowest[slots] = np.minimum(self._lowest[slots], np.minimum.reduceat(values, starts))

    def column(self) -> pa.ListArray:
        """Return the entries' minimaps, a list of int8 each, once every chunk was given."""
        farthest = np.where(self._highest >= -self._lowest, self._highest, self._lowest).astype(np.float64)
        scales = np.repeat(self._scales[self._features], self._bins)
        levels = np.divide(farthest * _LARGEST, scales, out=np.zeros_like(farthest), where=scales > 0)
        levels = np.clip(np.trunc(levels + np.copysign(0.5, levels)), -_LARGEST, _LARGEST).astype(np.int8)
        bins = self._bins[self._pair_of]
        offsets = pa.array(np.concatenate(([0], np.cumsum(bins))), pa.int32())
        return pa.ListArray.from_arrays(offsets, levels[ranges(self._starts[self._pair_of], bins)])


def _blocks(tokens: NDArray[np.int64]) -> Iterator[slice]:
    """Cut pairs with so many tokens each into stretches of about _ACTIVATIONS together."""
    ends = np.cumsum(tokens)
    cuts = np.flatnonzero(np.diff(ends // _ACTIVATIONS)) + 1
    return (slice(start, stop) for start, stop in pairwise([0, *cuts.tolist(), tokens.size]) if start < stop)
