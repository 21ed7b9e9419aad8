"""loradash beside other ways to the same lists: the same model, adapter, tokens, k and directions, in float32.

    .venv/bin/python -m benchmarks.side_by_side

Makes an environment for each method, loradash too (some GiB, once), checks that every method's lists are the right
ones, and then runs each in turns with loradash, a process each. Writes benchmarks/results/side_by_side.json and prints
the table; about three quarters of an hour on two cores, all else idle. `--method` measures some of them, and writes
nothing.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.demo import CACHE, Demo
from benchmarks.rivals.contract import Job, load_tokens, save_tokens
from benchmarks.rivals.gate import TOLERANCE, check, reference_of
from benchmarks.rivals.page import table
from benchmarks.rivals.processes import ROOT, Method, Run, environment, run_method
from benchmarks.timing import PAIRS, Pairs, write_result
from loradash_assets.compute.adapter_files import weights_file
from loradash_assets.store import file_digest, fingerprint

EXAMPLES = 60
K = 16
PEFT = ("torch", "transformers", "peft", "safetensors", "numpy")
DELPHI_IMPORTS = (  # of what delphi asks for, what its latent cache imports
    "jaxtyping==0.3.11",
    "simple-parsing==0.1.9",
    "faiss-cpu==1.15.1",
    "sentence-transformers==6.2.0",
    "blobfile==3.3.0",
    "orjson==3.13.0",
    "asyncer==0.0.18",
)
OWN = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
LORADASH = Method("loradash_top_k", "loradash, lists alone", OWN)
OTHERS = (
    Method("loradash_tables", "loradash, all tables", OWN),
    Method("plain_hooks", "plain hooks, `torch.topk`", PEFT),
    Method("with_nnsight", "nnsight", (*PEFT, "nnsight==0.8.1")),
    Method("with_delphi", "delphi's latent cache", (*PEFT, *DELPHI_IMPORTS), ("eai-delphi==0.1.3",)),
    Method("original", "the original's method", PEFT),
)


@dataclass(frozen=True)
class Inputs:
    """What every method is given, and what its lists should hold."""

    job: Job
    tokens: Path
    right: Mapping[str, np.ndarray]


@dataclass
class Measured:
    """A method's runs beside loradash's, pair by pair."""

    method: Method
    runs: list[Run] = field(default_factory=list[Run])
    baseline: list[Run] = field(default_factory=list[Run])
    differences: list[float] = field(default_factory=list[float])

    def figures(self) -> dict[str, Any]:
        """Return what the result file says of it; ratios are the method's / loradash's."""
        return {
            "name": self.method.label,
            "recording": Pairs(*([run.seconds for run in runs] for runs in (self.runs, self.baseline))).figures(),
            "process": Pairs(*([run.process_seconds for run in runs] for runs in (self.runs, self.baseline))).figures(),
            **memory_and_disk(self.runs),
            "largest_difference": float(f"{max(self.differences):.1e}"),
            "libraries": dict(self.runs[0].libraries),
        }


def memory_and_disk(runs: Sequence[Run]) -> dict[str, float]:
    """Return the medians of a method's processes, in MiB."""
    return {
        "peak_mib": round(statistics.median(run.peak_mib for run in runs)),
        "disk_mib": round(statistics.median(run.disk_mib for run in runs), 2),
    }


def prepare(cache: Path, examples: int) -> Inputs:
    """Make the demo's model, adapter and tokens ready below `cache`."""
    demo = Demo.prepare(cache)
    job = Job(demo.model, demo.adapter, K)
    token_ids = demo.token_ids(examples)
    adapter = file_digest(weights_file(job.adapter, allow_pickle=False))
    name = fingerprint(job.model.name, adapter, [ids.tolist() for ids in token_ids])[:16]
    inputs = cache / "inputs" / name
    inputs.mkdir(parents=True, exist_ok=True)
    save_tokens(inputs / "tokens.npz", token_ids)
    print(f"{len(token_ids)} examples, {sum(map(len, token_ids))} tokens; what the lists should hold, in float64 ...")
    right = reference_of(inputs / "reference.npz", job, token_ids)
    return Inputs(job, inputs / "tokens.npz", right)


class Bench:
    """Runs methods on the same inputs; every run's lists are checked."""

    def __init__(self, inputs: Inputs, cache: Path) -> None:
        self._inputs = inputs
        self._cache = cache
        self._number = 0
        shutil.rmtree(cache / "runs", ignore_errors=True)  # of one that was stopped

    def run(self, method: Method) -> tuple[Run, float]:
        """Run a method once; return the run and its largest difference. Raises WrongLists or RuntimeError."""
        self._number += 1
        python = environment(method, self._cache / "environments")
        directory = self._cache / "runs" / f"{self._number:03d}-{method.name}"
        run = run_method(method, python, self._inputs.job, self._inputs.tokens, directory)
        difference = check(run.top, self._inputs.right)
        print(
            f"  {method.label}: {run.seconds:.1f} s of {run.process_seconds:.1f} s, {run.peak_mib:.0f} MiB", flush=True
        )
        return run, difference

    def pair(self, measured: Measured, *, loradash_first: bool) -> None:
        """Run loradash and a method, one right after the other."""
        for method in (LORADASH, measured.method) if loradash_first else (measured.method, LORADASH):
            run, difference = self.run(method)
            if method is LORADASH:
                measured.baseline.append(run)
            else:
                measured.runs.append(run)
                measured.differences.append(difference)


def measure(bench: Bench, methods: Sequence[Method], pairs: int) -> list[Measured]:
    """Check every method, then run them in pairs, round by round; who is first changes from round to round."""
    print("checking every method's lists")
    for method in (LORADASH, *methods):
        bench.run(method)
    measured = [Measured(method) for method in methods]
    for number in range(pairs):
        print(f"pair {number + 1} of {pairs}")
        for one in measured:
            bench.pair(one, loradash_first=number % 2 == 0)
    return measured


def figures(inputs: Inputs, measured: Sequence[Measured]) -> dict[str, Any]:
    """Return the result file's content."""
    token_ids = load_tokens(inputs.tokens)
    runs = [run for one in measured for run in one.baseline]
    return {
        "examples": len(token_ids),
        "tokens": sum(map(len, token_ids)),
        "features": len(inputs.right),
        "k": K,
        "tolerance": TOLERANCE,
        "loradash": {
            "name": LORADASH.label,
            "median_seconds": round(statistics.median(run.seconds for run in runs), 4),
            "median_process_seconds": round(statistics.median(run.process_seconds for run in runs), 4),
            **memory_and_disk(runs),
            "libraries": dict(runs[0].libraries),
        },
        "methods": [one.figures() for one in measured],
    }


def main() -> None:
    """Measure, print the table, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE, help="environments, model and runs (default: %(default)s)")
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="rows of the demo's dataset")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--method", action="append", choices=[method.name for method in OTHERS])
    arguments = parser.parse_args()
    cache = arguments.cache.resolve()
    inputs = prepare(cache, arguments.examples)
    methods = [method for method in OTHERS if not arguments.method or method.name in arguments.method]
    result = figures(inputs, measure(Bench(inputs, cache), methods, arguments.pairs))
    print("\n".join(table(result)))
    if not arguments.method:
        print(write_result("side_by_side", result))


if __name__ == "__main__":
    main()
