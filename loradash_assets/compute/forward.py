"""The adapted model's forward pass with every adapted module's A x read from its input.

The hook sits on the input of PEFT's LoRA layer, not on `lora_A`: DoRA also calls `lora_A` on an identity matrix, and
the layer's input is x itself (see `readings`). The layer's own output is made from the same product (see
`adapted_linear`).
"""

from __future__ import annotations

import copy
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from peft.tuners.lora import LoraLayer

from loradash_assets.compute.adapted_linear import can_be_fused, dora_write_norms, fold, fuse
from loradash_assets.compute.adapter_config import read_config
from loradash_assets.compute.adapter_files import brought_weights
from loradash_assets.compute.errors import AdapterError, ModelError
from loradash_assets.compute.experts import NO_EXPERT, experts_of
from loradash_assets.compute.features import ADAPTER_NAME, AdaptedModule
from loradash_assets.compute.model import max_positions
from loradash_assets.compute.pasts import (
    NO_PAST,
    TOLERANCE_IN_BATCH,
    Body,
    Forward,
    Past,
    Tokens,
    problem_with_pasts,
)
from loradash_assets.compute.readings import Complete, Readings
from loradash_assets.compute.recheck import Plain, plain_pass
from loradash_assets.compute.routed import Pending, Recorded, joined
from loradash_assets.compute.routing import RoutedExperts

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TRIAL_TOKENS = 16  # their outputs are enough to know a module's mean error within a percent or two
PROBE_TOKENS = 16
PROBE_TOLERANCE = {torch.bfloat16: 5e-2, torch.float16: 1e-2}  # relative; 1e-4 for wider types
OUT_OF_MEMORY = ("MPS backend out of memory", "DefaultCPUAllocator: can't allocate memory", "not enough memory")


