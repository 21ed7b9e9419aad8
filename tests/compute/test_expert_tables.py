"""Experts from files on disk to tables: recorded in any chunks, ranked among the tokens that each one sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from loradash_assets.compute.activations import record_activations
from loradash_assets.compute.catalogue import read_modules
from loradash_assets.compute.features import AdaptedModule
from loradash_assets.compute.job import Recording
from loradash_assets.compute.layers import write_layer_tables
from loradash_assets.compute.prompt_tokens import PromptTokens
from loradash_assets.compute.tables import TableOptions
from loradash_assets.schema import Basis
from tests.experts import FAMILIES
from tests.projects import save_adapter, save_base
from tests.recordings import recording_of

STARVED = 2  # the expert that no token is sent to
WINDOW, TOP = 3, 5
OPTIONS = TableOptions(top_k=TOP, context_window=WINDOW, distinct_contexts=False)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """A GPT-OSS with one expert that its router's bias keeps every token from."""
    directory = tmp_path_factory.mktemp("experts")
    base, lora = directory / "base", directory / "adapter"
    family = FAMILIES["gpt-oss"]
    save_base(base, family.config)
    tensors = load_file(base / "model.safetensors")
    for name in tensors:
        if name.endswith("router.bias"):
            tensors[name][STARVED] = -1e4
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    save_adapter(lora, base, r=2, target_modules=["q_proj"], target_parameters=family.both)
    return recording_of(directory, base, lora)


