"""Rows of a batch that each go on after a past of their own: keys and values of earlier tokens, run once and kept.

Works with any causal model of transformers whose layers keep nothing but keys and values, (batch, heads, seq, d) each,
through `Cache.update`. Pasts are padded on the left and own tokens on the right, so that tokens keep their distances:
sliding windows and ALiBi see what they would see in one piece. Whether a model really gives the same states is found
out by `problem_with_pasts`, never assumed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import DummyLayer, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

Tokens = NDArray[np.integer]

TOLERANCE_IN_BATCH = 1e-3  # relative; rows of one batch go through the same kernels, whatever the dtype
KEYS_AND_VALUES = {DynamicLayer, DynamicSlidingWindowLayer, DummyLayer}  # a dummy's are those of a layer before it


@dataclass(frozen=True)
class States:
    """Keys and values that a forward pass kept, of all its kept tokens: per layer (tokens, heads, d), or None."""

    keys: Sequence[torch.Tensor | None]
    values: Sequence[torch.Tensor | None]


@dataclass(frozen=True)
class Span:
    """Tokens start:stop of kept states."""

    states: States
    start: int
    stop: int


@dataclass(frozen=True)
class Past:
    """What comes before a row's tokens, in order; spans of several forward passes where prefixes are nested."""

    spans: tuple[Span, ...] = ()

    @property
    def length(self) -> int:
        """How many tokens it has."""
        return sum(span.stop - span.start for span in self.spans)


NO_PAST = Past()


@dataclass(frozen=True)
class Forward:
    """A call of the model's body, and after it the pasts of the rows to keep."""

    arguments: dict[str, Any]
    mask: torch.Tensor  # (batch, seq), where real tokens are
    _pasts: Sequence[Past]  # of the rows to keep, without their own tokens
    _lengths: Sequence[int]  # own tokens of the rows to keep

    def kept(self) -> list[Past]:
        """Return, after the call, the pasts that now end with the tokens of the rows to keep, in their order.

        Raises NotImplementedError if the model does not keep keys and values.
        """
        if not self._pasts:
            return []
        states = _states(self.arguments["past_key_values"], sum(self._lengths))
        ends = np.cumsum([0, *self._lengths]).tolist()
        return [
            Past((*past.spans, Span(states, start, stop)))
            for past, (start, stop) in zip(self._pasts, pairwise(ends), strict=True)
        ]


