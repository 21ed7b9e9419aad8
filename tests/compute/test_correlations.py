"""Sums of products against Python's integers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from loradash_assets.compute.correlations import Products, token_slices


@pytest.mark.parametrize("largest", [3, 2**20])
def test_covariances_of_integers_that_are_not_centred(largest: int) -> None:
    random = np.random.default_rng(largest)
    first, second = (random.integers(largest // 2, largest + 1, (rows, 10_000)).astype("f8") for rows in (2, 3))
    first[0] = largest  # the sum of its products is as high as it gets
    products = Products(2, 3)
    for tokens in token_slices(10_000):
        products.update(first[:, tokens], second[:, tokens])
    for i, row in enumerate(first):
        for j, column in enumerate(second):
            a, b = [int(value) for value in row], [int(value) for value in column]
            both = sum(x * y for x, y in zip(a, b, strict=True))
            exact = both - Fraction(sum(a) * sum(b), 10_000)
            assert products.covariances()[i, j] == pytest.approx(float(exact), abs=both * 2.0**-51)
