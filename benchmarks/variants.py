"""The kinds of adapters and bases that the coverage table measures, and how each is made with transformers and PEFT."""

from __future__ import annotations

import importlib.util
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from benchmarks.architectures import Architecture

WEAK = 0.01  # ‖scaling · B A‖ / ‖W‖ where a variant does not say otherwise
SEED = 0


class NotApplicable(Exception):
    """The architecture has nothing that this variant could adapt."""


@dataclass(frozen=True)
class Parts:
    """Last names of a model's parts: its linear modules inside the layers, embeddings, head, norms and experts."""

    targets: str | list[str]  # what an adapter of all linear modules names
    linear: tuple[str, ...]
    embedding: str
    head: str
    norms: tuple[str, ...]
    experts: tuple[str, ...]


Options = Callable[[Parts, int], dict[str, Any]]


def _plain(_: Parts, rank: int) -> dict[str, Any]:
    return {"r": rank, "lora_alpha": 2 * rank, "target_modules": "all-linear"}


def _all_linear(parts: Parts, rank: int) -> dict[str, Any]:
    return {**_plain(parts, rank), "target_modules": parts.targets}


def _flag(name: str, parts: Parts, rank: int) -> dict[str, Any]:
    return {**_all_linear(parts, rank), name: True}


def _patterns(parts: Parts, rank: int) -> dict[str, Any]:
    first, last = parts.linear[0], parts.linear[-1]
    return {**_all_linear(parts, rank), "rank_pattern": {first: rank + 1}, "alpha_pattern": {first: 3, last: 5}}


def _one_layer(parts: Parts, rank: int) -> dict[str, Any]:
    return {**_all_linear(parts, rank), "target_modules": list(parts.linear), "layers_to_transform": [1]}


def _saved(parts: Parts, rank: int) -> dict[str, Any]:
    return {**_all_linear(parts, rank), "modules_to_save": [parts.embedding, *parts.norms[:1]]}


def _head(parts: Parts, rank: int) -> dict[str, Any]:
    return {**_all_linear(parts, rank), "target_modules": [*parts.linear, parts.head]}


def _embeddings(parts: Parts, rank: int) -> dict[str, Any]:
    return {**_all_linear(parts, rank), "target_modules": [*parts.linear, parts.embedding]}


def _experts(parts: Parts, rank: int) -> dict[str, Any]:
    if not parts.experts:
        raise NotApplicable("no fused expert parameters")
    modules = list(parts.linear)
    return {**_all_linear(parts, rank), "target_modules": modules, "target_parameters": list(parts.experts)}


@dataclass(frozen=True)
class Variant:
    """One column of the table: the options of its LoraConfig, and what is special about base and files."""

    label: str
    meaning: str
    options: Options = field(default=_all_linear)
    strength: float = WEAK
    tied: bool = False
    base_dtype: torch.dtype = torch.float32
    adapter_dtype: torch.dtype = torch.float32
    base: Literal["plain", "nf4", "int8"] = "plain"

    @property
    def is_exact(self) -> bool:
        """Whether its forward pass is exact enough to send every token to the experts that float64 sends it to."""
        return self.base == "plain" and self.base_dtype is torch.float32

    @property
    def agreement(self) -> float:
        """How far PEFT's own forward may be from a reference that is right, relative to a feature's RMS."""
        return 1e-4 if self.is_exact else 0.5

    @property
    def missing(self) -> str:
        """Why this variant cannot be measured on this machine; empty if it can."""
        if self.base == "plain" or importlib.util.find_spec("bitsandbytes"):
            return ""
        return "bitsandbytes was not installed"


