"""The figures of docs/reliability.md.

    python -m benchmarks.reliability [ROW ...]

Measures the rows that are named, or all, and writes what was found into `benchmarks/results/reliability.json`, beside
what is there of the others. All of them take an hour or two.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.reliability import chunks, clients, damage, failing_calls, kills, sequences, tabs
from benchmarks.timing import RESULTS, write_result

NAME = "reliability"
ROWS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "clients": clients.measure,
    "kills": kills.measure,
    "failing_calls": failing_calls.measure,
    "sequences": sequences.measure,
    "tabs": tabs.measure,
    "chunks": chunks.measure,
    "damage": damage.measure,
}


def known() -> dict[str, Any]:
    """Return the figures that are there, by row."""
    file = RESULTS / f"{NAME}.json"
    return json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else {}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], metavar="ROW", help=", ".join(ROWS))
    for name in parser.parse_args().rows or ROWS:
        figures = {"day": time.strftime("%Y-%m-%d"), **ROWS[name]()}
        print(name, json.dumps(figures, indent=1, ensure_ascii=False))
        rows = {**known(), name: figures}
        write_result(NAME, {"rows": {row: rows[row] for row in ROWS if row in rows}})


if __name__ == "__main__":
    main()
