"""Rows from every kind of file: what is bad keeps its number and says why, and nothing is read past the limit."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loradash_assets.compute.errors import DatasetError
from loradash_assets.compute.rows import local_rows, write_rows
from loradash_assets.schema import ROWS


def _read(path: Path, split: str = "train", limit: int = 100) -> list[tuple[int, Any, str]]:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "rows.parquet"
        count = write_rows(local_rows(path, split), limit, file)
        table = pq.read_table(file)
    assert table.schema == ROWS
    assert table.num_rows == count
    return [(row["row"], json.loads(row["json"]), row["error"]) for row in table.to_pylist()]


def _fields(path: Path, split: str = "train", limit: int = 100) -> list[Any]:
    rows = _read(path, split, limit)
    assert [(number, error) for number, _, error in rows] == [(number, "") for number in range(len(rows))]
    return [fields for _, fields, _ in rows]


def test_each_bad_line_keeps_its_number_and_reason(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    lines = [
        b'\xef\xbb\xbf{"text": "first"}',
        b'{"text": "broken"',
        b"",
        b"   ",
        b'["no", "object"]',
        b"7",
        b'{"text": "caf\xe9"}',
        rb'{"text": "\ud800 alone"}',
        rb'{"text": "a\u0000b", "n": 1e999}',
        b"[" * 100_000,
        b"9" * 5_000,
        b'{"text": "last"}',
    ]
    file.write_bytes(b"\r\n".join(lines))
    rows = _read(file)
    assert [number for number, _, _ in rows] == list(range(10))
    reasons = {number: error for number, _, error in rows if error}
    assert list(reasons) == [1, 2, 3, 4, 7, 8]
    assert "not valid JSON" in reasons[1]
    assert reasons[2] == "must be a JSON object, not list"
    assert reasons[3] == "must be a JSON object, not int"
    assert "utf-8" in reasons[4]
    assert all("not valid JSON" in reasons[number] for number in (7, 8))
    assert {number: fields for number, fields, error in rows if not error} == {
        0: {"text": "first"},
        5: {"text": "\ud800 alone"},
        6: {"text": "a\0b", "n": float("inf")},
        9: {"text": "last"},
    }


def test_deeply_nested_rows_never_stop_the_others(tmp_path: Path) -> None:
    """Whether Python's reader takes it or not, what it takes must also be written and read again."""
    file = tmp_path / "rows.jsonl"
    depths = range(700, 1_300, 3)
    file.write_text("\n".join('{"a": ' + "[" * depth + "]" * depth + "}" for depth in depths))
    rows = _read(file, limit=1_000)
    assert len(rows) == len(depths)
    assert not rows[0][2]
    assert rows[-1][2]


