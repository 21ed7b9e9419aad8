"""Request bodies: bounded in size and time while they arrive, strict JSON, decoded to a type."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from annotation_server import strict_json
from annotation_server.errors import ApiError

BODY_BYTES = 64 * 1024  # what a browser sends with `keepalive`
FILE_BODY_BYTES = 32 * 1024 * 1024  # of a body that holds a whole file of notes
BODY_SECONDS = 10.0
# Read on for a while without keeping it, so that a client that is still sending gets to see the 413.
DISCARDED_BYTES = 4 * 1024 * 1024
_CLOSE = {"Connection": "close"}

Body = TypeVar("Body", bound=msgspec.Struct)


async def read_body(request: Request, kind: type[Body], limit: int = BODY_BYTES) -> Body:
    """The request's body, of at most `limit` bytes, as a `kind`.

    Raises `ApiError` 415, 413, 408, 400 (not JSON) or 422 (not a `kind`).
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise ApiError(415, "unsupported_media_type", "send Content-Type: application/json")
    data = await _read(request, limit)
    try:  # a whole file takes long enough for others to wait for it
        value = strict_json.parse(data) if len(data) <= BODY_BYTES else await run_in_threadpool(strict_json.parse, data)
        return msgspec.convert(value, kind)
    except strict_json.NotJson as error:
        raise ApiError(400, "not_json", str(error)) from None
    except (strict_json.UnusableJson, msgspec.ValidationError) as error:
        raise ApiError(422, "invalid_body", str(error)) from None


async def _read(request: Request, limit: int) -> bytes:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read_bounded(request, limit)
    except TimeoutError:
        raise ApiError(408, "request_timeout", f"the body took over {BODY_SECONDS:g} seconds", _CLOSE) from None
    except ClientDisconnect:
        raise ApiError(400, "incomplete_body", "the connection ended before the body did", _CLOSE) from None


async def _read_bounded(request: Request, limit: int) -> bytes:
    body = bytearray()
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received <= limit:
            body += chunk
        elif received > DISCARDED_BYTES:
            break
    if received > limit:
        raise ApiError(413, "body_too_large", f"the body is over {limit} bytes", _CLOSE)
    return bytes(body)
