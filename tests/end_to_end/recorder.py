"""A process that records chunks of a plan on demand: one JSON object per line in, one line out for each."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from loradash_assets.compute import prefix_tree
from loradash_assets.compute.batching import plan_recording
from loradash_assets.compute.catalogue import read_modules
from loradash_assets.compute.forward import AdaptedModel
from loradash_assets.compute.model import load_model
from loradash_assets.compute.recording import RecordingPlan, record
from loradash_assets.compute.token_ids import TokenIds

RUN = 4  # tokens that running a prefix apart must save: examples of these tests are short


def plan_of(directory: Path, prompts: Path, batch_tokens: int, chunk_tokens: int, *, share: bool) -> RecordingPlan:
    """Return the plan for an adapted model that tests/end_to_end/kinds.py made in `directory`."""
    ids = TokenIds.read(prompts).by_example()
    return RecordingPlan.of(ids, plan_recording(ids, batch_tokens, chunk_tokens, share=share), read_modules(directory))


def serve(directory: Path) -> None:
    """Record the chunks that each line on stdin asks for."""
    torch.set_num_threads(1)
    prefix_tree.RUN = RUN
    base = load_model(directory / "base", dtype="auto", device=torch.device("cpu"), trust_remote_code=False)
    model = AdaptedModel(base, directory / "adapter", read_modules(directory))
    for line in sys.stdin:
        job: dict[str, Any] = json.loads(line)
        prompts, target = Path(job["prompts"]), Path(job["target"])
        plan = plan_of(directory, prompts, job["batch_tokens"], job["chunk_tokens"], share=job["share"])
        record(plan, model.record, target, lambda _: None, job["numbers"])
        print("done", flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
