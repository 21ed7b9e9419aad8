"""The size of a recording, said in advance, against the files; and what is said where the disk is too small."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig

from loradash_assets.compute.activations import record_activations
from loradash_assets.compute.catalogue import read_modules
from loradash_assets.compute.errors import StorageError
from loradash_assets.compute.forecast import Room, free_bytes, recording_bytes
from loradash_assets.compute.job import Recording
from loradash_assets.compute.model import load_config
from tests.experts import FAMILIES
from tests.projects import save_adapter, save_base
from tests.recordings import recording_of

pytestmark = pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")


@pytest.fixture(scope="module", params=["dense", "gpt-oss"])
def recording(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recording:
    directory = tmp_path_factory.mktemp("recording")
    base, lora = directory / "base", directory / "adapter"
    if request.param == "dense":
        save_base(base)
        save_adapter(lora, base, r=5, target_modules=["q_proj", "down_proj", "lm_head"])
    else:
        save_base(base, FAMILIES[request.param].config)
        save_adapter(lora, base, r=3, target_modules=["q_proj"], target_parameters=FAMILIES[request.param].both)
    return recording_of(directory, base, lora)


def test_what_is_said_in_advance_is_what_is_written(recording: Recording, tmp_path: Path) -> None:
    facts = record_activations(recording, tmp_path, lambda _: None)
    written = sum(file.stat().st_size for file in tmp_path.iterdir())
    tensors = 1 + 4 * 3  # at most, in a chunk: its tokens, and of each layer the dense and the sparse ones
    assert facts["chunks"] > 2
    assert 0 <= facts["expected_bytes"] - written < facts["chunks"] * 120 * (tensors + 2)


def test_a_model_that_does_not_say_how_many_experts_see_a_token_may_send_it_to_all(recording: Recording) -> None:
    modules = read_modules(recording.catalogue)
    config = load_config(recording.model, trust_remote_code=False)
    more = recording_bytes(modules, LlamaConfig(), 1000, 1) - recording_bytes(modules, config, 1000, 1)
    experts = {module.expert for module in modules} - {-1}
    sparse = [module for module in modules if module.expert == 0]
    column = 4 * len({module.layer for module in sparse}) + 4 * sum(module.rank for module in sparse)
    assert more == 1000 * column * max(0, len(experts) - 2)


def test_a_disk_that_is_too_small_is_refused_before_the_model_is_loaded(recording: Recording, tmp_path: Path) -> None:
    for name in ("whole", "out"):
        (tmp_path / name).mkdir()
    expected = record_activations(recording, tmp_path / "whole", lambda _: None)["expected_bytes"]

    def load(*_: Any) -> Any:
        raise AssertionError("the model is loaded")

    with pytest.raises(StorageError, match=re.escape(f"store.path: recording needs {expected / 1000:.1f} kB more")):
        record_activations(recording, tmp_path / "out", lambda _: None, load, lambda _: expected - 1)
    with pytest.raises(AssertionError, match="the model is loaded"):
        record_activations(recording, tmp_path / "out", lambda _: None, load, lambda _: expected)


def test_what_is_recorded_already_needs_no_room(recording: Recording, tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    whole.mkdir()
    resumed.mkdir()
    expected = record_activations(recording, whole, lambda _: None)["expected_bytes"]
    first = min(whole.iterdir())
    shutil.copy(first, resumed)
    missing = expected - first.stat().st_size
    with pytest.raises(StorageError):
        record_activations(recording, resumed, lambda _: None, free=lambda _: missing - 1)
    log: list[str] = []
    record_activations(recording, resumed, log.append, free=lambda _: missing)
    assert re.fullmatch(
        r"the recording takes [\d.]+ kB in the store, of which [\d.]+ kB are there; .* are free", log[0]
    )


def test_sizes_as_people_read_them(tmp_path: Path) -> None:
    room = Room(17_920_000_000, 0, 999_949)
    assert str(room) == "the recording takes 17.9 GB in the store; 999.9 kB are free"
    assert (
        str(Room(999, 1, 999_950)) == "the recording takes 999 B in the store, of which 1 B are there; 1.0 MB are free"
    )
    with pytest.raises(StorageError) as error:
        room.check(tmp_path)
    assert str(error.value) == (
        f"store.path: recording needs 17.9 GB more below {tmp_path}, where 999.9 kB are free: make room there "
        "('loradash clean' lists what is not in use), name a "
        "store on a larger disk, or record less (dataset.num_examples, dataset.max_tokens)"
    )


def test_the_disk_is_asked_where_the_recording_goes(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    assert abs(free_bytes(tmp_path) - disk.f_bavail * disk.f_frsize) < 1e9  # others may write at the same time
