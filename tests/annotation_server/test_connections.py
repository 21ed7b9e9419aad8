"""A connection that asks nothing ends, there is room for who does ask, and what is not HTTP hears so in our words."""

from __future__ import annotations

import asyncio
import http.client
import json
import select
import socket
import threading
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from annotation_server import connections, server
from annotation_server.connections import Connection
from annotation_server.keys import FeatureKey
from annotation_server.security import HEADERS
from tests.annotation_server.in_process import serving
from tests.annotation_server.service import KEY, Service, exchange

ASK = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
MALFORMED = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",  # TLS
    b"nonsense\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n a: b\r\nc\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nx: " + b"y" * 100_000,
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"x: y\r\n" * 20_000,
    b"GET /" + b"y" * 100_000,
]


@contextmanager
def connected(port: int, sent: bytes = b"") -> Generator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(sent)
        yield connection


def received(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """The reply, after which the service must hang up."""
    reply = http.client.HTTPResponse(connection)
    reply.begin()
    headers = {name.lower(): value for name, value in reply.getheaders()}
    body = reply.read()
    with suppress(ConnectionResetError):  # how it ends for who is still sending
        assert connection.recv(1) == b""
    return reply.status, headers, body


@pytest.mark.parametrize("request_bytes", MALFORMED, ids=lambda each: repr(each[:40]))
def test_what_is_not_http_gets_400_in_the_shape_of_all_errors(shared_service: Service, request_bytes: bytes) -> None:
    with connected(shared_service.port, request_bytes) as connection:
        status, headers, body = received(connection)
    assert (status, json.loads(body)["error"]["code"]) == (400, "bad_request")
    assert headers["content-type"] == "application/json"
    assert {name: headers[name.lower()] for name in HEADERS} == HEADERS


@pytest.mark.parametrize("hosts", [b"", b"Host: localhost\r\nHost: localhost\r\n"])
def test_a_request_names_one_host(shared_service: Service, hosts: bytes) -> None:
    with connected(shared_service.port, b"GET / HTTP/1.1\r\nConnection: close\r\n" + hosts + b"\r\n") as connection:
        status, _, body = received(connection)
    assert (status, json.loads(body)["error"]["code"]) == (421, "foreign_host")


CHUNKED = (
    f"PATCH /api/interpretations/{KEY} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    "Transfer-Encoding: chunked\r\n\r\n"
).encode()


def test_what_follows_a_body_is_no_part_of_the_head(service: Service) -> None:
    trailers = b"If-None-Match: *\r\nIf-Match: *\r\n"  # either would do for a text
    with connected(service.port, CHUNKED + b'c\r\n{"text":"a"}\r\n0\r\n' + trailers + b"\r\n") as connection:
        reply = http.client.HTTPResponse(connection)
        reply.begin()
        assert (reply.status, json.loads(reply.read())["error"]["code"]) == (428, "precondition_required")


@pytest.mark.parametrize("start", [b"1;", b"1\r\n{\r\n0\r\nx: "])
def test_what_stands_between_the_pieces_of_a_body_has_an_end(shared_service: Service, start: bytes) -> None:
    sent = 0
    with connected(shared_service.port, CHUNKED + start) as connection:
        with suppress(ConnectionResetError):
            while not select.select([connection], [], [], 0)[0]:
                sent += connection.send(b"x" * 1024)
        status, _, body = received(connection)
    assert (status, json.loads(body)["error"]["code"], sent < 8_000_000) == (400, "bad_request", True)


@pytest.mark.parametrize("requests", [2, 5000])
def test_a_request_before_the_reply_to_the_last_one_is_not_read(shared_service: Service, requests: int) -> None:
    with connected(shared_service.port, ASK * requests) as connection:
        status, headers, _ = received(connection)
    assert (status, headers["connection"]) == (200, "close")


@pytest.fixture
def impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[int]:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    with serving(tmp_path) as port:
        yield port


def test_a_connection_that_says_nothing_is_ended(impatient: int) -> None:
    with connected(impatient) as connection:
        assert connection.recv(1) == b""


def test_a_head_that_does_not_end_gets_408(impatient: int) -> None:
    with connected(impatient, ASK[:30]) as connection:
        status, headers, body = received(connection)
    assert (status, json.loads(body)["error"]["code"]) == (408, "request_timeout")
    assert {name: headers[name.lower()] for name in HEADERS} == HEADERS


def test_a_byte_now_and_then_gives_no_more_time(impatient: int) -> None:
    with connected(impatient, b"GET / HTTP/1.1\r\nx: ") as connection:
        connection.settimeout(0.02)
        reply = b""
        while not reply:
            try:
                reply = connection.recv(12)
            except TimeoutError:
                connection.sendall(b"y")
    assert reply == b"HTTP/1.1 408"


@pytest.mark.parametrize("after", [b"", ASK[:30], b"G"])
def test_after_a_reply_the_next_head_has_to_come_as_well(impatient: int, after: bytes) -> None:
    with connected(impatient, ASK) as connection:
        reply = http.client.HTTPResponse(connection)
        reply.begin()
        reply.read()
        connection.sendall(after)
        rest = connection.recv(12)
    assert (reply.status, rest) == (200, b"HTTP/1.1 408" if after else b"")


def test_a_body_that_nobody_reads_gives_no_more_time(impatient: int) -> None:
    with connected(impatient, ASK.replace(b"\r\n\r\n", b"\r\nContent-Length: 9999999\r\n\r\n")) as connection:
        reply = http.client.HTTPResponse(connection)
        reply.begin()
        assert (reply.status, reply.read() != b"") == (200, True)
        assert connection.recv(1) == b""


def test_no_reply_waits_for_an_acknowledgement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Watched(Connection):
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            seen.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(server, "Connection", Watched)
    with serving(tmp_path) as port, connected(port, ASK) as connection:
        connection.recv(1)
    assert seen == [1]


def test_who_asks_gets_in_past_any_number_that_only_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 5)
    monkeypatch.setattr(connections, "HEAD_SECONDS", 600.0)
    asked, answer = threading.Event(), threading.Event()

    def activations(_: FeatureKey, __: int) -> Sequence[float]:
        asked.set()
        answer.wait(60)
        return [0.5]

    slow = ASK.replace(b"health", f"activations/{KEY}?example=0".encode())
    with serving(tmp_path, activations) as port, ExitStack() as open_ones:
        busy = open_ones.enter_context(connected(port, slow))
        assert asked.wait(60)
        first, *_ = [open_ones.enter_context(connected(port)) for _ in range(20)]
        asking = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        open_ones.callback(asking.close)
        open_ones.callback(answer.set)
        assert exchange(asking, "GET", "/api/health").status == 200
        assert first.recv(1) == b""
        answer.set()
        assert busy.recv(12) == b"HTTP/1.1 200"


def test_one_file_of_notes_is_read_at_a_time(service: Service) -> None:
    body = b'{"name": "notes.json", "content": "{}"}'
    head = (
        f"POST /api/import HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    )
    asks_first = f"{head}\r\nExpect: 100-continue\r\n\r\n".encode()  # and is told to go on when its body is wanted
    with connected(service.port, asks_first) as first, connected(service.port) as second:
        assert first.recv(12) == b"HTTP/1.1 100"
        second.sendall(asks_first)
        assert service.request("GET", "/api/health").status == 200
        assert select.select([second], [], [], 0)[0] == []
        first.sendall(body)
        assert second.recv(12) == b"HTTP/1.1 100"
