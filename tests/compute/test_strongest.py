"""The strongest partners against a sort of the whole matrix."""

from __future__ import annotations

import numpy as np

from loradash_assets.compute.strongest import Strongest


def test_the_strongest_of_blocks_in_any_order() -> None:
    matrix = np.round(np.random.default_rng(1).uniform(-1, 1, (12, 12)), 1).astype(np.float32)
    expected = [sorted((-abs(r), j) for j, r in enumerate(row) if j != i)[:4] for i, row in enumerate(matrix)]
    blocks = [slice(0, 5), slice(5, 10), slice(10, 12)]
    for order in (blocks, blocks[::-1]):
        strongest = Strongest(12, 4)
        for rows in order:
            for columns in order:
                strongest.update(rows, columns, matrix[rows, columns])
        assert strongest.partners.tolist() == [[j for _, j in row] for row in expected]
        chosen = np.take_along_axis(matrix, strongest.partners.astype(np.int64), axis=1)
        np.testing.assert_array_equal(strongest.values, chosen)
