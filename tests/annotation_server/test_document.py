"""The notes file: what is read, kept and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation_server import blocks, strict_json
from annotation_server.document import Document, DocumentError, Entry, parse_document, read_interpretations, serialise
from tests.annotation_server.untimed import UNTIMED

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
LABELS = st.fixed_dictionaries(
    {},
    optional={
        "tags": st.none() | st.lists(TEXTS),
        "confidence": st.none() | st.integers(1, 5),
        "at": TEXTS,
        "colour": JSON,
    },
)
OURS = {
    "text": TEXTS,
    "starred": st.booleans(),
    "skipped": st.booleans(),
    "lastModified": TEXTS,
    "textBy": TEXTS,
    "textAt": TEXTS,
    "examplesSeen": st.lists(TEXTS),
    "labels": st.dictionaries(TEXTS, LABELS, max_size=3),
}
ENTRIES = st.fixed_dictionaries({}, optional={**OURS, "rating": JSON})
FILES = st.fixed_dictionaries({"version": JSON, "interpretations": st.dictionaries(TEXTS, ENTRIES, max_size=4)})


@UNTIMED
@given(FILES)
def test_every_field_survives_and_the_bytes_are_settled(content: dict[str, Any]) -> None:
    once = serialise(parse_document(json.dumps(content).encode(), "f"))
    assert json.loads(once) == content
    assert serialise(parse_document(once, "f")) == once
    assert once == strict_json.serialise(content)


@UNTIMED
@given(FILES, st.dictionaries(TEXTS, ENTRIES, max_size=3), st.dictionaries(TEXTS, ENTRIES, max_size=3))
def test_changed_entries_are_written_as_if_the_file_had_had_them(
    content: dict[str, Any], first: dict[str, Any], second: dict[str, Any]
) -> None:
    document = parse_document(json.dumps(content).encode(), "f")
    with patch.object(blocks, "MEMBERS", 2):  # of a block, so that there are several
        for changed in (first, second):
            document = document.with_entries({key: Entry.of(fields) for key, fields in changed.items()})
    entries = {**content["interpretations"], **first, **second}
    assert serialise(document) == strict_json.serialise({**content, "interpretations": entries})


def test_a_file_of_the_original(tmp_path: Path) -> None:
    path = tmp_path / "interpretations.json"
    naive = {"text": "β-carotene", "starred": True, "skipped": True, "lastModified": "2025-07-21T05:00:10.069773"}
    bare = {"text": "only text"}
    path.write_text(json.dumps({"interpretations": {"layer_1_up_proj_positive": naive, "L2_old": bare}}))
    entries = read_interpretations(path).entries
    first, second = entries["layer_1_up_proj_positive"], entries["L2_old"]
    assert (first.text, first.starred, first.skipped, first.last_modified) == tuple(naive.values())
    assert (second.text, second.starred, second.skipped, second.last_modified) == ("only text", False, False, None)


@pytest.mark.parametrize(("tags", "read"), [({}, None), ({"tags": None}, None), ({"tags": []}, ())])
def test_a_label_without_tags_says_nothing_of_them_and_an_empty_list_that_none_fits(
    tags: dict[str, Any], read: tuple[str, ...] | None
) -> None:
    entry = Entry.of({"labels": {"Ada": {**tags, "confidence": 3, "colour": "red"}}})
    assert entry.labels["Ada"].tags == read
    label = {**tags, "confidence": 4, "colour": "red", "at": "now"}
    if read is None:
        label.pop("tags", None)
    assert entry.changed({"by": "Ada", "confidence": 4}, "now").fields["labels"] == {"Ada": label}


def test_a_missing_file_is_an_empty_document(tmp_path: Path) -> None:
    assert read_interpretations(tmp_path / "none.json") == Document()
    assert json.loads(serialise(Document())) == {"interpretations": {}}


def test_a_byte_order_mark_is_no_part_of_the_document() -> None:
    assert parse_document(b'\xef\xbb\xbf{"interpretations": {}}', "f").entries == {}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "f: line 1, column 1"),
        (b'{"interpretations": {\n"a": {"text": "x",}}}', "f: line 2, column"),
        (b'{"interpretations": {}} x', "f: line 1, column 25"),
        (b'{"interpretations":\n{"a": {"text": "\xff"}}}', "f: line 2: byte 36 is not UTF-8"),
        (b"[]", "f: expected an object"),
        (b"{}", 'f: no field "interpretations"'),
        (b'{"interpretations": []}', 'f: "interpretations": expected an object'),
        (b'{"interpretations": {"a": "x"}}', "f: entry 'a': expected an object"),
        (b'{"interpretations": {"a": {"starred": 1}}}', r"f: entry 'a': .*bool.*\$\.starred"),
        (b'{"interpretations": {"a": {"text": null}}}', r"f: entry 'a': .*\$\.text"),
        (b'{"interpretations": {"a": {"lastModified": 3}}}', r"f: entry 'a': .*\$\.lastModified"),
        (b'{"interpretations": {"a": {"labels": []}}}', r"f: entry 'a': .*\$\.labels"),
        (b'{"interpretations": {"a": {"labels": {"Ada": {"tags": "dense"}}}}}', r"f: entry 'a': .*\$\.labels.*\.tags"),
        (b'{"interpretations": {"a": {}, "a": {}}}', "f: the name 'a' stands twice"),
        (b'{"interpretations": {"a": {"x": NaN}}}', "f: NaN is not JSON"),
        (b'{"interpretations": {"a": {"x": -Infinity}}}', "f: -Infinity is not JSON"),
        (b'{"interpretations": {"a": {"x": 1e999}}}', "f: the number 1e999 is too large"),
        (b'{"interpretations": {"a": {"x": ' + b"9" * 5000 + b"}}}", "f: .*digits"),
        (b'{"interpretations": {"a": {"text": "\\ud800"}}}', "f: .*surrogate"),
        (b'{"interpretations": {"\\udfff": {}}}', "f: .*surrogate"),
        (b'{"interpretations": ' + b"[" * 100_000, "f: nested too deeply"),
    ],
)
def test_what_is_refused_is_named_by_file_and_place(data: bytes, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        parse_document(data, "f")
