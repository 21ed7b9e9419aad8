"""One product for modules that read one tensor, and what happens where they do not."""

from __future__ import annotations

import weakref

import pytest
import torch

from loradash_assets.compute.readings import SharedInput


@pytest.fixture
def directions() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(rank, 5) for rank in (1, 3, 2)]


def _product(A: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """(rank, in), (batch, seq, in) -> (rank, batch * seq)."""
    return torch.einsum("ri,bsi->rbs", A.double(), x.double()).flatten(1)


def _assert_rows(into: torch.Tensor, shared: SharedInput, expected: list[torch.Tensor]) -> None:
    for rows, values in zip(shared.rows, expected, strict=True):
        torch.testing.assert_close(into[rows].double(), values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_first_reader_fills_the_rows_of_all(directions: list[torch.Tensor], dtype: torch.dtype) -> None:
    shared, x, into = SharedInput(directions), torch.randn(2, 4, 5).to(dtype), torch.full((6, 8), torch.nan)
    shared.read(x, shared.rows[1], into)
    _assert_rows(into, shared, [_product(each, x) for each in directions])
    into[shared.rows[0]] = 7  # it is not made again
    shared.read(x, shared.rows[0], into)
    assert bool((into[shared.rows[0]] == 7).all())


def test_a_reader_of_another_tensor_gets_its_own_product(directions: list[torch.Tensor]) -> None:
    shared, into = SharedInput(directions), torch.empty(6, 8)
    x, y = torch.randn(2, 4, 5), torch.randn(2, 4, 5)
    for rows, read in zip(shared.rows, (x, y, x), strict=True):
        shared.read(read, rows, into)
    _assert_rows(into, shared, [_product(each, read) for each, read in zip(directions, (x, y, x), strict=True)])


def test_a_tensor_that_was_written_to_is_another(directions: list[torch.Tensor]) -> None:
    shared, x, into = SharedInput(directions), torch.randn(2, 4, 5), torch.empty(6, 8)
    before = x.clone()
    shared.read(x, shared.rows[0], into)
    x += 1
    shared.read(x, shared.rows[1], into)
    shared.read(x, shared.rows[2], into)
    _assert_rows(into, shared, [_product(each, read) for each, read in zip(directions, (before, x, x), strict=True)])


def test_a_tensor_goes_when_all_have_read_it(directions: list[torch.Tensor]) -> None:
    shared, x, into = SharedInput(directions), torch.randn(2, 4, 5), torch.empty(6, 8)
    alive = weakref.ref(x)
    for rows in shared.rows:
        assert alive() is not None
        shared.read(x, rows, into)
    del x
    assert alive() is None
