"""A line for each write, which says what came of it, never the text, and which no name can forge."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

from tests.annotation_server.service import KEY, Service, running, stop

LINE = re.compile(
    r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (?P<what>[a-z ]+) key=(?P<key>".*") '
    r"fields=(?P<fields>[A-Za-z,]*) by=(?P<by>.*) bytes=(?P<bytes>\d+)"
)
PERSON = 'Ann" bytes=0 é😀\u202e \\'
HOSTILE_KEY = f"{PERSON}\u2028/layer_1_up_proj_positive"


def lines(said: str) -> list[tuple[str, ...]]:
    """Each line's parts; fails if one is no such line."""
    found = [LINE.fullmatch(line) for line in said.splitlines()]
    assert None not in found, said
    parts = [match.groups() for match in found if match]
    return [(what, json.loads(key), fields, json.loads(by), size) for what, key, fields, by, size in parts]


def test_each_write_has_its_line_and_no_text_is_in_it(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        service.patch({"text": "sécret", "by": "Ann"}, if_match="*")
        tag = service.etag()
        service.patch({"text": "sécret", "by": "Ann"}, if_match=tag)
        service.patch({"starred": True, "tags": ["sécret"], "by": 'Ann" key="x'})
        service.patch({"text": "another sécret"}, if_match=tag)
        service.request("POST", "/api/interpretations", {"featureKey": KEY, "text": "", "starred": False})
        service.patch({"text": "no precondition"})
        said = stop(service)
    assert lines(said.out) == [
        ("refused as stale", KEY, "text", "Ann", "7"),
        ("saved", KEY, "text", "Ann", "7"),
        ("saved", KEY, "starred,tags", 'Ann" key="x', "0"),
        ("refused as stale", KEY, "text", None, "15"),
        ("saved", KEY, "starred,text", None, "0"),
    ]
    assert "cret" not in said.out + said.err


def test_no_name_ends_a_line_or_looks_like_another_field(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        assert service.patch({"starred": True, "by": PERSON}, HOSTILE_KEY).status == 200
        said = stop(service)
    assert said.out.isascii()
    assert lines(said.out) == [("saved", HOSTILE_KEY, "starred", PERSON, "0")]


def test_an_output_that_nobody_reads_holds_up_neither_saving_nor_the_end(service: Service) -> None:
    key = f"{'long name ' * 50}/{KEY}"
    for number in range(300):  # far more than a pipe holds
        assert service.patch({"starred": number % 2 == 0}, key).status == 200
    service.process.terminate()
    assert service.process.wait(timeout=60) == -signal.SIGTERM
    assert not service.entries()[key]["starred"]
