"""Notes that have lost their feature or their examples are said to have, and stop nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

from loradash_assets.assets.note_checks import EXAMPLES, FEATURES, NAMED, without_examples, without_feature
from loradash_assets.run import run
from loradash_assets.settings import load_settings
from loradash_assets.site.seen import example_digest
from tests.assets.graph import Graph
from tests.projects import save_adapter, save_project

KEY = "layer_1_gate_proj_positive"
CHECKS = (("interpretations", FEATURES), ("interpretation_report", EXAMPLES))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(save_project(tmp_path_factory.mktemp("notes") / "project"), instance)
        graph.run()
        yield graph


def _write(graph: Graph, notes: dict[str, Any]) -> None:
    (graph.project / "interpretations.json").write_text(json.dumps({"interpretations": notes}))


def _shown(graph: Graph) -> list[str]:
    """The digests of the examples that the panel of KEY shows now."""
    wanted = {"layer": 1, "projection": "gate_proj", "polarity": "positive"}
    rows = pq.read_table(graph.project / "output" / "tables" / "top_tokens.parquet").to_pylist()
    return [example_digest(row["context"], row["target_position"]) for row in rows if wanted.items() <= row.items()]


def _evaluations(graph: Graph) -> list[tuple[bool, str, list[str]]]:
    keys = [dg.AssetCheckKey(dg.AssetKey(asset), check) for asset, check in CHECKS]
    records = graph.instance.event_log_storage.get_asset_check_summary_records(keys)
    found: list[tuple[bool, str, list[str]]] = []
    for key in keys:
        execution = records[key].last_check_execution_record
        assert execution is not None
        assert execution.event is not None
        assert execution.event.dagster_event is not None
        data = execution.event.dagster_event.asset_check_evaluation_data
        named: Any = data.metadata["keys"].value
        found.append((data.passed, data.severity.value, named))
    return found


def test_a_run_records_which_notes_lost_what_they_are_about(built: Graph) -> None:
    shown = _shown(built)
    fits = {"text": "fits", "examplesSeen": shown}
    _write(built, {KEY: fits, "layer_1_up_proj_positive": {"text": "of the original"}})
    built.run()
    assert _evaluations(built) == [(True, "WARN", []), (True, "WARN", [])]
    _write(built, {KEY: {**fits, "examplesSeen": [shown[0], "00000000", "11111111"]}, "layer_9_x_positive": fits})
    built.run()
    assert _evaluations(built) == [(False, "WARN", ["layer_9_x_positive"]), (False, "WARN", [KEY])]
    built.run()  # from the store, it is said again
    assert _evaluations(built) == [(False, "WARN", ["layer_9_x_positive"]), (False, "WARN", [KEY])]


def test_other_weights_make_a_note_stale_and_the_same_ones_do_not(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(save_project(tmp_path / "project", tables={"top_k": 2}), instance)
        graph.run()
        _write(graph, {KEY: {"text": "fits", "examplesSeen": _shown(graph)}})
        graph.run()
        assert _evaluations(graph)[1] == (True, "WARN", [])
        save_adapter(graph.project / "adapter", graph.project / "base", seed=2)
        graph.run()
        assert _evaluations(graph)[1] == (False, "WARN", [KEY])


def test_a_build_says_it_in_one_line_each_and_goes_on(tmp_path: Path) -> None:
    project = save_project(tmp_path / "project")
    notes = {
        **{f"layer_9{number}_x_positive": {"text": "gone"} for number in range(NAMED + 2)},
        "\x1b[31mred": {"text": ""},
        KEY: {"text": "old", "examplesSeen": ["00000000"]},
    }
    (project / "interpretations.json").write_text(json.dumps({"interpretations": notes}))
    lines = run(load_settings(project), None, upstream=True).splitlines()
    assert lines[0].startswith("Computed all")
    assert lines[1:] == [
        "8 notes are on features that no adapter has: layer_90_x_positive, layer_91_x_positive, layer_92_x_positive, "
        "layer_93_x_positive, layer_94_x_positive and 3 more",
        f"1 note was written on other examples than are listed now: {KEY}",
    ]
    assert (project / "output" / "interpretation_report.html").is_file()


def test_what_is_said_has_no_control_characters_and_counts_right() -> None:
    asset = dg.AssetKey("a")
    assert without_feature(asset, ["\x1b[31m"]).description == "1 note is on a feature that no adapter has: ␛[31m"
    said = without_examples(asset, ["a", "b"]).description
    assert said == "2 notes were written on other examples than are listed now: a, b"
    assert without_examples(asset, []).passed
