"""The measurements of docs/reliability.md, shorter: nothing is lost, and their controls show that it would be seen."""

from __future__ import annotations

import errno
import json
import logging
import re
from pathlib import Path

import pytest

from benchmarks.reliability import damage, failing_calls, sequences
from benchmarks.reliability.__main__ import NAME
from benchmarks.reliability.clients import AddLine, Tally, add_line, add_line_over_others, edit_at_once
from benchmarks.reliability.kills import kill_often
from benchmarks.timing import RESULTS
from tests.annotation_server.service import running

CLIENTS, EDITS, KEYS = 8, 40, 10
KILLS = 16
DAMAGES = 12
DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"


def tally(folder: Path, add: AddLine) -> Tally:
    with running(folder) as service:
        return edit_at_once(service, CLIENTS, EDITS, KEYS, add)


def test_no_acknowledged_edit_is_lost_among_many_clients(tmp_path: Path) -> None:
    found = tally(tmp_path, add_line)
    assert (found.acknowledged, found.lost, found.unasked) == (CLIENTS * EDITS, 0, 0)
    assert set(found.statuses) == {200, 412}  # else the clients never met, or something else went wrong


def test_the_same_clients_lose_edits_if_they_save_over_what_they_have_not_seen(tmp_path: Path) -> None:
    assert tally(tmp_path, add_line_over_others).lost > 0


def test_a_killed_service_leaves_every_acknowledged_edit(tmp_path: Path) -> None:
    found = kill_often(tmp_path, KILLS)
    assert (found.kills, found.broken, found.lost) == (KILLS, 0, 0)


@pytest.fixture
def silent() -> None:
    logging.getLogger("annotation_server.store").setLevel(logging.CRITICAL)
    logging.getLogger("dagster").setLevel(logging.CRITICAL)


@pytest.mark.usefixtures("silent")
def test_whichever_call_of_whichever_change_fails_nothing_is_lost(tmp_path: Path) -> None:
    found = failing_calls.fail_each(tmp_path, [errno.EIO])
    wrong = [*found.lost, *found.neither, *found.forgotten, *found.leftovers, *found.stuck]
    assert wrong == []
    assert found.cases == found.refused >= 13 * len(failing_calls.CHANGES)  # every call of every commit failed once


@pytest.mark.usefixtures("silent")
def test_a_service_that_goes_on_after_a_failed_fsync_is_seen_to_lose_edits(tmp_path: Path) -> None:
    found = failing_calls.fail_each(tmp_path, [errno.EIO], ignored=True)
    assert {where.partition(":")[0] for where in found.lost} == set(failing_calls.CHANGES)


@pytest.mark.parametrize("bug", sequences.BUGS)
def test_a_store_with_a_bug_is_seen_to_be_unlike_the_model(bug: str) -> None:
    assert sequences.sequences_until_found(bug, 300) is not None


@pytest.mark.usefixtures("silent")
def test_damaged_files_are_made_again_or_named(tmp_path: Path) -> None:
    found = damage.by_outcome(damage.outcomes(tmp_path, DAMAGES))
    assert set(found) <= {*damage.RIGHT, damage.NAMED}


@pytest.mark.usefixtures("silent")
def test_a_store_that_looks_at_no_digest_is_seen_to_give_wrong_pages(tmp_path: Path) -> None:
    with damage.trusting():
        found = damage.by_outcome(damage.outcomes(tmp_path, DAMAGES, spared=damage.RETRIED))
    assert damage.WRONG in found


def _numbers(value: object) -> set[str]:
    """Every number of a result."""
    if isinstance(value, dict | list):
        return set().union(*map(_numbers, value.values() if isinstance(value, dict) else value))
    return {str(value)} if isinstance(value, int) else set()


def test_the_document_says_what_was_measured() -> None:
    measured = json.loads((RESULTS / f"{NAME}.json").read_text(encoding="utf-8"))["rows"]
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \| (.*) \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert [name for name in measured if name not in {name for name, *_ in rows}] == []
    for name, reached, control in rows:
        said = {number.replace(",", "") for number in re.findall(r"\d[\d,]*", f"{reached} {control}")}
        assert said <= _numbers(measured[name]), name