@pytest.fixture(scope="module")
def recorded(recording: Recording, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("recorded")
    facts = record_activations(recording, target, lambda _: None)
    assert facts["experts_per_token"] == 2
    assert facts["chunks"] == len(list(target.iterdir())) > 1
    return target


@dataclass(frozen=True)
class Column:
    """What the files say of one expert's features on one token."""

    token: int
    values: list[float]  # gate_up's components, then down's


def _columns(directory: Path, layer: int) -> dict[int, list[Column]]:
    """Each expert's columns in the order of the token numbers, read from the chunk files by the format's definition."""
    found: dict[int, list[Column]] = {expert: [] for expert in range(4)}
    for file in directory.glob("chunk-*.safetensors"):
        tensors = load_file(file)
        offsets, tokens, values = (
            tensors[f"layer.{layer}.experts.0.{part}"] for part in ("offsets", "tokens", "values")
        )
        for expert in range(4):
            for column in range(offsets[expert], offsets[expert + 1]):
                found[expert].append(Column(int(tensors["tokens"][tokens[column]]), values[:, column].tolist()))
    return {expert: sorted(columns, key=lambda column: column.token) for expert, columns in found.items()}


def _lengths(recording: Recording) -> list[int]:
    return [len(ids) for ids in pq.read_table(recording.prompts)["token_ids"].to_pylist()]


def _tables(recording: Recording, recorded: Path, target: Path, basis: Basis = "raw", layer: int = 1) -> dict[str, Any]:
    options = replace(OPTIONS, basis=basis)
    tokens = PromptTokens.read(recording.prompts)
    return write_layer_tables(layer, recording.catalogue, recorded, tokens, target, options, {}, ())


def _features(recording: Recording, layer: int = 1) -> Iterator[tuple[AdaptedModule, int, int]]:
    """Every feature of an expert: module, component, row among the expert's features."""
    for module in read_modules(recording.catalogue):
        if module.layer == layer and module.expert >= 0:
            first = 2 if module.name.endswith("down_proj") else 0
            yield from ((module, component, first + component) for component in range(2))


def _ranked(values: list[tuple[float, int]], sign: int) -> list[tuple[float, int]]:
    return sorted((pair for pair in values if sign * pair[0] > 0), key=lambda pair: (-sign * pair[0], pair[1]))[:TOP]


def test_every_token_is_with_two_experts_and_never_with_the_starved_one(recording: Recording, recorded: Path) -> None:
    tokens = sum(_lengths(recording))
    for layer in range(2):
        columns = _columns(recorded, layer)
        assert columns[STARVED] == []
        counts = np.bincount([column.token for each in columns.values() for column in each], minlength=tokens)
        assert counts.tolist() == [2] * tokens


def test_an_experts_lists_are_a_sort_of_what_it_sees(recording: Recording, recorded: Path, tmp_path: Path) -> None:
    tokens = sum(_lengths(recording))
    facts = _tables(recording, recorded, tmp_path)
    columns = _columns(recorded, 1)
    most = max(map(len, columns.values()))
    assert facts == {
        "features": 2 + 4 * 4,
        "dropped": 0,
        "non_finite": 0,
        "counted": [tokens],
        "routed": [2 * tokens],
        "busiest": most,
        "unsorted": 0,
        "outside": 0,
        "left_out": {},
    }
    rows = pq.read_table(tmp_path / "plain.parquet").to_pylist()
    examples = pq.read_table(recording.prompts)["example"].to_pylist()
    starts = np.cumsum([0, *_lengths(recording)])
    for module, component, row in _features(recording):
        values = {column.token: column.values[row] for column in columns[module.expert]}
        for polarity, sign in (("positive", 1), ("negative", -1)):
            name = (module.projection, component, polarity)
            listed = [each for each in rows if (each["projection"], each["component"], each["polarity"]) == name]
            expected = _ranked([(value, token) for token, value in values.items()], sign)
            assert [each["activation"] for each in listed] == [value for value, _ in expected]
            for each, (_, token) in zip(listed, expected, strict=True):
                place = int(np.searchsorted(starts, token, side="right")) - 1
                assert (each["example"], each["position"]) == (examples[place], token - starts[place])
                first, stop = max(starts[place], token - WINDOW), min(starts[place + 1], token + WINDOW + 1)
                assert each["context_activations"] == [values.get(near, 0.0) for near in range(first, stop)]


def test_an_experts_statistics_are_of_what_it_sees(recording: Recording, recorded: Path, tmp_path: Path) -> None:
    _tables(recording, recorded, tmp_path)
    rows = {
        (row["projection"], row["component"]): row for row in pq.read_table(tmp_path / "statistics.parquet").to_pylist()
    }
    columns = _columns(recorded, 1)
    for module, component, number in _features(recording):
        values = np.array([column.values[number] for column in columns[module.expert]])
        row = rows[module.projection, component]
        assert (row["count"], row["non_finite"]) == (values.size, 0)
        assert sum(row["total_counts"]) == values.size
        if module.expert != STARVED:
            np.testing.assert_allclose([row["mean"], row["std"]], [values.mean(), values.std()], rtol=1e-9)
            assert (row["min"], row["max"]) == (values.min(), values.max())


def test_the_svd_basis_is_each_experts_own(recording: Recording, recorded: Path, tmp_path: Path) -> None:
    facts = _tables(recording, recorded, tmp_path, "svd")
    assert facts["routed"] == [2 * sum(_lengths(recording))]
    rows = pq.read_table(tmp_path / "shown.parquet").to_pylist()
    columns = _columns(recorded, 1)
    for module in {module.name: module for module, _, _ in _features(recording)}.values():
        A, B = module.A.astype(np.float64), module.B.astype(np.float64)
        directions = np.linalg.svd(module.scaling * B @ A)[2][:2]
        directions *= np.sign(directions[[0, 1], np.abs(directions).argmax(axis=1)])[:, None]
        mapping = directions @ np.linalg.pinv(A)  # v = (v A+) A
        first = 2 if module.name.endswith("down_proj") else 0
        for component in range(2):
            mapped = [float(mapping[component] @ each.values[first : first + 2]) for each in columns[module.expert]]
            for polarity, sign in (("positive", 1), ("negative", -1)):
                name = (module.projection, component, polarity)
                listed = [
                    each["activation"]
                    for each in rows
                    if (each["projection"], each["component"], each["polarity"]) == name
                ]
                expected = [value for value, _ in _ranked([(value, 0) for value in mapped], sign)]
                np.testing.assert_allclose(listed, expected, rtol=1e-5, atol=1e-6)


def test_chunks_and_interruptions_change_nothing(recording: Recording, recorded: Path, tmp_path: Path) -> None:
    for name, tokens in (("one", 10_000), ("many", 1)):
        (tmp_path / name).mkdir()
        record_activations(replace(recording, chunk_tokens=tokens), tmp_path / name, lambda _: None)
        assert (len(list((tmp_path / name).iterdir())) == 1) == (name == "one")
        for layer in range(2):
            assert _columns(tmp_path / name, layer) == _columns(recorded, layer)
    (tmp_path / "again").mkdir()
    files = {file.name: file.read_bytes() for file in sorted(recorded.iterdir())}
    for name, content in list(files.items())[1:]:
        (tmp_path / "again" / name).write_bytes(content)
    facts = record_activations(recording, tmp_path / "again", lambda _: None)
    assert facts["experts_per_token"] == 2
    assert {file.name: file.read_bytes() for file in (tmp_path / "again").iterdir()} == files


def test_a_lost_token_shows_in_the_counts(recording: Recording, recorded: Path, tmp_path: Path) -> None:
    for file in recorded.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    file = tmp_path / "chunk-00000.safetensors"
    tensors = load_file(file)
    tensors["layer.1.experts.0.offsets"] = np.maximum(tensors["layer.1.experts.0.offsets"], 1)  # expert 0 loses one
    save_file(tensors, file)
    assert _tables(recording, tmp_path, tmp_path)["routed"] == [2 * sum(_lengths(recording)) - 1]
