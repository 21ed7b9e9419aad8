"""Timing two things in turns: this and other machines are noisy, so only ratios of neighbours in time mean anything."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAIRS = 7
LIBRARIES = ("torch", "transformers", "peft", "numpy", "pyarrow", "dagster")


@dataclass(frozen=True)
class Pairs:
    """Seconds of the measured thing and of its baseline, side by side: both (pairs,)."""

    measured: Sequence[float]
    baseline: Sequence[float]

    @property
    def ratio(self) -> float:
        """The median of the pairs' ratios."""
        return statistics.median(self.ratios)

    @property
    def ratios(self) -> list[float]:
        """Measured / baseline, pair by pair."""
        return [a / b for a, b in zip(self.measured, self.baseline, strict=True)]

    def figures(self) -> dict[str, Any]:
        """Return what a result file says of it."""
        low, high = min(self.ratios), max(self.ratios)
        return {
            "ratio": round(self.ratio, 4),
            "ratios_from_to": [round(low, 4), round(high, 4)],
            "pairs": len(self.ratios),
            "median_seconds": round(statistics.median(self.measured), 4),
            "median_seconds_baseline": round(statistics.median(self.baseline), 4),
        }


def in_turns(measured: Callable[[], object], baseline: Callable[[], object], pairs: int = PAIRS) -> Pairs:
    """Run both once to warm up, then in turns; who is first changes from pair to pair."""
    return Pairs(*seconds_in_turns([measured, baseline], pairs))


def seconds_in_turns(runs: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Run each once to warm up, then in turns; who is first changes from round to round. (runs, rounds)."""
    for run in runs:
        run()
    seconds: list[list[float]] = [[] for _ in runs]
    for first in range(rounds):
        for turn in range(len(runs)):
            which = (first + turn) % len(runs)
            seconds[which].append(_seconds(runs[which]))
    return seconds


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def machine() -> dict[str, Any]:
    """Say where figures come from: processor, cores, memory, system and the versions of the libraries."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": {name: found for name in LIBRARIES if (found := _version(name))},
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor()
    names = (
        line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
    )
    return next(names, platform.processor())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def write_result(name: str, figures: Mapping[str, Any]) -> Path:
    """Write `benchmarks/results/NAME.json`: the figures, the day and the machine; return the file."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.json"
    result = {"day": time.strftime("%Y-%m-%d"), **figures, "machine": machine()}
    file.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return file
