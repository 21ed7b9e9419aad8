"""The svd basis against numpy's decomposition of the full product, which the code never forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from loradash_assets.compute.basis import SvdBasis, svd_basis

Matrix = NDArray[np.float64]


def _adapter(seed: int, rank: int, d_in: int = 12, d_out: int = 9) -> tuple[Matrix, Matrix]:
    generator = np.random.default_rng(seed)
    return generator.standard_normal((rank, d_in)), generator.standard_normal((d_out, rank))


def _read(basis: SvdBasis, a: Matrix) -> Matrix:
    """V^T, from what the map makes of A."""
    return basis.map @ a


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 7), st.sampled_from([0.25, 2.0, -1.5]), st.sampled_from([12, 4]))
def test_equals_the_decomposition_of_the_product(seed: int, rank: int, scaling: float, d_in: int) -> None:
    a, b = _adapter(seed, rank, d_in)
    basis = svd_basis(a, b, scaling)
    expected = np.linalg.svd(scaling * b @ a)[1][: min(rank, d_in)]
    np.testing.assert_allclose(basis.sigma, expected, rtol=1e-9)
    v = _read(basis, a).T
    np.testing.assert_allclose(v.T @ v, np.eye(basis.sigma.size), atol=1e-7)
    u = scaling * b @ a @ v / basis.sigma
    np.testing.assert_allclose(u.T @ u, np.eye(basis.sigma.size), atol=1e-7)
    np.testing.assert_allclose((u * basis.sigma) @ v.T, scaling * b @ a, atol=1e-9 * basis.sigma[0])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_the_same_adapter_written_otherwise_has_the_same_basis(seed: int, rank: int) -> None:
    a, b = _adapter(seed, rank)
    left, _, right = np.linalg.svd(np.random.default_rng(seed + 1).standard_normal((rank, rank)))
    mixing = left @ np.diag(np.geomspace(1, 30, rank)) @ right
    basis, mixed = svd_basis(a, b, 2.0), svd_basis(mixing @ a, b @ np.linalg.inv(mixing), 2.0)
    np.testing.assert_allclose(mixed.sigma, basis.sigma, rtol=1e-9)
    apart = ~(basis.tied | (basis.sigma < 1e-3 * basis.sigma[0]))
    np.testing.assert_allclose(_read(mixed, mixing @ a)[apart], _read(basis, a)[apart], atol=1e-6)


def test_the_largest_entry_of_each_read_direction_is_positive() -> None:
    for seed in range(20):
        a, b = _adapter(seed, 4)
        for direction in _read(svd_basis(a, b, 1.0), a):
            assert direction[np.argmax(np.abs(direction))] > 0


def test_equal_largest_entries_leave_the_sign_to_the_first() -> None:
    a = np.array([[-1.0, 1.0 + 1e-12, 0.0], [0.0, 0.0, -1.0]])
    b = np.array([[3.0, 0.0], [0.0, 1.0]])
    read = _read(svd_basis(a, b, 1.0), a)
    np.testing.assert_allclose(read, [[np.sqrt(0.5), -np.sqrt(0.5), 0], [0, 0, 1]], atol=1e-9)


@pytest.mark.parametrize("scaling", [2.0, -2.0])
def test_rank_1_keeps_the_sign_of_a(scaling: float) -> None:
    a, b = np.array([[3.0, -4.0]]), np.array([[2.0], [0.0]])
    basis = svd_basis(a, b, scaling)
    np.testing.assert_allclose(basis.map, [[0.2]])
    np.testing.assert_allclose(basis.sigma, [20.0])


def test_planted_directions_are_found_in_order() -> None:
    generator = np.random.default_rng(0)
    v = np.linalg.qr(generator.standard_normal((50, 3)))[0]
    u = np.linalg.qr(generator.standard_normal((40, 3)))[0]
    mixing = generator.standard_normal((3, 3))
    a, b = mixing @ v.T, u @ np.diag([1.0, 9.0, 4.0]) @ np.linalg.inv(mixing)
    basis = svd_basis(a.astype(np.float32), b.astype(np.float32), 1.0)
    np.testing.assert_allclose(basis.sigma, [9, 4, 1], rtol=1e-5)
    np.testing.assert_allclose(np.abs(_read(basis, a) @ v[:, [1, 2, 0]]), np.eye(3), atol=1e-4)


def test_directions_without_strength_are_dropped() -> None:
    a, b = _adapter(1, 4)
    a[3] = a[0] + a[1]  # rank 3 only
    assert svd_basis(a, b, 1.0).sigma.size == 3
    fresh = svd_basis(a, np.zeros_like(b), 1.0)
    assert fresh.map.shape == (0, 4)
    assert fresh.apply(np.ones((4, 5), np.float32)).shape == (0, 5)


def test_near_ties_are_marked_on_both_sides() -> None:
    basis = svd_basis(np.eye(5), np.diag([10.0, 9.0, 8.95, 3.0, 1.0]), 1.0)
    assert basis.tied.tolist() == [False, True, True, False, False]


def test_the_map_is_applied_token_by_token() -> None:
    a, b = _adapter(3, 5)
    basis = svd_basis(a, b, 0.5)
    activations = np.random.default_rng(4).standard_normal((5, 101)).astype(np.float32)
    np.testing.assert_allclose(basis.apply(activations), basis.map @ activations, rtol=1e-5, atol=1e-6)


def test_mapped_bytes_do_not_depend_on_the_chunks() -> None:
    # These terms cancel, so that all that is left is how they were rounded, and so in which order they were added.
    basis = SvdBasis(np.array([[0.1, 0.2, 0.3, 0.4, -1.0]] * 5), np.ones(5), np.zeros(5, np.bool_))
    activations = np.tile(np.random.default_rng(4).standard_normal(101).astype(np.float32), (5, 1))
    whole = basis.apply(activations)
    for cuts in ([1], [17, 18, 50], list(range(1, 101))):
        parts = [basis.apply(np.ascontiguousarray(part)) for part in np.split(activations, cuts, axis=1)]
        assert np.concatenate(parts, axis=1).tobytes() == whole.tobytes()


def test_weights_that_do_not_fit_or_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="2 rows, B has 3"):
        svd_basis(np.ones((2, 4)), np.ones((5, 3)), 1.0)
    with pytest.raises(ValueError, match="not finite"):
        svd_basis(np.array([[np.nan]]), np.ones((1, 1)), 1.0)


def test_activations_that_are_not_finite_stay_so_without_a_warning() -> None:
    basis = SvdBasis(np.array([[1.0, -1.0], [2.0, 0.0]]), np.ones(2), np.zeros(2, np.bool_))
    activations = np.array([[np.inf, np.nan, 3e38], [np.inf, 1.0, 0.0]], np.float32)
    np.testing.assert_array_equal(
        basis.apply(activations), np.array([[np.nan, np.nan, 3e38], [np.nan, np.nan, np.inf]], np.float32)
    )
