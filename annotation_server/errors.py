"""The one shape of every error reply: `{"error": {"code": ..., "message": ...}}`.

Beside "error" may stand what the client needs to go on, such as the current entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import cast

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response


class ApiError(Exception):
    """A request that gets `status`, a `code` for programs and a message for people."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers


def json_response(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON reply that no cache keeps."""
    headers = {"Cache-Control": "no-store", **(headers or {})}
    return Response(msgspec.json.encode(content), status, headers, "application/json")


def error_response(error: ApiError, beside: Mapping[str, object] | None = None) -> Response:
    """The reply for `error`."""
    content = {"error": {"code": error.code, "message": str(error)}, **(beside or {})}
    return json_response(content, error.status, error.headers)


async def on_api_error(_: Request, error: Exception) -> Response:
    """For errors that the service raises itself."""
    return error_response(cast(ApiError, error))


async def on_http_exception(_: Request, error: Exception) -> Response:
    """For those that Starlette raises: no such route (404), no such method there (405)."""
    known = cast(HTTPException, error)
    code = HTTPStatus(known.status_code).name.lower()
    return error_response(ApiError(known.status_code, code, known.detail, known.headers))


async def on_unavailable(_: Request, error: Exception) -> Response:
    """For a disk that fails and for a file that somebody broke by hand: nothing was saved, and the message says why."""
    return error_response(ApiError(503, "file_unavailable", f"not read or saved: {error}"))


async def on_bug(_: Request, __: Exception) -> Response:
    """For what should not happen; the server's log has the traceback."""
    return error_response(ApiError(500, "internal_error", "the server made a mistake; its log says more"))
