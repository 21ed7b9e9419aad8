"""What the activations should be: PEFT's own forward pass, one example at a time, in float64 or any other type.

Nothing of loradash runs here. A and x come from the files and from PEFT's modules, whose `forward` is replaced by one
that keeps its input.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM, PreTrainedModel

PREFIX = "base_model.model."
ENDS = (".lora_A.weight", ".lora_embedding_A")


@dataclass(frozen=True)
class Activations:
    """A x on those tokens that a module saw: tokens (n,) ascending, values (n, rank)."""

    tokens: np.ndarray
    values: np.ndarray
    owner: str  # the adapted module; for an expert the parameter that holds all of them


class Float64(TorchFunctionMode):
    """Run what a model asks to be in float32 (norms, rotary angles, softmax) in float64."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call `func` with every float32 that is asked for replaced."""
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        swapped = {name: _wider(value) for name, value in (kwargs or {}).items()}
        return func(*[_wider(value) for value in args], **swapped)


def _wider(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


def adapter_reads(adapter: Path) -> dict[str, torch.Tensor]:
    """Return every A that the adapter's file holds, (rank, in) in float64, by the module's name in PEFT's model."""
    tensors = load_file(adapter / "adapter_model.safetensors")
    return {
        name.removesuffix(end): tensor.double()
        for name, tensor in tensors.items()
        for end in ENDS
        if name.endswith(end)
    }


def load_adapted(base: Path, adapter: Path, *, float64: bool) -> PeftModel:
    """Load base and adapter by PEFT; in float64 the same stored numbers, widened, quantised weights as they decode."""
    options = {"attn_implementation": "eager", "experts_implementation": "eager"} if float64 else {}
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(base, dtype="auto", **options)
    if float64 and getattr(model.config, "quantization_config", None):
        model = _decoded(model)
    model = model.double() if float64 else model
    adapted = PeftModel.from_pretrained(model, str(adapter)).eval()
    return adapted.double() if float64 else adapted


def _decoded(model: PreTrainedModel) -> PreTrainedModel:
    """The same model with every quantised linear layer as the plain one that its weights decode to."""
    from peft.utils.integrations import dequantize_module_weight

    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and type(module) is not torch.nn.Linear:
            bias: torch.Tensor | None = getattr(module, "bias", None)
            plain = torch.nn.Linear(module.in_features, module.out_features, bias=bias is not None)
            plain.weight.data = dequantize_module_weight(module).double()
            if bias is not None:
                plain.bias.data = bias.double()
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, plain)
    config = type(model.config)(
        **{name: value for name, value in model.config.to_dict().items() if name != "quantization_config"}
    )
    with torch.device("meta"):
        fresh = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    for name, module in fresh.named_children():
        del module
        setattr(fresh, name, model.get_submodule(name))
    return fresh


@torch.no_grad()
def activations(
    model: PeftModel, adapter: Path, examples: Sequence[Sequence[int]], *, float64: bool
) -> dict[str, Activations]:
    """Return A x of everything that the adapter adapts, as PEFT's forward of each example alone has it, by module;
    experts stand as MODULE.EXPERT.PARAMETER.

    In float64 A is the file's, else the A that PEFT multiplies with, in the type it does so.
    """
    reads = adapter_reads(adapter)
    parts: dict[str, list[Activations]] = {}
    start = 0
    for ids in examples:
        seen: Seen = {}
        with _watched(model, list(reads), seen), _exact() if float64 else torch.no_grad():
            model(input_ids=torch.tensor([list(ids)]), use_cache=False)
        for name, calls in seen.items():
            layer: Any = model.get_submodule(name)
            for expert, tokens, x in calls:
                A = reads[name] if float64 else _own_read(layer).detach()
                values = _product(A if expert is None else A.reshape(layer.num_experts, -1, A.shape[1])[expert], x)
                found = Activations(tokens.numpy() + start, values.double().numpy(), _base_name(name, layer))
                parts.setdefault(_base_name(name, layer, expert), []).append(found)
        start += len(ids)
    return {name: _joined(found) for name, found in parts.items()}


