"""Check recordings on quantised base models; no test, because the libraries are not what loradash is built on.

Needs bitsandbytes and torchao beside the development environment: `python -m tests.compute.check_quantised`.
Prints, for each kind, the relative difference to brute force (a float32 model that holds the dequantised weights, under
PEFT, one example at a time, A x in float64) and whether contexts can be shared; fails where it is too large.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.utils.integrations import dequantize_module_weight
from torchao.quantization import Int8WeightOnlyConfig  # pyright: ignore[reportMissingImports]
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, TorchAoConfig

from loradash_assets.compute.features import read_catalogue
from loradash_assets.compute.forward import AdaptedModel
from loradash_assets.compute.model import load_config, load_model
from tests.projects import save_adapter, save_base
from tests.recordings import dense

SIZES: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
NF4: dict[str, Any] = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32}
KINDS: dict[str, tuple[Any, float]] = {  # and how far off it may be: 8 bits also round x
    "bitsandbytes, 4 bits": (BitsAndBytesConfig(**NF4), 1e-5),
    "bitsandbytes, 8 bits": (BitsAndBytesConfig(load_in_8bit=True), 0.02),
    "torchao, 8-bit weights": (TorchAoConfig(Int8WeightOnlyConfig()), 1e-5),
}
EXAMPLES = [np.random.default_rng(0).integers(3, 90, length) for length in (7, 23, 1, 40)]


def _dequantised(float_base: Path, base: Path, adapter: Path) -> PeftModel:
    """Return the adapted model in float32, with the weights that the quantised ones stand for."""
    model = AutoModelForCausalLM.from_pretrained(float_base)
    quantised = dict(AutoModelForCausalLM.from_pretrained(base).named_modules())
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.copy_(dequantize_module_weight(quantised[name]))
    return PeftModel.from_pretrained(model, str(adapter)).eval()


def _adapted(model: PeftModel) -> dict[str, Any]:
    return {name: layer for name, layer in model.get_base_model().named_modules() if isinstance(layer, LoraLayer)}


def _activations(model: PeftModel) -> dict[str, np.ndarray]:
    seen: dict[str, list[torch.Tensor]] = {}
    for name, layer in _adapted(model).items():
        kept, A = seen.setdefault(name, []), layer.lora_A["default"].weight.double()
        layer.register_forward_pre_hook(lambda _, x, kept=kept, A=A: kept.append(x[0][0].double() @ A.T))
    with torch.no_grad():
        for ids in EXAMPLES:
            model(input_ids=torch.from_numpy(ids)[None])
    return {name: torch.cat(parts).T.detach().numpy() for name, parts in seen.items()}


def _write_norms(model: PeftModel) -> dict[str, np.ndarray]:
    """‖g ⊙ B[:, j]‖."""
    norms: dict[str, np.ndarray] = {}
    for name, layer in _adapted(model).items():
        W = layer.get_base_layer().weight.double()
        A, B = (getattr(layer, f"lora_{side}")["default"].weight.double() for side in "AB")
        g = layer.lora_magnitude_vector["default"].weight / (W + layer.scaling["default"] * B @ A).norm(dim=1)
        norms[name] = (g[:, None] * B).norm(dim=0).detach().numpy()
    return norms


def _check(kind: str, directory: Path, *, use_dora: bool) -> None:
    quantisation, tolerance = KINDS[kind]
    float_base, base, adapter = (directory / name for name in ("float", "base", "adapter"))
    save_base(float_base, LlamaConfig(vocab_size=90, num_key_value_heads=2, max_position_embeddings=64, **SIZES))
    AutoModelForCausalLM.from_pretrained(float_base, quantization_config=quantisation).save_pretrained(base)
    save_adapter(adapter, float_base, r=2, use_dora=use_dora)
    catalogue = read_catalogue(
        adapter, load_config(base, trust_remote_code=False), allow_pickle=False, trust_remote_code=False
    )
    loaded = load_model(base, dtype="auto", device=torch.device("cpu"), trust_remote_code=False)
    model = AdaptedModel(loaded, adapter, catalogue.modules)
    reference = _dequantised(float_base, base, adapter)
    seen = _activations(reference)
    expected = np.concatenate([seen[module.name] for module in catalogue.modules])
    error = np.linalg.norm(dense(model, EXAMPLES).numpy() - expected) / np.linalg.norm(expected)
    shared = model.is_prefix_determined(EXAMPLES)
    print(f"{kind}, {'DoRA' if use_dora else 'LoRA'}: {error:.1e}, contexts shared: {shared}")
    assert error < tolerance
    for name, norms in _write_norms(reference).items() if use_dora else ():
        np.testing.assert_allclose(model.write_norms()[name], norms, rtol=1e-5)


if __name__ == "__main__":
    for chosen in KINDS:
        for dora in (False, True):
            if not (dora and "8 bits" in chosen):  # refused
                with tempfile.TemporaryDirectory() as temporary:
                    _check(chosen, Path(temporary), use_dora=dora)
    sys.exit(0)
