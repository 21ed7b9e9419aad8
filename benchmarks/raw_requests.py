"""Requests that no client library would send: to every route, with hostile JSON in them, and damaged at random."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from random import Random

KEY = "layer_10_gate_proj_positive"
PATHS = (
    *("/", "/api/health", "/api/openapi.json", "/api/interpretations", f"/api/interpretations/{KEY}", "/api/changes"),
    *(f"/api/history/{KEY}", "/api/rollout_context/0", f"/api/activations/{KEY}?example=0", "/page_data/layer-0.js"),
    *(f"/api/interpretations/a%2Fb%2F{KEY}", "/api/interpretations/%00%ff", "/%2e%2e/%2e%2e/etc/passwd", "/api/", "*"),
)
METHODS = (
    *("GET", "PATCH", "POST", "HEAD"),
    *("PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "GET\t", "X" * 300),
)
WRITES = (("POST", "/api/interpretations"), ("PATCH", f"/api/interpretations/{KEY}"))
HEADERS = (
    *("Host: evil.example", "Host: localhost\r\nHost: localhost", "Host:", "Origin: null", "Origin: http://localhost"),
    *(
        "Sec-Fetch-Site: cross-site",
        "If-Match: *",
        'If-Match: "',
        "If-None-Match: *",
        "If-Match: \xff",
        "Cookie: a=b; =; ;",
    ),
    *("Content-Length: 0", "Content-Length: 99999999999999999999", "Content-Length: -1", "Content-Length: 1, 2"),
    *("Transfer-Encoding: chunked", "Transfer-Encoding: identity", "Content-Encoding: gzip", "Expect: 100-continue"),
    *(
        "Content-Type: text/plain",
        "Content-Type: application/json; charset=utf-16",
        "Accept: text/html",
        "Range: bytes=5-1",
    ),
    *("Connection: upgrade\r\nUpgrade: websocket", "Connection: close", f"X: {'y' * 70_000}", " folded", ": nameless"),
    *("Authorization: Bearer \xe9", "X-HTTP-Method-Override: DELETE", "X-Forwarded-Host: localhost"),
)
BODIES = (
    *(
        b"",
        b"null",
        b"[]",
        b"{}",
        b'"',
        b"{",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b'{"starred": NaN}',
        b'{"starred": Infinity}',
    ),
    *(
        b'{"text": "\\ud800"}',
        b'{"text": "\xed\xa0\x80"}',
        b'{"text": "\\u0000\\u202e"}',
        b'{"starred": 1}',
        b"[" * 50_000,
    ),
    *(b'{"a":' * 5_000 + b"1" + b"}" * 5_000, b'{"confidence": ' + b"9" * 5_000 + b"}", b'{"confidence": 1e400}'),
    *(b'{"starred": true, "starred": false}', b'{"confidence": -0, "by": "a"}', b'{"tags": [[]], "by": "a"}'),
    *(b'{"by": "\\u2028", "tags": []}', b'{"text": "' + b"x" * 60_000 + b'"}', b'{"examplesSeen": ["ABCDEF01"]}'),
)
SOUND: tuple[dict[str, object], ...] = (
    {"text": "a note", "by": "Ann"},
    {"starred": True},
    {"tags": ["a tag"], "confidence": 3, "by": "Ann"},
    {"featureKey": KEY, "text": "", "starred": False},
)


def raw_requests(count: int, seed: int) -> Iterator[bytes]:
    """Yield this many requests as bytes; the same ones for the same seed."""
    chance = Random(seed)  # noqa: S311 (no secret)
    for _ in range(count):
        data = _request(chance)
        for _ in range(chance.choice((0, 0, 1, 1, 2, 8))):
            data = chance.choice(_DAMAGES)(data, chance)
        yield data


def _request(chance: Random) -> bytes:
    method, path = chance.choice(WRITES) if chance.random() < 0.6 else (chance.choice(METHODS), chance.choice(PATHS))
    body = chance.choice(BODIES) if chance.random() < 0.6 else json.dumps(chance.choice(SOUND)).encode()
    headers = ["Host: localhost", "Content-Type: application/json"]
    headers += chance.sample(HEADERS, chance.choice((0, 0, 0, 1, 2, 4)))
    if chance.random() < 0.2:
        pieces = [body[: len(body) // 2], body[len(body) // 2 :], b""]
        headers, body = [*headers, "Transfer-Encoding: chunked"], b"".join(map(_chunk, pieces))
    else:
        headers.append(f"Content-Length: {len(body) + chance.choice((0, 0, 0, 0, 0, -1, 1))}")
    return "\r\n".join([f"{method} {path} HTTP/1.1", *headers, "", ""]).encode("latin-1") + body


def _chunk(piece: bytes) -> bytes:
    return f"{len(piece):x}\r\n".encode() + piece + b"\r\n"


def _flip(data: bytes, chance: Random) -> bytes:
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]


def _cut(data: bytes, chance: Random) -> bytes:
    start, end = sorted((chance.randrange(len(data)), chance.randrange(len(data))))
    return data[:start] + data[min(end, start + 20) :] or b"\r\n"


def _put_in(data: bytes, chance: Random) -> bytes:
    place = chance.randrange(len(data))
    piece = chance.choice(
        (b"\x00", b"\r\n", b"\n", b" ", b"%", b"\xff", b"\r\n\r\n", b":", b"/../", bytes([chance.randrange(256)]))
    )
    return data[:place] + piece + data[place:]


def _twice(data: bytes, chance: Random) -> bytes:
    lines = data.split(b"\r\n")
    lines.insert(chance.randrange(len(lines)), chance.choice(lines))
    return b"\r\n".join(lines)


_DAMAGES: tuple[Callable[[bytes, Random], bytes], ...] = (_flip, _cut, _put_in, _twice)
