"""Imports from the command line: through the service that has the notes file, or into the file itself."""

from __future__ import annotations

import http.client
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

import msgspec

from annotation_server import bulk
from annotation_server.bulk import ImportReport, UndoReport
from annotation_server.document import DocumentError
from annotation_server.notes_file import UnreadableFile, read_file
from annotation_server.owner import Owner
from annotation_server.store import Declined, FileTaken, Store, StoreError
from annotation_server.token import Token

_SECONDS = 60.0  # in which the service must answer
_Reply = TypeVar("_Reply", ImportReport, UndoReport)


class NotesError(Exception):
    """What was asked for was not done; the message is for the person who asked."""


class Notes(Protocol):
    """A notes file into which files are imported."""

    def take_in(self, name: str, content: str, *, replace: bool, by: str | None, dry_run: bool) -> ImportReport:
        """Imports a file, or says what that would do. Raises `NotesError`."""
        ...

    def undo(self, import_id: str) -> UndoReport:
        """Undoes an import. Raises `NotesError`."""
        ...


@contextmanager
def open_notes(path: Path, token: Token | None) -> Generator[Notes]:
    """The notes file `path`; `token` is for the service that may have it. Raises `NotesError`."""
    try:
        store = Store(path)
    except FileTaken as taken:
        if taken.owner is None:
            raise NotesError(f"{path}: another process is at work on this file; try again when it has ended") from None
        yield _Served(taken.owner, token)
        return
    except StoreError as error:
        raise NotesError(str(error)) from None
    try:
        yield _Owned(store)
    finally:
        store.close()


class _Owned:
    """The file, owned by this process."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def take_in(self, name: str, content: str, *, replace: bool, by: str | None, dry_run: bool) -> ImportReport:
        try:
            file = read_file(name, content)
            if dry_run:
                return bulk.look(file, self._store.read(), replace=replace)
            return bulk.take_in(self._store, file, replace=replace, by=by).result()
        except (UnreadableFile, DocumentError, OSError) as error:
            raise NotesError(str(error)) from None

    def undo(self, import_id: str) -> UndoReport:
        try:
            return bulk.undo(self._store, import_id).result()
        except (Declined, DocumentError, OSError) as error:
            raise NotesError(str(error)) from None


class _Served:
    """The file, owned by a service."""

    def __init__(self, owner: Owner, token: Token | None) -> None:
        self._url = owner.url
        self._name = f"the service at {owner.url} (process {owner.pid})"
        self._headers = {"Content-Type": "application/json"}
        if token is not None:
            self._headers["Authorization"] = token.authorization

    def take_in(self, name: str, content: str, *, replace: bool, by: str | None, dry_run: bool) -> ImportReport:
        body = {"name": name, "content": content, "replace": replace, "by": by, "dryRun": dry_run}
        return self._post("/api/import", body, ImportReport)

    def undo(self, import_id: str) -> UndoReport:
        return self._post(f"/api/import/{import_id}/undo", {}, UndoReport)

    def _post(self, path: str, body: object, kind: type[_Reply]) -> _Reply:
        # Not urllib: a proxy for the web is none for this service.
        connection = http.client.HTTPConnection(urlsplit(self._url).netloc, timeout=_SECONDS)
        try:
            connection.request("POST", path, msgspec.json.encode(body), self._headers)
            response = connection.getresponse()
            status, data = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise NotesError(f"{self._name} has the file and does not answer: {error}") from None
        finally:
            connection.close()
        if status != http.client.OK:
            raise NotesError(f"{self._name} refuses: {_message(data, status)}")
        return msgspec.json.decode(data, type=kind)


class _Error(msgspec.Struct):
    message: str


class _ErrorReply(msgspec.Struct):
    error: _Error


def _message(data: bytes, status: int) -> str:
    try:
        return msgspec.json.decode(data, type=_ErrorReply).error.message
    except msgspec.DecodeError:
        return f"status {status}"