def test_the_limit_counts_rows_usable_or_not_and_nothing_is_read_after_it(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield {"text": "0"}
        yield {"text": "1"}
        raise AssertionError("read past the limit")

    assert write_rows(rows(), 2, tmp_path / "rows.parquet") == 2
    file = tmp_path / "rows.jsonl"
    file.write_text('broken\n{"text": "1"}\n{"text": "2"}\n')
    assert [number for number, _, _ in _read(file, limit=2)] == [0, 1]


def test_a_json_array(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text('[{"text": "a"}, 3, {"text": "b"}]')
    assert [error for _, _, error in _read(file)] == ["", "must be a JSON object, not int", ""]


@pytest.mark.parametrize(
    "content", ['{"text": "a"}', "[{", "[" * 100_000, "\xff"], ids=["object", "cut", "deep", "bytes"]
)
def test_json_that_is_no_array_is_refused_by_name(tmp_path: Path, content: str) -> None:
    file = tmp_path / "rows.json"
    file.write_text(content, encoding="latin-1")
    with pytest.raises(DatasetError, match=r"dataset.path: cannot read .*rows\.json"):
        _read(file)


def test_parquet_keeps_nested_fields_and_bytes_are_no_text(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "x"}]
    table = pa.Table.from_pylist([{"text": b"raw", "messages": messages}, {"text": None, "messages": messages}])
    pq.write_table(table, tmp_path / "rows.parquet")
    assert _fields(tmp_path / "rows.parquet") == [
        {"text": list(b"raw"), "messages": messages},
        {"text": None, "messages": messages},
    ]


def test_a_damaged_parquet_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 no parquet PAR1")
    with pytest.raises(DatasetError, match=r"rows\.parquet"):
        _read(tmp_path / "rows.parquet")


def test_csv_with_a_mark_ragged_rows_line_breaks_and_a_megabyte(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    long = "x" * 1_000_000
    text = f'\ufefftext,answer\n"two\nlines",1\nshort\nlong,2,3,4\n{long},5\n'
    file.write_bytes(text.encode() + b"caf\xe9,6\n")
    assert _fields(file) == [
        {"text": "two\nlines", "answer": "1"},
        {"text": "short", "answer": None},
        {"text": "long", "answer": "2", "": ["3", "4"]},
        {"text": long, "answer": "5"},
        {"text": "caf\udce9", "answer": "6"},
    ]


def test_plain_text_is_a_row_for_each_line(tmp_path: Path) -> None:
    file = tmp_path / "rows.txt"
    file.write_bytes(b"one\r\n\ntwo\x0b\xe2\x80\xa8same line\ncaf\xe9")
    assert [row["text"] for row in _fields(file)] == ["one", "", "two\x0b\u2028same line", "caf\udce9"]


def test_a_saved_dataset_and_its_splits(tmp_path: Path) -> None:
    train = datasets.Dataset.from_list([{"text": "a"}, {"text": "b"}])
    train.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": train, "test": train.select([1])}).save_to_disk(tmp_path / "two")
    assert _fields(tmp_path / "one") == [{"text": "a"}, {"text": "b"}]
    assert _fields(tmp_path / "two", "test") == [{"text": "b"}]
    with pytest.raises(DatasetError, match=r"two \(split 'validation'\)"):
        _read(tmp_path / "two", "validation")


def test_a_directory_of_files_with_splits(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    (tmp_path / "test.jsonl").write_text('{"text": "c"}\n')
    assert _fields(tmp_path) == [{"text": "a"}, {"text": "b"}]
    assert _fields(tmp_path, "test") == [{"text": "c"}]
    with pytest.raises(DatasetError, match="split 'validation'"):
        _read(tmp_path, "validation")


def test_splits_of_parquet_files_are_read_together_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    for name, text in (("train-0", "a"), ("train-1", "b"), ("test", "c")):
        pq.write_table(pa.table({"text": [text]}), tmp_path / f"{name}.parquet")
    assert _fields(tmp_path) == [{"text": "a"}, {"text": "b"}]
    assert _fields(tmp_path, "test + train") == [{"text": "c"}, {"text": "a"}, {"text": "b"}]
    assert sorted(row["text"] for row in _fields(tmp_path, "all")) == ["a", "b", "c"]
    with pytest.raises(DatasetError, match=r"split 'dev'.*train"):
        _fields(tmp_path, "dev")


def test_a_process_that_read_the_first_rows_of_parquet_files_ends_as_it_should(tmp_path: Path) -> None:
    rows = tmp_path / "data"
    rows.mkdir()
    texts = [f"row {number}" * 50 for number in range(100_000)]
    pq.write_table(pa.table({"text": texts}), rows / "train.parquet", row_group_size=1000)
    imports = "from pathlib import Path; from loradash_assets.compute.rows import local_rows"
    script = f"{imports}; rows = local_rows(Path({str(rows)!r}), 'train'); next(rows)"
    processes = [subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(process.communicate()[1], process.returncode) for process in processes] == [("", 0)] * 4


def test_a_directory_whose_file_breaks_while_it_is_read_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n' * 3 + "{broken\n")
    with pytest.raises(DatasetError, match="cannot read directory"):
        _read(tmp_path)


def test_a_file_that_a_row_names_is_never_opened(tmp_path: Path) -> None:
    """An image column would be decoded: the row's path opened."""
    secret = {"path": str(tmp_path / "named_by_a_row"), "bytes": None}
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    rows = pa.table({"image": [secret], "text": ["a"]}, schema=features.arrow_schema)
    (tmp_path / "parquet").mkdir()
    pq.write_table(rows, tmp_path / "parquet" / "train.parquet")
    datasets.Dataset(rows.replace_schema_metadata()).save_to_disk(tmp_path / "saved")
    info = tmp_path / "saved" / "dataset_info.json"
    info.write_text(json.dumps({**json.loads(info.read_text()), "features": features.to_dict()}))
    for directory in ("saved", "parquet"):
        assert _fields(tmp_path / directory) == [{"image": secret, "text": "a"}]


def test_unknown_suffixes_and_missing_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"rows\.xml must end in one of \.jsonl, \.json, \.parquet, \.csv, \.txt"):
        _read(tmp_path / "rows.xml")
    for suffix in (".jsonl", ".json", ".parquet", ".csv", ".txt"):
        with pytest.raises(DatasetError, match=rf"cannot read .*gone\{suffix}"):
            _read(tmp_path / f"gone{suffix}")
