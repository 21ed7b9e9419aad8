"""The other statistics against textbook formulas in float64 over sorted and centred copies, and against themselves."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from loradash_assets.compute import explained
from loradash_assets.compute.explained import ExplainedVariance, Groups
from loradash_assets.compute.moments import MomentCounter
from loradash_assets.compute.statistics import RangeCounter, tiles
from tests.compute.summaries import Floats, serialised, summary

THOUSANDTHS = (1, 10, 50, 250, 500, 750, 950, 990, 999)
MANY = 10_000_000
Ints = NDArray[np.int64]
VALUES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.1, 1e-45, -1e-45, 3.4e38, np.nan, np.inf, -np.inf]),
    st.floats(width=32),
)


def _omega(centred: NDArray[np.float64], groups: Ints) -> float | None:
    """Omega squared by the squares within groups, taken from each value's distance to its group's mean."""
    counts = np.bincount(groups)
    means = np.bincount(groups, centred) / np.maximum(counts, 1)
    rest = centred - means[groups]
    within, total = rest @ rest, centred @ centred
    size = np.count_nonzero(counts)
    if size == centred.size or total == 0:
        return None
    mean_square = within / (centred.size - size)
    between = (counts * (means - centred.mean()) ** 2).sum()
    return max(0.0, (between - (size - 1) * mean_square) / (total + mean_square))


def _check(values: Floats, ids: Ints, positions: Ints, row: dict[str, Any]) -> None:
    kept = np.isfinite(values)
    finite = values[kept].astype(np.float64)
    ascending = np.sort(values[kept]).astype(np.float64)
    if finite.size == 0:
        return
    expected = [ascending[max(1, ceil(each * finite.size / 1000)) - 1] for each in THOUSANDTHS]
    assert repr(row["quantiles"]) == repr([float(value) + 0.0 for value in expected])
    assert row["density"] == [np.count_nonzero(np.abs(finite) > m * row["std"]) / finite.size for m in (1, 2, 3, 5)]
    scale = np.abs(finite).max() or 1.0  # squares of the largest float32 do fit, of the smallest do not
    assert row["rms_effect"] == pytest.approx(0.5 * scale * np.sqrt(((finite / scale) ** 2).mean()), rel=1e-9)
    if ascending[0] == ascending[-1]:
        assert row["skewness"] is row["kurtosis"] is row["token_omega_squared"] is row["position_omega_squared"] is None
        return
    centred = (finite - finite.mean()) / (ascending[-1] - ascending[0])
    centred -= centred.mean()
    square = centred * centred
    m2, m3, m4 = square.mean(), (square * centred).mean(), (square * square).mean()
    assert row["mean"] == pytest.approx(finite.mean(), rel=1e-9, abs=1e-15 * scale)
    assert row["std"] == pytest.approx(m2**0.5 * (ascending[-1] - ascending[0]), rel=1e-9)
    assert row["skewness"] == pytest.approx(m3 / m2**1.5, rel=1e-6, abs=1e-6)
    assert row["kurtosis"] == pytest.approx(m4 / m2**2 - 3, rel=1e-6, abs=1e-6)
    for name, groups in (("token", ids), ("position", positions)):
        assert row[f"{name}_omega_squared"] == pytest.approx(_omega(centred, groups[kept]), abs=1e-7)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_values_in_any_chunks_and_order(data: st.DataObject) -> None:
    features, tokens = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 30))
    values = data.draw(st.lists(VALUES, min_size=features * tokens, max_size=features * tokens))
    activations = np.array(values, np.float32).reshape(features, tokens)
    groups = st.lists(st.integers(0, 9), min_size=tokens, max_size=tokens)
    ids, positions = np.array(data.draw(groups)), np.array(data.draw(groups))
    whole = summary(activations, ids=ids, positions=positions)
    for feature, row in zip(activations, whole.to_pylist(), strict=True):
        _check(feature, ids, positions, row)
    order = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(tokens)
    cuts = data.draw(st.lists(st.integers(0, tokens), max_size=4))
    cells = data.draw(st.sampled_from([1, 8, 1 << 24]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explained, "CELLS", cells)  # one feature at a time, or all
        assert serialised(summary(activations, 50, order, cuts, ids, positions)) == serialised(whole)


def _adversary(name: str) -> Floats:
    generator = np.random.default_rng(11)
    normal = generator.standard_normal(MANY, dtype=np.float32)
    match name:
        case "normal":
            return normal
        case "far from zero, close together":
            return np.float32(4096) + np.float32(1e-3) * normal
        case "one huge outlier":
            normal[MANY // 3] = 1e30
            return normal
        case "heavy tails":
            small = np.maximum(generator.random(MANY, dtype=np.float32), np.float32(1e-6))
            return (normal * normal * normal / small).astype(np.float32)
        case "denormals":
            return normal * np.float32(1e-42)
        case "near the largest float32":
            return np.copysign(np.float32(3.4028235e38) - np.float32(1e32) * np.abs(normal), normal)
        case "all equal":
            return np.full(MANY, -0.1, np.float32)
        case _:
            return np.resize(np.array([1e-3, -1e-3], np.float32), MANY)


@pytest.fixture(scope="module")
def places() -> tuple[Ints, Ints]:
    """Token ids, some frequent and most rare, and positions."""
    return (40_000 * np.random.default_rng(5).random(MANY) ** 4).astype(np.int64), np.arange(MANY) % 500


@pytest.mark.parametrize(
    "name",
    [
        *("normal", "far from zero, close together", "one huge outlier", "heavy tails", "denormals"),
        *("near the largest float32", "all equal", "alternating"),
    ],
)
def test_ten_million_values(name: str, places: tuple[Ints, Ints]) -> None:
    values, (ids, positions) = _adversary(name), places
    cuts = list(range(0, MANY, 700_001))
    (row,) = summary(values[None], cuts=cuts, ids=ids, positions=positions).to_pylist()
    _check(values, ids, positions, row)


@pytest.mark.parametrize("size", [1, 2, 3, 999, 1000, 1001, 2000])
def test_quantiles_are_numpys_inverted_cdf(size: int) -> None:
    values = np.random.default_rng(size).standard_normal((1, size)).astype("f4")
    (row,) = summary(values).to_pylist()
    shares = np.array(THOUSANDTHS) / 1000
    assert row["quantiles"] == np.quantile(values[0], shares, method="inverted_cdf").astype("f8").tolist()


def test_what_the_token_alone_says() -> None:
    generator = np.random.default_rng(2)
    ids, positions = generator.integers(0, 50, 5000), generator.integers(0, 70, 5000)
    noise = generator.standard_normal(5000)
    activations = np.stack([ids * 1.0, ids / 50 - positions / 70, noise]).astype("f4")
    known, both, neither = summary(activations, ids=ids, positions=positions).to_pylist()
    assert known["token_omega_squared"] == pytest.approx(1, abs=1e-9)
    assert known["position_omega_squared"] == pytest.approx(0, abs=0.01)
    assert both["token_omega_squared"] == pytest.approx(0.5, abs=0.03)
    assert both["position_omega_squared"] == pytest.approx(0.5, abs=0.03)
    assert neither["token_omega_squared"] == pytest.approx(0, abs=0.01)


def test_tokens_that_occur_once_explain_nothing_of_noise() -> None:
    noise = np.random.default_rng(4).standard_normal((1, 4000)).astype("f4")
    (row,) = summary(noise, ids=np.maximum(np.arange(4000), 1000), positions=np.arange(4000)).to_pylist()
    assert row["token_omega_squared"] < 0.03  # the share between groups is 3/4
    assert row["position_omega_squared"] is None  # no two tokens share a position


def test_features_that_see_some_tokens_have_groups_among_these() -> None:
    generator = np.random.default_rng(6)
    ids, positions = generator.integers(0, 40, 900), generator.integers(0, 30, 900)
    seen = np.flatnonzero((ids % 3 > 0) & (generator.random(900) < 0.5))
    groups = [Groups.by(each) for each in (ids, positions)]
    narrow = [each.among(seen) for each in groups]
    assert [each.count for each in narrow] == [np.unique(each[seen]).size for each in (ids, positions)]
    ranges, values = RangeCounter(1), generator.standard_normal((1, seen.size)).astype("f4") + ids[seen].astype("f4")
    ranges.update(values)
    (row,) = summary(values, ids=ids[seen], positions=positions[seen]).to_pylist()
    for name, each in zip(("token", "position"), narrow, strict=True):
        counter = ExplainedVariance(ranges.result(), each)
        located = counter.locate(seen)
        moments = MomentCounter(ranges.result())
        for tile in tiles(values, ranges.result(), slice(0, 1)):
            counter.update(tile, located)
            moments.update(tile)
        assert not counter.next_pass(moments.result())
        assert counter.result()[0] == pytest.approx(row[f"{name}_omega_squared"], rel=1e-12)
