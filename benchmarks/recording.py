"""Recording every feature of the demo adapter, to disk, beside the bare backbone's forward pass over the same batches.

    python -m benchmarks.recording [--examples 20] [--pairs 21]

Prefix sharing is off: both run the very same batches, in turns, in this process, which keeps freed memory as recording
does (`compute/allocator.py`): the bare pass gains by it too. Measured where the adapter is folded into a float32 copy
of the weights; where that is not allowed, in float32; and in bfloat16, which never folds. The bare pass has the usual
attention mask, which says where there is padding. Recording does without where a model allows it, as this one does, so
the bare pass without one takes its turns, too. Before anything is timed, what is recorded of some examples is held to
exactness (b) of docs/semantics.md. The file says too how much padding there is in the batches of the demo's dataset,
in either of its formats.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks import reference
from benchmarks.bare import BareForward
from benchmarks.demo import Demo
from benchmarks.timing import Pairs, seconds_in_turns, write_result
from loradash_assets.compute import forward
from loradash_assets.compute.allocator import freed_memory_kept
from loradash_assets.compute.batching import plan_recording
from loradash_assets.compute.catalogue import read_modules, write_catalogue
from loradash_assets.compute.features import AdaptedModule
from loradash_assets.compute.forward import AdaptedModel
from loradash_assets.compute.model import load_model
from loradash_assets.compute.prompts import PromptFormat
from loradash_assets.compute.recording import LayerActivations, RecordingPlan, record

EXAMPLES = 20  # they fill two batches, as those of a large dataset are filled
PAIRS = 21  # of short runs, near in time: the ratios to tell apart are a few percent
ALL_ROWS = 240  # of the demo's dataset
CHECKED = 4  # examples
TIMES_PEFT = 2.0  # exactness (b)
LAST_BIT = 5e-7  # of a feature's RMS: PEFT's error counts as this much where it is smaller


@dataclass(frozen=True)
class Case:
    """How the model is run."""

    dtype: str
    folds: bool
    target: float


CASES = {
    "float32, folded": Case("float32", folds=True, target=1.03),
    "float32, not folded": Case("float32", folds=False, target=1.10),
    "bfloat16": Case("bfloat16", folds=True, target=1.10),
}


class Bench:
    """The demo's model and adapter in one of the cases, and what to record, with or without sharing prefixes."""

    def __init__(
        self, case: Case, demo: Demo, examples: Sequence[np.ndarray], directory: Path, *, share: bool = False
    ) -> None:
        self._directory = directory
        self._adapter = demo.adapter
        self._base = _in_dtype(demo.model, case.dtype, directory / "base")
        self._examples = examples
        write_catalogue(demo.adapter, self._base, directory, allow_pickle=False, trust_remote_code=False, rank=None)
        self._modules = read_modules(directory)
        base: Any = load_model(self._base, dtype="auto", device=torch.device("cpu"), trust_remote_code=False)
        with nullcontext() if case.folds else patch.object(forward, "fold", lambda *_, **__: False):
            model = AdaptedModel(base, demo.adapter, self._modules)
        assert (model.folded > 0) == (case.folds and case.dtype == "float32")
        assert model.problem_with_pasts(examples) is None  # so a recording has no masks
        self._forward = partial(model.record, masked=False)
        recording = demo.settings.recording
        plain, self.plan = (
            plan_recording(examples, recording.batch_tokens, recording.chunk_tokens, share=shared)
            for shared in (False, share)
        )
        self._plan = RecordingPlan.of(examples, self.plan, self._modules)
        self._numbers = count()
        self.folded = model.folded
        self.bare = BareForward(base, examples, plain)
        self.bare_without_mask = BareForward(base, examples, plain, masked=False)

    def record(self) -> Path:
        """Record everything, into a directory of its own."""
        target = self._directory / f"recorded-{next(self._numbers)}"
        target.mkdir()
        assert record(self._plan, self._forward, target, lambda _: None) == sum(map(len, self._examples))
        return target

    def check(self) -> dict[str, float]:
        """Hold some of what is recorded to (b), feature by feature; return the worst error. Raises AssertionError."""
        few = range(0, len(self._examples), -(-len(self._examples) // CHECKED))
        recorded = self._values(self.record(), few)
        ids = [self._examples[example].tolist() for example in few]
        exact, own = (
            _activations(self._modules, self._base, self._adapter, ids, float64=wide) for wide in (True, False)
        )
        error, peft, scale = (_root_mean_square(values) for values in (recorded - exact, own - exact, exact))
        times = error / np.maximum(peft, LAST_BIT * scale)
        assert (times <= TIMES_PEFT).all(), times.max()
        return {"error_of_worst_feature": round(float(times.max()), 2)}

    def _values(self, directory: Path, examples: Iterable[int]) -> np.ndarray:
        """(features, tokens), of the tokens of some examples, in order."""
        offsets = self._plan.offsets
        wanted = np.concatenate([np.arange(*offsets[example : example + 2]) for example in examples])
        layers: list[np.ndarray] = []
        for layer in self._plan.layers:
            chunks = [chunk for (chunk,) in LayerActivations(directory, layer, []).chunks()]
            numbers, values = (np.concatenate(parts, axis=-1) for parts in zip(*chunks, strict=True))
            layers.append(values[:, np.argsort(numbers)[wanted]])
        return np.concatenate(layers)


def _root_mean_square(values: np.ndarray) -> np.ndarray:
    """(features, tokens) -> (features,)."""
    return np.sqrt(np.mean(values**2, axis=1))


def _in_dtype(model: Path, dtype: str, target: Path) -> Path:
    loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
    loaded.save_pretrained(target)
    AutoTokenizer.from_pretrained(model).save_pretrained(target)
    return target


def _activations(
    modules: Sequence[AdaptedModule], base: Path, adapter: Path, ids: Sequence[Sequence[int]], *, float64: bool
) -> np.ndarray:
    """(features, tokens) by PEFT alone."""
    found = reference.activations(reference.load_adapted(base, adapter, float64=float64), adapter, ids, float64=float64)
    return np.concatenate([found[module.name].values.T for module in modules])


def measure(case: Case, demo: Demo, examples: Sequence[np.ndarray], pairs: int) -> dict[str, Any]:
    """Return one case's figures."""
    with TemporaryDirectory() as directory, freed_memory_kept():
        bench = Bench(case, demo, examples, Path(directory))
        checked = bench.check()
        recorded, bare, without_mask = seconds_in_turns([bench.record, bench.bare, bench.bare_without_mask], pairs)
        return {
            "target": case.target,
            "folded_modules": bench.folded,
            **Pairs(recorded, bare).figures(),
            "beside_bare_without_mask": round(Pairs(recorded, without_mask).ratio, 4),
            **checked,
        }


def paddings(demo: Demo, prompt_format: PromptFormat) -> dict[str, float]:
    """Return the share of padding among the tokens that run, of as many rows of the demo's dataset."""
    examples, found = demo.token_ids(ALL_ROWS, prompt_format), dict[str, float]()
    for rows in (demo.settings.dataset.num_examples, len(examples)):
        for share in (True, False):
            tokens = demo.settings.recording.batch_tokens
            plan = plan_recording(examples[:rows], tokens, demo.settings.recording.chunk_tokens, share=share)
            found[f"{rows} rows{'' if share else ', prefixes not shared'}"] = round(plan.padding, 4)
    return found


def main() -> None:
    """Measure, print and write `benchmarks/results/recording.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="rows of the demo's dataset, of middling length")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--case", action="append", choices=list(CASES), help="only these, and write nothing")
    options = parser.parse_args()
    demo = Demo.prepare()
    by_length = sorted(demo.token_ids(ALL_ROWS), key=len)
    first = (len(by_length) - options.examples) // 2
    examples = by_length[first : first + options.examples]
    cases: dict[str, Any] = {}
    for name in options.case or CASES:
        cases[name] = measure(CASES[name], demo, examples, options.pairs)
        print(name, cases[name], flush=True)
    if not options.case:
        figures = {
            "what": "recording all features to disk / the bare backbone's forward over the same batches",
            "examples": len(examples),
            "tokens": sum(map(len, examples)),
            "cases": cases,
            "padding": {name: paddings(demo, name) for name in ("deepseek", "chat")},
        }
        print(write_result("recording", figures))


if __name__ == "__main__":
    main()