def _joined(parts: Sequence[Activations]) -> Activations:
    tokens, values = (np.concatenate([getattr(part, name) for part in parts]) for name in ("tokens", "values"))
    return Activations(tokens, values, parts[0].owner)


@contextmanager
def _exact() -> Generator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with Float64():
            yield
    finally:
        torch.set_default_dtype(before)


def _own_read(layer: Any) -> torch.Tensor:
    return layer.lora_A["default"].weight if "default" in layer.lora_A else layer.lora_embedding_A["default"]


def _product(A: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    if not x.is_floating_point():
        return A[:, x.flatten()].T  # an embedding's x is one-hot
    return x.reshape(-1, A.shape[1]).to(A.dtype) @ A.T  # (tokens, rank)


def _base_name(name: str, layer: Any, expert: int | None = None) -> str:
    """The name in the base model, without PEFT's wrappers; a parameter's own name is left out if it is `weight`."""
    plain = name.removeprefix(PREFIX)
    while plain.endswith(".base_layer"):  # wrappers of several parameters of one module are nested
        plain = plain.removesuffix(".base_layer")
    parameter = getattr(layer, "parameter_name", "weight")
    numbered = plain if expert is None else f"{plain}.{expert}"
    return numbered if parameter == "weight" else f"{numbered}.{parameter}"


Seen = dict[str, list[tuple[int | None, torch.Tensor, torch.Tensor]]]


@contextmanager
def _watched(model: PeftModel, names: Sequence[str], seen: Seen) -> Generator[None]:
    changed: list[Any] = []
    experts: dict[int, tuple[Any, dict[str, str]]] = {}
    for name in names:
        layer: Any = model.get_submodule(name)
        if hasattr(layer, "parameter_name") and layer.get_param().ndim == 3:  # (experts, ...)
            inner = layer.get_base_layer()
            experts.setdefault(id(inner), (inner, {}))[1][layer.parameter_name] = name
        else:
            _keep_input(layer, name, seen)
            changed.append(layer)
    for inner, parameters in experts.values():
        _keep_routed(inner, parameters, seen)
        changed.append(inner)
    try:
        yield
    finally:
        for layer in changed:
            del layer.forward  # the class's own again


def _keep_input(layer: Any, name: str, seen: Seen) -> None:
    own = layer.forward

    def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        rows = x.detach().clone()
        count = rows.numel() if not rows.is_floating_point() else rows.numel() // rows.shape[-1]
        seen.setdefault(name, []).append((None, torch.arange(count), rows))
        return own(x, *args, **kwargs)

    layer.forward = forward


def _keep_routed(inner: Any, parameters: Mapping[str, str], seen: Seen) -> None:
    """Keep what each expert reads: the states of the tokens routed to it, and its own hidden layer of them."""
    own = inner.forward

    def forward(states: torch.Tensor, chosen: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        flat, chosen_rows = states.reshape(-1, states.shape[-1]), chosen.reshape(-1, chosen.shape[-1])
        for expert in range(inner.gate_up_proj.shape[0]):
            tokens = (chosen_rows == expert).any(dim=1).nonzero().flatten()
            if not len(tokens):
                continue
            x = flat[tokens].detach()
            if name := parameters.get("gate_up_proj"):
                seen.setdefault(name, []).append((expert, tokens, x))
            if name := parameters.get("down_proj"):
                weight = inner.gate_up_proj[expert]  # with its own adapter: PEFT's wrapper is active here
                hidden = x @ (weight if inner.is_transposed else weight.T)
                hidden = hidden + inner.gate_up_proj_bias[expert] if inner.has_bias else hidden
                seen.setdefault(name, []).append((expert, tokens, inner._apply_gate(hidden).detach()))
        return own(states, chosen, *args, **kwargs)

    inner.forward = forward
