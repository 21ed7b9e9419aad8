"""A process that records chunks of a plan on demand: one JSON object per line in, one line out for each."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from loradash_assets.compute.activations import Recording, _plan
from loradash_assets.compute.catalogue import read_modules
from loradash_assets.compute.forward import AdaptedModel
from loradash_assets.compute.model import load_model
from loradash_assets.compute.recording import RecordingPlan, record_chunk


def recording_of(directory: Path, prompts: Path, batch_tokens: int, chunk_tokens: int) -> Recording:
    """Return the settings of a recording of an adapted model that tests/end_to_end/kinds.py made in `directory`."""
    return Recording(
        prompts=prompts,
        catalogue=directory,
        model=directory / "base",
        adapter=directory / "adapter",
        dtype="auto",
        device="cpu",
        trust_remote_code=False,
        batch_tokens=batch_tokens,
        chunk_tokens=chunk_tokens,
    )


def plan_of(recording: Recording) -> RecordingPlan:
    """Return the plan that `record_activations` follows."""
    return _plan(recording, read_modules(recording.catalogue), alone=False)


def serve(directory: Path) -> None:
    """Record the chunks that each line on stdin asks for."""
    torch.set_num_threads(1)
    base = load_model(directory / "base", dtype="auto", device=torch.device("cpu"), trust_remote_code=False)
    model = AdaptedModel(base, directory / "adapter", read_modules(directory))
    for line in sys.stdin:
        job: dict[str, Any] = json.loads(line)
        recording = recording_of(directory, Path(job["prompts"]), job["batch_tokens"], job["chunk_tokens"])
        plan = plan_of(recording)
        for number in job["numbers"]:
            record_chunk(plan, number, model.record, Path(job["target"]), lambda _: None)
        print("done", flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
