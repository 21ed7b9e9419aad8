"""nnsight: one trace per batch that reads every module's input and stops before the head; torch.topk on what it saved.

As its documentation asks: everything in one trace, the block at the same place each time, `tracer.stop()` where the
rest of the model is not needed. Examples go in as lists of token ids; nnsight pads them on the left itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nnsight  # pyright: ignore[reportMissingImports] (this method's own environment has it)
import numpy as np
import torch

from benchmarks.rivals.adapted import Best, batches, directions, feature_names, token_numbers
from benchmarks.rivals.contract import Job, Record, Top, run


def load(job: Job) -> Record:
    """Load the model with its adapter by nnsight."""
    model: Any = nnsight.TransformersModel(
        str(job.model), task="text-generation", peft=str(job.adapter), dtype=torch.float32, dispatch=True
    )
    found = directions(job)
    ran = [name for name, _ in model._module.named_modules() if name in found]  # a trace reads in forward order
    read = {name: found[name] for name in ran}
    layers = [(model.get(name), A) for name, A in read.items()]

    @torch.inference_mode()
    def record(token_ids: Sequence[np.ndarray], directory: Path) -> Top:
        del directory  # nothing but the result is kept
        names = feature_names(read)
        best = Best(len(names), job.k)
        for batch in batches(token_ids):
            examples = [token_ids[example].tolist() for example in batch]
            with model.trace(examples) as tracer:
                products = nnsight.save([layer.input @ A.T for layer, A in layers])  # (batch, seq, rank) each
                tracer.stop()
            activations = torch.cat([*products], dim=-1)  # (batch, seq, features)
            kept = [activations[row, -len(ids) :] for row, ids in enumerate(examples)]
            best.update(torch.cat(kept).T, token_numbers(token_ids, batch))
        return best.top(names)

    return record


if __name__ == "__main__":
    run(load, ["nnsight"])
