"""Ranges, moments and histograms against exact fractions and numpy.histogram, and byte for byte against themselves."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compute.summaries import Floats, serialised, summary

VALUES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.1, 1e-45, np.nan, np.inf, -np.inf]),
    st.floats(-(2.0**100), 2.0**100, width=32),
)


def _check(values: Floats, bins: int, row: dict[str, Any]) -> None:
    """Compare one feature with exact arithmetic and numpy.histogram."""
    finite = values[np.isfinite(values)].astype(np.float64)
    assert row["count"] == finite.size
    assert row["non_finite"] == values.size - finite.size
    if finite.size == 0:
        assert sum(row["total_counts"]) == row["min"] == row["max"] == row["mean"] == row["std"] == 0
        assert row["skewness"] is row["kurtosis"] is None
        return
    low, high = finite.min(), finite.max()
    assert (row["min"], row["max"]) == (low, high)
    exact = [Fraction(value) for value in finite.tolist()]
    mean = sum(exact) / len(exact)
    m2, m3, m4 = (sum((value - mean) ** power for value in exact) / len(exact) for power in (2, 3, 4))
    reach = Fraction(high) - Fraction(low)
    assert abs(Fraction(row["mean"]) - mean) <= reach / 2**50 + abs(mean) / 2**51
    assert abs(Fraction(row["std"]) ** 2 - m2) <= reach**2 / 2**49
    if low == high:
        assert row["skewness"] is row["kurtosis"] is None
        assert sum(row["total_counts"]) == finite.size
        return
    scale = float(m2 / reach**2) ** 0.5
    assert row["skewness"] == pytest.approx(float(m3 / reach**3) / scale**3, rel=1e-12, abs=1e-12)
    assert row["kurtosis"] == pytest.approx(float(m4 / m2**2) - 3, rel=1e-12, abs=1e-12)
    for name, part in (("total", finite), ("positive", finite[finite > 0]), ("negative", finite[finite < 0])):
        expected, edges = np.histogram(part, bins=bins, range=(low, high))
        np.testing.assert_array_equal(row[f"{name}_counts"], expected)
        np.testing.assert_array_equal(row["bin_edges"], edges)


def _check_all(activations: Floats, bins: int = 50) -> None:
    for values, row in zip(activations, summary(activations, bins).to_pylist(), strict=True):
        _check(values, bins, row)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_values_in_any_chunks_and_order(data: st.DataObject) -> None:
    features, tokens = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 30))
    values = data.draw(st.lists(VALUES, min_size=features * tokens, max_size=features * tokens))
    activations = np.array(values, np.float32).reshape(features, tokens)
    _check_all(activations, data.draw(st.sampled_from([1, 7, 50])))


def test_many_tokens_far_from_zero_in_any_chunks_give_the_same_bytes() -> None:
    generator = np.random.default_rng(3)
    activations = (generator.standard_normal((3, 200_000)) * [[1], [1e-3], [1e5]] + [[0], [1000], [-1e6]]).astype("f4")
    activations[2, 17] = np.nan
    whole = summary(activations)
    for values, row in zip(activations, whole.to_pylist(), strict=True):
        wide = values[np.isfinite(values)].astype("f8")
        np.testing.assert_allclose(row["mean"], wide.mean(), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(row["std"], wide.std(), rtol=1e-12)
        np.testing.assert_array_equal(row["total_counts"], np.histogram(wide, bins=50)[0])
    cuts = generator.integers(0, 200_000, 30).tolist()
    assert serialised(summary(activations, 50, generator.permutation(200_000), cuts)) == serialised(whole)


def test_values_on_the_edges_fall_where_numpy_puts_them() -> None:
    edges = np.linspace(np.float32(-0.3), np.float32(0.7), 51).astype(np.float32)
    near = np.concatenate([edges, np.nextafter(edges, np.float32(9)), np.nextafter(edges, np.float32(-9))])
    _check_all(near[None, :])


@pytest.mark.parametrize("bins", [3, 50, 10_000])
@pytest.mark.parametrize("shift", [0, 1, -1e6, 1e30])
def test_any_number_of_bins_wherever_the_range_lies(bins: int, shift: float) -> None:
    values = np.random.default_rng(1).standard_normal((1, 5000)).astype("f4") * np.float32(max(1, abs(shift) / 1e4))
    _check_all(values + np.float32(shift), bins)


@pytest.mark.parametrize(("low", "high", "edge"), [(-60, 37, -11.5), (-57, 40, -8.5)])
def test_a_value_on_an_edge_that_rounding_puts_one_bin_too_low(low: int, high: int, edge: float) -> None:
    values = np.array([[low, edge, high]], np.float32)
    assert edge in np.linspace(low, high, 51)
    _check_all(values)


@pytest.mark.parametrize("values", [[-3, 0, 0, -1], [3, 0, 0, 1], [-2, -0.0, 2], [-5, -4], [4, 5], [0, 0]])
def test_a_zero_is_neither_positive_nor_negative_in_whatever_bin_it_lies(values: list[float]) -> None:
    for bins in (1, 2, 3):
        _check_all(np.array([values], np.float32), bins)


@pytest.mark.parametrize("value", [0.0, 1.5, -2e-40, 3e38, -1e30])
def test_a_constant_feature_has_a_histogram_of_50_bins(value: float) -> None:
    (row,) = summary(np.full((1, 9), value, np.float32)).to_pylist()
    constant = float(np.float32(value))
    assert (row["min"], row["max"], row["mean"], row["std"]) == (constant, constant, constant, 0)
    edges = row["bin_edges"]
    assert len(edges) == 51
    assert np.all(np.diff(edges) > 0)
    index = int(np.flatnonzero(row["total_counts"])[0])
    assert sum(row["total_counts"]) == row["total_counts"][index] == 9
    assert edges[index] <= constant <= edges[index + 1]
    if abs(value) < 2:
        assert (edges[0], edges[-1]) == (constant - 0.5, constant + 0.5)
    assert sum(row["positive_counts"]) == 9 * (constant > 0)
    assert sum(row["negative_counts"]) == 9 * (constant < 0)


def test_the_order_of_zeros_of_both_signs_leaves_no_trace() -> None:
    for other in (-1.0, 1.0, 0.0):
        values = np.array([[0.0, -0.0, other]], np.float32)
        for order in ([1, 0, 2], [2, 1, 0]):
            for cuts in ([], [1], [2]):
                assert serialised(summary(values, 3, np.array(order), cuts)) == serialised(summary(values, 3))


def test_the_whole_range_of_float32() -> None:
    _check_all(np.array([[3.4e38, -3.4e38, 1e-45, 0, 5]], np.float32))


@pytest.mark.parametrize("tokens", [0, 3])
def test_no_tokens_and_nothing_finite_give_zeros_not_nan(tokens: int) -> None:
    activations = np.full((2, tokens), np.nan, np.float32)
    _check_all(activations)
    for row in summary(activations).to_pylist():
        assert row["quantiles"] == [0.0] * 9
        assert row["density"] == [0.0] * 4
        assert row["rms_effect"] == 0
        assert row["token_omega_squared"] is row["position_omega_squared"] is None
