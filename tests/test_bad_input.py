"""docs/bad-input.md: every row has a message and names a test, and every test that it names is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
LINES = (REPOSITORY / "docs" / "bad-input.md").read_text(encoding="utf-8").splitlines()
ROWS = [line for line in LINES if line.startswith("|") and not line.startswith(("|---", "| what is wrong |"))]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


@cache
def defined_in(file: str) -> set[str]:
    tree = ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_every_row_has_a_message_and_a_test_that_is_there(row: str) -> None:
    _, wrong, message, test, end = (cell.strip() for cell in row.split("|"))
    assert wrong
    assert message
    assert end == ""
    named = NAMED.fullmatch(test)
    assert named is not None
    assert named[2] in defined_in(named[1])


def test_the_tables_are_found() -> None:
    assert len(ROWS) == sum("::test_" in line for line in LINES) > 40
