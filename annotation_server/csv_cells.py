"""CSV that spreadsheet programs show and do not run: they take a cell that begins like a formula for one.

Such a text gets an apostrophe in front, which they hide. So that it can be told from an apostrophe of the text's own,
a text that begins with one before such a start, or with two, gets one more. `original` takes one away again.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_MARK = "'"


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """The rows as CSV with line feeds: every text harmless and in quotes, numbers as they are, None an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerows([harmless(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return text.getvalue()


def harmless(text: str) -> str:
    """A cell's text that no spreadsheet program takes for a formula: `original(harmless(text)) == text`."""
    return _MARK + text if text.startswith(FORMULA_STARTS) or _is_marked(text) else text


def original(cell: str) -> str:
    """The text that `harmless` made `cell` from; a cell that it did not make stays as it is."""
    return cell[1:] if _is_marked(cell) else cell


def _is_marked(text: str) -> bool:
    return text.startswith(_MARK) and text[1:].startswith((*FORMULA_STARTS, _MARK))
