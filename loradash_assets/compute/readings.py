"""A x of every feature in one forward pass: a matrix that fills as the adapted modules are called.

Modules that read the very same tensor, such as q, k and v, share one product with the rows of all their A. The product
accumulates in float32 whatever the model's dtype, and goes into its rows of the matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from loradash_assets.compute.errors import AdapterError
from loradash_assets.compute.features import ADAPTER_NAME, AdaptedModule


class Complete(Exception):
    """Every module has been read: the rest of the forward pass has nothing more to tell."""


class Readings:
    """Hooks on the layers of `modules` that see every token, and what they read in the running forward pass.

    `seen`: what each layer read in a pass that was made to find out; those that were not called are missing.
    """

    def __init__(
        self, modules: Sequence[AdaptedModule], layers: Mapping[str, Any], seen: Mapping[str, torch.Tensor]
    ) -> None:
        self._names = [module.name for module in modules]
        self._rows: dict[str, tuple[torch.device, slice]] = {}  # of the matrix on a device: a model can be on several
        self._matrices: dict[torch.device, torch.Tensor] = {}  # (features, batch * seq)
        self._heights: dict[torch.device, int] = {}
        self._inputs: list[SharedInput] = []
        self._called: set[str] = set()
        self._shape = (0, 0)
        self._stops = False
        for group in _same_input(modules, seen):
            self._watch_linear(group, layers)
        for module in modules:
            if ADAPTER_NAME in layers[module.name].lora_embedding_A:
                self._watch_embedding(module, layers[module.name])
        self._order = self._order_of(modules)

    def start(self, batch: int, seq: int, *, stop: bool = False) -> None:
        """Make room for a forward pass over (batch, seq) tokens; one to `stop` raises Complete at the last module."""
        self.forget()
        self._shape = (batch, seq)
        self._stops = stop
        self._matrices = {
            device: torch.empty(height, batch * seq, device=device) for device, height in self._heights.items()
        }

    def forget(self) -> None:
        """Let go of the last forward pass."""
        self._matrices = {}
        self._called.clear()
        for shared in self._inputs:
            shared.forget()

    def of(self, name: str) -> torch.Tensor:
        """Return A x of a module that was called, (rank, batch * seq) float32."""
        device, rows = self._rows[name]
        return self._matrices[device][rows]

    def take(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return A x of all features, (features, tokens) float32, at the places `tokens` among batch * seq.

        Raises AdapterError if a module was not called.
        """
        if missing := [name for name in self._names if name not in self._called]:
            raise AdapterError(
                f"adapter.path: the model never runs {missing[0]} on text, so there is nothing to record of it"
            )
        none = torch.empty(0, self._shape[0] * self._shape[1], device=tokens.device)
        matrix = torch.cat([none, *(part.to(tokens.device, non_blocking=True) for part in self._matrices.values())])
        taken = matrix.index_select(1, tokens)
        return taken if self._order is None else taken[self._order.to(tokens.device)]

    def _watch_linear(self, group: Sequence[AdaptedModule], layers: Mapping[str, Any]) -> None:
        device = _place(layers[group[0].name])
        first = self._heights.get(device, 0)
        shared = SharedInput([torch.from_numpy(module.A).to(device) for module in group])
        self._inputs.append(shared)
        self._heights[device] = first + shared.features
        for module, rows in zip(group, shared.rows, strict=True):
            self._rows[module.name] = device, slice(first + rows.start, first + rows.stop)
            reader = partial(self._read, shared, device, slice(first, first + shared.features), rows)
            self._watch(module.name, layers[module.name], reader)

    def _read(self, shared: SharedInput, device: torch.device, of_group: slice, rows: slice, x: torch.Tensor) -> None:
        shared.read(x, rows, self._matrices[device][of_group])

    def _watch_embedding(self, module: AdaptedModule, layer: Any) -> None:
        device = _place(layer)
        A, first = torch.from_numpy(module.A).to(device), self._heights.get(device, 0)
        self._heights[device] = first + module.rank
        self._rows[module.name] = device, slice(first, first + module.rank)

        def look_up(ids: torch.Tensor) -> None:  # one-hot x: A x is a column of A
            if ids.shape == (1, self._shape[1]):  # positions, the same for each example
                ids = ids.expand(self._shape)
            self.of(module.name).copy_(A[:, ids.flatten()])

        self._watch(module.name, layer, look_up, of_embedding=True)

    def _watch(
        self, name: str, layer: Any, reader: Callable[[torch.Tensor], None], *, of_embedding: bool = False
    ) -> None:
        """Have `reader` see what the layer reads, once in each forward pass."""

        def read(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            batch, seq = self._shape
            # (batch, seq, in), or as the model shapes it (batch * seq, in), (batch, 1, seq, in); an embedding's: no in
            x = args[0]
            rows = tuple(x.shape) if of_embedding else tuple(x.shape[:-1])
            known = {(batch, seq), (batch * seq,), (batch, 1, seq), *([(1, seq)] if of_embedding else [])}
            if rows not in known or name in self._called:
                raise AdapterError(
                    f"adapter.path: {name} sees inputs of shape {tuple(x.shape)} for {batch} x {seq} tokens, or "
                    "more than one of them, so its activations belong to no particular token"
                )
            self._called.add(name)
            reader(x)
            if self._stops and len(self._called) == len(self._names):
                raise Complete

        layer.register_forward_pre_hook(read)

    def _order_of(self, modules: Sequence[AdaptedModule]) -> torch.Tensor | None:
        """Where in the matrices, one below the other, each feature is; None if they are in order."""
        tops, top = dict[torch.device, int](), 0
        for device, height in self._heights.items():
            tops[device], top = top, top + height
        order: list[int] = []
        for module in modules:
            device, rows = self._rows[module.name]
            order += range(tops[device] + rows.start, tops[device] + rows.stop)
        return None if order == list(range(top)) else torch.tensor(order)


class SharedInput:
    """Modules that read the same tensor: one product with the rows of all their A, at the first one's turn.

    A: per module float32 (rank, in).
    """

    def __init__(self, A: Sequence[torch.Tensor]) -> None:
        self._A = torch.cat([*A])  # (features, in)
        stops = torch.tensor([len(each) for each in A]).cumsum(0).tolist()
        self.rows = [slice(stop - len(each), stop) for stop, each in zip(stops, A, strict=True)]
        self.forget()

    @property
    def features(self) -> int:
        """How many rows all A have."""
        return len(self._A)

    def read(self, x: torch.Tensor, rows: slice, into: torch.Tensor) -> None:
        """Fill `into` (features, tokens), or only its `rows` if another x than theirs came before; x (..., in)."""
        if self._readers == 0:
            self._x, self._version = x, x._version
            self._product(slice(None), x, into)
        elif self._x is not x or self._version != x._version:
            self._product(rows, x, into)
        self._readers += 1
        if self._readers == len(self.rows):  # every reader has been here: x can go
            self._x = None

    def _product(self, rows: slice, x: torch.Tensor, into: torch.Tensor) -> None:
        # in this order CPU libraries read x about once, in the other (out=into[rows]) up to twice for few rows of A
        into[rows].copy_(torch.mm(x.reshape(-1, x.shape[-1]).float(), self._A[rows].T).T)

    def forget(self) -> None:
        """Let go of the last input."""
        self._x: torch.Tensor | None = None
        self._version = self._readers = 0


def _same_input(modules: Sequence[AdaptedModule], seen: Mapping[str, torch.Tensor]) -> list[list[AdaptedModule]]:
    """Group linear modules that read the same tensor; those that were not seen to read any are alone."""
    groups: dict[int, list[AdaptedModule]] = {}
    for module in modules:
        x = seen.get(module.name)
        if x is None or x.is_floating_point():  # not the ids that an embedding reads
            groups.setdefault(id(module if x is None else x), []).append(module)
    return list(groups.values())


def _place(layer: Any) -> torch.device:
    """Where a layer's weights are."""
    return next(layer.parameters()).device
