"""Files of notes from elsewhere: what is read of them, what is refused and why, and that an export comes back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from annotation_server.bulk import exported
from annotation_server.document import Document, Entry, parse_document, serialise
from annotation_server.limits import TEXT_BYTES, Name
from annotation_server.notes_file import NotesFile, UnreadableFile, read_file
from tests.annotation_server.test_keys import KEYS as FEATURE_KEYS
from tests.annotation_server.untimed import UNTIMED
from tests.site.hostile import HOSTILE

KEY, OTHER = "layer_10_gate_proj_positive", "layer_2_up_proj_negative"


def is_name(text: str) -> bool:
    try:
        msgspec.convert(text, Name)
    except msgspec.ValidationError:
        return False
    return True


TEXTS = st.sampled_from(HOSTILE) | st.text(max_size=30)
NAMES = st.sampled_from([text for text in HOSTILE if is_name(text)]) | st.text(max_size=80).filter(is_name)
TIMES = st.sampled_from(["2026-01-20T10:30:00Z", "2025-07-21T05:00:10.069773"]) | TEXTS.filter(bool)
LABELS = st.fixed_dictionaries(
    {"confidence": st.none() | st.integers(1, 5), "at": TIMES},
    optional={"tags": st.none() | st.lists(NAMES, max_size=3), "mood": TEXTS},
)
KNOWN: dict[str, st.SearchStrategy[Any]] = {
    "lastModified": TIMES,
    "skipped": st.booleans(),
    "textBy": NAMES,
    "textAt": TIMES,
    "examplesSeen": st.lists(st.from_regex("[0-9a-f]{8}", fullmatch=True), min_size=1, max_size=3),
    "labels": st.dictionaries(NAMES, LABELS, min_size=1, max_size=2),
}
WRITTEN = {"text": TEXTS, "starred": st.booleans()}
JSON_VALUES = st.none() | TEXTS | st.lists(st.integers(), max_size=2) | st.floats(allow_nan=False, allow_infinity=False)
ODD = TEXTS.filter(lambda name: name not in (*WRITTEN, *KNOWN))


def documents(*, unknown: bool) -> st.SearchStrategy[Document]:
    """Whole files of entries of which every known field is there or not; `unknown` adds others."""
    fields = st.fixed_dictionaries(WRITTEN, optional=KNOWN)
    if unknown:
        fields = st.builds(lambda odd, known: {**odd, **known}, st.dictionaries(ODD, JSON_VALUES, max_size=2), fields)
    entries = st.dictionaries(FEATURE_KEYS.map(str), fields.map(Entry.of), max_size=4)
    return entries.map(lambda found: parse_document(serialise(Document(found)), "generated"))


def read_back(document: Document, form: Any) -> NotesFile:
    file = read_file("notes", exported(document, form).decode())
    assert file.refused == []
    return file


@given(documents(unknown=False))
@example(Document({f" \u2028/{KEY}": Entry.of({"text": "of an adapter of that name", "starred": False})}))
@settings(UNTIMED, max_examples=60)
def test_a_csv_comes_back_in_every_field(document: Document) -> None:
    assert read_back(document, "csv").entries == document.entries


@given(documents(unknown=True))
@settings(UNTIMED, max_examples=60)
def test_json_comes_back_byte_for_byte(document: Document) -> None:
    file = read_back(document, "json")
    assert exported(Document(file.entries), "json") == exported(document, "json")


@given(documents(unknown=True))
@settings(UNTIMED, max_examples=30)
def test_short_spellings_come_back_as_the_keys(document: Document) -> None:
    assert list(read_back(document, "json-short").entries.items()) == list(document.entries.items())


def test_short_spellings_stand_only_where_they_have_the_key() -> None:
    keys = [KEY, "layer_10_gate_proj_c3_positive", "model_lm_head_negative", f"step-200/{KEY}", OTHER, "somebody's own"]
    taken = [*keys, "L2_up_proj_negative"]  # so that OTHER cannot be spelled so
    document = Document({key: Entry.of({"text": key}) for key in taken})
    spelled = parse_document(exported(document, "json-short"), "short").entries
    assert list(spelled) == ["L10_gate_proj_positive", *taken[1:]]
    assert [entry.text for entry in spelled.values()] == taken


NOTE: dict[str, Any] = {
    "text": "digits",
    "starred": True,
    "skipped": False,
    "lastModified": "2025-07-21T05:00:10.069773",
}


@pytest.mark.parametrize("key", [KEY, "L10_gate_proj_positive"])
@pytest.mark.parametrize("before", ["", "\ufeff", "\n "])
@pytest.mark.parametrize("wrapped", [True, False])
def test_json_is_read_in_both_spellings_and_with_or_without_the_frame(key: str, before: str, wrapped: bool) -> None:
    notes = {key: {**NOTE, "mood": [1, {"a": None}]}}
    content = before + msgspec.json.encode({"interpretations": notes} if wrapped else notes).decode()
    file = read_file("notes.json", content)
    assert (file.refused, list(file.entries)) == ([], [KEY])
    assert file.entries[KEY].fields == {**NOTE, "mood": [1, {"a": None}]}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize(
    "header", ["key{0}text{0}starred", "\ufeffKey{0} Note {0}STARRED", "text{0}starred{0}key{0}mood"]
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables_of_spreadsheet_programs_are_read(separator: str, header: str, end: str) -> None:
    columns = header.format(separator).lower().replace("note", "text").strip("\ufeff").split(separator)
    cells = {"key": " L10_gate_proj_positive", "text": '"say ""so"";,\t\n= 2"', "starred": "TRUE", "mood": "good"}
    lines = [header.format(separator), separator.join(cells[name.strip()] for name in columns), separator * 2, ""]
    file = read_file("notes.csv", end.join(lines))
    assert (file.refused, list(file.entries)) == ([], [KEY])
    assert file.entries[KEY].fields == {"text": 'say "so";,\t\n= 2', "starred": "starred" in columns}


@pytest.mark.parametrize(("cell", "text"), [("'=1+1", "=1+1"), ("''=1+1", "'=1+1"), ("'twas", "'twas"), ("-1", "-1")])
def test_the_apostrophe_before_a_formula_is_taken_away(cell: str, text: str) -> None:
    assert read_file("notes.csv", f"key,text\n{KEY},{cell}\n").entries[KEY].text == text


def refused(content: str) -> tuple[list[str], list[tuple[str, str]]]:
    file = read_file("notes", content)
    return list(file.entries), [(each.where, each.reason) for each in file.refused]


def test_two_notes_of_one_feature_are_refused_with_both_places() -> None:
    assert refused(f'key,text\n{KEY},"a\nb"\n{OTHER},x\nL10_gate_proj_positive,c\n') == (
        [OTHER],
        [("line 2", "the same feature as line 5"), ("line 5", "the same feature as line 2")],
    )
    first, second = f"entry {KEY!a}", "entry 'L10_gate_proj_positive'"
    assert refused(f'{{"{KEY}": {{}}, "{OTHER}": {{}}, "L10_gate_proj_positive": {{}}}}') == (
        [OTHER],
        [(first, f"the same feature as {second}"), (second, f"the same feature as {first}")],
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("somebody's own,x,,", "is not a key such as"),
        (f"{KEY},x,perhaps,", "starred is 'perhaps', neither true nor false"),
        (f"{KEY},{'é' * (TEXT_BYTES // 2)}x,,", "the text is over 16384 bytes in UTF-8"),
        (f"{KEY},a,true,,b", "5 cells under 4 columns: is a text not in quotes?"),
        (f"{KEY},x,,{{", "labels: line 1, column 2"),
        (f"{KEY},x,,[]", "Expected `object`, got `array` - at `$.labels`"),
        (f'{KEY},x,,"{{""Ada"": {{""confidence"": 6}}}}"', "Expected `int` <= 5"),
        (f'{KEY},x,,"{{""Ada"": {{""tags"": [""{"x" * 81}""]}}}}"', "Expected `str` of length <= 80"),
        (f'{KEY},x,,"{{"" Ada"": {{}}}}"', "Expected `str` matching regex"),
    ],
)
def test_a_bad_row_is_named_and_spoils_no_other(row: str, reason: str) -> None:
    entries, ((where, said),) = refused(f"key,text,starred,labels\n{OTHER},fine,,\n{row}\n")
    assert (entries, where) == ([OTHER], "line 3")
    assert reason in said


def test_what_is_no_note_is_named() -> None:
    assert refused(f'{{"version": 3, "interpretations": {{"{KEY}": [], "{OTHER}": {{"text": 1}}, "a": {{}}}}}}') == (
        [],
        [
            ("entry 'version'", "'version' is not a key such as layer_10_gate_proj_positive or model_lm_head_negative"),
            (f"entry {KEY!a}", "expected an object"),
            (f"entry {OTHER!a}", "Expected `str`, got `int` - at `$.text`"),
            ("entry 'a'", "'a' is not a key such as layer_10_gate_proj_positive or model_lm_head_negative"),
        ],
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "notes.x: its first line does not name the columns key and text"),
        ("key,remark\n", "notes.x: its first line does not name the columns key and text"),
        ("key,text,text\n", "notes.x: two columns have the same name"),
        (f'key,text\n{OTHER},x\n{KEY},"open\n\n', "notes.x: line 3: unexpected end of data"),
        ('{"a": {}', "notes.x: line 1, column 9"),
        (f'{{"{KEY}": {{}}, "{KEY}": {{}}}}', f"notes.x: the name '{KEY}' stands twice"),
        ("[]", "notes.x: expected an object of notes"),
    ],
)
def test_what_is_no_file_of_notes_is_said_in_one_line(content: str, problem: str) -> None:
    with pytest.raises(UnreadableFile) as raised:
        read_file("notes.x", content)
    assert str(raised.value).startswith(problem)
    assert "\n" not in str(raised.value)


def test_labels_of_many_people_come_back_from_a_csv() -> None:
    labels = {f"person {number}": {"tags": ["x" * 80] * 32, "confidence": 5} for number in range(100)}
    document = Document({KEY: Entry.of({"text": "", "starred": False, "labels": labels})})
    assert read_back(document, "csv").entries == document.entries