class AdaptedModel:
    """A base model with its adapter, ready to record.

    `modules` fixes the order of the features. `base` is left as it is and shares its weights, so that it serves for
    the next adapter; or, as this adapter's `own_base`, it becomes the adapted model, without a second copy of what the
    adapter changes. Where it `folds`, adapters that can be are put into the weights, which takes as long as some
    100,000 tokens save. `plain` is what PEFT's own forward pass says of the rows of `sample`, all of one length, if
    there are any. Raises AdapterError if the adapter cannot be put on the model.
    """

    def __init__(
        self,
        base: PreTrainedModel,
        adapter: Path,
        modules: Sequence[AdaptedModule],
        *,
        own_base: bool = False,
        folds: bool = True,
        sample: Sequence[Tokens] = (),
    ) -> None:
        config = read_config(adapter)
        embedding: Any = base.get_input_embeddings()  # PEFT may wrap it
        self._vocabulary: int = embedding.num_embeddings  # before PEFT wraps them
        copied = base if own_base else _with_shared_weights(base, own=brought_weights(adapter))
        versions = [] if own_base else _versions(base)
        self.device = base.device
        padding = getattr(base.config.get_text_config(), "pad_token_id", None) or 0
        before = _last_states(_without_head(copied, modules), padding, sample) if sample else None
        try:
            self._peft = PeftModel.from_pretrained(
                copied, str(adapter), adapter_name=ADAPTER_NAME, config=config
            ).eval()
        except (ValueError, RuntimeError, KeyError) as error:
            raise AdapterError(f"adapter.path: PEFT cannot put {adapter} on the base model: {error}") from error
        if not own_base and _versions(base) != versions:
            raise AdapterError(
                f"adapter.path: putting {adapter} on the base model changed the base model's own weights, so nothing "
                "after it could be trusted; record it in a project of its own"
            )
        self._positions = max_positions(base.config) or 2 * PROBE_TOKENS
        self._body: Any = _without_head(self._peft.get_base_model(), modules)
        self._call = Body.of(self._body, padding)
        self._too_large = sys.maxsize  # rows times tokens of a batch that did not fit into memory
        self.halved = 0
        dense = [module for module in modules if module.expert == NO_EXPERT]
        found = dict(self._peft.get_base_model().named_modules())
        self._layers: dict[str, Any] = {module.name: found[module.name] for module in dense}
        self._write_norms = dict(_dora_norms(self._layers))
        self._readings = Readings((), {}, {})  # none yet
        routed: dict[str, list[AdaptedModule]] = {}
        for module in modules:
            if module.expert != NO_EXPERT:
                routed.setdefault(experts_of(module.name)[0], []).append(module)
        self._experts = {owner: RoutedExperts(owner, found[owner], of_owner) for owner, of_owner in routed.items()}
        for module in dense:
            _check_loaded(self._layers[module.name], module)
        seen, once, self.plain = self._looked(sample, before)
        self._stops = once and not self._experts
        folded = self._fold(seen, in_place=own_base) if folds else set[str]()
        self.folded = len(folded)
        self._adapt(dense, seen, folded)

    @torch.no_grad()
    def _fold(self, seen: Mapping[str, torch.Tensor], *, in_place: bool) -> set[str]:
        """Fold what can be and return its names; `seen` is what layers read."""
        tied = _tied(self._peft)
        return {
            name
            for name, layer in self._layers.items()
            if name in seen and fold(layer, seen[name], tied, in_place=in_place)
        }

    @torch.no_grad()
    def _adapt(
        self, modules: Sequence[AdaptedModule], seen: Mapping[str, torch.Tensor], folded: Collection[str]
    ) -> None:
        """Have the layers of `modules` recorded, and run in the cheapest way that is exact."""
        self._readings = Readings(modules, self._layers, seen)
        for name, layer in self._layers.items():
            if name not in folded and can_be_fused(layer):
                fuse(layer, partial(self._readings.of, name))

    @torch.no_grad()
    def _looked(
        self, sample: Sequence[Tokens], base: torch.Tensor | None
    ) -> tuple[dict[str, torch.Tensor], bool, Plain | None]:
        """What PEFT's modules read in a pass over a few tokens, those of `sample` if there are any.

        Which of them read the very same tensor can be seen by that. With it whether each of them is called just once,
        and what the pass says of the sample, whose last states in the base model are `base`.
        """
        seen: dict[str, torch.Tensor] = {}
        calls = Counter[str]()

        def look(name: str, _: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            seen[name] = args[0]
            calls[name] += 1

        hooks = [layer.register_forward_pre_hook(partial(look, name)) for name, layer in self._layers.items()]
        tokens = np.linspace(0, self._vocabulary - 1, min(TRIAL_TOKENS, self._positions)).astype(np.int64)
        run = partial(self._run, self._call.forward(sample or [tokens]))
        plain = None
        if base is None:
            run()
        else:
            plain = plain_pass(self._layers, run, base)
        for hook in hooks:
            hook.remove()
        return seen, all(calls[name] == 1 for name in self._layers), plain

    @torch.no_grad()  # not inference mode, whose tensors do not tell whether they were changed
    def record(
        self,
        rows: Sequence[Tokens],
        pasts: Sequence[Past | None] = (),
        keep: Sequence[int] = (),
        *,
        masked: bool = True,
    ) -> Pending:
        """Start recording A x of every feature on every token that it sees, rows one after another.

        The rows (seq,), each after its past, run as one right-padded batch; padding is not in the result. With it come
        the pasts of the rows to keep. A model without a `problem_with_pasts` need not be told by a mask where there is
        padding. Where the device's memory is too small, half of the rows run, then the others.
        Raises ModelError if it is too small for one row.
        """
        before = [past or NO_PAST for past in pasts] or [NO_PAST] * len(rows)
        size = len(rows) * max(past.length + len(row) for past, row in zip(before, rows, strict=True))
        if len(rows) == 1 or size < self._too_large:
            try:
                return self._recorded_batch(rows, before, keep, masked=masked)
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                if len(rows) == 1:
                    raise ModelError(
                        f"dataset.max_tokens: an example of {size} tokens does not fit into the memory of "
                        f"{self.device}: {error}"
                    ) from error
                self._too_large = min(self._too_large, size)
        self._readings.forget()
        self.halved += 1
        half = len(rows) // 2
        first = self.record(rows[:half], before[:half], [row for row in keep if row < half], masked=masked)
        second = self.record(rows[half:], before[half:], [row - half for row in keep if row >= half], masked=masked)
        kept = dict(zip(sorted(keep), [*first.pasts, *second.pasts], strict=True))
        return Pending(lambda: joined([first.result(), second.result()]), [kept[row] for row in keep])

    def _recorded_batch(
        self, rows: Sequence[Tokens], pasts: Sequence[Past], keep: Sequence[int], *, masked: bool
    ) -> Pending:
        forward = self._call.forward(rows, pasts, sorted(keep), masked=masked)
        with suppress(Complete):  # what comes after the last adapted module matters to pasts alone
            self._run(forward, stop=self._stops and not keep)
        lengths = np.array([len(row) for row in rows])
        real = np.flatnonzero(np.arange(lengths.max()) < lengths[:, None])  # on the host: no need to wait for the mask
        routed = {owner: experts.recorded(forward.mask) for owner, experts in self._experts.items()}
        values = _on_host(self._readings.take(torch.from_numpy(real).to(self.device, non_blocking=True)))
        self._readings.forget()
        return Pending(lambda: Recorded(values(), routed), forward.kept())

    def _run(self, forward: Forward, *, stop: bool = False) -> torch.Tensor:
        self._readings.start(forward.mask.shape[0], forward.mask.shape[1], stop=stop)
        for experts in self._experts.values():
            experts.start(forward.mask.numel())
        return self._body(**forward.arguments)[0]  # last hidden states, or logits where the head is adapted

    @torch.no_grad()
    def is_prefix_determined(self, token_ids: Sequence[Tokens]) -> bool:
        """Whether a token's states depend on the tokens up to it and nothing else, up to rounding.

        Runs one prefix alone, and again in a batch of two longer examples that go on differently. Only then may equal
        prefixes be counted as one context. No `problem_with_pasts` says the same.
        """
        tokens, other, length = self._probe(token_ids)
        alone = _finite(self._run(self._call.forward([tokens[:length]]))[0])  # (length, hidden)
        first, second = _finite(self._run(self._call.forward([tokens, other]))[:, :length])
        return bool(
            (alone - first).norm() <= self._tolerance() * alone.norm()
            and (first - second).norm() <= TOLERANCE_IN_BATCH * alone.norm()
        )

    @torch.no_grad()
    def problem_with_pasts(self, token_ids: Sequence[Tokens]) -> str | None:
        """Say why a prefix that examples share cannot be run once for all of them, or None if it can.

        One that can needs no mask either.
        """
        tokens, other, _ = self._probe(token_ids)
        return problem_with_pasts(self._run, self._call, tokens, other, self._tolerance())

    def _probe(self, token_ids: Sequence[Tokens]) -> tuple[Tokens, Tokens, int]:
        """Two rows of tokens, (n,) each, and how many they have in common at the start: half of them."""
        tokens = np.resize(np.concatenate([*token_ids]), min(2 * PROBE_TOKENS, self._positions)).astype(np.int64)
        length = max(1, len(tokens) // 2)
        return tokens, np.concatenate([tokens[:length], (tokens[length:] + 1) % self._vocabulary]), length

    def _tolerance(self) -> float:
        return PROBE_TOLERANCE.get(self._peft.dtype, 1e-4)

    @property
    def dtype(self) -> str:
        """The type that it computes in."""
        return str(self._peft.dtype).removeprefix("torch.")

    def write_norms(self) -> dict[str, list[float]]:
        """Return ‖g ⊙ B[:, component]‖ of every DoRA module; g = m / ‖W + scaling·BA‖ rescales its outputs."""
        return self._write_norms


def _without_head(base: Any, modules: Sequence[AdaptedModule]) -> Any:
    """The model without its head, where no adapted module is in that."""
    body, inside = base.base_model, f"{base.base_model_prefix}."
    return body if body is not base and all(module.name.startswith(inside) for module in modules) else base


@torch.no_grad()
def _last_states(body: Any, padding: int, rows: Sequence[Tokens]) -> torch.Tensor:
    return body(**Body.of(body, padding).forward(rows).arguments)[0]


def _dora_norms(layers: Mapping[str, Any]) -> Iterator[tuple[str, list[float]]]:
    for name, layer in layers.items():
        if isinstance(layer, LoraLayer) and layer.use_dora.get(ADAPTER_NAME):
            yield name, dora_write_norms(layer)


def _tied(model: torch.nn.Module) -> set[int]:
    """The ids of tensors that more than one module uses."""
    uses = Counter(id(tensor) for _, tensor in model.named_parameters(remove_duplicate=False))
    return {tensor for tensor, count in uses.items() if count > 1}


def _with_shared_weights(model: PreTrainedModel, own: Collection[str]) -> PreTrainedModel:
    """Return a copy of the model's modules on the very same tensors: PEFT puts its layers into the copy alone.

    Tensors named in `own` are copied: PEFT loads what the adapter brings for them into them.
    """
    tensors = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    copied = {id(tensor) for name, tensor in tensors if name in own}
    return copy.deepcopy(model, {id(tensor): tensor for _, tensor in tensors if id(tensor) not in copied})


def _versions(model: PreTrainedModel) -> list[int]:
    """Return how often each of the model's tensors has been written in place."""
    return [tensor._version for tensor in (*model.parameters(), *model.buffers())]


def _check_loaded(layer: Any, module: AdaptedModule) -> None:
    for side, of_file in (("A", module.A), ("B", module.B)):
        embedded, linear = getattr(layer, f"lora_embedding_{side}"), getattr(layer, f"lora_{side}")
        loaded = embedded[ADAPTER_NAME] if ADAPTER_NAME in embedded else linear[ADAPTER_NAME].weight
        if not torch.equal(loaded.detach().float().cpu(), torch.from_numpy(of_file)):
            raise AdapterError(
                f"adapter.path: PEFT does not load {side} of {module.name} as the adapter's file has it: two tensors "
                "of the file stand for one weight and differ"
            )


def _on_host(values: torch.Tensor) -> Callable[[], NDArray[np.float32]]:
    """Start copying to the host's memory; what is returned waits for that. On CUDA later work does not."""
    if values.device.type != "cuda":
        return values.cpu().numpy
    copied = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    stream, done = torch.cuda.Stream(values.device), torch.cuda.Event()
    stream.wait_stream(torch.cuda.current_stream(values.device))
    with torch.cuda.stream(stream):
        copied.copy_(values, non_blocking=True)
        done.record(stream)
    values.record_stream(stream)

    def arrived() -> NDArray[np.float32]:
        done.synchronize()
        return copied.numpy()

    return arrived


def _is_out_of_memory(error: RuntimeError) -> bool:
    """MPS and the CPU have no exception of their own for it."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)


def _finite(states: torch.Tensor) -> torch.Tensor:
    """Return the states in float32, those that are not finite as 0: where they are is a question of its own."""
    return states.float().nan_to_num(0.0, 0.0, 0.0)
