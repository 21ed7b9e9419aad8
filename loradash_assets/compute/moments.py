"""Mean, standard deviation, skewness and kurtosis of every feature, from exact sums of powers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loradash_assets.compute.statistics import Ranges, Tile

_POWERS = 4
_BITS = 51  # powers of z are rounded to multiples of 2**-51
_SPAN = 1 << 11  # tokens: so many integers up to 2**51 add up to less than 2**63
_HALF = 31  # sums are kept in two parts, of which the lower has so many bits
# In [2**52, 2**53) float64 has steps of 1: adding this rounds to an integer, which the bits then hold as it is.
_SHIFT = np.float64(1.5 * 2**52)
_SHIFT_BITS = _SHIFT.view(np.int64)


@dataclass(frozen=True)
class Moments:
    """The population's, all (features,): 0 where there is no finite activation.

    Skewness is m3 / m2**1.5 and kurtosis the excess, m4 / m2**2 - 3, with mk the mean of (a - mean)**k, as
    `scipy.stats.skew` and `kurtosis` have them by default; NaN where the variance is 0.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    skewness: NDArray[np.float64]
    kurtosis: NDArray[np.float64]


class MomentCounter:
    """The second pass: sums of z to z**4, each rounded to a multiple of 2**-51 and added as an integer.

    At least two activations lie at the ends of the range, so the variance of z is at least 2 / n in units where the
    roundings are 2**-52: what is lost by taking central moments from these sums is at most about n * 2**-49 of them.
    """

    def __init__(self, ranges: Ranges) -> None:
        self._ranges = ranges
        self._sums = np.zeros((2, _POWERS, ranges.count.size), np.int64)  # upper and lower parts

    def update(self, tile: Tile) -> None:
        """Take in a tile."""
        starts = np.arange(0, tile.z.shape[1], _SPAN)
        lengths = np.diff(starts, append=tile.z.shape[1])
        sums = np.empty((_POWERS, tile.z.shape[0], starts.size), np.int64)
        power = tile.z * 2.0**_BITS
        shifted = np.empty_like(power)
        for place in range(_POWERS):
            if place:
                power *= tile.z
            np.add(power, _SHIFT, out=shifted)
            np.add.reduceat(shifted.view(np.int64), starts, axis=1, out=sums[place])  # modulo 2**64
        sums -= lengths * _SHIFT_BITS
        self._sums[0, :, tile.rows] += (sums >> _HALF).sum(axis=2)
        self._sums[1, :, tile.rows] += (sums & ((1 << _HALF) - 1)).sum(axis=2)

    def result(self) -> Moments:
        """What the sums give, in Python's integers: exact until the last divisions."""
        ranges = self._ranges
        # Objects are Python's integers: (powers, features).
        sums = (self._sums[0].astype(object) << _HALF) + self._sums[1].astype(object)
        found = [_moments(n, *powers) for n, powers in zip(ranges.count.tolist(), sums.T.tolist(), strict=True)]
        mean, variance, skewness, kurtosis = np.array(found, np.float64).reshape(-1, _POWERS).T
        shape = np.where(ranges.low < ranges.high, 0.0, np.nan)
        return Moments(
            np.clip(ranges.centre + mean * ranges.unit, ranges.low, ranges.high),
            np.sqrt(variance) * ranges.unit,
            skewness + shape,
            kurtosis + shape,
        )


def _moments(n: int, s1: int, s2: int, s3: int, s4: int) -> tuple[float, float, float, float]:
    """Mean, variance, skewness and excess kurtosis of z, from its sums of powers in units of 2**-51."""
    n = max(1, n)
    d = n << _BITS  # the mean of z**k is sk / d
    m2 = s2 * d - s1**2  # times 1 / d**2, and likewise below
    if m2 <= 0:
        return s1 / d, 0.0, 0.0, 0.0
    m3 = s3 * d**2 - 3 * s1 * s2 * d + 2 * s1**3
    m4 = s4 * d**3 - 4 * s1 * s3 * d**2 + 6 * s1**2 * s2 * d - 3 * s1**4
    return s1 / d, m2 / d**2, (m3 / d**3) / (m2 / d**2) ** 1.5, m4 / m2**2 - 3
