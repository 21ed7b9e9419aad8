"""docs/benchmarks.md from the result files that exist.

    .venv/bin/python -m benchmarks.summary

A result file NAME.json is what `benchmarks.timing.write_result` wrote. A section takes it and returns lines of
Markdown; one that has no section here is shown figure by figure.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import sections
from benchmarks.rivals import page
from benchmarks.timing import RESULTS

DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
WIDTH = 120
HOW = (
    "Made by `python -m benchmarks.summary` from `benchmarks/results/`; each section names the command that measures "
    "it again. Machines are noisy: what is compared runs in turns, and a ratio is the median of the pairs' ratios, "
    "with the lowest and the highest beside it. Nothing is timed before its results are checked."
)

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """How a result file is shown: its title, the command that measures it, and its lines of Markdown."""

    title: str
    command: str
    lines: Callable[[Result], list[str]]


SECTIONS = {
    "recording": Section("Recording beside the bare model", "python -m benchmarks.recording", sections.recording),
    "prefixes": Section("Shared prefixes", "python -m benchmarks.prefixes", sections.prefixes),
    "build": Section("A whole build", "python -m benchmarks.build", sections.build),
    "side_by_side": Section("Side by side with other tools", "python -m benchmarks.side_by_side", page.section),
    "tables": Section(
        "Tables from recorded activations",
        "OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m benchmarks.tables",
        sections.tables,
    ),
    "memory": Section("Memory", "python -m benchmarks.memory --tokens 10000000", sections.memory),
    "memory_rank_64": Section(
        "Memory at rank 64",
        "python -m benchmarks.memory --tokens 100000 --layers 32 --rank 64 --without coactivation "
        "--name memory_rank_64",
        sections.memory,
    ),
    "page": Section("The page in a browser", "python -m benchmarks.page", sections.page),
    "next_note": Section("From one note to the next", "python -m benchmarks.next_note", sections.next_note),
    "note_saves": Section("Saving a note", "python -m benchmarks.note_saves", sections.note_saves),
    "cluster": Section("Recording on a Ray cluster", "python -m benchmarks.cluster", sections.cluster),
    "note_latency": Section(
        "From a saved note to the page", "python -m benchmarks.note_latency", sections.note_latency
    ),
    "definitions": Section("Loading the definitions", "python -m benchmarks.definitions", sections.definitions),
    "reliability": Section("Reliability", "python -m benchmarks.reliability", sections.reliability),
    "lost_notes": Section("Notes on the last page", "python -m benchmarks.lost_notes", sections.lost_notes),
    "fuzz": Section("Requests that nobody should send", "python -m benchmarks.fuzz", sections.fuzz),
    "hostile_clients": Section(
        "Clients that mean ill", "python -m benchmarks.hostile_clients", sections.hostile_clients
    ),
}


def figure_by_figure(result: Result) -> list[str]:
    """Return a table of all figures, each by its path in the file."""
    rows = ((path, value) for path, value in _flat(result) if not path.startswith("machine") and path != "day")
    return ["| figure | value |", "|---|--:|", *(f"| {path} | {value} |" for path, value in rows)]


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _flat(part, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list) and any(isinstance(part, dict | list) for part in value):
        for number, part in enumerate(value):
            yield from _flat(part, f"{path}.{number}")
    else:
        yield path, ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def section(name: str, result: Result) -> list[str]:
    """Return a result's section: title, lines, command, machine."""
    known = SECTIONS.get(name) or Section(
        name.replace("_", " ").capitalize(), f"python -m benchmarks.{name}", figure_by_figure
    )
    return [
        f"## {known.title}",
        "",
        *wrapped(known.lines(result)),
        "",
        *wrapped([f"`{known.command}`, {result['day']}, on {machine(result['machine'])}."]),
        "",
    ]


def machine(found: Mapping[str, Any]) -> str:
    """Say in one line where figures come from."""
    libraries = ", ".join(f"{name} {number}" for name, number in found["libraries"].items())
    return (
        f"{found['processor']}, {found['cores']} cores, {found['memory_gib']} GiB, {found['system']}; "
        f"Python {found['python']}, {libraries}"
    )


def wrapped(lines: Sequence[str]) -> list[str]:
    """Fill prose to the width of the other documents; tables, lists and headings stay as they are."""
    return [
        part
        for line in lines
        for part in ([line] if re.match(r"[|#-]|$", line) else textwrap.wrap(line, WIDTH, break_on_hyphens=False))
    ]


def document(results: Path = RESULTS) -> str:
    """Return docs/benchmarks.md: sections in their order here, then results without one."""
    files = {file.stem: file for file in sorted(results.glob("*.json"))}
    names = [name for name in SECTIONS if name in files] + [name for name in files if name not in SECTIONS]
    lines = ["# Benchmarks", "", *wrapped([HOW]), ""]
    for name in names:
        lines += section(name, json.loads(files[name].read_text(encoding="utf-8")))
    return "\n".join(lines)


def main() -> None:
    """Write the document."""
    DOCUMENT.write_text(document(), encoding="utf-8")
    print(DOCUMENT)


if __name__ == "__main__":
    main()
