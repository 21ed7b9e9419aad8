"""Samples: the drawn tokens against a sort, uniform over many seeds, and independent of everything around them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from loradash_assets.compute.intervals import IntervalSampler, by_tier
from loradash_assets.compute.priorities import LowestPriorities, priorities
from loradash_assets.compute.statistics import RangeCounter

Floats = NDArray[np.float32]
# The 99.99 % quantiles of chi-square: by degrees of freedom.
CHI_SQUARE = {39: 80.65, 15: 44.26, 255: 347.65}


def _sampler(values: Floats, chunks: list[NDArray[np.int64]], intervals: int, size: int, seed: int) -> IntervalSampler:
    counter = RangeCounter(values.shape[0])
    counter.update(values)
    sampler = IntervalSampler(counter.result(), intervals, size)
    for chunk in chunks:
        drawn = priorities(chunk, seed, "x")
        order = by_tier(drawn)
        part = values[:, chunk[order]]
        sampler.update(chunk[order], drawn[order], np.where(np.isfinite(part), part, np.float32(np.nan)))
    return sampler


def _shapes(tokens: int) -> Floats:
    """Features of many shapes: normal, two humps, one value, two values, an outlier, tiny range, not finite."""
    generator = np.random.default_rng(0)
    normal = generator.standard_normal((8, tokens)).astype(np.float32)
    normal[1] = np.where(normal[1] > 0, normal[0] * 0.01 + 5, normal[0] * 0.01 - 5)
    normal[2] = 3.5
    normal[3] = np.where(normal[3] > 1, np.float32(-1e-45), np.float32(2))
    normal[4, tokens // 2] = 1e30
    normal[5] = np.where(normal[5] > 0, np.float32(1), np.nextafter(np.float32(1), np.float32(2)))
    normal[6, ::3] = [np.nan, np.inf, -np.inf, 0.0][tokens % 4]
    normal[7] = np.round(normal[7])
    return normal


@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 5000])
@pytest.mark.parametrize(("intervals", "size"), [(1, 3), (10, 2), (100, 1), (7, 40)])
def test_the_tokens_of_lowest_priority_of_every_interval_are_drawn(tokens: int, intervals: int, size: int) -> None:
    values = _shapes(tokens)
    order = np.random.default_rng(1).permutation(tokens)
    results: list[list[list[int]]] = []
    for cuts in ([], [tokens // 3, tokens // 2]):
        sampler = _sampler(values, np.split(order, cuts), intervals, size, seed=3)
        results.append(sampler.drawn.numbers.tolist())
    assert results[0] == results[1]
    rank = np.argsort(np.argsort(priorities(np.arange(tokens), 3, "x")))
    counts = sampler.counts()
    for feature, row in enumerate(values):
        finite = row[np.isfinite(row)].astype(np.float64)
        edges = (
            np.linspace(finite.min(initial=np.inf), finite.max(initial=-np.inf), intervals + 1) if finite.size else []
        )
        for interval in range(intervals):
            last = interval == intervals - 1
            inside = [
                number
                for number in range(tokens)
                if np.isfinite(row[number])
                and edges[interval] <= row[number]
                and (row[number] <= edges[-1] if last else row[number] < edges[interval + 1])
            ]
            assert counts[feature, interval] == len(inside)
            expected = sorted(inside, key=lambda number: rank[number])[:size]
            drawn = results[0][feature * intervals + interval]
            assert drawn == expected + [-1] * (size - len(expected))
            kept = sampler.drawn.values[feature * intervals + interval][: len(expected)]
            assert kept.tolist() == row[expected].tolist()


def test_the_intervals_of_a_feature_do_not_depend_on_other_features() -> None:
    values = _shapes(999)
    for intervals in (3, 7, 10):
        together = _sampler(values, [np.arange(999)], intervals, 2, seed=0)
        for feature in range(len(values)):
            alone = _sampler(values[feature : feature + 1], [np.arange(999)], intervals, 2, seed=0)
            assert alone.edges[0].tobytes() == together.edges[feature].tobytes()
            rows = slice(feature * intervals, (feature + 1) * intervals)
            assert alone.drawn.numbers.tolist() == together.drawn.numbers[rows].tolist()


def _statistic(counts: NDArray[np.int64], expected: float) -> float:
    return float(((counts - expected) ** 2 / expected).sum())


def test_every_token_of_an_interval_is_as_likely_as_another() -> None:
    """40 tokens in one interval, 3 drawn by each of 4000 seeds; drawn without replacement, so scaled by 39 / 37."""
    values = np.concatenate([np.linspace(0, 0.4, 40), [1.0]]).astype(np.float32)[None]
    chunks = np.split(np.arange(41), [13, 20])
    counts, first = np.zeros(41, np.int64), np.zeros(41, np.int64)
    for seed in range(4000):
        drawn = _sampler(values, chunks, 2, 3, seed).drawn.numbers
        assert drawn[1].tolist() == [40, -1, -1]
        counts[drawn[0]] += 1
        first[drawn[0, 0]] += 1
    assert counts.sum() == 12000
    assert _statistic(counts[:40], 300) * 39 / 37 < CHI_SQUARE[39]
    assert _statistic(first[:40], 100) < CHI_SQUARE[39]  # the first draw alone, too


def test_pairs_of_tokens_and_streams_are_drawn_independently() -> None:
    """Whether the lowest of 16 tokens says anything about the lowest in another stream, or under the next seed."""
    numbers = np.arange(16)
    lowest = {name: [int(np.argmin(priorities(numbers, seed, name))) for seed in range(8000)] for name in ("a", "b")}
    for one, other in ((lowest["a"], lowest["b"]), (lowest["a"][:-1], lowest["a"][1:])):
        assert _statistic(np.bincount(one, minlength=16), len(one) / 16) < CHI_SQUARE[15]
        pairs = np.bincount(16 * np.array(one) + np.array(other), minlength=256)
        assert _statistic(pairs, len(one) / 256) < CHI_SQUARE[255]


def test_priorities_are_distinct_and_hang_on_seed_stream_and_number_only() -> None:
    numbers = np.arange(200_000)
    found = priorities(numbers, 0, "all")
    assert np.unique(found).size == numbers.size
    assert np.array_equal(priorities(numbers[::-7], 0, "all"), found[::-7])
    assert not np.any(found == priorities(numbers, 1, "all"))
    assert not np.any(found == priorities(numbers, 0, "intervals"))


def test_the_lowest_priorities_of_each_owner_are_kept() -> None:
    generator = np.random.default_rng(2)
    kept, everything = LowestPriorities(5, 4), list[tuple[int, int, int]]()
    for number in range(30):
        owners = generator.integers(0, 4, 3)  # one owner gets nothing
        ranks = generator.integers(0, 2**63, 3, np.uint64)
        numbers = 3 * number + np.arange(3)
        kept.update(owners, ranks, numbers, numbers.astype(np.float32))
        everything += zip(owners.tolist(), ranks.tolist(), numbers.tolist(), strict=True)
    for owner in range(5):
        best = sorted((rank, number) for each, rank, number in everything if each == owner)[:4]
        assert kept.numbers[owner].tolist() == [number for _, number in best] + [-1] * (4 - len(best))
        assert kept.values[owner].tolist() == [float(number) for _, number in best] + [0.0] * (4 - len(best))
        assert kept.bounds()[owner] == (best[3][0] if len(best) == 4 else 2**64 - 1)
