"""One layer's tables from files on disk: the right features, DoRA's norms, and what is not finite counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from loradash_assets.compute.catalogue import read_modules, write_catalogue
from loradash_assets.compute.encode import encode_rows
from loradash_assets.compute.layers import layer_features, write_layer_tables
from loradash_assets.compute.parallel import Check, StoppedError, in_order
from loradash_assets.compute.prompt_tokens import PromptTokens
from loradash_assets.compute.prompts import prompt_builder
from loradash_assets.compute.rows import write_rows
from loradash_assets.compute.tables import TableOptions
from loradash_assets.schema import SAMPLES, STATISTICS, TOP_TOKENS, Basis
from tests.projects import LINES, save_adapter, save_base, tiny_tokenizer


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    save_base(tmp_path / "base")
    save_adapter(tmp_path / "adapter", tmp_path / "base", r=2, rank_pattern={"q_proj": 3})
    write_catalogue(
        tmp_path / "adapter", tmp_path / "base", tmp_path, allow_pickle=False, trust_remote_code=False, rank=None
    )
    write_rows([{"text": line} for line in LINES], 9, tmp_path / "rows.parquet")
    encode_rows(tmp_path / "rows.parquet", tmp_path, prompt_builder("text"), tiny_tokenizer(), None)
    return tmp_path


def _record(directory: Path, *, non_finite: int = 0, layers: Sequence[int] = (1,)) -> np.ndarray:
    """Write random activations of `layers`, the first of them not finite; return those of the first layer.

    (features, tokens).
    """
    lengths = [len(ids) for ids in pq.read_table(directory / "prompts.parquet")["token_ids"].to_pylist()]
    generator, modules = np.random.default_rng(0), read_modules(directory)
    values: dict[int, np.ndarray] = {}
    for layer in layers:
        features = sum(module.rank for module in modules if module.layer == layer)
        values[layer] = generator.normal(size=(features, sum(lengths))).astype(np.float32)
    first = values[layers[0]]
    first[0, :non_finite] = [np.nan, np.inf, -np.inf][:non_finite]
    for number, part in enumerate(np.split(np.arange(sum(lengths)), np.cumsum(lengths)[:-1])):
        tensors = {f"layer.{layer}": np.ascontiguousarray(of_layer[:, part]) for layer, of_layer in values.items()}
        save_file({"tokens": part, **tensors}, directory / f"chunk-{number:05d}.safetensors")
    return first


def _write(directory: Path, norms: dict[str, list[float]] | None = None, basis: Basis = "raw") -> dict[str, Any]:
    options = TableOptions(top_k=2, context_window=1, basis=basis)
    tokens = PromptTokens.read(directory / "prompts.parquet")
    facts = write_layer_tables(1, directory, directory, tokens, directory, options, norms or {}, [])
    for name, schema in (
        ("plain", TOP_TOKENS),
        ("shown", TOP_TOKENS),
        ("samples", SAMPLES),
        ("statistics", STATISTICS),
    ):
        assert pq.read_schema(directory / f"{name}.parquet").equals(schema)
    return facts


def test_every_feature_of_the_layer_is_in_the_tables(directory: Path) -> None:
    values = _record(directory)
    facts = {"features": 15, "dropped": 0, "non_finite": 0, "counted": [values.shape[1]], "routed": [], "busiest": 0}
    assert _write(directory) == {**facts, "unsorted": 0, "outside": 0, "left_out": {}}
    plain = pq.read_table(directory / "plain.parquet").to_pylist()
    first = {
        (row["projection"], row["component"], row["polarity"]): row["activation"] for row in plain if row["rank"] == 1
    }
    modules = [module for module in read_modules(directory) if module.layer == 1]
    names = [(module.projection, component) for module in modules for component in range(module.rank)]
    for name, row in zip(names, values, strict=True):
        assert first[*name, "positive"] == row.max()
        assert first[*name, "negative"] == row.min()


@pytest.mark.parametrize("basis", ["raw", "svd"])
def test_what_is_not_finite_is_counted_once_per_activation_and_never_ranked(directory: Path, basis: Basis) -> None:
    _record(directory, non_finite=3)
    assert _write(directory, basis=basis)["non_finite"] == 3
    for name in ("plain", "shown"):
        assert np.isfinite(pq.read_table(directory / f"{name}.parquet")["activation"].to_numpy()).all()


def test_norms_from_the_loaded_model_replace_the_catalogues(directory: Path) -> None:
    module = "model.layers.1.self_attn.q_proj"
    plain = layer_features(directory, 1, {}).to_pylist()
    replaced = layer_features(directory, 1, {module: [7.0, 8.0, 9.0]})
    assert replaced.schema.equals(layer_features(directory, 1, {}).schema)
    for old, new in zip(plain, replaced.to_pylist(), strict=True):
        expected = [7.0, 8.0, 9.0][old["component"]] if old["module"] == module else old["write_norm"]
        assert new == {**old, "write_norm": expected}
    _record(directory)
    _write(directory, {module: [7.0, 8.0, 9.0]})
    statistics = pq.read_table(directory / "statistics.parquet").to_pylist()
    scaling = plain[0]["scaling"]
    assert [row["effect_scale"] for row in statistics if row["projection"] == "q_proj"] == [
        scaling * norm for norm in (7.0, 8.0, 9.0)
    ]


def test_layers_made_at_once_have_the_same_tables_as_one_by_one(directory: Path) -> None:
    layers = sorted({module.layer for module in read_modules(directory)})
    _record(directory, layers=layers)
    tokens = PromptTokens.read(directory / "prompts.parquet")  # shared

    def write(piece: tuple[str, int], check: Check) -> dict[str, bytes]:
        target = directory / piece[0] / str(piece[1])
        target.mkdir(parents=True)
        options = TableOptions(top_k=3, context_window=2, exclude_first_positions=1)
        write_layer_tables(piece[1], directory, directory, tokens, target, options, {}, [], check)
        return {file.name: file.read_bytes() for file in sorted(target.iterdir())}

    def made(name: str, threads: int) -> Iterator[dict[str, bytes]]:
        pieces: Sequence[tuple[str, int]] = [(name, layer) for layer in layers]
        return in_order(write, pieces, threads)

    together, alone = list(made("together", 3)), list(made("alone", 1))
    assert len(alone) > 1
    assert all(len(files) == 4 for files in alone)
    assert together == alone


def test_a_layer_stops_between_two_chunks(directory: Path) -> None:
    _record(directory)
    chunks = len(list(directory.glob("chunk-*")))
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == chunks:
            raise StoppedError

    tokens = PromptTokens.read(directory / "prompts.parquet")
    with pytest.raises(StoppedError):
        write_layer_tables(1, directory, directory, tokens, directory, TableOptions(), {}, [], check)
    assert calls == chunks > 1
    assert not (directory / "plain.parquet").exists()
