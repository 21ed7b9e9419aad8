"""A real recording from files on disk: resumed, batched and chunked in every way, and what it says of itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, MambaConfig, Phi3Config, PretrainedConfig

from loradash_assets.compute import job
from loradash_assets.compute.activations import record_activations
from loradash_assets.compute.catalogue import read_modules
from loradash_assets.compute.errors import ModelError
from loradash_assets.compute.forward import AdaptedModel
from loradash_assets.compute.job import Recording
from loradash_assets.compute.recording import LayerActivations
from loradash_assets.compute.routed import Pending
from tests.projects import save_adapter, save_base, tiny_tokenizer
from tests.recordings import recording_of

REPOSITORY = Path(__file__).parents[2]
TRAINED_LENGTH = 105  # of the tiny prompts some are shorter, some longer


def _prepare(directory: Path, config: PretrainedConfig | None = None, **adapter: Any) -> Recording:
    base, lora = directory / "base", directory / "adapter"
    save_base(base, config)
    save_adapter(lora, base, **adapter)
    return recording_of(directory, base, lora)


def _record(recording: Recording, target: Path, log: list[str] | None = None) -> dict[str, Any]:
    target.mkdir(exist_ok=True)
    return record_activations(recording, target, (log if log is not None else []).append)


def _files(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def _values(directory: Path, layers: Sequence[int]) -> np.ndarray:
    """(features, tokens) in the order of the token numbers."""
    rows: list[np.ndarray] = []
    for layer in layers:
        numbers, values = zip(*(blocks[0] for blocks in LayerActivations(directory, layer, []).chunks()), strict=True)
        rows.append(np.concatenate(values, axis=1)[:, np.argsort(np.concatenate(numbers))])
    return np.concatenate(rows)


def _brute_force(recording: Recording) -> np.ndarray:
    """(features, tokens) in float64, in the order of the catalogue; a fresh model for every example."""
    modules = read_modules(recording.catalogue)
    tensors = load_file(recording.adapter / "adapter_model.safetensors")
    columns: list[torch.Tensor] = []
    for ids in pq.read_table(recording.prompts)["token_ids"].to_pylist():
        base = AutoModelForCausalLM.from_pretrained(recording.model)
        model: Any = PeftModel.from_pretrained(base, str(recording.adapter)).eval().double()
        inputs: dict[str, torch.Tensor] = {}
        for module in modules:
            model.get_base_model().get_submodule(module.name).register_forward_pre_hook(
                lambda _, args, kept=inputs, name=module.name: kept.__setitem__(name, args[0][0])
            )
        with torch.no_grad():
            model(input_ids=torch.tensor([ids]))
        weights = {name: tensors[f"base_model.model.{name}.lora_A.weight"].double() for name in inputs}
        columns.append(torch.cat([weights[module.name] @ inputs[module.name].T for module in modules]))
    return torch.cat(columns, dim=1).numpy()


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return _prepare(tmp_path_factory.mktemp("recording"), r=2, target_modules=["q_proj", "down_proj", "lm_head"])


pytestmark = pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")


@pytest.mark.parametrize("fewer", [0, 1])
def test_the_facts_and_values_of_a_recording(
    recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fewer: int
) -> None:
    lengths = [len(ids) for ids in pq.read_table(recording.prompts)["token_ids"].to_pylist()]
    monkeypatch.setattr(job, "FOLD_FROM", sum(lengths) + fewer)
    log: list[str] = []
    facts = _record(recording, tmp_path, log)
    assert (facts["folded_modules"] > 0) == (fewer == 0)
    assert (facts["tokens"], facts["examples"], facts["features"]) == (sum(lengths), len(lengths), 2 * 7)
    assert facts["chunks"] == len(list(tmp_path.iterdir())) > 2
    assert facts["prefix_determined"] is True
    assert facts["write_norms"] == {}
    assert log == [
        f"the recording takes {facts['expected_bytes'] / 1000:.1f} kB in the store; {log[0].split('; ')[1]}",
        "prefixes that examples share run once for all",
    ]
    assert facts["distinct_tokens"] < facts["tokens"]
    assert facts["shares_no_prefixes"] == ""
    np.testing.assert_allclose(_values(tmp_path, [-1, 0, 1, 2]), _brute_force(recording), rtol=0, atol=2e-5)


def test_chunks_change_nothing_and_batches_only_the_rounding(recording: Recording, tmp_path: Path) -> None:
    _record(recording, tmp_path / "many")
    _record(replace(recording, chunk_tokens=10_000), tmp_path / "one")
    _record(replace(recording, batch_tokens=1), tmp_path / "alone")
    apart = _record(replace(recording, share_prefixes=False), tmp_path / "apart")
    many, one, *others = (_values(tmp_path / name, [-1, 0, 1, 2]) for name in ("many", "one", "alone", "apart"))
    np.testing.assert_array_equal(one, many)
    assert len(list((tmp_path / "one").iterdir())) == 1
    assert apart["distinct_tokens"] == apart["tokens"]
    assert apart["shares_no_prefixes"] == "recording.share_prefixes is false"
    for values in others:
        np.testing.assert_allclose(values, many, rtol=0, atol=2e-5)


def _masked(recording: Recording, target: Path, monkeypatch: pytest.MonkeyPatch) -> set[bool]:
    masked: set[bool] = set()
    record = AdaptedModel.record

    def spy(model: AdaptedModel, *batch: Any, **options: Any) -> Pending:
        masked.add(options["masked"])
        return record(model, *batch, **options)

    monkeypatch.setattr(AdaptedModel, "record", spy)
    _record(recording, target)
    return masked


@pytest.mark.parametrize("share", [True, False])
def test_batches_have_no_mask_where_the_model_can_do_without(
    recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: bool
) -> None:
    """Without one nothing waits for a GPU (tests/compute/test_forward.py)."""
    assert _masked(replace(recording, share_prefixes=share), tmp_path, monkeypatch) == {False}


@pytest.mark.parametrize("share", [True, False])
def test_batches_have_a_mask_where_the_model_keeps_no_keys_and_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: bool
) -> None:
    config = MambaConfig(vocab_size=len(tiny_tokenizer()), hidden_size=16, num_hidden_layers=2, state_size=4)
    recording = replace(_prepare(tmp_path, config, target_modules=["in_proj", "x_proj"]), share_prefixes=share)
    assert _masked(recording, tmp_path / "out", monkeypatch) == {True}


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from loradash_assets.compute import recording
from loradash_assets.compute.activations import record_activations
from loradash_assets.compute.job import Recording

torch.set_num_threads(int(sys.argv[2]))
left, write = 1, recording.save_file

def save_file(tensors, file, **options):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    write(tensors, file, **options)

recording.save_file = save_file
record_activations(eval(sys.argv[1], {"Recording": Recording, "Path": Path}), Path(sys.argv[3]), print)
"""


