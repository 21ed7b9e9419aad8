"""docs/coverage.md from the measured cells: how it was measured, the table, and every code in full."""

from __future__ import annotations

import re
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec

from benchmarks.architectures import ARCHITECTURES
from benchmarks.cells import BATCH_TOKENS, FLOOR, FROM_SAME_X, LENGTHS, TIMES_PEFT, Cell
from benchmarks.variants import VARIANTS, WEAK

RANKS = (1, 4)
LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")
LETTERS = {"refused": "R", "peft": "P", "none": "N", "crash": "C"}
TITLES = {
    "R": "Refused by loradash, before or instead of recording",
    "U": "Recorded except for modules that loradash lists with its reason",
    "P": "PEFT, transformers or bitsandbytes cannot make or run it",
    "C": "**Failures**: neither a figure nor a refusal in words",
    "N": "Not measured",
}

Cells = dict[tuple[str, str, int], Cell]


class Legend:
    """Short codes for reasons, numbered as they come."""

    def __init__(self) -> None:
        self.codes: dict[tuple[str, str], str] = {}
        self.where: dict[str, list[str]] = {}

    def code(self, letter: str, reason: str, where: str) -> str:
        """Return the reason's code; `where` is added to the places that it stands for."""
        number = sum(known == letter for known, _ in self.codes) + 1
        code = self.codes.setdefault((letter, reason), f"{letter}{number}")
        places = self.where.setdefault(code, [])
        if where not in places:
            places.append(where)
        return code

    def lines(self) -> list[str]:
        """Return the legend, grouped by who says it."""
        lines: list[str] = []
        for letter, title in TITLES.items():
            entries = [(reason, code) for (known, reason), code in self.codes.items() if known == letter]
            if entries:
                lines += ["", f"{title}:", ""]
            lines += [f"- {code}: {_escaped(reason)} ({', '.join(self.where[code])})" for reason, code in entries]
        return lines


def _wrapped(text: str) -> str:
    """Fill paragraphs and list items to the width of the other documents."""
    return "\n\n".join(
        "\n".join(
            textwrap.fill(" ".join(item.split()), 120, subsequent_indent="  " * item.startswith("- "))
            for item in re.split(r"\n(?=- )", block)
        )
        for block in text.split("\n\n")
    )


def _escaped(reason: str) -> str:
    return reason.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def _number(value: float) -> str:
    """The number in a few characters, without a place to break the line."""
    text = f"{value:.2f}" if 0.01 <= value < 100 else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e+")
    return text.replace("-", "\u2011")


def cell_text(cell: Cell, architecture: str, legend: Legend) -> str:
    """Return one rank's entry: both figures, or a code; bold where it is a failure."""
    if cell.kind != "measured":
        text = legend.code(LETTERS[cell.kind], cell.reason, architecture)
    else:
        same_x = "?" if cell.same_x is None else _number(cell.same_x)
        text = f"{same_x}\u00a0·\u00a0{_number(cell.times_peft)}"
        reasons: dict[str, list[str]] = {}
        for module, reason in cell.unrecorded.items():
            reasons.setdefault(reason, []).append(module)
        for reason, modules in reasons.items():
            text += f"\u00a0{legend.code('U', reason, f'{architecture}: {_span(modules)}')}"
    return text if cell.passes else f"**{text}**"


def _span(modules: Sequence[str]) -> str:
    return f"`{modules[0]}`" + (f" and {len(modules) - 1} more" if len(modules) > 1 else "")


def table(cells: Cells, legend: Legend) -> list[str]:
    """Return the table's lines: architectures down, variants across, rank 1 over rank 4."""
    architectures = list(dict.fromkeys(architecture for architecture, _, _ in cells))
    rows = [label.label for label in ARCHITECTURES if label.label in architectures]
    columns = [variant.label for variant in VARIANTS if any(key[1] == variant.label for key in cells)]
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for row in rows:
        texts = [[cell_text(cells[row, column, rank], row, legend) for rank in RANKS] for column in columns]
        lines.append(f"| {row} | {' | '.join('<br>'.join(dict.fromkeys(ranks)) for ranks in texts)} |")
    return lines


def document(cells: Cells, control: Mapping[str, Cell]) -> str:
    """Return docs/coverage.md."""
    legend = Legend()
    rows = table(cells, legend)
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES if find_spec(name))
    lines = [
        "# Coverage: which models and adapters, and how exactly",
        "",
        _wrapped(
            "Made by `benchmarks/coverage.py`; run it again after a change (a few minutes on two cores). "
            f"Measured with {versions}, on CPU."
        ),
        "",
        _wrapped(HOW),
        "",
        *map(_wrapped, _summary(cells, control)),
        "",
        "## The table",
        "",
        *rows,
        "",
        "## Columns",
        "",
        *[f"- **{variant.label}**: {variant.meaning}" for variant in VARIANTS],
        "",
        "## Codes",
        *legend.lines(),
        "",
    ]
    return "\n".join(lines)


