"""The coverage table: every architecture × kind of adapter, measured against float64, or refused in words.

    .venv/bin/python benchmarks/coverage.py

Writes docs/coverage.md in a few minutes on two cores. A cell that fails is shown as failing, and the script ends with
status 1 then. The quantised bases need bitsandbytes; without it their cells say so.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from tqdm import tqdm

from benchmarks.architectures import ARCHITECTURES, Architecture
from benchmarks.cells import Cell, Spoil, measure
from benchmarks.report import RANKS, Cells, document
from benchmarks.variants import VARIANTS, Variant

DOCUMENT = Path(__file__).parents[1] / "docs" / "coverage.md"


def measure_all(architectures: Sequence[Architecture], variants: Sequence[Variant], workers: int) -> Cells:
    """Measure every cell, in `workers` processes; a process that cannot finish a cell makes that cell a failure."""
    cells: Cells = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context) as pool:
        jobs = {
            pool.submit(measure, architecture, variant, rank): (architecture.label, variant.label, rank)
            for architecture in architectures
            for variant in variants
            for rank in RANKS
        }
        for job in tqdm(as_completed(jobs), total=len(jobs), desc="measuring", unit="cell", smoothing=0.05):
            error = job.exception()
            cells[jobs[job]] = Cell("crash", reason=f"{type(error).__name__}: {error}") if error else job.result()
    return cells


def controls() -> dict[str, Cell]:
    """Measure the first cell as it is, and with an error put into what was recorded or into the reference."""
    spoils = {
        "nothing changed": Spoil(),
        "every recorded activation times 1.00002": Spoil(recorded=1.00002),
        "every reference activation times 1.001": Spoil(reference=1.001),
    }
    return {name: measure(ARCHITECTURES[0], VARIANTS[0], 1, spoil) for name, spoil in spoils.items()}


def main() -> int:
    """Measure everything and write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=DOCUMENT)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    cells = measure_all(ARCHITECTURES, VARIANTS, arguments.workers)
    arguments.output.write_text(document(cells, controls()), encoding="utf-8")
    failing = [key for key, cell in cells.items() if not cell.passes]
    for key in failing:
        print("fails:", *key, "|", cells[key].reason or cells[key].worst)
    print(f"{len(cells)} cells, {len(failing)} failing: {arguments.output}")
    return 1 if failing else 0


if __name__ == "__main__":
    sys.exit(main())
