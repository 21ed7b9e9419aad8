"""What must hold of lists of top tokens, whatever made them: looked at in the finished table, and nowhere else."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loradash_assets.compute.minimap import BINS
from loradash_assets.compute.tokens import TokenIndex

LIST = ("projection", "component", "polarity")  # the columns that tell a layer's lists apart


def listing_faults(listed: pa.Table, index: TokenIndex) -> dict[str, int]:
    """Count what is wrong with a layer's lists, a table of the TOP_TOKENS schema.

    Rows that are `unsorted`: not with the rank after the row before in their list, or with an activation that should
    have come before that row's. Rows with a window that is `outside`: not within the row's example, without the
    token itself at its place, or with another activation there than the row's; or a minimap of another length than
    the example's, unless it is empty.
    """
    if listed.num_rows == 0:
        return {"unsorted": 0, "outside": 0}
    return {"unsorted": _unsorted(listed), "outside": _outside(listed, index)}


def _unsorted(listed: pa.Table) -> int:
    lists = [listed.column(name).combine_chunks().dictionary_encode() for name in LIST]
    codes = np.stack([each.indices.to_numpy() for each in lists])
    goes_on = (codes[:, 1:] == codes[:, :-1]).all(axis=0)
    signs = np.array([1 if polarity == "positive" else -1 for polarity in lists[-1].dictionary.to_pylist()])
    falling = listed.column("activation").to_numpy() * signs[codes[-1]]
    rank = listed.column("rank").to_numpy()
    fits = (rank[1:] == np.where(goes_on, rank[:-1] + 1, 1)) & (~goes_on | (falling[1:] <= falling[:-1]))
    return int(np.count_nonzero(~fits)) + int(rank[0] != 1)


def _outside(listed: pa.Table, index: TokenIndex) -> int:
    position, target = (listed.column(name).to_numpy().astype(np.int64) for name in ("position", "target_position"))
    context, activations = _Lists(listed.column("context")), _Lists(listed.column("context_activations"))
    example = listed.column("example").to_numpy()
    places = np.searchsorted(index.examples, example)
    known = np.append(index.examples, -1)[places] == example
    lengths = np.append(np.diff(index.offsets), 0)[places]
    right = known & (target >= 0) & (target <= position) & (position - target + context.sizes <= lengths)
    right &= (target < context.sizes) & (context.sizes == activations.sizes)
    at = np.where(right, target, 0)
    right[right] &= (context.items(at) == listed.column("token").to_numpy())[right]
    right[right] &= (activations.items(at) == listed.column("activation").to_numpy())[right]
    bins = _Lists(listed.column("minimap")).sizes
    right &= (bins == np.minimum(lengths, BINS)) | (bins == 0)
    return int(np.count_nonzero(~right))


class _Lists:
    """A column of lists: how long each is, and one item of each."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        lists = column.combine_chunks()
        self.sizes: NDArray[np.int64] = lists.value_lengths().to_numpy().astype(np.int64)
        self._starts = np.cumsum(self.sizes) - self.sizes
        self._flat = lists.flatten().to_numpy(zero_copy_only=False)

    def items(self, places: NDArray[np.int64]) -> NDArray[np.generic]:
        """Return the item at each list's place; of a list without one, any other."""
        return self._flat[np.minimum(self._starts + places, self._flat.size - 1)]