HOW = f"""
A cell has a line for rank 1 and one for rank 4 (one line where they are the same), and on it `a · b`:

- **a**: from the same x, the maximum over features and tokens of |recorded − A[j]·x| / (‖x‖·‖A[j]‖), A·x in
  float64. x is what the recording's own forward pass saw, noted by other hooks than loradash's. Criterion: at most
  {_number(FROM_SAME_X)}. What experts see is inside one fused module, where this script cannot note it: a then
  covers the cell's other modules, and `?` says that it has none.
- **b**: the RMS error of the worst feature against float64, divided by the RMS error of PEFT's own forward pass in
  the base's type, one example at a time. An error of PEFT below {_number(FLOOR)} of the feature's RMS counts as that
  much, so in float32 b is usually below 1. Criterion: at most {TIMES_PEFT:g}.

A code instead stands for a refusal or another reason, listed [below](#codes). A cell that fails the criterion, or
that fails without a refusal in words, is **bold**.

**How it is measured.** Every cell has a random base model of two layers and hidden size 64, saved as safetensors,
and a random adapter that PEFT saved, ‖scaling·BA‖ = {WEAK:g} ‖W‖ unless the column says otherwise. {len(LENGTHS)}
examples of {min(LENGTHS)} to {max(LENGTHS)} tokens, in padded batches of at most {BATCH_TOKENS} tokens, go through
`write_catalogue` and `record_activations`, and are read back with `LayerActivations`. The reference loads the same
files with PEFT, widens every stored number to float64 (a quantised weight: what it decodes to) and runs one example
at a time without padding; what the model asks to be in float32 (norms, rotary angles, softmax) is in float64 too;
attention and experts are transformers' eager ones. The A of A·x comes from the adapter's file, and every A in that
file must be recorded or named as unrecorded. Where bfloat16 or a quantised base makes the router choose other
experts, b covers the tokens on which all three passes agree. Where PEFT's own pass through a quantised base is more
than half of a feature's RMS off float64, b would say nothing, and the cell says so (bitsandbytes 0.50.2 on CPU does
that in 4 bits to Jamba: its kernel reads a transposed x as if it were contiguous).
""".strip()

# Found by measuring again with one thing changed at a time.
WHY = {
    "int8 base": " The cause is batching: bitsandbytes keeps those columns of x exact in which any token of the batch "
    "exceeds a threshold, and rounds the others to 8 bits, so a padded batch rounds otherwise than one example does. "
    "With one example per batch b is 1.00 exactly, and so it is with `llm_int8_threshold=0`.",
    "bf16 base": " The cause is the order of rounding: loradash adds an expert's update beside its bfloat16 weight, "
    "PEFT adds it into a copy of that weight and rounds the sum. The errors are of one size (over all features of the "
    "cell the median of their ratio is 1.00) and independent, and an expert sees few tokens to average over. With an "
    "update too small to matter b is 1.05; batches of one example and PEFT's eager experts change nothing.",
}


def _summary(cells: Cells, control: Mapping[str, Cell]) -> list[str]:
    measured = {key: cell for key, cell in cells.items() if cell.kind == "measured"}
    failing = sum(not cell.passes for cell in cells.values())
    counts = {kind: sum(cell.kind == kind for cell in cells.values()) for kind in LETTERS}
    worst = max(measured, key=lambda key: measured[key].times_peft)
    highest = max(cell.same_x or 0.0 for cell in measured.values())
    median = statistics.median(cell.times_peft for cell in measured.values())
    passed = sum(cell.passes for cell in measured.values())
    return [
        f"**Result.** {len(cells)} cells (an architecture, a variant, a rank): {len(measured)} measured, {passed} of "
        f"them within the criterion; {counts['refused']} refused by loradash, {counts['peft']} that PEFT, "
        f"transformers or bitsandbytes cannot make or run, {counts['none']} without anything to measure, "
        f"{counts['crash']} that failed without a refusal. "
        f"{failing} are bold. The highest a is {highest:.0e}; the median b of the cells is {median:.2f}.",
        "",
        f"**The worst cell** is {worst[0]}, {worst[1]}, rank {worst[2]}, b = {measured[worst].times_peft:.2f}: "
        f"{measured[worst].worst}.{WHY.get(worst[1], '')}",
        "",
        "**Controls.** The same cell (Llama, plain, rank 1) measured wrongly on purpose: "
        + "; ".join(f"{name}: {_outcome(cell)}" for name, cell in control.items())
        + ".",
    ]


def _outcome(cell: Cell) -> str:
    figures = f"a = {cell.same_x:.0e}, b = {cell.times_peft:.1f}" if cell.kind == "measured" else cell.reason
    return f"{figures}, {'passes' if cell.passes else 'fails'}"
