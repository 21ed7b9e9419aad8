"""Notes as a table: every key of the file is in it, and marked by whether the adapter has that feature."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from loradash_assets.compute.errors import InputError
from loradash_assets.compute.interpretations import interpretations_table
from loradash_assets.schema import FEATURES, INTERPRETATIONS

RANKS = {(-1, "lm_head"): 1, (0, "q_proj"): 1, (0, "conv_c3"): 1, (0, "mlp.c_proj"): 4, (7, "q_proj"): 4}


def _features() -> pa.Table:
    blank = {"module": "", "in_features": 1, "out_features": 1, "scaling": 1.0, "read_norm": 1.0, "write_norm": 1.0}
    rows = [
        {**blank, "layer": layer, "projection": name, "rank": rank, "component": component, "variant": "lora"}
        for (layer, name), rank in RANKS.items()
        for component in range(rank)
    ]
    return pa.Table.from_pylist([{"feature": n, "expert": -1, **row} for n, row in enumerate(rows)], schema=FEATURES)


def _table(tmp_path: Path, entries: dict[str, Any]) -> list[dict[str, Any]]:
    file = tmp_path / "interpretations.json"
    file.write_text(json.dumps({"interpretations": entries, "other": 1}))
    table = interpretations_table(
        file, {None: _features(), "step-200": _features().slice(1, 1)}
    )  # layer 0 q_proj alone
    assert table.schema == INTERPRETATIONS
    return table.to_pylist()


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("layer_0_q_proj_positive", (0, "q_proj", None, None, "positive")),
        ("model_lm_head_negative", (-1, "lm_head", None, None, "negative")),
        ("layer_0_conv_c3_c0_positive", (0, "conv_c3", 0, "raw", "positive")),
        ("layer_0_mlp.c_proj_c3_negative", (0, "mlp.c_proj", 3, "raw", "negative")),
        ("layer_7_q_proj_s3_positive", (7, "q_proj", 3, "svd", "positive")),
        ("step-200/layer_0_q_proj_positive", (0, "q_proj", None, None, "positive")),
    ],
)
def test_keys_of_the_adapters_features_are_known(tmp_path: Path, key: str, parts: tuple[Any, ...]) -> None:
    (row,) = _table(tmp_path, {key: {"text": "digits", "starred": True, "lastModified": "2025-07-21T05:00:10.069773"}})
    assert (row["known"], row["text"], row["starred"]) == (True, "digits", True)
    assert row["adapter"] == ("step-200" if "/" in key else None)
    assert row["last_modified"] == "2025-07-21T05:00:10.069773"
    assert tuple(row[name] for name in ("layer", "projection", "component", "basis", "polarity")) == parts


@pytest.mark.parametrize(
    "key",
    [
        "layer_1_q_proj_positive",  # the adapter has no such layer
        "layer_0_v_proj_positive",
        "layer_7_q_proj_positive",  # rank 4 needs a component
        "layer_7_q_proj_c4_positive",
        "layer_0_q_proj_c0_positive",  # rank 1 has none: no page shows this key
        "layer_0_q_proj_s0_positive",
        "layer_0_conv_c3_positive",  # component 3 of a module `conv`
        "step-200/model_lm_head_positive",  # the first adapter's alone
        "step-300/layer_0_q_proj_positive",  # no such adapter
        "model_q_proj_positive",
    ],
)
def test_keys_of_other_features_are_kept_as_unknown_with_their_parts(tmp_path: Path, key: str) -> None:
    (row,) = _table(tmp_path, {key: {"text": "orphan"}})
    assert (row["key"], row["known"], row["text"], row["starred"]) == (key, False, "orphan", False)
    assert row["layer"] is not None
    assert row["projection"]
    assert row["unknown_because"] == ("no such adapter" if key.startswith("step-300/") else "no such feature")


@pytest.mark.parametrize(
    "key", ["", "note to self", "layer_00_q_proj_positive", "layer_0_q_proj_sideways", "L0_q_proj"]
)
def test_keys_of_another_shape_are_kept_as_unknown(tmp_path: Path, key: str) -> None:
    (row,) = _table(tmp_path, {key: {"text": "<script>\0"}})
    assert (row["key"], row["known"], row["text"], row["layer"]) == (key, False, "<script>\0", None)
    assert row["unknown_because"] == "not a key"


def test_a_known_key_has_no_reason_and_a_note_of_the_original_no_people(tmp_path: Path) -> None:
    (row,) = _table(tmp_path, {"layer_0_q_proj_positive": {"text": "digits", "skipped": True}})
    assert (row["known"], row["unknown_because"], row["skipped"]) == (True, None, True)
    assert [row[name] for name in ("text_by", "text_at", "people", "tags", "labels", "examples_seen")] == [
        *(None, None),
        *([], [], []),
        None,
    ]


def test_what_people_said_is_in_the_table(tmp_path: Path) -> None:
    entry = {
        "text": "digits",
        "textBy": "Ann",
        "textAt": "2026-03-01T00:00:00Z",
        "examplesSeen": ["0a0a0a0a"],
        "labels": {
            "Bo": {"tags": ["dense", "single token"], "confidence": 4, "at": "2026-03-02T00:00:00Z", "colour": 1},
            "Ann": {"tags": ["dense"], "confidence": None},
            "": {"tags": [], "confidence": 10**30},
            "Cleo": {"confidence": 5},
            "Dan": {"tags": None},
        },
        "rating": 7,
    }
    (row,) = _table(tmp_path, {"layer_0_q_proj_positive": entry})
    assert (row["text_by"], row["text_at"], row["examples_seen"]) == ("Ann", "2026-03-01T00:00:00Z", ["0a0a0a0a"])
    assert row["people"] == ["Ann", "Bo", "", "Cleo", "Dan"]
    assert row["tags"] == ["dense", "single token"]
    assert row["labels"] == [
        {"person": "Bo", "tags": ["dense", "single token"], "confidence": 4, "at": "2026-03-02T00:00:00Z"},
        {"person": "Ann", "tags": ["dense"], "confidence": None, "at": None},
        {"person": "", "tags": [], "confidence": None, "at": None},
        {"person": "Cleo", "tags": None, "confidence": 5, "at": None},
        {"person": "Dan", "tags": None, "confidence": None, "at": None},
    ]


@pytest.mark.parametrize("confidence", [0, 6, -1, 300])
def test_a_confidence_that_is_none_counts_as_none(tmp_path: Path, confidence: int) -> None:
    (row,) = _table(tmp_path, {"k": {"labels": {"Ann": {"confidence": confidence}}}})
    assert row["labels"][0]["confidence"] is None


def test_the_files_order_stays_and_missing_fields_have_defaults(tmp_path: Path) -> None:
    keys = ["layer_7_q_proj_c0_positive", "b", "a", "layer_0_q_proj_negative"]
    rows = _table(tmp_path, {key: {} for key in keys})
    assert [row["key"] for row in rows] == keys
    assert all((row["text"], row["starred"], row["last_modified"]) == ("", False, None) for row in rows)


def test_a_missing_file_gives_no_rows(tmp_path: Path) -> None:
    assert interpretations_table(tmp_path / "none.json", {None: _features()}).num_rows == 0


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"interpretations": []}', '{"interpretations": {"k": {"text": 1}}}', '{"x": "\\ud800"}']
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "notes.json").write_text(content)
    with pytest.raises(InputError, match=r"annotations\.interpretations_file: notes\.json"):
        interpretations_table(tmp_path / "notes.json", {None: _features()})
    with pytest.raises(InputError, match=r"annotations\.interpretations_file"):
        interpretations_table(tmp_path, {None: _features()})
