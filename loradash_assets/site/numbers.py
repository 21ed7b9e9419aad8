"""Features' statistics as columns: for each of some fields a value per feature, NaN for what is not known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from loradash_assets.schema import DENSITY_MULTIPLES, QUANTILE_SHARES
from loradash_assets.site.columns import Array, recorded
from loradash_assets.site.page import Statistics

SEVERAL = {"quantiles": len(QUANTILE_SHARES), "density": len(DENSITY_MULTIPLES)}  # values per feature
ROUNDED = ("skewness", "kurtosis", "density", "token_omega_squared", "position_omega_squared")  # to six digits
FIELDS = (
    *("min", "max", "count", "non_finite", "mean", "std", "effect_scale", "rms_effect", "quantiles", "tied"),
    *ROUNDED,
)


def statistics_columns(statistics: Sequence[Statistics | None]) -> dict[str, Array]:
    """Return a column per field, with all values of one feature side by side; None for a feature without statistics."""
    return {name: recorded(list(_values(statistics, name))) for name in FIELDS}


def _values(statistics: Sequence[Statistics | None], name: str) -> Iterator[float]:
    for each in statistics:
        value: Any = None if each is None else getattr(each, name)
        values = [np.nan] * SEVERAL.get(name, 1) if value is None else value if name in SEVERAL else [value]
        yield from (float(f"{value:.6g}") if name in ROUNDED else value for value in values)
