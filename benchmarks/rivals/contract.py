"""What every method of the side-by-side comparison is given, and what it hands back.

A method is a script with one command line, the same for all. It needs numpy and its own libraries, not loradash:

    python -m benchmarks.rivals.NAME --model DIR --adapter DIR --tokens FILE --k 16 --directory DIR
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

TOP_FILE = "top.npz"
REPORT_FILE = "report.json"
NO_TOKEN = -1
BATCH_TOKENS = 2048  # padding included; what a forward pass of a method that batches may hold


@dataclass(frozen=True)
class Job:
    """Where model and adapter are, and how many tokens to keep of each feature and polarity."""

    model: Path
    adapter: Path
    k: int


@dataclass(frozen=True)
class Top:
    """The k highest > 0 and the k lowest < 0 activations of every feature, most extreme first.

    names: MODULE.COMPONENT (features,); values and global token numbers: (features, 2, k), 0 and NO_TOKEN where a
    feature has fewer.
    """

    names: Sequence[str]
    values: np.ndarray
    tokens: np.ndarray

    def save(self, file: Path) -> None:
        """Write a NumPy archive."""
        np.savez(file, names=np.array(self.names), values=self.values, tokens=self.tokens)

    @classmethod
    def load(cls, file: Path) -> Top:
        """Read what `save` wrote."""
        with np.load(file) as arrays:
            return cls(arrays["names"].tolist(), arrays["values"], arrays["tokens"])


Record = Callable[[Sequence[np.ndarray], Path], Top]
"""From token ids per example (seq,) to the top; files that the method works with go into the directory."""


def save_tokens(file: Path, token_ids: Sequence[np.ndarray]) -> None:
    """Write the examples' token ids; a token's number counts over all examples, in order."""
    np.savez(file, ids=np.concatenate([*token_ids]), lengths=[len(ids) for ids in token_ids])


def load_tokens(file: Path) -> list[np.ndarray]:
    """Read what `save_tokens` wrote, (seq,) int64 per example."""
    with np.load(file) as arrays:
        return np.split(arrays["ids"].astype(np.int64), np.cumsum(arrays["lengths"])[:-1])


def run(load: Callable[[Job], Record], libraries: Sequence[str] = ()) -> None:
    """Be the script: load the model, time the recording, report; nothing runs twice, as for a user.

    `libraries` are packages beside torch, transformers and peft whose versions the report names.
    """
    parser = argparse.ArgumentParser()
    for name in ("--model", "--adapter", "--tokens", "--directory"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--k", type=int, required=True)
    arguments = parser.parse_args()
    token_ids = load_tokens(arguments.tokens)
    record = load(Job(arguments.model, arguments.adapter, arguments.k))
    started = time.perf_counter()
    top = record(token_ids, arguments.directory)
    seconds = time.perf_counter() - started
    top.save(arguments.directory / TOP_FILE)
    report = {
        "seconds": seconds,
        "peak_bytes": peak_bytes(),
        "libraries": {name: version(name) for name in ("torch", "transformers", "peft", *libraries)},
    }
    (arguments.directory / REPORT_FILE).write_text(json.dumps(report), encoding="utf-8")


def peak_bytes() -> int:
    """Return the most memory that this process has held.

    What the operating system says of a finished child is no substitute: Linux begins it with what the parent held.
    """
    status = Path("/proc/self/status")
    if not status.exists():  # macOS, where the unit is bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (peak,) = (line.split()[1] for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:"))
    return int(peak) * 1024
