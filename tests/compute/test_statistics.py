"""Streaming statistics against exact fractions and numpy.histogram, and byte for byte against themselves."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from loradash_assets.compute.statistics import MomentCounter, Moments, RangeCounter, Ranges

Floats = NDArray[np.float32]
VALUES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.1, 1e-45, np.nan, np.inf, -np.inf]),
    st.floats(-(2.0**100), 2.0**100, width=32),
)


def _streamed(activations: Floats, bins: int, order: NDArray[np.int64], cuts: list[int]) -> tuple[Ranges, Moments]:
    chunks = [np.ascontiguousarray(activations[:, part]) for part in np.split(order, sorted(cuts))]
    ranges = RangeCounter(activations.shape[0])
    for chunk in chunks:
        ranges.update(chunk)
    moments = MomentCounter(ranges.result(), bins)
    for chunk in chunks:
        moments.update(chunk)
    return ranges.result(), moments.result()


def _whole(activations: Floats, bins: int = 50) -> tuple[Ranges, Moments]:
    return _streamed(activations, bins, np.arange(activations.shape[1]), [])


def _bytes(ranges: Ranges, moments: Moments) -> list[bytes]:
    return [value.tobytes() for value in (*vars(ranges).values(), *vars(moments).values())]


def _check(values: Floats, feature: int, bins: int, ranges: Ranges, moments: Moments) -> None:
    """Compare one feature with exact arithmetic and numpy.histogram."""
    finite = values[np.isfinite(values)].astype(np.float64)
    assert ranges.count[feature] == finite.size
    assert ranges.non_finite[feature] == values.size - finite.size
    if finite.size == 0:
        assert moments.total[feature].sum() == ranges.low[feature] == moments.std[feature] == 0
        return
    low, high = finite.min(), finite.max()
    assert (ranges.low[feature], ranges.high[feature]) == (low, high)
    exact = [Fraction(value) for value in finite.tolist()]
    mean = sum(exact) / len(exact)
    variance = sum((value - mean) ** 2 for value in exact) / len(exact)
    reach = Fraction(high) - Fraction(low)
    assert abs(Fraction(moments.mean[feature]) - mean) <= reach / 2**50 + abs(mean) / 2**51
    assert abs(Fraction(moments.std[feature]) ** 2 - variance) <= reach**2 / 2**49
    if low == high:
        assert moments.total[feature].sum() == finite.size
        return
    for counts, part in (
        (moments.total, finite),
        (moments.positive, finite[finite > 0]),
        (moments.negative, finite[finite < 0]),
    ):
        expected, edges = np.histogram(part, bins=bins, range=(low, high))
        np.testing.assert_array_equal(counts[feature], expected)
        np.testing.assert_array_equal(moments.edges[feature], edges)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_values_in_any_chunks_and_order(data: st.DataObject) -> None:
    features, tokens = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 30))
    values = data.draw(st.lists(VALUES, min_size=features * tokens, max_size=features * tokens))
    activations = np.array(values, np.float32).reshape(features, tokens)
    bins = data.draw(st.sampled_from([1, 7, 50]))
    whole = _whole(activations, bins)
    for feature in range(features):
        _check(activations[feature], feature, bins, *whole)
    order = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(tokens)
    cuts = data.draw(st.lists(st.integers(0, tokens), max_size=4))
    assert _bytes(*_streamed(activations, bins, order, cuts)) == _bytes(*whole)


def test_many_tokens_far_from_zero_in_any_chunks_give_the_same_bytes() -> None:
    generator = np.random.default_rng(3)
    activations = (generator.standard_normal((3, 200_000)) * [[1], [1e-3], [1e5]] + [[0], [1000], [-1e6]]).astype("f4")
    whole = _whole(activations)
    for feature in range(3):
        np.testing.assert_allclose(
            whole[1].mean[feature], activations[feature].mean(dtype="f8"), rtol=1e-12, atol=1e-12
        )
        np.testing.assert_allclose(whole[1].std[feature], activations[feature].std(dtype="f8"), rtol=1e-12)
        expected, _ = np.histogram(activations[feature].astype("f8"), bins=50)
        np.testing.assert_array_equal(whole[1].total[feature], expected)
    cuts = generator.integers(0, 200_000, 30).tolist()
    assert _bytes(*_streamed(activations, 50, generator.permutation(200_000), cuts)) == _bytes(*whole)


def test_values_on_the_edges_fall_where_numpy_puts_them() -> None:
    edges = np.linspace(np.float32(-0.3), np.float32(0.7), 51).astype(np.float32)
    near = np.concatenate([edges, np.nextafter(edges, np.float32(9)), np.nextafter(edges, np.float32(-9))])
    ranges, moments = _whole(near[None, :])
    _check(near, 0, 50, ranges, moments)


@pytest.mark.parametrize(("low", "high", "edge"), [(-60, 37, -11.5), (-57, 40, -8.5)])
def test_a_value_on_an_edge_that_rounding_puts_one_bin_too_low(low: int, high: int, edge: float) -> None:
    values = np.array([[low, edge, high]], np.float32)
    assert edge in np.linspace(low, high, 51)
    _check(values[0], 0, 50, *_whole(values))


@pytest.mark.parametrize("value", [0.0, 1.5, -2e-40, 3e38, -1e30])
def test_a_constant_feature_has_a_histogram_of_50_bins(value: float) -> None:
    ranges, moments = _whole(np.full((1, 9), value, np.float32))
    constant = float(np.float32(value))
    assert (ranges.low[0], ranges.high[0], moments.mean[0], moments.std[0]) == (constant, constant, constant, 0)
    edges = moments.edges[0]
    assert edges.size == 51
    assert np.all(np.diff(edges) > 0)
    index = int(np.flatnonzero(moments.total[0])[0])
    assert moments.total[0].sum() == moments.total[0, index] == 9
    assert edges[index] <= constant <= edges[index + 1]
    if abs(value) < 2:
        assert (edges[0], edges[-1]) == (constant - 0.5, constant + 0.5)
    assert moments.positive[0].sum() == 9 * (constant > 0)
    assert moments.negative[0].sum() == 9 * (constant < 0)


def test_the_order_of_zeros_of_both_signs_leaves_no_trace() -> None:
    for other in (-1.0, 1.0, 0.0):
        values = np.array([[0.0, -0.0, other]], np.float32)
        for order in ([1, 0, 2], [2, 1, 0]):
            for cuts in ([], [1], [2]):
                assert _bytes(*_streamed(values, 3, np.array(order), cuts)) == _bytes(*_whole(values, 3))


def test_the_whole_range_of_float32() -> None:
    values = np.array([[3.4e38, -3.4e38, 1e-45, 0, 5]], np.float32)
    _check(values[0], 0, 50, *_whole(values))


def test_no_tokens_and_nothing_finite_give_zeros_not_nan() -> None:
    for activations in (np.empty((2, 0), np.float32), np.full((2, 3), np.nan, np.float32)):
        ranges, moments = _whole(activations)
        for value in (*vars(ranges).values(), *vars(moments).values()):
            assert np.isfinite(value).all()
        assert ranges.count.tolist() == [0, 0]
        assert ranges.non_finite.tolist() == [activations.shape[1]] * 2
        assert moments.total.sum() == 0
