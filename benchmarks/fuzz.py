"""Does the annotation service ever stumble? Requests from its OpenAPI document, and bytes that are hardly HTTP.

    python -m benchmarks.fuzz [--examples 250] [--raw 6000]

schemathesis makes valid and invalid requests for every operation of the document; `benchmarks.raw_requests` damages
whole requests byte by byte. Counted are replies with a status of 500 or more, replies that the document does not
describe, and tracebacks in the service's log; afterwards its file must still be a file of notes. The control is a
service as one is first written, `await request.json()` and the value sent back, under the same requests.
"""

from __future__ import annotations

import argparse
import http.client
import re
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import hypothesis
import requests
import schemathesis
import uvicorn
from hypothesis import HealthCheck
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from annotation_server.document import read_interpretations
from annotation_server.openapi import CODES, OPERATIONS, openapi_document
from benchmarks.raw_requests import raw_requests
from benchmarks.services import process
from benchmarks.timing import write_result
from tests.annotation_server.service import command
from tests.annotation_server.test_openapi import fill

EXAMPLES, RAW, SEED = 250, 6000, 0  # examples: of each operation, of valid requests and of invalid ones
EXAMPLES_SHOWN = 5
SECONDS = 0.3  # without an answer, after which a raw request is one that the service waits for the rest of
EXCLUDED = [positive_data_acceptance]  # a valid request may be stale
Operation = APIOperation[Any, Any, Any, Any]


@dataclass
class Found:
    """What came of the requests to one service."""

    statuses: Counter[int] = field(default_factory=Counter[int])
    requests: Counter[str] = field(default_factory=Counter[str])
    undescribed: list[str] = field(default_factory=list[str])
    unanswered: int = 0

    def figures(self) -> dict[str, Any]:
        """Return what a result file says of it."""
        return {
            "requests": {**self.requests, "in_all": self.requests.total()},
            "status_5xx": sum(count for status, count in self.statuses.items() if status >= 500),
            "undescribed": len(self.undescribed),
            "cut_off_or_waited_for": self.unanswered,
            "statuses": {str(status): self.statuses[status] for status in sorted(self.statuses)},
        }


class Document:
    """The OpenAPI document, and which of its operations a request is for."""

    def __init__(self) -> None:
        self._schema = schemathesis.openapi.from_dict(openapi_document())
        self._patterns = [
            (method, re.compile(re.sub(r"\{(?:key)\}", "(?s:.*)", re.sub(r"\{(?!key)\w+\}", "[^/]*", path))), path)
            for method, path in OPERATIONS
        ]

    def operations(self) -> list[Operation]:
        """Return all that there are."""
        return [self._schema[path][method] for method, path in OPERATIONS]

    def describes(self, method: str, target: str, reply: httpx.Response) -> bool:
        """Whether the reply is one of those that the document has for this request, or has no operation for it."""
        path = unquote(target.partition("?")[0])
        asked = "GET" if method == "HEAD" else method
        found = [path_of for each, pattern, path_of in self._patterns if each == asked and pattern.fullmatch(path)]
        if not found or reply.status_code in (400, 408):  # not HTTP, which may show before the request's line does
            return _is_refusal(reply) or (method == "HEAD" and reply.status_code in CODES)
        if method == "HEAD":
            return str(reply.status_code) in openapi_document()["paths"][found[0]]["get"]["responses"]
        return self._schema[found[0]][asked].is_valid_response(reply)


def _is_refusal(reply: httpx.Response) -> bool:
    try:
        error = reply.json()["error"]
    except (ValueError, KeyError, TypeError):
        return False
    return error.keys() == {"code", "message"} and error["code"] in CODES.get(reply.status_code, ())


def from_document(address: str, document: Document, examples: int, found: Found) -> None:
    """Send what schemathesis makes of every operation."""
    for operation in document.operations():
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            try:
                _send_cases(address, operation, mode, examples, found)
            except Unsatisfiable:
                continue  # an operation without parameters has no invalid requests


def _send_cases(address: str, operation: Operation, mode: GenerationMode, examples: int, found: Found) -> None:
    @hypothesis.seed(SEED)
    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Case[Any]) -> None:
        found.requests["from the document"] += 1
        try:
            reply = case.call(base_url=address)
        except requests.RequestException:
            found.unanswered += 1
            return
        found.statuses[reply.status_code] += 1
        try:
            case.validate_response(reply, excluded_checks=EXCLUDED)
        except BaseExceptionGroup as failures:
            found.undescribed.append(f"{operation.label}: {failures}")

    send()


def raw(port: int, document: Document, count: int, found: Found) -> None:
    """Send damaged bytes, each request on a connection of its own."""
    for data in raw_requests(count, SEED):
        found.requests["raw"] += 1
        method, target = _first_line(data)
        reply = _exchange(port, data, method)
        if reply is None:
            found.unanswered += 1
            continue
        found.statuses[reply.status_code] += 1
        if not document.describes(method, target, reply):
            found.undescribed.append(f"{data[:200]!r}: {reply.status_code} {reply.text[:200]}")


def _first_line(data: bytes) -> tuple[str, str]:
    method, _, rest = data.lstrip(b"\r\n").partition(b" ")
    return method.decode("latin-1"), rest.partition(b" ")[0].decode("latin-1")


def _exchange(port: int, data: bytes, method: str) -> httpx.Response | None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(SECONDS)
        try:
            connection.sendall(data)
            received = http.client.HTTPResponse(connection, method=method)
            received.begin()
            body = received.read()
        except (OSError, http.client.HTTPException):
            return None
    asked = httpx.Request("GET", f"http://127.0.0.1:{port}/")
    reply = httpx.Response(received.status, headers=received.getheaders(), content=body, request=asked)
    reply.elapsed = timedelta()  # schemathesis asks for it
    return reply


def control() -> None:
    """Serve the control until killed, and print its address first."""

    async def echo(request: Request) -> Response:
        if request.method == "GET":
            return PlainTextResponse("")
        return JSONResponse({"success": True, "featureKey": "", "interpretation": await request.json()})

    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/", flush=True)
    app = Starlette(routes=[Route("/{path:path}", echo, methods=["GET", "POST", "PATCH"])])
    uvicorn.Server(uvicorn.Config(app, access_log=False)).run(sockets=[listener])


def measured(arguments: list[str], log: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one service under all requests."""
    found, document = Found(), Document()
    with process(arguments, log) as (port, _):
        from_document(f"http://127.0.0.1:{port}", document, options.examples, found)
        raw(port, document, options.raw, found)
    print(*found.undescribed[:EXAMPLES_SHOWN], sep="\n")
    return {**found.figures(), "tracebacks": log.read_text(errors="replace").count("Traceback")}


def main() -> None:
    """Send, count, print and write `benchmarks/results/fuzz.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=EXAMPLES)
    parser.add_argument("--raw", type=int, default=RAW)
    options = parser.parse_args()
    echo = [sys.executable, "-c", "from benchmarks.fuzz import control; control()"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder)
        services: Mapping[str, list[str]] = {"the service": command(folder), "json() and echo (control)": echo}
        figures = {kind: measured(each, folder / "log", options) for kind, each in services.items()}
        entries = len(read_interpretations(folder / "interpretations.json").entries)
    print(figures, entries)
    write_result("fuzz", {"services": figures, "entries_afterwards": entries})


if __name__ == "__main__":
    main()
