"""Base model, adapter and dataset: where they are found, and that their fingerprints follow what they hold."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from loradash_assets import sources
from loradash_assets.compute.errors import AdapterError, DatasetError, InputError, ModelError
from loradash_assets.compute.model import HUB_FILES
from loradash_assets.settings import load_settings
from loradash_assets.sources import Adapter, HubSource, LocalSource


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "brought" / "inside").mkdir(parents=True)
    (tmp_path / "brought" / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "brought" / "inside" / "weights").write_bytes(bytes(1000))
    return tmp_path / "brought"


def test_a_fingerprint_is_of_names_and_content(directory: Path) -> None:
    first = LocalSource(directory).fingerprint
    moved = shutil.copytree(directory, directory.with_name("elsewhere"))
    os.utime(moved / "config.json", (0, 0))
    assert LocalSource(moved).fingerprint == first
    (moved / "inside" / "weights").write_bytes(bytes(999) + b"\1")
    assert LocalSource(moved).fingerprint != first
    (directory / "config.json").rename(directory / "other.json")
    assert LocalSource(directory).fingerprint != first


def test_a_files_fingerprint_is_its_own(directory: Path) -> None:
    first = LocalSource(directory / "config.json").fingerprint
    (directory / "beside.json").write_text("x", encoding="utf-8")
    assert LocalSource(directory / "config.json").fingerprint == first
    (directory / "config.json").write_text("{ }", encoding="utf-8")
    assert LocalSource(directory / "config.json").fingerprint != first


def test_a_huge_files_fingerprint_is_of_its_size_and_time(directory: Path) -> None:
    huge = directory / "huge"
    huge.touch()
    os.truncate(huge, sources.HASHED_BYTES + 1)  # takes no room
    os.utime(huge, ns=(0, 5))
    first = LocalSource(huge).fingerprint
    os.utime(huge, ns=(9, 5))
    assert LocalSource(huge).fingerprint == first
    os.utime(huge, ns=(9, 6))
    assert LocalSource(huge).fingerprint != first


def test_a_linked_file_counts_with_what_it_links_to(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"1")
    (directory / "linked").symlink_to(tmp_path / "blob")
    first = LocalSource(directory).fingerprint
    (tmp_path / "blob").write_bytes(b"2")
    assert LocalSource(directory).fingerprint != first


def test_what_is_here_is_local_and_the_rest_is_on_the_hub(directory: Path) -> None:
    def settings(**sections: dict[str, Any]) -> Any:
        return load_settings(directory.parent, sections)

    assert sources.base_model_source(settings(model={"base_model": "brought"})) == LocalSource(
        directory, tuple(HUB_FILES)
    )
    assert sources.dataset_source(settings(dataset={"path": "./brought/config.json"})) == LocalSource(
        directory / "config.json"
    )
    assert sources.adapter_directory(settings(), Adapter(None, "brought")) == directory
    with pytest.raises(ModelError, match=r"model\.base_model: 'Qwen/Qwen2\.5-32B-Instruct' .* may not be asked"):
        sources.base_model_source(settings())
    with pytest.raises(DatasetError, match=r"dataset\.path: 'simplescaling/s1K-1\.1' .* may not be asked"):
        sources.dataset_source(settings())
    assert len({HubSource(name, revision).fingerprint for name in "ab" for revision in "ab"}) == 4


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("package://no_such_package/m.gguf", "model.base_model: Python package 'no_such_package' of .* not installed"),
        ("package://../m.gguf", "model.base_model: Python package '..' of .* is not installed"),
        ("package://yaml/m.gguf", "model.base_model: Python package 'yaml' has no file 'm.gguf'"),
    ],
)
def test_a_package_without_the_model_is_named(tmp_path: Path, name: str, problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        sources.base_model_source(load_settings(tmp_path, {"model": {"base_model": name}}))


def layers_of(project: Path, path: str | None) -> list[int]:
    settings = load_settings(project, {"adapter": {"path": path}})
    return sources.adapter_layers(settings, sources.adapters(settings)[0])


def test_the_adapters_layers_are_read_from_its_tensors(directory: Path) -> None:
    names = [
        f"base_model.model.model.layers.{layer}.mlp.up_proj.lora_{side}.weight" for layer in (11, 2) for side in "AB"
    ]
    (directory / "adapter_config.json").write_text("{}", encoding="utf-8")
    save_file({name: np.zeros((1, 1), np.float32) for name in names}, directory / "adapter_model.safetensors")
    assert layers_of(directory.parent, "brought") == [2, 11]
    outside = "base_model.model.lm_head.lora_A.weight"
    save_file({outside: np.zeros((1, 1), np.float32)}, directory / "adapter_model.safetensors")
    assert layers_of(directory.parent, "brought") == [-1]


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({}, "has no adapter_config.json, so it is no PEFT adapter"),
        ({"adapter_config.json": b"{}"}, "has no adapter_model.safetensors"),
        (
            {"adapter_config.json": b"{}", "adapter_model.bin": b"pickle"},
            "has only adapter_model.bin, a pickle, .* set adapter.allow_pickle",
        ),
        (
            {"adapter_config.json": b"{}", "adapter_model.safetensors": b"\x02" + bytes(7) + b"{}"},
            "holds no LoRA tensors",
        ),
        ({"adapter_config.json": b"{}", "adapter_model.safetensors": b""}, "is not a valid safetensors file"),
        ({"adapter_config.json": b"{}", "adapter_model.safetensors": b"\xff" * 99}, "is not a valid safetensors file"),
        ({"adapter_config.json": b"{}", "adapter_model.safetensors": b"\x04" + bytes(7) + b"null"}, "is not a valid"),
    ],
)
def test_what_is_no_adapter_is_named_with_its_directory(directory: Path, files: dict[str, bytes], problem: str) -> None:
    for name, content in files.items():
        (directory / name).write_bytes(content)
    with pytest.raises(AdapterError, match=rf"^adapter.path: {directory}.*{problem}"):
        layers_of(directory.parent, "brought")


def test_an_adapter_that_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^adapter.path: name the adapter's directory or hub name .*--lora-path"):
        layers_of(tmp_path, None)
    with pytest.raises(InputError, match=r"^adapter.path: 'nowhere/adapter' is no local directory, and the hub says"):
        layers_of(tmp_path, "nowhere/adapter")
