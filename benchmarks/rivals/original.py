"""The original's method, written anew: one example per forward pass with logits, hooks on the layer norms, a Python
heap per feature and polarity, all activations kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappush, heapreplace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.rivals.adapted import adapted_model, directions, feature_names
from benchmarks.rivals.contract import NO_TOKEN, Job, Record, Top, run

# What a layer norm hands on is the input of these; of the other modules the input itself is hooked.
AFTER_NORM = {
    **dict.fromkeys(("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "input_layernorm"),
    **dict.fromkeys(("mlp.gate_proj", "mlp.up_proj"), "post_attention_layernorm"),
}

Heap = list[tuple[float, int]]  # (score, token), the lowest score first


def load(job: Job) -> Record:
    """Load the model and hook the norms, and the modules that no norm feeds."""
    model, read = adapted_model(job), directions(job)
    layers, inputs = model.get_base_model(), dict[str, torch.Tensor]()
    sources = {name: _source(name) for name in read}
    for source in dict.fromkeys(sources.values()):
        module = layers.get_submodule(source)
        if source in read:
            module.register_forward_pre_hook(_keep_input(source, inputs))
        else:
            module.register_forward_hook(_keep_output(source, inputs))

    @torch.no_grad()
    def record(token_ids: Sequence[np.ndarray], directory: Path) -> Top:
        del directory  # everything is in memory
        names = feature_names(read)
        heaps: list[tuple[Heap, Heap]] = [([], []) for _ in names]
        activations: list[list[float]] = [[] for _ in names]
        for ids in token_ids:
            model(input_ids=torch.from_numpy(ids)[None])  # logits of every token come with it
            feature = 0
            for name, A in read.items():
                for values in (inputs[sources[name]][0] @ A.T).T.tolist():  # a component's (seq,)
                    _push(heaps[feature], values, len(activations[feature]), job.k)
                    activations[feature] += values
                    feature += 1
        return _top(names, heaps, job.k)

    return record


def _source(name: str) -> str:
    layer, kind, projection = name.rsplit(".", 2)
    norm = AFTER_NORM.get(f"{kind}.{projection}")
    return f"{layer}.{norm}" if norm else name


def _keep_input(source: str, inputs: dict[str, torch.Tensor]) -> Any:
    def hook(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        inputs[source] = args[0]  # (1, seq, in)

    return hook


def _keep_output(source: str, inputs: dict[str, torch.Tensor]) -> Any:
    def hook(_: torch.nn.Module, __: object, output: torch.Tensor) -> None:
        inputs[source] = output  # (1, seq, hidden)

    return hook


def _push(heaps: tuple[Heap, Heap], values: Sequence[float], first: int, k: int) -> None:
    for place, value in enumerate(values):
        if value == 0:
            continue
        heap, score = (heaps[0], value) if value > 0 else (heaps[1], -value)
        if len(heap) < k:
            heappush(heap, (score, first + place))
        elif score > heap[0][0]:
            heapreplace(heap, (score, first + place))


def _top(names: Sequence[str], heaps: Sequence[tuple[Heap, Heap]], k: int) -> Top:
    values = np.zeros((len(names), 2, k), np.float32)
    tokens = np.full((len(names), 2, k), NO_TOKEN, np.int64)
    for feature, sides in enumerate(heaps):
        for side, heap in enumerate(sides):
            for rank, (score, token) in enumerate(sorted(heap, reverse=True)):
                values[feature, side, rank] = -score if side else score
                tokens[feature, side, rank] = token
    return Top(names, values, tokens)


if __name__ == "__main__":
    run(load)