@dataclass(frozen=True)
class Body:
    """What a call of a model's body needs to know of it."""

    device: torch.device
    padding: int  # token id
    takes_positions: bool  # others tell positions by the attention mask
    config: PretrainedConfig

    @staticmethod
    def of(model: PreTrainedModel, padding: int) -> Body:
        """Return what a call of this body needs to know."""
        takes_positions = "position_ids" in inspect.signature(model.forward).parameters
        return Body(model.device, padding, takes_positions, model.config)

    def forward(
        self, rows: Sequence[Tokens], pasts: Sequence[Past] = (), keep: Sequence[int] = (), *, masked: bool = True
    ) -> Forward:
        """Return the call for rows (seq,) of tokens, each after its past, that keeps the states of the rows in `keep`.

        Without pasts and without rows to keep it may be `masked`: the plain call, which knows of no cache. Any other
        has a cache and, unless there are pasts, no attention mask: own tokens' padding comes after them all. Of that
        transformers asks nothing that the host would have to wait for the device to know (whether a mask has padding,
        whether positions are one text's), and PyTorch can take its fastest attention.
        """
        lengths = np.array([len(row) for row in rows])
        mask = np.arange(lengths.max()) < lengths[:, None]  # (batch, seq)
        ids = np.full(mask.shape, self.padding, np.int64)
        ids[mask] = np.concatenate(rows)
        real = self._moved(mask)
        before = [*pasts] or [NO_PAST] * len(rows)
        past_lengths = np.array([past.length for past in before])
        arguments: dict[str, Any] = {"input_ids": self._moved(ids), "return_dict": True}
        if masked and not (past_lengths.any() or keep):
            return Forward({**arguments, "attention_mask": real.long(), "use_cache": False}, real, (), ())
        longest = int(past_lengths.max())
        if longest:
            left = np.arange(longest) >= longest - past_lengths[:, None]  # (batch, longest)
            arguments["attention_mask"] = self._moved(np.concatenate([left, mask], axis=1)).long()
        if self.takes_positions:  # padding's are its row's last: there may be no further ones
            own = np.minimum(np.arange(mask.shape[1]), lengths[:, None] - 1)
            arguments["position_ids"] = self._moved(past_lengths[:, None] + own)
        kept = self._kept_tokens(keep, lengths) if keep else None
        arguments |= {"past_key_values": _cache(before, longest, kept, self._moved), "use_cache": True}
        return Forward(arguments, real, [before[row] for row in keep], lengths[list(keep)].tolist())

    def _moved(self, array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    def _kept_tokens(self, keep: Sequence[int], lengths: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the row and the place in it of every token of the rows to keep."""
        places = np.concatenate([np.arange(lengths[row]) for row in keep])
        return self._moved(np.repeat(keep, lengths[[*keep]])), self._moved(places)


@dataclass(frozen=True)
class _Source:
    """Which tokens of kept states go where in a batch's pasts, (batch * longest,) flat."""

    states: States
    tokens: torch.Tensor
    places: torch.Tensor


class _Layer(DynamicLayer):
    """Gives a layer its rows' pasts when it asks for them, and keeps no more than it must: one layer's at a time.

    `pasts` (tokens, heads, d): pairs of keys and values, with the tokens to take and their places.
    """

    def __init__(
        self,
        longest: int,
        kept: tuple[torch.Tensor, torch.Tensor] | None,
        pasts: Sequence[tuple[torch.Tensor, torch.Tensor, _Source]] = (),
    ) -> None:
        super().__init__()
        self._longest, self._kept, self._pasts = longest, kept, pasts
        self._seen = longest

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.is_initialized:
            raise NotImplementedError("a layer gives its keys twice in one forward pass")
        self.is_initialized = True
        self._seen += key_states.shape[-2]
        if self._kept is not None:
            rows, places = (part.to(key_states.device) for part in self._kept)  # layers can be on several devices
            self.keys, self.values = key_states[rows, :, places], value_states[rows, :, places]  # (tokens, heads, d)
        if not self._longest:
            return key_states, value_states
        keys = self._placed(key_states, [(keys, source) for keys, _, source in self._pasts])
        values = self._placed(value_states, [(values, source) for _, values, source in self._pasts])
        return keys, values

    def _placed(self, own: torch.Tensor, pasts: Sequence[tuple[torch.Tensor, _Source]]) -> torch.Tensor:
        """(batch, heads, seq, d) -> (batch, heads, longest + seq, d)."""
        batch, heads, _, width = own.shape
        before = own.new_zeros(batch * self._longest, heads, width)
        for states, source in pasts:
            tokens, places = source.tokens.to(own.device), source.places.to(own.device)
            before.index_copy_(0, places, states.index_select(0, tokens))
        return torch.cat([before.view(batch, self._longest, heads, width).transpose(1, 2), own], dim=-2)

    def get_seq_length(self) -> int:
        return self._seen


def _cache(
    pasts: Sequence[Past],
    longest: int,
    kept: tuple[torch.Tensor, torch.Tensor] | None,
    moved: Callable[[NDArray[Any]], torch.Tensor],
) -> DynamicCache:
    cache: Any = DynamicCache()
    cache.layer_class_to_replicate = partial(_Layer, longest, kept)  # without pasts nobody knows how many layers
    sources = _sources(pasts, longest, moved)
    if sources:
        cache.layers = [
            _Layer(longest, kept, _of_layer(sources, layer)) for layer in range(len(sources[0].states.keys))
        ]
    return cache


def _sources(pasts: Sequence[Past], longest: int, moved: Callable[[NDArray[Any]], torch.Tensor]) -> list[_Source]:
    states: dict[int, States] = {}
    tokens: dict[int, list[NDArray[np.int64]]] = {}
    places: dict[int, list[NDArray[np.int64]]] = {}
    for row, past in enumerate(pasts):
        place = (row + 1) * longest - past.length
        for span in past.spans:
            key, length = id(span.states), span.stop - span.start
            states[key] = span.states
            tokens.setdefault(key, []).append(np.arange(span.start, span.stop))
            places.setdefault(key, []).append(np.arange(place, place + length))
            place += length
    return [
        _Source(of, moved(np.concatenate(tokens[key])), moved(np.concatenate(places[key])))
        for key, of in states.items()
    ]


def _of_layer(sources: Sequence[_Source], layer: int) -> list[tuple[torch.Tensor, torch.Tensor, _Source]]:
    found = [(source.states.keys[layer], source.states.values[layer], source) for source in sources]
    return [(keys, values, source) for keys, values, source in found if keys is not None and values is not None]


def _states(cache: Any, tokens: int) -> States:
    keys, values = [layer.keys for layer in cache.layers], [layer.values for layer in cache.layers]
    sizes = {part.shape[0] for part in (*keys, *values) if part is not None}
    if sizes != {tokens}:
        raise NotImplementedError("the model keeps no keys and values of its tokens")
    return States(keys, values)


def problem_with_pasts(
    run: Callable[[Forward], torch.Tensor], body: Body, tokens: Tokens, other: Tokens, tolerance: float
) -> str | None:
    """Say why a model cannot run tokens after a past, or None if it can: its states are the same up to rounding.

    Then they depend on the tokens up to their own and nothing else; and the model can do without a mask, too: no call
    but that of the one piece is masked here.

    `run` makes the call and returns the states, (batch, seq, hidden). `tokens` (n,), n > 4, are run in one piece and
    in three, alone and beside rows whose past is longer, shorter or none; `other` (n,) is the same in its first half
    and goes on differently. `tolerance` is relative, token by token. Windows that are longer than the probe are not
    probed: there a model relies on transformers' masks.
    """
    try:
        if others := {type(layer) for layer in DynamicCache(config=body.config).layers} - KEYS_AND_VALUES:
            return f"it has layers of another kind: {', '.join(sorted(kind.__name__ for kind in others))}"
        x, y, half = tokens, np.concatenate([tokens[len(tokens) // 4 :], tokens[:1]]), len(tokens) // 2
        whole_x, whole_other, whole_y = run(body.forward([x, other, y]))
        later = _difference(whole_other[:half], whole_x[:half])
        worst = max(_differences(run, body, (x, whole_x), (y, whole_y)))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a model's own code may raise anything when it is handed a cache that it did not make
        return f"{type(error).__name__}: {error}"
    if not later <= TOLERANCE_IN_BATCH:  # NaN is a problem too
        return f"other tokens after them change its states by {later:.1g} of themselves"
    if not worst <= tolerance:
        return f"after a past its states differ by {worst:.1g} of themselves"
    return None


def _differences(
    run: Callable[[Forward], torch.Tensor],
    body: Body,
    one: tuple[Tokens, torch.Tensor],
    other: tuple[Tokens, torch.Tensor],
) -> list[float]:
    """By how much states in pieces differ from those in one piece, of two rows' tokens, given with the latter."""
    (x, whole_x), (y, whole_y) = one, other
    first, second, half = len(x) // 4, 2 * len(x) // 3, len(y) // 2

    def cut(rows: list[Tokens], pasts: list[Past], keep: list[int]) -> tuple[torch.Tensor, list[Past]]:
        forward = body.forward(rows, pasts, keep, masked=False)
        return run(forward), forward.kept()

    heads, (past_x, past_y) = cut([x[:first], y[:half]], [NO_PAST] * 2, [0, 1])
    middles, (nested,) = cut([y, x[first:second], y[half:]], [NO_PAST, past_x, past_y], [1])
    alone, _ = cut([x[second:]], [nested], [])
    return [
        _worst_difference(part[: len(whole)], whole)
        for part, whole in (
            (heads[0], whole_x[:first]),
            (heads[1], whole_y[:half]),
            (middles[0], whole_y[: len(y)]),
            (middles[1], whole_x[first:second]),
            (middles[2], whole_y[half : len(y)]),
            (alone[0], whole_x[second:]),
        )
    ]


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """‖difference‖ / ‖states‖ of all tokens together: (tokens, hidden) each."""
    return float((one.float() - other.float()).norm() / other.float().norm())


def _worst_difference(part: torch.Tensor, whole: torch.Tensor) -> float:
    """The largest ‖difference‖ / ‖state‖ of a token: (tokens, hidden) each."""
    part, whole = part.float(), whole.float()
    return float(((part - whole).norm(dim=-1) / whole.norm(dim=-1)).max())