def test_killed_and_resumed_it_is_byte_for_byte_the_same(recording: Recording, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    facts = _record(recording, whole)
    killed.mkdir()
    fields = ", ".join(
        f"{name}=Path({str(value)!r})" if isinstance(value, Path) else f"{name}={value!r}"
        for name, value in asdict(recording).items()
    )
    command = [sys.executable, "-c", KILLED, f"Recording({fields})", str(torch.get_num_threads()), str(killed)]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, env=os.environ)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert [file.name for file in killed.iterdir()] == ["chunk-00000.safetensors"]
    resumed = _record(recording, killed)
    assert _files(killed) == _files(whole)
    assert {name: fact for name, fact in resumed.items() if name[0] != "_"} == {
        name: fact for name, fact in facts.items() if name[0] != "_"
    }


def test_length_dependent_positions_run_alone_and_share_no_contexts(tmp_path: Path) -> None:
    """Longrope looks at the longest example in the batch: within the trained length, or beyond."""
    config = Phi3Config(
        vocab_size=len(tiny_tokenizer()),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        original_max_position_embeddings=TRAINED_LENGTH,
        pad_token_id=0,
        eos_token_id=2,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10_000.0,
            "short_factor": [1.0, 1.0],
            "long_factor": [2.0, 4.0],
            "original_max_position_embeddings": TRAINED_LENGTH,
        },
    )
    recording = _prepare(tmp_path, config, target_modules=["qkv_proj", "down_proj"], strength=1.0)
    lengths = [len(ids) for ids in pq.read_table(recording.prompts)["token_ids"].to_pylist()]
    assert min(lengths) < TRAINED_LENGTH < max(lengths)
    log: list[str] = []
    facts = _record(replace(recording, batch_tokens=100_000), tmp_path / "out", log)
    assert facts["prefix_determined"] is False
    assert any("equal contexts are not counted as one" in line for line in log)
    np.testing.assert_allclose(_values(tmp_path / "out", [0, 1]), _brute_force(recording), rtol=0, atol=1e-4)


def test_dora_brings_its_write_norms(tmp_path: Path) -> None:
    recording = _prepare(tmp_path, r=2, target_modules=["q_proj"], use_dora=True)
    norms = _record(recording, tmp_path / "out")["write_norms"]
    assert {name: len(values) for name, values in norms.items()} == {
        f"model.layers.{layer}.self_attn.q_proj": 2 for layer in range(3)
    }
    np.testing.assert_allclose(_values(tmp_path / "out", [0, 1, 2]), _brute_force(recording), rtol=0, atol=2e-5)


def test_weights_that_cannot_be_loaded_are_refused_by_name(recording: Recording, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((recording.model / "config.json").read_bytes())
    with pytest.raises(ModelError, match=r"model\.base_model"):
        _record(replace(recording, model=tmp_path), tmp_path / "out")
