"""The HTTP interface, as docs/annotation-api.md describes it: routes in, replies out; the store does the work."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast, get_args

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from annotation_server import bulk, errors, replies
from annotation_server.activations import Activations, ActivationsUnavailable
from annotation_server.bodies import FILE_BODY_BYTES, read_body
from annotation_server.document import EMPTY_ENTRY, DocumentError, Entry, serialise
from annotation_server.errors import ApiError, error_response, json_response
from annotation_server.keys import FeatureKey, InvalidKey, parse_key
from annotation_server.limits import TEXT_BYTES
from annotation_server.notes_file import UnreadableFile, read_file
from annotation_server.open_file import OpenFileResponse
from annotation_server.openapi import openapi_document
from annotation_server.pages import INDEX_PATTERN, NO_DASHBOARD, Pages
from annotation_server.policy import PLACE_BYTES, frameless, page_policy
from annotation_server.preconditions import UNCONDITIONAL, InvalidPrecondition, Precondition, etag, parse_precondition
from annotation_server.requests import Changes, ImportRequest, NewEntry, UndoRequest
from annotation_server.security import Access, Guard
from annotation_server.store import Edit, Outcome, Store, StoreError
from annotation_server.write_log import lines_on_stdout, log_write

_ROW = re.compile(INDEX_PATTERN)
_CHECKED = {"Cache-Control": "no-cache"}
# A data file's name has a digest of the content in it, so what a browser keeps under it never becomes wrong.
_KEPT = {"Cache-Control": "private, max-age=31536000, immutable"}

Handler = Callable[[Request], Awaitable[Response]]


class Api:
    """The handlers of all routes."""

    def __init__(self, store: Store, pages: Pages, activations: Activations | None) -> None:
        self._store, self._pages, self._activations = store, pages, activations
        self._one_file = asyncio.Lock()  # of those to import is in memory at a time

    async def page(self, _: Request) -> Response:
        """GET /"""
        file = await run_in_threadpool(self._pages.dashboard)
        if file is None:
            return HTMLResponse(NO_DASHBOARD, headers=_CHECKED)
        policy = page_policy(await run_in_threadpool(file.read, PLACE_BYTES))
        file.seek(0)
        headers = {**_CHECKED, "Content-Security-Policy": frameless(policy)}
        return OpenFileResponse(file, headers=headers, media_type="text/html")

    async def data_file(self, request: Request) -> Response:
        """GET /{dashboard's name}_data/{file}"""
        file = await run_in_threadpool(self._pages.data_file, **request.path_params)
        if file is None:
            raise HTTPException(404)
        return OpenFileResponse(file, headers=_KEPT, media_type="text/javascript")

    async def health(self, _: Request) -> Response:
        """GET /api/health"""
        document = await run_in_threadpool(self._store.read)
        return json_response(replies.Health("ok", len(document.entries)))

    async def openapi(self, _: Request) -> Response:
        """GET /api/openapi.json"""
        return json_response(openapi_document())

    async def list_entries(self, _: Request) -> Response:
        """GET /api/interpretations: the file's content."""
        document = await run_in_threadpool(self._store.read)
        return Response(serialise(document), headers={"Cache-Control": "no-store"}, media_type="application/json")

    async def post_entry(self, request: Request) -> Response:
        """POST /api/interpretations: the original's way to save, whatever the entry was before."""
        body = await read_body(request, NewEntry)
        changes = {name: value for name, value in _fields(body).items() if name != "featureKey"}
        outcome = await self._edit(_checked_key(body.featureKey), changes, UNCONDITIONAL)
        return json_response(replies.Saved(True, _content(outcome.entry)), headers={"ETag": etag(outcome.entry)})

    async def get_entry(self, request: Request) -> Response:
        """GET /api/interpretations/{key}"""
        key = _checked_key(request.path_params["key"])
        document = await run_in_threadpool(self._store.read)
        entry = document.entries.get(key)
        return json_response(_named(key, entry), headers={"ETag": etag(entry)})

    async def patch_entry(self, request: Request) -> Response:
        """PATCH /api/interpretations/{key}: 428 for a text without a precondition, 412 if it does not hold."""
        key = _checked_key(request.path_params["key"])
        changes = _fields(await read_body(request, Changes))
        if not changes.keys() - {"by"}:
            raise ApiError(422, "invalid_body", "nothing to change: send text, starred, skipped, tags or confidence")
        if isinstance(tags := changes.get("tags"), list):
            changes["tags"] = [*dict.fromkeys(cast("list[str]", tags))]
        if changes.keys() & {"tags", "confidence"} and "by" not in changes:
            raise ApiError(422, "invalid_body", "tags and confidence are somebody's: send by, that person's name")
        precondition = _precondition(request)
        if "text" in changes and precondition == UNCONDITIONAL:
            raise ApiError(428, "precondition_required", "send If-Match with the entry's ETag, as GET gives it")
        outcome = await self._edit(key, changes, precondition)
        headers = {"ETag": etag(outcome.entry)}
        if outcome.saved:
            return json_response(_named(key, outcome.entry), headers=headers)
        stale = ApiError(412, "stale", "the note was changed meanwhile; this is how it stands now", headers)
        return error_response(stale, msgspec.structs.asdict(_named(key, outcome.entry)))

    async def history(self, request: Request) -> Response:
        """GET /api/history/{key}"""
        key = _checked_key(request.path_params["key"])
        return json_response(replies.History(key, await run_in_threadpool(self._store.replaced, key)))

    async def changes(self, request: Request) -> Response:
        """GET /api/changes?since=CURSOR"""
        found = await run_in_threadpool(self._store.changes, request.query_params.get("since"))
        entries = {key: entry and entry.fields for key, entry in found.entries.items()}
        return json_response(replies.Changed(found.cursor, found.complete, entries))

    async def import_file(self, request: Request) -> Response:
        """POST /api/import"""
        async with self._one_file:
            return await self._import_file(await read_body(request, ImportRequest, FILE_BODY_BYTES))

    async def _import_file(self, body: ImportRequest) -> Response:
        try:
            file = await run_in_threadpool(read_file, body.name, body.content)
        except UnreadableFile as error:
            raise ApiError(422, "unreadable_file", str(error)) from None
        if body.dryRun:
            document = await run_in_threadpool(self._store.read)
            return json_response(await run_in_threadpool(bulk.look, file, document, replace=body.replace))
        importing = bulk.take_in(self._store, file, replace=body.replace, by=body.by)
        report = await asyncio.shield(asyncio.wrap_future(importing))
        if report.id is not None:
            log_write("imported", report.id, (), body.by, len(body.content.encode()))
        return json_response(report)

    async def undo_import(self, request: Request) -> Response:
        """POST /api/import/{id}/undo"""
        await read_body(request, UndoRequest)
        import_id = request.path_params["id"]
        try:
            report = await asyncio.shield(asyncio.wrap_future(bulk.undo(self._store, import_id)))
        except bulk.NoSuchImport as error:
            raise ApiError(404, "no_such_import", str(error)) from None
        except bulk.AlreadyUndone as error:
            raise ApiError(409, "already_undone", str(error)) from None
        log_write("undone", import_id, (), None, 0)
        return json_response(report)

    async def export(self, request: Request) -> Response:
        """GET /api/export?format=json|json-short|csv: the notes as a file."""
        form = request.query_params.get("format", "json")
        if form not in get_args(bulk.Format):
            raise ApiError(422, "invalid_format", f"format is one of {', '.join(get_args(bulk.Format))}")
        document = await run_in_threadpool(self._store.read)
        content = await run_in_threadpool(bulk.exported, document, cast("bulk.Format", form))
        name, media_type = ("csv", "text/csv") if form == "csv" else ("json", "application/json")
        disposition = f'attachment; filename="interpretations.{name}"'
        headers = {"Cache-Control": "no-store", "Content-Disposition": disposition}
        return Response(content, headers=headers, media_type=media_type)

    async def rollout_context(self, request: Request) -> Response:
        """GET /api/rollout_context/{rollout_idx}"""
        context = await run_in_threadpool(self._pages.rollout_context, request.path_params["rollout_idx"])
        if context is None:
            raise ApiError(404, "no_such_rollout", "no text of this example lies beside the dashboard")
        return json_response(context)

    async def activations(self, request: Request) -> Response:
        """GET /api/activations/{key}?example=N"""
        key, example = _parsed_key(request.path_params["key"]), _example(request)
        if self._activations is None:
            message = "only 'loradash annotate', in a project with recorded activations, has them"
            raise ApiError(404, "no_such_activations", message)
        values = await run_in_threadpool(self._activations, key, example)
        if values is None:
            message = "the dashboard's last build recorded none of this feature on this example"
            raise ApiError(404, "no_such_activations", message)
        return json_response(replies.Activations(str(key), example, values))  # NaN: null

    async def _edit(self, key: str, changes: dict[str, object], precondition: Precondition) -> Outcome:
        text = changes.get("text")
        if isinstance(text, str) and len(text.encode()) > TEXT_BYTES:
            raise ApiError(422, "text_too_long", f"the text is over {TEXT_BYTES} bytes in UTF-8")
        saving = self._store.submit(Edit(key, changes, precondition))
        outcome = await asyncio.shield(asyncio.wrap_future(saving))  # who hangs up does not stop their own save
        what, by = "saved" if outcome.saved else "refused as stale", cast("str | None", changes.get("by"))
        log_write(what, key, changes.keys() - {"by"}, by, len(text.encode()) if isinstance(text, str) else 0)
        return outcome


def create_app(
    store: Store, dashboard: Path, access: Access | None = None, activations: Activations | None = None
) -> ASGIApp:
    """The service over an open store, which it closes when it shuts down; `dashboard` need not exist yet.

    Answers to `access`, by default to this machine alone. `activations` is called in threads, by several at once.
    """
    api = Api(store, Pages(dashboard), activations)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        with lines_on_stdout():
            yield
            await run_in_threadpool(store.close)

    routes = [
        _route("/", GET=api.page),
        _route("/api/health", GET=api.health),
        _route("/api/openapi.json", GET=api.openapi),
        _route("/api/interpretations", GET=api.list_entries, POST=api.post_entry),
        _route("/api/interpretations/{key:path}", GET=api.get_entry, PATCH=api.patch_entry),
        _route("/api/history/{key:path}", GET=api.history),
        _route("/api/changes", GET=api.changes),
        _route("/api/import", POST=api.import_file),
        _route("/api/import/{id}/undo", POST=api.undo_import),
        _route("/api/export", GET=api.export),
        _route("/api/rollout_context/{rollout_idx}", GET=api.rollout_context),
        _route("/api/activations/{key:path}", GET=api.activations),
        _route("/{directory}/{name}", GET=api.data_file),
    ]
    handlers = {
        ApiError: errors.on_api_error,
        HTTPException: errors.on_http_exception,
        DocumentError: errors.on_unavailable,
        StoreError: errors.on_unavailable,
        ActivationsUnavailable: errors.on_unavailable,
        OSError: errors.on_unavailable,
        Exception: errors.on_bug,
    }
    service = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
    service.router.redirect_slashes = False  # a path is one of these or an error
    return Guard(service, access or Access())


def _route(path: str, **handlers: Handler) -> Route:
    """One route for all methods of a path, so that a 405 names them all in `Allow`."""

    async def endpoint(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    route = Route(path, endpoint, methods=list(handlers))
    # To Starlette's expression a line break is the end: of a key it would be looked past, and inside one not found.
    route.path_regex = re.compile(route.path_regex.pattern.removesuffix("$") + r"\Z", re.DOTALL)
    return route


def _fields(body: msgspec.Struct) -> dict[str, object]:
    return cast("dict[str, object]", msgspec.to_builtins(body))  # leaves out what is UNSET


def _content(entry: Entry | None) -> replies.EntryObject:
    return (entry or EMPTY_ENTRY).fields


def _named(key: str, entry: Entry | None) -> replies.Named:
    return replies.Named(key, _content(entry))


def _checked_key(text: str) -> str:
    return str(_parsed_key(text))


def _parsed_key(text: str) -> FeatureKey:
    try:
        return parse_key(text)
    except InvalidKey as error:
        raise ApiError(422, "invalid_key", str(error)) from None


def _example(request: Request) -> int:
    given = request.query_params.getlist("example")
    if len(given) != 1 or not _ROW.fullmatch(given[0]):
        raise ApiError(422, "invalid_example", "send ?example= and a dataset row's number, from 0")
    return int(given[0])


def _precondition(request: Request) -> Precondition:
    try:
        return parse_precondition(request.headers.get("if-match"), request.headers.get("if-none-match"))
    except InvalidPrecondition as error:
        raise ApiError(400, "invalid_precondition", str(error)) from None