NF4 = (
    "the base quantised to 4 bits by bitsandbytes; where the CPU has AVX-512, PEFT's own pass computes in bfloat16, "
    "loradash's does not"
)
VARIANTS = (
    Variant("plain", 'LoRA, `target_modules="all-linear"`', _plain),
    Variant("rsLoRA", "`use_rslora`", partial(_flag, "use_rslora")),
    Variant("DoRA", "`use_dora`, magnitudes off their initial values", partial(_flag, "use_dora")),
    Variant("bias", "`lora_bias`, with biases that are not zero", partial(_flag, "lora_bias")),
    Variant(
        "patterns", "`rank_pattern` and `alpha_pattern`: one projection of rank r + 1, two of another alpha", _patterns
    ),
    Variant("one layer", "`layers_to_transform=[1]`", _one_layer),
    Variant("saved", "`modules_to_save`: the embeddings and a norm, changed", _saved),
    Variant("head", "all linear modules and the output head, untied", _head),
    Variant("head, tied", "the same, head tied to the embeddings", _head, tied=True),
    Variant("embeddings", "all linear modules and the input embeddings (`lora_embedding_A`)", _embeddings),
    Variant("experts", "all linear modules, and the fused experts through `target_parameters`", _experts),
    Variant("bf16 file", "the adapter saved in bfloat16", adapter_dtype=torch.bfloat16),
    Variant("bf16 base", "the base in bfloat16", base_dtype=torch.bfloat16),
    Variant("strong", "‖scaling·BA‖ = 0.1 ‖W‖ in every module", strength=0.1),
    Variant("strongest", "‖scaling·BA‖ = ‖W‖ in every module", strength=1.0),
    Variant("nf4 base", NF4, base="nf4"),
    Variant("int8 base", "the base quantised to 8 bits by bitsandbytes", base="int8"),
)


def make_base(architecture: Architecture, variant: Variant, directory: Path) -> None:
    """Save a random base model; its weights are large enough for every module to matter."""
    torch.manual_seed(SEED)
    model = AutoModelForCausalLM.from_config(architecture.config(tied=variant.tied))
    randomise(model)
    model.to(variant.base_dtype).save_pretrained(directory)


@torch.no_grad()
def randomise(model: PreTrainedModel) -> None:
    """Give every matrix entries of variance 1 / fan-in, embeddings of variance 1, biases of standard deviation 0.1."""
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            if isinstance(module, torch.nn.Embedding):
                weight.normal_()
            elif name.endswith("bias") and name != "dt_bias":
                weight.normal_(std=0.1)
            elif isinstance(module, Conv1D):
                weight.normal_(std=weight.shape[0] ** -0.5)
            elif weight.dim() >= 2 and "A_log" not in name:
                weight.normal_(std=weight.shape[-1] ** -0.5)


def parts_of(model: PreTrainedModel, architecture: Architecture) -> Parts:
    """Find the parts that variants adapt by name."""
    named = [(name, module) for name, module in model.named_modules() if name]
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    inside = [(name.rpartition(".")[2], module) for name, module in named if module not in ends]
    names = {id(module): name.rpartition(".")[2] for name, module in named}
    linear = tuple(dict.fromkeys(name for name, module in inside if isinstance(module, torch.nn.Linear | Conv1D)))
    return Parts(
        targets=list(architecture.targets) or "all-linear",
        linear=architecture.targets or linear,
        embedding=names[id(ends[0])],
        head=names[id(ends[1])],
        norms=tuple(dict.fromkeys(name for name, module in inside if type(module).__name__.endswith("Norm"))),
        experts=architecture.experts,
    )


def make_adapter(architecture: Architecture, variant: Variant, rank: int, base: Path, directory: Path) -> None:
    """Save a random adapter of the variant with PEFT."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(base)
    options = variant.options(parts_of(model, architecture), rank)
    torch.manual_seed(zlib.crc32(f"{variant.label} {rank}".encode()))
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))
    assert isinstance(adapted, PeftModel)
    _fill(adapted, variant.strength)
    adapted.save_pretrained(str(directory))
    if variant.adapter_dtype is not torch.float32:
        file = directory / "adapter_model.safetensors"
        save_file({name: tensor.to(variant.adapter_dtype) for name, tensor in load_file(file).items()}, file)


@torch.no_grad()
def _fill(adapted: PeftModel, strength: float) -> None:
    for name, weight in adapted.named_parameters():
        if "lora_magnitude_vector" in name or "modules_to_save" in name:
            weight.mul_(1 + 0.1 * torch.randn_like(weight))
        elif "lora_" in name:
            weight.normal_(std=0.1)
    for layer in adapted.modules():
        if isinstance(layer, LoraLayer):
            _scale(layer, strength)


def _scale(layer: Any, strength: float) -> None:
    """Scale B so that ‖scaling · B A‖ = strength ‖W‖."""
    weight = layer.get_param() if hasattr(layer, "parameter_name") else layer.get_base_layer().weight
    B = layer.lora_B["default"].weight if "default" in layer.lora_B else layer.lora_embedding_B["default"]
    B.mul_(strength * weight.float().norm() / layer.get_delta_weight("default").float().norm())


def quantised(variant: Variant) -> BitsAndBytesConfig:
    """Return how the variant's base is quantised."""
    if variant.base == "nf4":
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    return BitsAndBytesConfig(load_in_8bit=True)
