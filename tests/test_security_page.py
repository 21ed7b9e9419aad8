"""SECURITY.md: every test that it names is there, and every attack on the service, a page or a file has one."""

from __future__ import annotations

import pytest

from tests.test_bad_input import NAMED, REPOSITORY, defined_in

ROWS = [
    line
    for section in (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8").split("\n## ")
    for line in section.splitlines()
    if line.startswith("|") and "| shown by |" in section and not line.startswith(("|---", "| attack |"))
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_every_attack_has_a_test_that_is_there(row: str) -> None:
    named = NAMED.findall(row)
    assert named
    assert [name for file, name in named if name not in defined_in(file)] == []


def test_the_tables_are_found() -> None:
    assert len(ROWS) > 20
