"""Counts at thresholds that lie between two float32."""

from __future__ import annotations

import numpy as np
import pytest

from loradash_assets.compute.density import DensityCounter
from loradash_assets.compute.statistics import RangeCounter


@pytest.mark.parametrize("value", [1.0, -1.0, 1e-45, 3.4028235e38])
@pytest.mark.parametrize("side", [-1, 0, 1])
def test_a_threshold_that_float32_cannot_hold(value: float, side: int) -> None:
    activations = np.array([[value, 0]], np.float32)
    size = abs(float(activations[0, 0]))
    std = np.array([size if side == 0 else np.nextafter(size, side * np.inf)])
    ranges = RangeCounter(1)
    ranges.update(activations)
    counter = DensityCounter(ranges.result(), std, [1, 2])
    counter.update(slice(0, 1), np.sort(activations, axis=1))
    assert counter.result().tolist() == [[0.5 if side < 0 else 0, 0]]
