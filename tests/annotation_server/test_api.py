"""The HTTP interface of a running service, reply by reply."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message

from annotation_server import bodies
from annotation_server.errors import ApiError
from annotation_server.limits import TEXT_BYTES
from annotation_server.requests import Changes
from tests.annotation_server.service import KEY, Reply, Service, entry_path, exchange

ENTRIES = "/api/interpretations"
UNREADABLE_BODIES = [
    (b"", 400),
    (b"{", 400),
    (b'{"text": NaN}', 400),
    (b'{"starred": true} {}', 400),
    (b'{"text": "\xff"}', 400),
    (b"\xff\xfe{\x00}\x00", 400),
    (b'{"text": "\\ud800"}', 422),
    (b'{"starred": true, "starred": false}', 422),
    (b'{"text": 1e999}', 422),
    (b'{"text": ' + b"9" * 5000 + b"}", 422),
    (b"[" * 60_000, 422),
    (b'{"text":' * 7000 + b"1" + b"}" * 7000, 422),
    (b"[]", 422),
    (b"null", 422),
    (b'"text"', 422),
    (b"{}", 422),
    (b'{"text": null}', 422),
    (b'{"text": 1}', 422),
    (b'{"starred": "yes"}', 422),
    (b'{"starred": 1}', 422),
    (b'{"text": ["x"]}', 422),
    (b'{"colour": "red"}', 422),
    (b'{"lastModified": "now"}', 422),
]


def test_a_note_from_focus_to_saved(shared_service: Service) -> None:
    path = entry_path(KEY)
    empty = shared_service.request("GET", path)
    assert (empty.status, empty.json) == (200, {"featureKey": KEY, "interpretation": {"text": "", "starred": False}})
    first = shared_service.patch({"text": "π digits"}, if_match=empty.headers["etag"])
    assert first.status == 200
    assert first.json["interpretation"] == shared_service.entries()[KEY]
    second = shared_service.patch({"text": "π digits, mostly"}, if_match=first.headers["etag"])
    assert second.status == 200
    again = shared_service.request("GET", path)
    assert again.json == second.json
    assert again.headers["etag"] == second.headers["etag"]
    assert shared_service.entries()[KEY]["text"] == "π digits, mostly"


def test_a_stale_text_gets_the_current_entry_and_changes_nothing(shared_service: Service) -> None:
    key = "layer_1_stale_positive"
    tag = shared_service.etag(key)
    assert shared_service.patch({"text": "first"}, key, if_match=tag).status == 200
    stale = shared_service.patch({"text": "second", "starred": True}, key, if_match=tag)
    assert (stale.status, stale.code) == (412, "stale")
    assert stale.json["interpretation"] == shared_service.entries()[key]
    assert stale.json["interpretation"]["text"] == "first"
    assert stale.headers["etag"] == shared_service.etag(key)
    assert shared_service.patch({"text": "second"}, key, if_match=stale.headers["etag"]).status == 200


def test_a_text_without_a_precondition_is_refused(shared_service: Service) -> None:
    reply = shared_service.patch({"text": "x"}, "layer_1_none_positive")
    assert (reply.status, reply.code) == (428, "precondition_required")
    assert "layer_1_none_positive" not in shared_service.request("GET", ENTRIES).json["interpretations"]


def test_a_star_needs_no_precondition_erases_no_text_and_makes_no_text_stale(shared_service: Service) -> None:
    key = "layer_1_star_positive"
    first = shared_service.patch({"text": "note"}, key, if_match=shared_service.etag(key))
    starred = shared_service.patch({"starred": True, "skipped": True}, key)
    assert starred.status == 200
    entry = shared_service.entries()[key]
    assert (entry["text"], entry["starred"], entry["skipped"]) == ("note", True, True)
    assert shared_service.patch({"text": "note 2"}, key, if_match=first.headers["etag"]).status == 200
    assert shared_service.entries()[key]["starred"] is True


def test_preconditions_on_being_there(shared_service: Service) -> None:
    key = "layer_1_there_positive"
    assert shared_service.patch({"text": "x"}, key, if_match="*").status == 412
    assert shared_service.patch({"text": "x"}, key, if_none_match="*").status == 200
    assert shared_service.patch({"text": "y"}, key, if_none_match="*").status == 412
    assert shared_service.patch({"text": "y"}, key, if_match="*").status == 200
    tag = shared_service.etag(key)
    assert shared_service.patch({"text": "z"}, key, if_match=f"W/{tag}").status == 412
    assert shared_service.patch({"text": "z"}, key, if_match=f'"other", {tag}').status == 200
    for header in ({"if_match": tag.strip('"')}, {"if_none_match": tag}, {"if_match": ""}):
        assert shared_service.patch({"text": "q"}, key, **header).code == "invalid_precondition"


def test_keys_with_an_adapter_travel_in_the_path_either_way(shared_service: Service) -> None:
    key = "step-200 é?#%/layer_3_experts.3.gate_proj_s2_negative"
    assert shared_service.patch({"starred": True}, key).json["featureKey"] == key
    plain = "step-200/layer_10_gate_proj_positive"
    reply = shared_service.request("PATCH", f"{ENTRIES}/{plain}", {"starred": True})
    assert reply.json["featureKey"] == plain
    assert shared_service.entries().keys() >= {key, plain}


@pytest.mark.parametrize(
    "key",
    [
        *("layer_1", "L1_up_proj_positive", "__proto__", "layer_01_x_positive", "\ufffd/x", "/"),
        *(f"{KEY}\n", f"a\nb/{KEY}", f"\r\n{KEY}"),
    ],
)
def test_a_key_outside_the_grammar_is_refused(shared_service: Service, key: str) -> None:
    posted = {"featureKey": key, "text": "x", "starred": False}
    replies = [
        shared_service.request("GET", entry_path(key)),
        shared_service.patch({"starred": True}, key),
        shared_service.request("POST", ENTRIES, posted),
    ]
    assert [(reply.status, reply.code) for reply in replies] == [(422, "invalid_key")] * 3
    assert key not in shared_service.request("GET", ENTRIES).json["interpretations"]


@pytest.mark.parametrize(("body", "status"), UNREADABLE_BODIES)
def test_a_body_that_is_not_valid_changes_nothing(shared_service: Service, body: bytes, status: int) -> None:
    before = shared_service.request("GET", ENTRIES).body
    patched = shared_service.patch(body, if_match="*")
    posted = shared_service.request("POST", ENTRIES, body)
    assert (patched.status, posted.status) == (status, status)
    assert patched.code in ("not_json", "invalid_body")
    assert shared_service.request("GET", ENTRIES).body == before


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
def test_other_content_types_are_refused(shared_service: Service, content_type: str) -> None:
    reply = shared_service.patch(b'{"starred": true}', content_type=content_type)
    assert (reply.status, reply.code) == (415, "unsupported_media_type")


def test_a_text_may_have_16_kib_in_utf8_however_it_is_escaped(shared_service: Service) -> None:
    key, longest = "layer_1_long_positive", "é" * (TEXT_BYTES // 2)
    assert shared_service.patch({"text": longest}, key, if_match=shared_service.etag(key)).status == 200
    assert shared_service.entries()[key]["text"] == longest
    longer = shared_service.patch({"text": longest + "x"}, key, if_match=shared_service.etag(key))
    assert (longer.status, longer.code) == (422, "text_too_long")


def test_strange_but_valid_text_is_kept_exactly(shared_service: Service) -> None:
    key, text = "layer_1_strange_positive", "</script>\x00\u202e\u2028\x7f\t😀\r\n{{7*7}}\ufeff"
    assert shared_service.patch({"text": text}, key, if_match=shared_service.etag(key)).status == 200
    assert shared_service.request("GET", entry_path(key)).json["interpretation"]["text"] == text
    assert shared_service.entries()[key]["text"] == text


@pytest.mark.parametrize("size", [bodies.BODY_BYTES + 1, 3_000_000])
def test_a_body_over_the_limit_is_refused(shared_service: Service, size: int) -> None:
    reply = shared_service.patch(b" " * size, if_match="*")
    assert (reply.status, reply.code) == (413, "body_too_large")


def test_a_chunked_body_without_end_is_cut_off(shared_service: Service) -> None:
    with socket.create_connection(("127.0.0.1", shared_service.port), timeout=30) as connection:
        connection.sendall(
            f"PATCH {entry_path(KEY)} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        for _ in range(bodies.DISCARDED_BYTES // 0x8000):
            connection.sendall(b"8000\r\n" + b" " * 0x8000 + b"\r\n")
        connection.sendall(b"1\r\n \r\n")  # nothing after it: what is still unread would reset the connection
        status = connection.recv(12)
    assert status == b"HTTP/1.1 413"


def test_a_body_that_never_comes_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.01)

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    request = Request({"type": "http", "headers": [(b"content-type", b"application/json")]}, receive)
    with pytest.raises(ApiError, match="took over") as refused:
        asyncio.run(bodies.read_body(request, Changes))
    assert refused.value.status == 408


def test_the_originals_post_saves_whatever_was_there(shared_service: Service) -> None:
    key = "layer_1_post_positive"
    body: dict[str, Any] = {"featureKey": key, "text": "one", "starred": False, "skipped": True, "extra": 1}
    first = shared_service.request("POST", ENTRIES, body)
    assert (first.status, first.json["success"]) == (200, True)
    assert first.json["interpretation"] == shared_service.entries()[key]
    del body["skipped"]
    second = shared_service.request("POST", ENTRIES, {**body, "text": "two", "starred": True})
    entry = shared_service.entries()[key]
    assert second.json == {"success": True, "interpretation": entry}
    assert set(entry) == {"text", "starred", "skipped", "lastModified"}
    assert (entry["text"], entry["starred"], entry["skipped"]) == ("two", True, True)
    assert second.headers["etag"] == shared_service.etag(key)
    assert shared_service.request("GET", ENTRIES).json == json.loads(shared_service.notes.read_bytes())


def test_a_file_of_the_original_is_served_and_its_unknown_fields_kept(service: Service) -> None:
    entry = {"text": "x", "starred": True, "skipped": False, "lastModified": "2025-07-21T05:00:10.069773", "mood": [1]}
    content = {"interpretations": {KEY: entry, "L3_odd_positive": {"text": "y"}}, "schema": {"v": 1}}
    service.notes.write_text(json.dumps(content))
    assert service.request("GET", ENTRIES).json == content
    assert service.patch({"starred": False}).status == 200
    written = json.loads(service.notes.read_bytes())
    del written["interpretations"][KEY]["lastModified"], entry["lastModified"]
    assert written == {**content, "interpretations": {**content["interpretations"], KEY: {**entry, "starred": False}}}


def test_a_file_broken_by_hand_gets_a_503_and_stays(service: Service) -> None:
    assert service.patch({"starred": True}).status == 200
    service.notes.write_text("{")
    replies = [
        service.request("GET", ENTRIES),
        service.patch({"starred": False}),
        service.request("GET", "/api/health"),
    ]
    assert [(reply.status, reply.code) for reply in replies] == [(503, "file_unavailable")] * 3
    assert "interpretations.json: line 1" in replies[0].json["error"]["message"]
    assert service.notes.read_text() == "{"


def test_no_such_route_or_method(shared_service: Service) -> None:
    missing, wrong = shared_service.request("GET", "/etc/passwd"), shared_service.request("DELETE", ENTRIES)
    assert (missing.status, missing.code) == (404, "not_found")
    assert (wrong.status, wrong.code) == (405, "method_not_allowed")
    assert set(wrong.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}
    assert shared_service.request("HEAD", ENTRIES).status == 200


def test_health_counts_entries(service: Service) -> None:
    assert service.request("GET", "/api/health").json == {"status": "ok", "entries": 0}
    assert service.patch({"starred": True}).status == 200
    assert service.request("GET", "/api/health").json == {"status": "ok", "entries": 1}


def test_the_dashboard_is_served_as_it_lies_on_the_disk(service: Service) -> None:
    without = service.request("GET", "/")
    assert without.status == 200
    assert b"loradash build" in without.body
    for html in (b"<!DOCTYPE html>one", b"<!DOCTYPE html>two \xc3\xa9"):
        (service.folder / "page.html").write_bytes(html)
        reply = service.request("GET", "/")
        assert reply.body == html
        assert reply.headers["content-type"] == "text/html; charset=utf-8"


def test_rollout_contexts_lie_beside_the_dashboard(service: Service) -> None:
    def get(index: str) -> Reply:
        return service.request("GET", f"/api/rollout_context/{index}")

    assert (get("0").status, get("0").code) == (404, "no_such_rollout")
    texts, tokens = {"0": "a b", "7": "c", "x": "odd"}, {"0": ["a", " b"], "x": ["odd"]}
    _write(service.folder / "rollout_contexts.json", texts)
    _write(service.folder / "rollout_tokens.json", tokens)
    assert get("0").json == {"rollout_idx": 0, "text": "a b", "tokens": ["a", " b"]}
    for index in ("1", "7", "x", "-1", "00", "9" * 5000, "..%2F0", "%00"):
        assert get(index).status == 404
    _write(service.folder / "rollout_tokens.json", {"0": ["ab"]})
    assert get("0").json["tokens"] == ["ab"]
    (service.folder / "rollout_tokens.json").write_text("[")
    assert get("0").code == "file_unavailable"


def test_one_connection_serves_many_requests(shared_service: Service) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", shared_service.port, timeout=30)
    statuses = [exchange(connection, "GET", path).status for path in (ENTRIES, "/", "/nothing", "/api/health")]
    connection.close()
    assert statuses == [200, 200, 404, 200]


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))
