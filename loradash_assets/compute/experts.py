"""Adapted parameters in the catalogue: fused experts taken apart, expert by expert, and weights of plain linear maps.

PEFT adapts a parameter where the base model has no linear module to wrap (`target_parameters`, and what it makes of
adapters that were trained when every expert was a module). Experts are read the way PEFT's `ParamWrapper` reads them:
for E experts A is (E * r, in) with an expert's rows together, B is (out, r * E) with the experts next to each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from loradash_assets.compute.passes import Block

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

NO_EXPERT = -1
READ_FIRST = ("gate_up_proj", "up_proj")  # what an expert applies to the token's state
READ_LAST = "down_proj"  # what it applies to its own intermediate state
MAY_CHOOSE_NO_EXPERT = {"zaya"}  # model types
SAME_ROWS = {"reshape", "view", "flatten", "to", "type", "float"}  # tensor methods that leave the rows as they are


@dataclass(frozen=True)
class Part:
    """What is recorded as a module of its own: a whole linear module, or one expert's share of a fused parameter."""

    name: str
    expert: int
    A: NDArray[np.float32]  # (rank, in_features)
    B: NDArray[np.float32]  # (out_features, rank)


def is_experts(module: object) -> bool:
    """Whether a module is fused experts that go through transformers' interface (`use_experts_implementation`), which
    says all there is to know of how they compute.
    """
    return all(hasattr(module, name) for name in ("_apply_gate", "has_gate", "is_transposed", READ_LAST))


def expert_names(model: nn.Module) -> list[str]:
    """Return the names that the base model's experts have here, `MODULE.EXPERT.PARAMETER`, adapted or not."""
    return [
        f"{name}.{expert}.{parameter}"
        for name, module in model.named_modules()
        if is_experts(module)
        for parameter, weight in module.named_parameters(recurse=False)
        if parameter in (*READ_FIRST, READ_LAST)
        for expert in range(len(weight))
    ]


def parameter_name(path: str, parameter: str) -> str:
    """Return the full name of a parameter that PEFT wrapped at `path`, or of its module if it is that one's weight."""
    owner = owner_path(path)
    return owner if parameter == "weight" else f"{owner}.{parameter}"


def owner_path(path: str) -> str:
    """Return where the base model has a module whose wrappers PEFT nested into each other."""
    while path.endswith(".base_layer"):
        path = path.removesuffix(".base_layer")
    return path


def parameter_obstacle(wrapper: Any) -> str:
    """Why PEFT's wrapper of a parameter has no plain A x that could be recorded; empty if it has one."""
    owner, name = wrapper.get_base_layer(), wrapper.parameter_name
    kind = type(owner).__name__
    if wrapper.get_param().ndim == 3:  # (experts, ...)
        if not is_experts(owner):
            return f"{kind} does not run its experts through transformers' interface, so what they see cannot be told"
        known = (READ_FIRST[0] if owner.has_gate else READ_FIRST[1], READ_LAST)
        return "" if name in known else f"loradash records {' and '.join(known)} of experts, whose x is known"
    if name != "weight" or not _is_plain_linear(owner):
        return f"{kind} does more with {name} than one product with its input, so there is no plain A x"
    return ""


def _is_plain_linear(module: nn.Module) -> bool:
    """Whether a module's weight is multiplied with the module's input, once, and used for nothing else.

    Seen by running it on tensors that have shapes but no memory.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    weight: Any = module.weight
    x = torch.empty(2, weight.shape[1], dtype=weight.dtype, device=weight.device)
    inputs, weights, uses = [x], [weight], list[bool]()

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            touched = [*args, *(kwargs or {}).values()]
            if func is torch.nn.functional.linear and _among(args[1], weights):
                uses.append(_among(args[0], inputs))
            elif getattr(func, "__name__", "") in SAME_ROWS:
                for family in (inputs, weights):
                    family.extend([result] if _among(args[0], family) else [])
            elif isinstance(result, torch.Tensor) and any(_among(each, weights) for each in touched):
                uses.append(False)
            return result

    try:
        with torch.no_grad(), Watch():
            module(x)
    except Exception:  # it wants more than its input, or values
        return False
    return uses == [True]


def _among(tensor: object, tensors: list[Any]) -> bool:
    return any(tensor is each for each in tensors)


def expert_parts(path: str, wrapper: Any, A: Tensor, B: Tensor) -> Iterator[Part]:
    """Take a wrapped expert parameter apart: A (experts * rank, in), B (out, rank * experts)."""
    experts = wrapper.num_experts
    each_A = A.reshape(experts, -1, A.shape[1]).numpy()  # (experts, rank, in)
    each_B = B.reshape(B.shape[0], -1, experts).permute(2, 0, 1).contiguous().numpy()  # (experts, out, rank)
    for expert in range(experts):
        yield Part(f"{owner_path(path)}.{expert}.{wrapper.parameter_name}", expert, each_A[expert], each_B[expert])


def place(name: str, expert: int) -> tuple[bool, str, int, bool]:
    """Sort modules of a layer by this: those that see every token as they come, then expert by expert."""
    if expert == NO_EXPERT:
        return False, "", NO_EXPERT, False
    owner, parameter = experts_of(name)
    return True, owner, expert, parameter == READ_LAST


def experts_of(name: str) -> tuple[str, str]:
    """Split an expert's module name: the module that holds the experts, and the parameter."""
    owner, _, parameter = name.rsplit(".", 2)
    return owner, parameter


def blocks(features: pa.Table) -> list[Block]:
    """Return the blocks of a layer's rows of the FEATURES schema: what sees every token, then each expert."""
    rows = zip(features.column("module").to_pylist(), features.column("expert").to_pylist(), strict=True)
    found: list[Block] = []
    start = 0
    for (_, expert), group in groupby(rows, key=lambda row: (row[1] != NO_EXPERT and experts_of(row[0])[0], row[1])):
        stop = start + sum(1 for _ in group)
        found.append(Block(slice(start, stop), routed=expert != NO_EXPERT))
        start = stop
    return found


def experts_per_token(config: Any) -> int | None:
    """Return how many experts every token is sent to, or None where the configuration does not fix that."""
    text = config.get_text_config()
    if text.model_type in MAY_CHOOSE_NO_EXPERT:
        return None
    number = getattr(text, "num_experts_per_tok", None)
    return number if isinstance(number, int) else None
