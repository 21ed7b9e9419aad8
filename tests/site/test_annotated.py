"""Notes joined to their features: every panel has its row, as the other tables have its numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from loradash_assets.compute.interpretations import interpretations_table
from loradash_assets.schema import ANNOTATED_FEATURES, STATISTICS
from loradash_assets.site.inputs import SiteInputs
from loradash_assets.site.outputs import ADAPTER_COLUMN, write_annotated_features
from loradash_assets.site.seen import example_digest
from tests.site import samples
from tests.site.inputs import save_adapter_inputs, save_site_inputs

NOTE: dict[str, Any] = {
    "text": "sums",
    "starred": True,
    "textBy": "Ann",
    "labels": {"Bo": {"tags": ["dense"], "confidence": 2, "at": "2026-03-01T00:00:00Z"}, "Cleo": {"confidence": 5}},
}


def _site(directory: Path) -> SiteInputs:
    """Two adapters, the second of rank 3, and no notes yet."""
    tokens = samples.texts(2)
    first = [samples.layer_tables(layer, tokens, ["up_proj", "q_proj"]) for layer in (-1, 2)]
    second = [samples.layer_tables(2, tokens, ["up_proj"], rank=3, seed=1)]
    inputs = [
        save_adapter_inputs(directory / "first", first),
        save_adapter_inputs(directory / "second", second, "step-200"),
    ]
    return save_site_inputs(directory, inputs, tokens)


def _annotated(directory: Path, site: SiteInputs, notes: dict[str, Any]) -> pa.Table:
    (directory / "interpretations.json").write_text(json.dumps({"interpretations": notes}))
    catalogues = {adapter.name: adapter.feature_table for adapter in site.adapters}
    table = interpretations_table(directory / "interpretations.json", catalogues)
    pq.write_table(table, directory / "interpretations.parquet")
    (directory / "made").mkdir()
    facts = write_annotated_features(site, directory / "made")
    made = pq.read_table(directory / "made" / "tables" / "annotated_features.parquet")
    assert facts == {"panels": made.num_rows, "notes": made.num_rows - made["text"].null_count}
    return made


def test_every_panel_has_one_row_with_its_own_numbers(tmp_path: Path) -> None:
    site = _site(tmp_path)
    made = _annotated(tmp_path, site, {})
    assert made.schema == pa.schema([ADAPTER_COLUMN, *ANNOTATED_FEATURES])
    rows = made.to_pylist()
    assert [row["key"] for row in rows][:3] == [
        "model_up_proj_positive",
        "model_up_proj_negative",
        "model_q_proj_positive",
    ]
    assert [row["key"] for row in rows if row["adapter"] == "step-200"][-1] == "step-200/layer_2_up_proj_c2_negative"
    assert len({(row["adapter"], row["key"]) for row in rows}) == len(rows) == 2 * (2 * 2 + 3)
    assert not any(row[name] for row in rows for name in ("text", "starred", "labels", "tags", "people", "stale"))
    tables = site.adapters[1].layers[2]
    (numbers,) = (row for row in pq.read_table(tables / "statistics.parquet").to_pylist() if row["component"] == 2)
    (best,) = (
        row
        for row in pq.read_table(tables / "shown.parquet").to_pylist()
        if (row["component"], row["polarity"], row["rank"]) == (2, "negative", 1)
    )
    assert {name: numbers[name] for name in STATISTICS.names[6:-4]}.items() <= rows[-1].items()
    assert rows[-1]["best_activation"] == best["activation"] < 0
    assert [rows[-1][f"best_{name}"] for name in ("token", "example", "position")] == [
        best[name] for name in ("token", "example", "position")
    ]
    assert rows[-1]["best_context"] == "".join(best["context"])


def test_a_note_stands_beside_its_panel_and_the_others_have_none(tmp_path: Path) -> None:
    site = _site(tmp_path)
    shown = pq.read_table(site.adapters[1].layers[2] / "shown.parquet").to_pylist()
    seen = [
        example_digest(row["context"], row["target_position"])
        for row in shown
        if (row["component"], row["polarity"]) == (2, "negative")
    ]
    here, elsewhere = "step-200/layer_2_up_proj_c2_negative", "step-200/layer_2_up_proj_c0_positive"
    notes = {
        here: {**NOTE, "examplesSeen": seen},
        elsewhere: {**NOTE, "examplesSeen": ["00000000"]},
        "model_q_proj_positive": NOTE,
        "layer_9_q_proj_positive": NOTE,
        "somebody's own": NOTE,
    }
    rows = {row["key"]: row for row in _annotated(tmp_path, site, notes).to_pylist()}
    assert {key for key, row in rows.items() if row["text"] is not None} == {here, elsewhere, "model_q_proj_positive"}
    assert (rows[here]["text"], rows[here]["starred"], rows[here]["text_by"]) == ("sums", True, "Ann")
    assert (rows[here]["tags"], rows[here]["people"], rows[here]["skipped"]) == (
        ["dense"],
        ["Ann", "Bo", "Cleo"],
        False,
    )
    assert [(each["tags"], each["confidence"]) for each in rows[here]["labels"]] == [(["dense"], 2), (None, 5)]
    assert [rows[key]["stale"] for key in (here, elsewhere, "model_q_proj_positive")] == [False, True, None]


def test_the_same_notes_give_the_same_bytes(tmp_path: Path) -> None:
    made: list[bytes] = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        _annotated(tmp_path / name, _site(tmp_path / name), {"model_q_proj_positive": NOTE})
        made.append((tmp_path / name / "made" / "tables" / "annotated_features.parquet").read_bytes())
    assert made[0] == made[1]
