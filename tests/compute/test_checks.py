"""What the checks of a layer's lists find: nothing in a right table, and every kind of fault that is put into one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from loradash_assets.compute.checks import listing_faults
from loradash_assets.compute.tokens import TokenIndex
from loradash_assets.schema import TOP_TOKENS

INDEX = TokenIndex.of_lengths([2, 5], [4, 3])
Row = dict[str, Any]


def _row(polarity: str, rank: int, activation: float, example: int, position: int, projection: str = "q_proj") -> Row:
    """A row whose window is the whole example."""
    size = {2: 4, 5: 3}[example]
    context = [f"t{example}.{place}" for place in range(size)]
    activations = [0.5] * size
    activations[position] = activation
    return {
        "layer": 1,
        "projection": projection,
        "component": 0,
        "polarity": polarity,
        "rank": rank,
        "activation": activation,
        "example": example,
        "position": position,
        "token_id": 7,
        "token": context[position],
        "occurrences": 1,
        "target_position": position,
        "context": context,
        "context_activations": activations,
        "minimap": [127] * size,
    }


def _rows() -> list[Row]:
    return [
        _row("positive", 1, 3.0, 2, 0),
        _row("positive", 2, 2.0, 5, 2),
        _row("positive", 3, 2.0, 2, 3),
        _row("negative", 1, -3.0, 5, 1),
        _row("negative", 2, -1.0, 2, 1),
        _row("positive", 1, 1.0, 2, 2, "k_proj"),
    ]


def _faults(rows: list[Row]) -> dict[str, int]:
    return listing_faults(pa.Table.from_pylist(rows, TOP_TOKENS), INDEX)


def test_a_right_table_has_none_nor_has_an_empty_one() -> None:
    assert _faults(_rows()) == {"unsorted": 0, "outside": 0}
    assert _faults([]) == {"unsorted": 0, "outside": 0}
    assert _faults([{**row, "minimap": []} for row in _rows()]) == {"unsorted": 0, "outside": 0}


UNSORTED: dict[str, Callable[[list[Row]], object]] = {
    "exchanged": lambda rows: rows.insert(0, rows.pop(1)),
    "a rank is missing": lambda rows: rows.pop(1),
    "the first is missing": lambda rows: rows.pop(0),
    "twice": lambda rows: rows.insert(1, dict(rows[0])),
    "a list falls where it should rise": lambda rows: rows[4].update(
        activation=-4.0, context_activations=[0.5, -4.0, 0.5, 0.5]
    ),
    "a list in two pieces": lambda rows: rows.append(rows.pop(2)),
}
OUTSIDE: dict[str, Row] = {
    "before the example's first token": {"position": 1, "target_position": 2},
    "past its last token": {"position": 3},
    "the target is not in the window": {"target_position": 3},
    "the target is before the window": {"target_position": -1},
    "another example": {"example": 3},
    "no such example": {"example": 9},
    "another token": {"token": "t5.1"},
    "another activation": {"context_activations": [0.5, 0.5, 2.5]},
    "one activation too few": {"context_activations": [0.5, 0.5]},
    "one bin too few": {"minimap": [127, 0]},
}


@pytest.mark.parametrize("name", UNSORTED)
def test_a_list_out_of_order_is_found(name: str) -> None:
    rows = _rows()
    UNSORTED[name](rows)
    found = _faults(rows)
    assert found["unsorted"] > 0
    assert found["outside"] == 0


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_window_that_is_not_in_its_example_is_found(name: str) -> None:
    rows = _rows()
    rows[1] |= OUTSIDE[name]
    assert _faults(rows) == {"unsorted": 0, "outside": 1}
