"""The statistics of a synthetic page's features, from their draws."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loradash_assets.schema import DENSITY_MULTIPLES, QUANTILE_SHARES
from loradash_assets.site.arrow import shortest
from loradash_assets.site.page import Histogram, Statistics

DRAWS = 4096
BINS = 50

Activations = NDArray[np.float32]


def statistics_of(values: Activations, tokens: int, random: np.random.Generator) -> list[Statistics]:
    """Return the statistics of sorted `values` (features, DRAWS) as if of so many tokens; effects are random."""
    return [_statistics(row, tokens, random) for row in values]


def _statistics(values: Activations, tokens: int, random: np.random.Generator) -> Statistics:
    exact = values.astype(np.float64)
    mean, std = float(exact.mean()), float(exact.std())
    cubes, fourths = (float(((exact - mean) ** power).mean()) for power in (3, 4))
    ranks = [int(np.ceil(float(share) * DRAWS)) - 1 for share in QUANTILE_SHARES]
    low, high, *quantiles = shortest(values[[0, -1, *ranks]]).tolist()
    effect, explained = float(random.lognormal(-1, 1)), random.beta(2, 2, 2).tolist()
    return Statistics(
        min=low,
        max=high,
        count=tokens,
        non_finite=0,
        mean=mean,
        std=std,
        skewness=cubes / std**3,
        kurtosis=fourths / std**4 - 3,
        quantiles=tuple(quantiles),
        density=tuple(float((np.abs(exact) > multiple * std).mean()) for multiple in DENSITY_MULTIPLES),
        effect_scale=effect,
        rms_effect=effect * float(np.sqrt((exact**2).mean())),
        token_omega_squared=explained[0],
        position_omega_squared=explained[1],
        histogram=_histogram(exact, tokens, random),
    )


def _histogram(values: NDArray[np.float64], tokens: int, random: np.random.Generator) -> Histogram:
    """Return counts that add up to `tokens`, in bins of equal width."""
    counts, edges = np.histogram(values, BINS)
    total = random.multinomial(tokens, counts / DRAWS)
    above = np.clip(edges[1:] / np.diff(edges), 0, 1)  # the share of a bin that is above zero
    positive = np.rint(total * above).astype(np.int64)
    columns = (total, positive, total - positive)
    return Histogram(tuple(edges.tolist()), *(tuple(column.tolist()) for column in columns))
