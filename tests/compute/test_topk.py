"""Streaming top-k against Python's own sort, in every position."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from loradash_assets.compute.topk import Ranking, TopK, TopTokens

Floats = NDArray[np.float32]


def _reference(values: list[float], k: int, sign: int) -> list[tuple[float, int]]:
    ranked = [(v, n) for n, v in enumerate(values) if math.isfinite(v) and sign * v > 0]
    return sorted(ranked, key=lambda item: (-sign * item[0], item[1]))[:k]


def _assert_ranked(ranking: Ranking, activations: Floats, k: int, sign: int) -> None:
    for feature, values in enumerate(activations.tolist()):
        expected = _reference(values, k, sign)
        got = list(zip(ranking.values[feature].tolist(), ranking.numbers[feature].tolist(), strict=True))
        assert got == expected + [(0.0, -1)] * (k - len(expected))


def _streamed(activations: Floats, k: int, cuts: list[int], seed: int | None = None) -> TopTokens:
    numbers = np.arange(activations.shape[1], dtype=np.int64)
    bounds = [0, *sorted(cuts), numbers.size]
    chunks = list(pairwise(bounds))
    generator = np.random.default_rng(seed)
    if seed is not None:
        chunks = [chunks[i] for i in generator.permutation(len(chunks))]
    topk = TopK(activations.shape[0], k)
    for start, stop in chunks:
        inner = np.arange(start, stop)
        if seed is not None:
            generator.shuffle(inner)
        topk.update(np.ascontiguousarray(activations[:, inner]), numbers[inner])
    return topk.result()


FEW_VALUES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, -2.5, 1e-45, -1e-45, math.nan, math.inf, -math.inf])
ANY_VALUE = st.one_of(FEW_VALUES, st.floats(width=32))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_chunks_in_any_order_equal_a_full_sort(data: st.DataObject) -> None:
    features, tokens = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 40))
    values = data.draw(st.lists(ANY_VALUE, min_size=features * tokens, max_size=features * tokens))
    activations = np.array(values, np.float32).reshape(features, tokens)
    k = data.draw(st.integers(1, 12))
    cuts = data.draw(st.lists(st.integers(0, tokens), max_size=5))
    result = _streamed(activations, k, cuts, data.draw(st.one_of(st.none(), st.integers(0, 99))))
    _assert_ranked(result.positive, activations, k, 1)
    _assert_ranked(result.negative, activations, k, -1)


@pytest.mark.parametrize("k", [1, 5, 16, 300])
@pytest.mark.parametrize("distinct", [None, 4, 2000])
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_many_blocks_with_ties_and_non_finite_values(k: int, distinct: int | None, seed: int | None) -> None:
    generator = np.random.default_rng(7)
    activations = generator.standard_normal((4, 5000)).astype(np.float32)
    if distinct is not None:
        activations = (np.round(activations * distinct / 4) / distinct).astype(np.float32)
    activations[1, generator.integers(0, 5000, 40)] = np.nan
    activations[2, generator.integers(0, 5000, 40)] = np.inf
    activations[2, generator.integers(0, 5000, 40)] = -np.inf
    activations[3] = np.abs(activations[3])
    result = _streamed(activations, k, [100, 356, 612, 2900], seed)
    _assert_ranked(result.positive, activations, k, 1)
    _assert_ranked(result.negative, activations, k, -1)


def test_an_earlier_token_that_comes_later_wins_the_tie() -> None:
    topk = TopK(1, 2)
    topk.update(np.ones((1, 3), np.float32), np.array([7, 8, 9]))
    topk.update(np.ones((1, 2), np.float32), np.array([3, 30]))
    assert topk.result().positive.numbers.tolist() == [[3, 7]]


def test_always_positive_features_have_no_negative_list() -> None:
    topk = TopK(2, 3)
    topk.update(np.full((2, 700), 0.5, np.float32), np.arange(700))
    assert topk.result().negative.numbers.tolist() == [[-1] * 3] * 2
    assert topk.result().positive.numbers.tolist() == [[0, 1, 2]] * 2


def test_the_callers_activations_stay_as_they_are() -> None:
    activations = np.array([[1.0, np.nan, -2.0, np.inf]], np.float32)
    before = activations.copy()
    TopK(1, 2).update(activations, np.arange(4))
    np.testing.assert_array_equal(activations, before)
