"""Whether the recording is what the plain model says: PEFT's own forward pass over a few tokens, beside what is stored.

The plain pass runs before anything is folded, fused or hooked, on whole rows without padding or shared prefixes, and
takes A x from PEFT's own modules. What it gives is compared with the finished files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loradash_assets.compute.features import ADAPTER_NAME

if TYPE_CHECKING:
    import torch

    from loradash_assets.compute.pasts import Tokens

ROWS, TOKENS = 3, 16  # examples that are looked at, and their first tokens
TOLERANCE = {"bfloat16": 0.3, "float16": 0.1}  # of one activation, beside its size and its feature's usual one
TOLERANCE_WIDER = 0.01


@dataclass(frozen=True)
class Sample:
    """The first `tokens` of some examples."""

    examples: list[int]
    tokens: int

    @staticmethod
    def of(token_ids: Sequence[Tokens]) -> Sample:
        """Choose among a dataset's examples, from the first to the last; those with fewer tokens only if all are."""
        lengths = np.array([len(ids) for ids in token_ids], np.int64)
        usual = min(TOKENS, int(lengths.max(initial=0)))
        long_enough = np.flatnonzero((lengths >= usual) & (lengths > 0))
        places = np.unique(np.linspace(0, max(0, long_enough.size - 1), ROWS).astype(np.int64))[: long_enough.size]
        return Sample(long_enough[places].tolist(), usual)

    def rows(self, token_ids: Sequence[Tokens]) -> list[Tokens]:
        """Return their tokens, each (tokens,)."""
        return [token_ids[example][: self.tokens] for example in self.examples]


@dataclass(frozen=True)
class Plain:
    """What the plain model says of a sample: A x, (features that see every token, rows * seq), in PEFT's precision.

    `change` is by how much the adapter changes the last states, ‖adapted - base‖ / ‖base‖; None if all are 0, or not
    finite.
    """

    activations: NDArray[np.float32]
    change: float | None

    def to_bytes(self) -> bytes:
        """Return it as the bytes of a file."""
        file = BytesIO()
        np.savez(file, activations=self.activations, change=np.nan if self.change is None else self.change)
        return file.getvalue()

    @staticmethod
    def of_bytes(content: bytes) -> Plain:
        """The inverse of `to_bytes`."""
        with np.load(BytesIO(content)) as arrays:
            change = float(arrays["change"])
            return Plain(arrays["activations"], None if np.isnan(change) else change)


def plain_pass(layers: Mapping[str, Any], run: Callable[[], torch.Tensor], base: torch.Tensor) -> Plain:
    """Have `run` run the adapted model on a sample; `layers` are PEFT's, by module, `base` the base model's states."""
    found: dict[str, NDArray[np.float32]] = {}
    hooks = [layer.register_forward_pre_hook(partial(_read, found, name)) for name, layer in layers.items()]
    adapted = run()
    for hook in hooks:
        hook.remove()
    columns = max((values.shape[1] for values in found.values()), default=0)
    parts = [np.empty((0, columns), np.float32), *(found[name] for name in layers if name in found)]
    # an embedding of positions is the same for each row
    stacked = np.concatenate([np.tile(part, columns // max(1, part.shape[1])) for part in parts])
    return Plain(stacked, _change(base.float().cpu(), adapted.float().cpu()))


def _change(base: torch.Tensor, adapted: torch.Tensor) -> float | None:
    both = base.isfinite() & adapted.isfinite()
    norm = float(base[both].norm())
    return float((adapted[both] - base[both]).norm()) / norm if norm else None


def _read(found: dict[str, NDArray[np.float32]], name: str, layer: Any, args: tuple[torch.Tensor, ...]) -> None:
    x = args[0]
    if ADAPTER_NAME in layer.lora_embedding_A:
        values = layer.lora_embedding_A[ADAPTER_NAME][:, x.flatten()]  # (rank, tokens)
    else:
        A = layer.lora_A[ADAPTER_NAME]
        values = A(x.reshape(-1, x.shape[-1]).to(A.weight.dtype)).T
    found[name] = values.float().cpu().numpy()


def share_beyond(recorded: NDArray[np.float32], plain: NDArray[np.float32], dtype: str) -> tuple[float, float]:
    """Return which share of the activations (features, tokens) is further off than rounding in `dtype` explains.

    And how far off the worst is, beside its own size and its feature's median one.
    """
    if plain.size == 0:
        return 0.0, 0.0
    size = np.abs(plain)
    scale = size + np.median(size, axis=1, keepdims=True)
    finite = np.isfinite(recorded), np.isfinite(plain)
    both = finite[0] & finite[1] & (scale > 0)
    off = np.abs(recorded.astype(np.float64) - plain)[both] / scale[both]
    wrong = np.count_nonzero(off > TOLERANCE.get(dtype, TOLERANCE_WIDER))
    if dtype != "float16":  # where that overflows, and in which of two sums first, is rounding too
        wrong += np.count_nonzero(finite[0] != finite[1])
    return wrong / plain.size, float(off.max(initial=0.0))
