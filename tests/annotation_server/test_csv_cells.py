"""Cells of a CSV: no spreadsheet program runs them, and each comes back as the text that it was."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_server.csv_cells import FORMULA_STARTS, csv_text, harmless, original
from tests.annotation_server.untimed import UNTIMED
from tests.site.hostile import HOSTILE

TEXTS = st.text("".join({*FORMULA_STARTS, "'", '"', ",", ";", "a", " "}), max_size=6) | st.text()


@given(TEXTS | st.sampled_from(HOSTILE))
@settings(UNTIMED)
def test_a_text_comes_back_and_begins_like_no_formula(text: str) -> None:
    assert original(harmless(text)) == text
    assert not harmless(text).startswith(FORMULA_STARTS)


@pytest.mark.parametrize(
    ("text", "cell"),
    [("=1+1", "'=1+1"), ("'=1+1", "''=1+1"), ("''", "'''"), ("'twas", "'twas"), ("'", "'"), ("a=1", "a=1")],
)
def test_only_what_could_be_taken_wrongly_gets_an_apostrophe(text: str, cell: str) -> None:
    assert harmless(text) == cell


def test_texts_stand_in_quotes_and_numbers_do_not() -> None:
    assert csv_text([("a", -1.5, None, True), ('say "so"\n', 0, "", False)]) == (
        '"a",-1.5,"",True\n"say ""so""\n",0,"",False\n'
    )


@given(st.lists(st.lists(TEXTS, min_size=2, max_size=2)))
@settings(UNTIMED)
def test_rows_come_back(rows: list[list[str]]) -> None:
    read = list(csv.reader(io.StringIO(csv_text(rows), newline=""), strict=True))
    assert [[original(cell) for cell in row] for row in read] == rows
