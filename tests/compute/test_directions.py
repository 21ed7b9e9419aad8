"""What components read and write, from the files of an adapter, against numpy's decomposition of scaling * B A."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loradash_assets.compute.catalogue import read_modules, write_catalogue
from loradash_assets.compute.directions import read_directions
from tests.projects import save_adapter, save_base


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """Of rank 3, and 9 in q_proj."""
    save_base(tmp_path / "base")
    save_adapter(tmp_path / "adapter", tmp_path / "base", r=3, rank_pattern={"q_proj": 9}, use_rslora=True)
    write_catalogue(
        tmp_path / "adapter", tmp_path / "base", tmp_path, allow_pickle=False, trust_remote_code=False, rank=None
    )
    return tmp_path


def test_raw_directions_are_rows_of_a_and_columns_of_b(catalogue: Path) -> None:
    for module, found in zip(read_modules(catalogue), read_directions(catalogue, "raw"), strict=True):
        assert (found.layer, found.projection, found.expert) == (module.layer, module.projection, module.expert)
        np.testing.assert_array_equal(found.read, module.A)
        np.testing.assert_array_equal(found.write, module.B.T)


def test_svd_directions_are_the_singular_vectors_with_the_signs_of_the_basis(catalogue: Path) -> None:
    for module, found in zip(read_modules(catalogue), read_directions(catalogue, "svd"), strict=True):
        product = module.scaling * module.B.astype(np.float64) @ module.A
        u, sigma, vt = np.linalg.svd(product)
        size = np.linalg.matrix_rank(product)
        signs = np.sign(vt[np.arange(size), np.abs(vt[:size]).argmax(axis=1)])
        np.testing.assert_allclose(found.read, vt[:size] * signs[:, None], atol=1e-5)
        np.testing.assert_allclose(found.write, u.T[:size] * signs[:, None], atol=1e-5)
        rebuilt = (found.write.T * sigma[:size]) @ found.read
        np.testing.assert_allclose(rebuilt, product, atol=1e-5 * sigma[0])
