"""The HTTP interface as an OpenAPI 3.1 document, made from the types that requests are read and replies written by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from typing import Any, get_args

import msgspec

from annotation_server import bulk, replies, requests
from annotation_server.document import EntryFields
from annotation_server.keys import KEY_PATTERN
from annotation_server.pages import DATA_FILE_PATTERN, INDEX_PATTERN, RolloutContext
from annotation_server.replies import SCHEMAS

JSON, CSV = "application/json", "text/csv; charset=utf-8"
HTML, SCRIPT = "text/html; charset=utf-8", "text/javascript; charset=utf-8"
# Every status that is no success, and the codes that may come with it.
CODES: Mapping[int, tuple[str, ...]] = {
    400: ("not_json", "incomplete_body", "invalid_precondition", "bad_request"),
    401: ("unauthorized",),
    403: ("foreign_origin",),
    404: ("not_found", "no_such_activations", "no_such_rollout", "no_such_import"),
    405: ("method_not_allowed",),
    408: ("request_timeout",),
    409: ("already_undone",),
    412: ("stale",),
    413: ("body_too_large",),
    415: ("unsupported_media_type",),
    421: ("foreign_host",),
    422: ("invalid_body", "invalid_key", "invalid_example", "invalid_format", "text_too_long", "unreadable_file"),
    428: ("precondition_required",),
    500: ("internal_error",),
    503: ("file_unavailable",),
}
_ALWAYS = (400, 401, 408, 421, 500, 503)
_WRITE = (403, 413, 415, 422)
_ETAG = {"ETag": {"required": True, "schema": {"type": "string", "pattern": '^"[0-9a-f]{32}"$'}}}
_HEADERS = {401: {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}}, 412: _ETAG}

Json = dict[str, Any]


@dataclass(frozen=True)
class Operation:
    """One method of one path: what may be sent, what comes back if all is well, and which refusals there are."""

    summary: str
    reply: Any = None  # the type of its JSON; None where it is not JSON of ours
    body: Any = None
    rules: Json = field(default_factory=dict[str, Any])  # on the body, which its type cannot say
    media: tuple[str, ...] = (JSON,)
    refusals: tuple[int, ...] = ()
    parameters: tuple[Json, ...] = ()
    headers: Json = field(default_factory=dict[str, Any])


def _parameter(where: str, name: str, pattern: str | None = None, *, required: bool = False) -> Json:
    schema = {"type": "string"} if pattern is None else {"type": "string", "pattern": pattern}
    return {"in": where, "name": name, "required": required or where == "path", "schema": schema}


_KEY = _parameter("path", "key", KEY_PATTERN)
_PRECONDITIONS = (
    _parameter("header", "If-Match", r'^(\*|"[0-9a-f]{32}")$'),
    _parameter("header", "If-None-Match", r"^\*$"),
)
_SOME_CHANGE: Json = {
    "anyOf": [{"required": [each]} for each in requests.Changes.__struct_fields__ if each != "by"],
    "dependentRequired": {"tags": ["by"], "confidence": ["by"]},
}
OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/"): Operation(
        "The dashboard",
        media=(HTML,),
        parameters=({**_parameter("query", "token"), "description": "signs a browser in"},),
    ),
    ("GET", "/{directory}/{name}"): Operation(
        "A data file of a large dashboard",
        media=(SCRIPT,),
        refusals=(404,),
        parameters=(_parameter("path", "directory", "_data$"), _parameter("path", "name", f"^{DATA_FILE_PATTERN}$")),
    ),
    ("GET", "/api/health"): Operation("Whether the service answers", replies.Health),
    ("GET", "/api/openapi.json"): Operation("This document", dict[str, Any]),
    ("GET", "/api/interpretations"): Operation("The file's content", replies.Notes),
    ("POST", "/api/interpretations"): Operation(
        "Save an entry, whatever it was before", replies.Saved, requests.NewEntry, refusals=_WRITE, headers=_ETAG
    ),
    ("GET", "/api/interpretations/{key}"): Operation(
        "An entry", replies.Named, refusals=(422,), parameters=(_KEY,), headers=_ETAG
    ),
    ("PATCH", "/api/interpretations/{key}"): Operation(
        "Change some fields of an entry",
        replies.Named,
        requests.Changes,
        _SOME_CHANGE,
        refusals=(*_WRITE, 412, 428),
        parameters=(_KEY, *_PRECONDITIONS),
        headers=_ETAG,
    ),
    ("GET", "/api/history/{key}"): Operation(
        "The texts of an entry that were replaced", replies.History, refusals=(422,), parameters=(_KEY,)
    ),
    ("GET", "/api/changes"): Operation(
        "What changed since the reply with that cursor", replies.Changed, parameters=(_parameter("query", "since"),)
    ),
    ("POST", "/api/import"): Operation(
        "Take in a file of notes, or say what that would do", bulk.ImportReport, requests.ImportRequest, refusals=_WRITE
    ),
    ("POST", "/api/import/{id}/undo"): Operation(
        "Undo an import where nobody changed an entry since",
        bulk.UndoReport,
        requests.UndoRequest,
        refusals=(*_WRITE, 404, 409),
        parameters=(_parameter("path", "id"),),
    ),
    ("GET", "/api/export"): Operation(
        "The notes as a file",
        replies.Notes,
        media=(JSON, CSV),
        refusals=(422,),
        parameters=(_parameter("query", "format", f"^({'|'.join(get_args(bulk.Format))})$"),),
        headers={"Content-Disposition": {"required": True, "schema": {"type": "string"}}},
    ),
    ("GET", "/api/rollout_context/{rollout_idx}"): Operation(
        "An example's text and tokens",
        RolloutContext,
        refusals=(404,),
        parameters=(_parameter("path", "rollout_idx", f"^(?:{INDEX_PATTERN})$"),),
    ),
    ("GET", "/api/activations/{key}"): Operation(
        "A feature's exact values on a whole example",
        replies.Activations,
        refusals=(404, 422),
        parameters=(_KEY, _parameter("query", "example", f"^(?:{INDEX_PATTERN})$", required=True)),
    ),
}


@cache
def openapi_document() -> Json:
    """The document, as JSON values. HEAD is left out: it is answered as GET is, without a body."""
    bodies = {kind for each in OPERATIONS.values() for kind in (each.reply, each.body) if kind is not None}
    kinds = [*sorted(bodies, key=str), EntryFields, replies.Refusal, replies.Stale]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=f"{SCHEMAS}{{name}}")
    schema_of = dict(zip(kinds, schemas, strict=True))
    paths: Json = {}
    for (method, path), operation in OPERATIONS.items():
        paths.setdefault(path, {})[method.lower()] = _operation(operation, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": "loradash's annotation service", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {f"Refusal{status}": _refusal(status, schema_of) for status in CODES},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(operation: Operation, schema_of: Mapping[Any, Json]) -> Json:
    text = {"type": "string"}
    found = {
        media: {"schema": text if operation.reply is None or media != JSON else schema_of[operation.reply]}
        for media in operation.media
    }
    success = {"description": operation.summary, "content": found, "headers": operation.headers}
    refusals = sorted((*_ALWAYS, *operation.refusals))
    described: Json = {
        "summary": operation.summary,
        "parameters": [*operation.parameters],
        "responses": {
            "200": success,
            **{str(status): {"$ref": f"#/components/responses/Refusal{status}"} for status in refusals},
        },
    }
    if HTML in operation.media:
        described["responses"]["303"] = _SIGNED_IN
    if operation.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {JSON: {"schema": schema_of[operation.body] | operation.rules}},
        }
    return described


_SIGNED_IN: Json = {
    "description": "The token was right, and the browser has a cookie now",
    "headers": {name: {"required": True, "schema": {"type": "string"}} for name in ("Location", "Set-Cookie")},
}


def _refusal(status: int, schema_of: Mapping[Any, Json]) -> Json:
    kind = schema_of[replies.Stale if status == 412 else replies.Refusal]
    code = {"properties": {"error": {"properties": {"code": {"enum": [*CODES[status]]}}}}}
    content: Json = {JSON: {"schema": {**kind, **code}}}
    if status == 401:
        content[HTML] = {"schema": {"type": "string"}}
    return {"description": HTTPStatus(status).phrase, "content": content, "headers": _HEADERS.get(status, {})}
