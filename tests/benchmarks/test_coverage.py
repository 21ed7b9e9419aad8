"""A slice of the coverage table, measured now; controls that must fail; and the document, which must not go stale."""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path

import pytest
import torch

from benchmarks.architectures import ARCHITECTURES, Architecture
from benchmarks.cells import Cell, Spoil, measure
from benchmarks.report import RANKS, document
from benchmarks.variants import VARIANTS

DOCUMENT = Path(__file__).parents[2] / "docs" / "coverage.md"
BY_NAME = {architecture.label: architecture for architecture in ARCHITECTURES}
KINDS = {variant.label: variant for variant in VARIANTS}
LLAMA, PLAIN = BY_NAME["Llama"], KINDS["plain"]


@pytest.fixture(autouse=True)
def threads() -> Generator[None]:
    """A measurement runs on one thread, and says so to torch; other tests get theirs back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("variant", ["DoRA", "bf16 base", "strongest"])
@pytest.mark.parametrize("architecture", ["Gemma 2", "GPT-2", "OPT"])
def test_a_slice_of_the_table_is_within_the_criterion(architecture: str, variant: str) -> None:
    cell = measure(BY_NAME[architecture], KINDS[variant], max(RANKS))
    assert (cell.kind, cell.unrecorded) == ("measured", {}), cell
    assert cell.same_x is not None
    assert 0 < cell.same_x <= 1e-5, cell
    assert 0 < cell.times_peft <= 2, cell


def test_a_wrong_recording_fails_both_figures() -> None:
    cell = measure(LLAMA, PLAIN, 1, Spoil(recorded=1.0001))
    assert cell.kind == "measured"
    assert cell.same_x is not None
    assert cell.same_x > 1e-5, cell
    assert cell.times_peft > 2, cell
    assert not cell.passes


def test_a_wrong_reference_fails_too() -> None:
    cell = measure(LLAMA, PLAIN, 1, Spoil(reference=1.001))
    assert (cell.kind, cell.passes) == ("crash", False)
    assert "off float64" in cell.reason


def test_what_cannot_be_made_says_who_refuses_it() -> None:
    cell = measure(BY_NAME["Falcon-H1"], PLAIN, 1)
    assert (cell.kind, cell.passes) == ("peft", True)
    assert "'out_proj'" in cell.reason
    assert measure(LLAMA, KINDS["experts"], 1) == Cell("none", reason="no fused expert parameters")
    unknown = measure(Architecture("No such model", "no-such-model"), PLAIN, 1)
    assert (unknown.kind, unknown.passes) == ("peft", True)


def test_failing_cells_are_bold_and_every_code_is_explained() -> None:
    cells = {
        ("Llama", "plain", 1): Cell("measured", 3e-8, 2.5, "layers.0.q_proj"),
        ("Llama", "plain", 4): Cell("measured", 3e-8, 0.5, "q", unrecorded={"wte": "no A x", "wpe": "no A x"}),
        ("Llama", "DoRA", 1): Cell("crash", reason="KeyError: 'x'"),
        ("Llama", "DoRA", 4): Cell("refused", reason="adapter.path: no"),
    }
    text = document(cells, {"nothing changed": cells["Llama", "plain", 4]})
    (row,) = [line for line in text.splitlines() if line.startswith("| Llama |")]
    nbsp, minus = "\u00a0", "\u2011"
    dot = f"{nbsp}·{nbsp}"
    assert row == f"| Llama | **3e{minus}8{dot}2.50**<br>3e{minus}8{dot}0.50{nbsp}U1 | **C1**<br>R1 |"
    assert {"- C1: KeyError: 'x' (Llama)", "- R1: adapter.path: no (Llama)"} <= set(text.splitlines())
    assert "- U1: no A x (Llama: `wte` and 1 more)" in text.splitlines()
    assert "Llama, plain, rank 1, b = 2.50" in text


def test_the_document_has_every_architecture_and_variant_that_the_script_knows() -> None:
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    header = next(line for line in lines if line.startswith("| |"))
    assert [cell.strip() for cell in header.strip("|").split("|")] == ["", *KINDS]
    rows = [line for line in lines if line.startswith("| ") and line != header]
    assert [line.strip("|").split("|")[0].strip() for line in rows] == list(BY_NAME)
    explained = {found[1] for line in lines if (found := re.match(r"- ([RUPCN]\d+): \S", line))}
    used = {code for row in rows for cell in row.split("|")[2:] for code in re.findall(r"\b[RUPCN]\d+\b", cell)}
    assert used == explained
    names = [found[1] for line in lines if (found := re.match(r"- \*\*(.{2,})\*\*: ", line))]
    assert names == list(KINDS)


def test_a_base_that_needs_a_library_says_so_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    for name in ("nf4 base", "int8 base"):
        assert measure(LLAMA, KINDS[name], 1) == Cell("none", reason="bitsandbytes was not installed")
