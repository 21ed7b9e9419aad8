"""delphi's latent cache: A x as the latents of every hookpoint, its files on disk, and torch.topk on what they hold.

Its cache runs rectangles of tokens and knows no padding, so every batch by length is a cache of its own, padded on the
right, where a causal model does not look; what it stored of the padding is left out when its files are read. Its
`save` keeps float32; `save_splits` would round to float16, and then the lists are others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from delphi.latents import LatentCache  # pyright: ignore[reportMissingImports] (this method's environment has it)
from safetensors.torch import load_file

from benchmarks.rivals.adapted import (
    Best,
    adapted_model,
    batches,
    directions,
    feature_names,
    padded,
    token_numbers,
    without_head,
)
from benchmarks.rivals.contract import Job, Record, Top, run


def load(job: Job) -> Record:
    """Load the model; the hookpoints are the adapted modules, with their inputs as what is encoded."""
    logging.getLogger("delphi").setLevel(logging.WARNING)
    model, found = adapted_model(job), directions(job)
    body: Any = without_head(model)
    layers = model.get_base_model()
    names = {id(module): name for name, module in body.named_modules()}
    hookpoints = {names[id(layers.get_submodule(name))]: A for name, A in found.items()}
    encoders: dict[str, Callable[..., torch.Tensor]] = {
        hookpoint: partial(_encode, A) for hookpoint, A in hookpoints.items()
    }

    def record(token_ids: Sequence[np.ndarray], directory: Path) -> Top:
        features = feature_names(found)
        best = Best(len(features), job.k)
        for number, batch in enumerate(batches(token_ids)):
            ids, mask = padded([token_ids[example] for example in batch])
            cache: Any = LatentCache(body, encoders, batch_size=len(batch), transcode=True)
            cache.run(ids.numel(), ids)
            files = directory / f"batch-{number}"
            files.mkdir()
            cache.save(files)
            best.update(_cached(files, hookpoints, mask), token_numbers(token_ids, batch))
        return best.top(features)

    return record


def _encode(A: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return x @ A.T  # (batch, seq, rank)


def _cached(files: Path, hookpoints: Mapping[str, torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
    """Read a cache back: (features, tokens) without the padding; what it holds for no activation at all is 0."""
    parts: list[torch.Tensor] = []
    for hookpoint, A in hookpoints.items():
        stored = load_file(files / f"{hookpoint}.safetensors")
        values = torch.zeros(*mask.shape, len(A))
        row, position, latent = stored["locations"].T
        values[row, position, latent] = stored["activations"]
        parts.append(values[mask].T)
    return torch.cat(parts)


if __name__ == "__main__":
    run(load, ["eai-delphi"])
