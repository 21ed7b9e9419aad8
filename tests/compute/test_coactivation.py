"""Correlations of all features from files on disk, against numpy's on whole float64 arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save_file

from loradash_assets.compute import coactivation
from loradash_assets.compute.basis import svd_basis
from loradash_assets.compute.catalogue import read_modules, write_catalogue
from loradash_assets.compute.coactivation import AdapterRecording, write_coactivation
from loradash_assets.compute.passes import Block, Chunk
from loradash_assets.compute.views import View
from loradash_assets.schema import COACTIVATION, Basis
from tests.projects import save_adapter, save_base

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The catalogue of an adapter of three layers, rank 2 and in q_proj 3."""
    directory = tmp_path_factory.mktemp("adapter")
    save_base(directory / "base")
    save_adapter(directory / "adapter", directory / "base", r=2, rank_pattern={"q_proj": 3})
    write_catalogue(
        directory / "adapter", directory / "base", directory, allow_pickle=False, trust_remote_code=False, rank=None
    )
    return directory


def _layers(catalogue: Path) -> dict[int, slice]:
    slices: dict[int, slice] = {}
    start = 0
    for module in read_modules(catalogue):
        first = slices[module.layer].start if module.layer in slices else start
        start += module.rank
        slices[module.layer] = slice(first, start)
    return slices


def _values(features: int, tokens: int, seed: int = 0) -> Floats:
    """Activations that have to do with each other, at very different scales and distances from zero."""
    random = np.random.default_rng(seed)
    mixed = random.standard_normal((features, 3)) @ random.standard_normal((3, tokens))
    noise = random.standard_normal((features, tokens)) * random.uniform(0.1, 3, (features, 1))
    shift = random.standard_normal((features, 1)) * 30
    return ((mixed + noise + shift) * 10.0 ** random.integers(-20, 20, (features, 1))).astype(np.float32)


def _record(directory: Path, values: Floats, layers: dict[int, slice], cuts: Sequence[int], order: Any = None) -> Path:
    """Write chunk files; return their directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for file in directory.glob("chunk-*"):
        file.unlink()
    order = np.arange(values.shape[1]) if order is None else order
    for number, part in enumerate(np.split(order, sorted(cuts))):
        tensors = {f"layer.{layer}": np.ascontiguousarray(values[rows][:, part]) for layer, rows in layers.items()}
        save_file({"tokens": part, **tensors}, directory / f"chunk-{number:05d}.safetensors")
    return directory


def _correlations(values: NDArray[Any]) -> NDArray[np.float64]:
    """numpy's, what is not finite being the mean of the rest; 0 with constant features."""
    wide = values.astype(np.float64)
    wide /= np.maximum(np.nanmax(np.abs(np.where(np.isfinite(wide), wide, 0)), axis=1, keepdims=True), 1e-300)
    for row in wide:
        row[~np.isfinite(row)] = row[np.isfinite(row)].mean() if np.isfinite(row).any() else 0
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.corrcoef(wide)
    constant = wide.min(axis=1) == wide.max(axis=1)
    found[constant] = found[:, constant] = 0
    return found


def _check(rows: list[dict[str, Any]], expected: NDArray[np.float64], partners: int) -> None:
    assert len(rows) == len(expected)
    for number, row in enumerate(rows):
        assert len(set(row["partners"]) - {number}) == len(row["partners"]) == partners
        np.testing.assert_allclose(row["correlations"], expected[number, row["partners"]], atol=2e-6)
        sizes = np.abs(row["correlations"])
        assert (np.diff(sizes) <= 0).all()
        assert (np.diff(row["partners"])[np.diff(sizes) == 0] > 0).all()
        others = np.delete(np.abs(expected[number]), [number, *row["partners"]])
        assert partners == 0 or others.max(initial=0) <= sizes[-1] + 2e-6


def test_every_partner_of_every_feature(catalogue: Path, tmp_path: Path) -> None:
    layers = _layers(catalogue)
    values = _values(45, 20_000)
    values[7] = 3.5  # constant
    values[11] = values[12] * np.float32(-2)
    values[20, :3] = [np.nan, np.inf, -np.inf]
    values[33] = np.nan
    recording = _record(tmp_path / "recording", values, layers, [5000, 5001, 17_000])
    assert write_coactivation(catalogue, recording, tmp_path, "raw") == {
        "features": 45,
        "partners": 44,
        "tokens": 20_000,
    }
    table = pq.read_table(tmp_path / "coactivation.parquet")
    assert table.schema.equals(COACTIVATION)
    rows = table.to_pylist()
    _check(rows, _correlations(values), 44)
    assert (rows[11]["partners"][0], rows[11]["correlations"][0]) == (12, -1)
    assert rows[7]["partners"] == [number for number in range(45) if number != 7]
    features = pq.read_table(catalogue / "features.parquet").to_pylist()
    for name in ("layer", "projection", "component"):
        assert [row[name] for row in rows] == [feature[name] for feature in features]


