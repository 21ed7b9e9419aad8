"""Modules that are adapted and never called are found before the model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoConfig, JambaConfig, MambaConfig, PretrainedConfig

from loradash_assets.compute.features import Catalogue, read_catalogue
from loradash_assets.compute.forward import AdaptedModel
from loradash_assets.compute.model import load_model
from loradash_assets.compute.reach import called_modules
from tests.projects import save_adapter, save_base
from tests.recordings import dense

MAMBA = MambaConfig(vocab_size=400, hidden_size=16, num_hidden_layers=2, state_size=4, time_step_rank=2)
JAMBA = JambaConfig(
    vocab_size=400,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    mamba_d_state=4,
    mamba_dt_rank=2,
    num_experts=2,
    attn_layer_period=2,
    attn_layer_offset=1,
    expert_layer_period=2,
    expert_layer_offset=1,
)


def _catalogue(directory: Path, config: PretrainedConfig | None, **options: Any) -> Catalogue:
    save_base(directory / "base", config)
    save_adapter(directory / "adapter", directory / "base", **options)
    read = AutoConfig.from_pretrained(directory / "base")
    return read_catalogue(directory / "adapter", read, allow_pickle=False, trust_remote_code=False)


@pytest.mark.parametrize(
    ("config", "target", "idle"),
    [
        (MAMBA, ["in_proj", "x_proj", "dt_proj"], {f"backbone.layers.{n}.mixer.dt_proj" for n in range(2)}),
        (JAMBA, ["q_proj", "x_proj", "dt_proj", "down_proj"], {"model.layers.0.mamba.dt_proj"}),
        (None, "all-linear", set[str]()),
    ],
    ids=["mamba", "jamba", "llama"],
)
def test_what_is_never_called_is_listed_and_the_rest_recorded(
    tmp_path: Path, config: PretrainedConfig | None, target: Any, idle: set[str]
) -> None:
    catalogue = _catalogue(tmp_path, config, target_modules=target)
    assert set(catalogue.unrecorded) == idle
    assert all("never calls it" in reason for reason in catalogue.unrecorded.values())
    base = load_model(tmp_path / "base", dtype="float32", device=torch.device("cpu"), trust_remote_code=False)
    values = dense(AdaptedModel(base, tmp_path / "adapter", catalogue.modules), [np.arange(5), np.arange(3)])
    assert values.shape == (len(catalogue.modules), 8)
    assert bool((values != 0).any(dim=1).all())


def test_an_adapter_there_has_no_effect(tmp_path: Path) -> None:
    """What the reason says, seen in the logits."""
    _catalogue(tmp_path, MAMBA, target_modules=["dt_proj", "x_proj"])
    ids = torch.arange(6)[None]
    logits: list[torch.Tensor] = []
    for changed in ("", "dt_proj", "x_proj"):
        base = load_model(tmp_path / "base", dtype="float32", device=torch.device("cpu"), trust_remote_code=False)
        model = PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if changed and f"{changed}.lora_B" in name:
                    weight.mul_(3)
            logits.append(model(input_ids=ids).logits)
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])


def test_a_model_that_cannot_be_traced_is_left_to_the_forward_pass() -> None:
    class Decides(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Linear(1, 1, device="meta")

        def forward(self, input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
            return self.inner(input_ids.float()[..., None]) if input_ids.sum().item() > 0 else input_ids

    model: Any = Decides()
    model.set_experts_implementation = model.set_attn_implementation = lambda _: None
    assert called_modules(model) is None
