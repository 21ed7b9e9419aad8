"""Which x every LoRA layer saw while loradash recorded, noted by hooks that are not loradash's."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch.nn.modules.module import register_module_forward_pre_hook


class Witness:
    """Notes the inputs of LoRA layers, and which rows of the batch are which examples.

    A row is the longest example that it begins with; the model's probe also runs rows that begin so, but before the
    recording, whose inputs then take their place.
    """

    def __init__(self, examples: Sequence[Sequence[int]]) -> None:
        self._examples = [torch.tensor(list(ids)) for ids in examples]
        self._names: dict[int, str] = {}
        self._rows: list[int | None] = []  # the example in each row of the running batch
        self._shape = (0, 0)
        self._kept: dict[str, dict[int, torch.Tensor]] = {}

    def name(self, model: PeftModel) -> None:
        """Learn the names of a model's layers."""
        base = model.get_base_model()
        self._names = {id(layer): name for name, layer in base.named_modules() if isinstance(layer, LoraLayer)}

    def hook(self, module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        """See one module's call."""
        if not args or not isinstance(args[0], torch.Tensor):
            return
        x = args[0]
        if isinstance(module, torch.nn.Embedding) and not x.is_floating_point() and x.dim() == 2:
            self._begin(x)
        if id(module) in self._names and x.is_floating_point():
            self._keep(self._names[id(module)], x)

    def _begin(self, ids: torch.Tensor) -> None:
        rows = [self._example(row) for row in ids]
        if any(row is not None for row in rows):  # position embeddings are embeddings too
            self._rows, self._shape = rows, (ids.shape[0], ids.shape[1])

    def _example(self, row: torch.Tensor) -> int | None:
        fits = [
            number
            for number, ids in enumerate(self._examples)
            if len(ids) <= len(row) and bool((row[: len(ids)] == ids).all())
        ]
        return max(fits, key=lambda number: len(self._examples[number]), default=None)

    def _keep(self, name: str, x: torch.Tensor) -> None:
        batch, seq = self._shape
        if x.numel() != batch * seq * x.shape[-1]:
            return
        for example, states in zip(self._rows, x.detach().reshape(batch, seq, -1), strict=True):
            if example is not None:
                kept = states[: len(self._examples[example])].clone()
                self._kept.setdefault(name, {})[example] = kept

    def inputs(self) -> dict[str, torch.Tensor]:
        """Return x (tokens, in) of every layer that was seen on all examples."""
        every = range(len(self._examples))
        return {
            name: torch.cat([kept[example] for example in every])
            for name, kept in self._kept.items()
            if len(kept) == len(self._examples)
        }


@contextmanager
def witnessed(examples: Sequence[Sequence[int]]) -> Generator[dict[str, torch.Tensor]]:
    """Fill the mapping, at the end, with the x that every LoRA layer saw in between."""
    witness, seen = Witness(examples), dict[str, torch.Tensor]()
    load = PeftModel.from_pretrained

    def loading(*args: Any, **kwargs: Any) -> PeftModel:
        model = load(*args, **kwargs)
        witness.name(model)
        return model

    handle = register_module_forward_pre_hook(witness.hook)
    PeftModel.from_pretrained = loading  # the one moment when the layers' names are known
    try:
        yield seen
    finally:
        PeftModel.from_pretrained = load
        handle.remove()
        seen.update(witness.inputs())