def test_singular_directions(catalogue: Path, tmp_path: Path) -> None:
    values = _values(45, 3000) / np.float32(1e10)
    _record(tmp_path / "recording", values, _layers(catalogue), [1000])
    write_coactivation(catalogue, tmp_path / "recording", tmp_path, "svd")
    mapped: list[Floats] = []
    start = 0
    for module in read_modules(catalogue):
        basis = svd_basis(module.A, module.B, module.scaling)
        mapped.append((basis.map @ values[start : start + module.rank].astype(np.float64)).astype(np.float32))
        start += module.rank
    rows = pq.read_table(tmp_path / "coactivation.parquet").to_pylist()
    assert {row["basis"] for row in rows} == {"svd"}
    _check(rows, _correlations(np.concatenate(mapped)), 44)


def _bytes(catalogue: Path, recording: Path, basis: Basis = "raw") -> bytes:
    write_coactivation(catalogue, recording, recording, basis)
    return (recording / "coactivation.parquet").read_bytes()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_chunks_their_order_and_blocks_leave_no_trace(catalogue: Path, tmp_path: Path, data: st.DataObject) -> None:
    layers = _layers(catalogue)
    tokens = data.draw(st.integers(0, 40))
    values = _values(45, tokens, data.draw(st.integers(0, 9)))
    values[:, :2] = np.resize([0, np.nan, 1e30], (45, 2))[:, :tokens]
    basis: Basis = data.draw(st.sampled_from(["raw", "svd"]))
    whole = _bytes(catalogue, _record(tmp_path / "whole", values, layers, []), basis)
    order = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(tokens)
    cuts = data.draw(st.lists(st.integers(0, tokens), max_size=4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coactivation, "WHOLE", data.draw(st.sampled_from([10, 2048])))
        patch.setattr(coactivation, "BLOCK", 13)
        patch.setattr(coactivation, "PARTNERS", 44)
        assert _bytes(catalogue, _record(tmp_path / "parts", values, layers, cuts, order), basis) == whole


def test_beyond_the_limit_the_strongest_partners(
    catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coactivation, "WHOLE", 44)
    monkeypatch.setattr(coactivation, "BLOCK", 7)
    monkeypatch.setattr(coactivation, "PARTNERS", 5)
    values = _values(45, 9000)
    recording = _record(tmp_path, values, _layers(catalogue), [4000])
    assert write_coactivation(catalogue, recording, tmp_path, "raw")["partners"] == 5
    _check(pq.read_table(tmp_path / "coactivation.parquet").to_pylist(), _correlations(values), 5)


@dataclass(frozen=True)
class Routed:
    """A layer in memory: one block that sees every token, and experts that see some."""

    values: Floats  # (features, tokens), NaN where a feature does not see a token
    blocks: Sequence[Block]
    chunking: Sequence[NDArray[np.int64]]

    def chunks(self) -> Iterator[list[Chunk]]:
        for numbers in self.chunking:
            yield [self._chunk(block, numbers) for block in self.blocks]

    def _chunk(self, block: Block, numbers: NDArray[np.int64]) -> Chunk:
        values = self.values[block.features][:, numbers]
        seen = ~np.isnan(values[0])
        return numbers[seen], values[:, seen]


def test_a_feature_that_sees_some_tokens_is_zero_on_the_others(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    values = _values(7, 500) / np.float32(1e10)
    values[3:5, random.random(500) < 0.8] = np.nan
    values[5:7, random.random(500) < 0.8] = np.nan
    blocks = [Block(slice(0, 3)), Block(slice(3, 5), routed=True), Block(slice(5, 7), routed=True)]
    _record(tmp_path, values, {}, [100, 480], random.permutation(500))
    chunking = list(coactivation.chunk_tokens(tmp_path))
    views = [_view(block.features.stop - block.features.start) for block in blocks]
    source = AdapterRecording(tmp_path, [(Routed(values, blocks, chunking), views)])
    rows = coactivation.coactivation(source).to_pylist()
    _check(rows, _correlations(np.nan_to_num(values, nan=0)), 6)


def _view(features: int) -> View:
    labels = {"layer": np.zeros(features, np.int32), "projection": np.full(features, "q_proj")}
    return View("raw", {**labels, "component": np.arange(features)})
