"""Fused experts run one after another, so that each one's x is at hand.

What an expert computes is what transformers' interface for experts says (`integrations/moe.py`: gate, bias, transposed
weights, norm). The adapter's part is added beside the weight, as PEFT does for linear modules. PEFT's own wrapper
adds it into a copy of all experts' weights at every pass, where bfloat16 loses small updates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from loradash_assets.compute.errors import AdapterError
from loradash_assets.compute.experts import READ_FIRST, READ_LAST, experts_of, is_experts
from loradash_assets.compute.features import AdaptedModule
from loradash_assets.compute.routed import Routed


@dataclass(frozen=True)
class _Update:
    """One adapted parameter: scaling * B A for each expert."""

    A: torch.Tensor  # float32 (experts, rank, in)
    B: torch.Tensor  # float32 (experts, out, rank)
    scaling: float


@dataclass
class _Seen:
    """What one forward pass saw, expert by expert."""

    experts: list[torch.Tensor] = field(default_factory=list)  # (tokens of the expert,), its number
    tokens: list[torch.Tensor] = field(default_factory=list)  # (tokens of the expert,), row in the padded batch
    values: list[torch.Tensor] = field(default_factory=list)  # (tokens of the expert, features)


class RoutedExperts:
    """The experts of one module of the adapted model. Raises AdapterError if they cannot be run one by one.

    wrapped: the module as PEFT wrapped it; modules: all its experts' adapted modules, in the order of the features.
    """

    def __init__(self, name: str, wrapped: Any, modules: Sequence[AdaptedModule]) -> None:
        self._name = name
        self._experts: Any = wrapped.get_base_layer()
        self._check()
        device = next(self._experts.parameters()).device
        parameters = {experts_of(module.name)[1] for module in modules}
        self._updates = {
            parameter: _update([module for module in modules if experts_of(module.name)[1] == parameter], device)
            for parameter in parameters
        }
        self._rows = 0  # batch * seq of the running forward pass
        self._seen: _Seen | None = None
        while wrapped is not self._experts:
            if wrapped.parameter_name in parameters:
                wrapped.enable_adapters(False)
            wrapped = wrapped.base_layer
        self._experts.forward = self._forward

    def _check(self) -> None:
        first = READ_FIRST[0] if getattr(self._experts, "has_gate", False) else READ_FIRST[1]
        weights = [getattr(self._experts, parameter, None) for parameter in (first, READ_LAST)]
        plain = all(isinstance(w, torch.Tensor) and w.ndim == 3 and w.dtype.itemsize > 1 for w in weights)
        if not is_experts(self._experts) or not plain or self._experts._is_expert_parallel:
            raise AdapterError(
                f"adapter.path: {self._name} was loaded as {type(self._experts).__name__}, whose experts cannot be run "
                "one by one; load the base model unquantised and on one device"
            )

    def start(self, rows: int) -> None:
        """Forget the last forward pass; `rows` are the tokens of the next one, padding too."""
        self._rows = rows
        self._seen = None

    @property
    def experts(self) -> int:
        """How many experts there are."""
        return next(iter(self._updates.values())).A.shape[0]

    def _forward(self, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor) -> Any:
        """(tokens, hidden), (tokens, k), (tokens, k) -> (tokens, hidden)."""
        rows, experts = len(hidden_states), self.experts
        if hidden_states.ndim != 2 or rows != self._rows or self._seen is not None:
            raise AdapterError(
                f"adapter.path: {self._name} sees inputs of shape {tuple(hidden_states.shape)} for {self._rows} "
                "tokens, or more than one of them, so its activations belong to no particular token"
            )
        seen = self._seen = _Seen()
        index = top_k_index.reshape(rows, -1).clamp(max=experts)  # beyond the last: no expert
        weights = top_k_weights.reshape(rows, -1)
        weights = weights.new_zeros(rows, experts + 1).scatter_add_(1, index, weights)  # (tokens, experts + 1)
        routed = torch.zeros_like(weights, dtype=torch.bool).scatter_(1, index, True)
        output = torch.zeros_like(hidden_states, dtype=torch.promote_types(hidden_states.dtype, torch.float32))
        for expert in routed[:, :experts].any(dim=0).nonzero().flatten().tolist():
            tokens = routed[:, expert].nonzero().flatten()
            states, values = self._run(expert, hidden_states[tokens])
            output.index_add_(0, tokens, (states * weights[tokens, expert, None]).to(output.dtype))
            seen.experts.append(torch.full_like(tokens, expert))
            seen.tokens.append(tokens)
            seen.values.append(values)
        return output.to(hidden_states.dtype)

    def _run(self, expert: int, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One expert on its tokens: (tokens, hidden) -> (tokens, hidden), activations (tokens, features)."""
        module, values = self._experts, list[torch.Tensor]()
        inner = self._linear(READ_FIRST[0] if module.has_gate else READ_FIRST[1], expert, x, values)
        inner = module._apply_gate(inner) if module.has_gate else module.act_fn(inner)
        states = self._linear(READ_LAST, expert, inner, values)
        if module.has_post_expert_norm:
            states = module.post_expert_norm(states)
        return states, torch.cat(values, dim=1)

    def _linear(self, parameter: str, expert: int, x: torch.Tensor, values: list[torch.Tensor]) -> torch.Tensor:
        weight = getattr(self._experts, parameter)[expert]
        bias = getattr(self._experts, f"{parameter}_bias")[expert] if self._experts.has_bias else None
        result = torch.nn.functional.linear(x, weight.T if self._experts.is_transposed else weight, bias)
        if (update := self._updates.get(parameter)) is None:
            return result
        activations = x.float() @ update.A[expert].T  # (tokens, rank)
        values.append(activations)
        return (result + update.scaling * (activations @ update.B[expert].T)).to(result.dtype)

    def recorded(self, mask: torch.Tensor) -> Routed:
        """Return what the last forward pass saw, without padding; `mask` (batch, seq) is true for real tokens.

        Raises AdapterError if the model did not run the experts.
        """
        if self._seen is None:
            raise AdapterError(
                f"adapter.path: the model never runs {self._name} on text, so there is nothing to record of it"
            )
        real = mask.flatten().to(next(self._experts.parameters()).device)
        numbers = real.cumsum(0) - 1  # of a real token among the real ones
        none, features = numbers[:0], sum(update.A.shape[1] for update in self._updates.values())
        tokens = torch.cat([none, *self._seen.tokens])  # (columns,)
        kept = real[tokens]
        experts = torch.cat([none, *self._seen.experts])[kept].cpu().numpy()
        values = torch.cat([torch.empty(0, features, device=real.device), *self._seen.values])  # (columns, features)
        counts = np.bincount(experts, minlength=self.experts)
        return Routed(
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            tokens=numbers[tokens[kept]].cpu().numpy().astype(np.int32),
            values=np.ascontiguousarray(values[kept].T.cpu().numpy()),
        )


def _update(modules: Sequence[AdaptedModule], device: torch.device) -> _Update:
    """From the experts of one parameter, in their order."""
    A, B = (np.stack([getattr(module, side) for module in modules]) for side in "AB")
    return _Update(torch.from_numpy(A).to(device), torch.from_numpy(B).to(device), modules[0].scaling)
