"""A model hub on the loopback address: enough of its HTTP interface for what `loradash` downloads.

It serves a folder: `models/ORGANISATION/NAME/` and `datasets/ORGANISATION/NAME/` are repositories, each with one
commit, named by a hash of its files, on the branch `main`. Files can be added at any time.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route


@dataclass(frozen=True)
class Repository:
    """The repository in `folder`, `name` being ORGANISATION/NAME."""

    name: str
    folder: Path

    def files(self) -> list[str]:
        """Return every file's path inside the repository, in order."""
        found = (file for file in self.folder.rglob("*") if file.is_file())
        return sorted(file.relative_to(self.folder).as_posix() for file in found)

    def commit(self) -> str:
        """Return the 40 digits that name the repository's content."""
        digest = hashlib.sha1(usedforsecurity=False)
        for path in self.files():
            digest.update(f"{path} {_oid(self.folder / path)}\n".encode())
        return digest.hexdigest()

    def entry(self, path: str) -> dict[str, Any]:
        """Return the hub's description of a file or directory."""
        target = self.folder / path
        if target.is_dir():
            return {"type": "directory", "path": path, "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0}
        return {"type": "file", "path": path, "oid": _oid(target), "size": target.stat().st_size}

    def info(self) -> dict[str, Any]:
        """Return the hub's description of the repository."""
        siblings = [{"rfilename": path} for path in self.files()]
        facts = {"private": False, "gated": False, "disabled": False, "tags": [], "downloads": 0, "likes": 0}
        return {
            "_id": self.name,
            "id": self.name,
            "modelId": self.name,
            "sha": self.commit(),
            "siblings": siblings,
        } | facts


def _oid(file: Path) -> str:
    return hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()


def _repository(request: Request) -> Repository:
    """Return the repository that the address names, at a revision it has. Raises HTTPException 404."""
    values = cast("dict[str, str]", request.path_params)
    name = f"{values['organisation']}/{values['name']}"
    kind = "datasets" if "/datasets/" in request.url.path else "models"
    repository = Repository(name, Path(request.app.state.folder) / kind / name)
    if not repository.folder.is_dir():
        raise _absent("RepoNotFound", f"no repository {name}")
    if values.get("revision", "main") not in ("main", repository.commit()):
        raise _absent("RevisionNotFound", f"no revision {values['revision']} of {name}")
    return repository


def _absent(code: str, message: str) -> HTTPException:
    return HTTPException(404, message, {"X-Error-Code": code, "X-Error-Message": message})


async def _info(request: Request) -> Response:
    return JSONResponse(_repository(request).info())


async def _tree(request: Request) -> Response:
    repository = _repository(request)
    top = repository.folder / request.path_params.get("path", "")
    if not top.is_dir():
        raise _absent("EntryNotFound", f"no directory {request.path_params['path']}")
    recursive = request.query_params.get("recursive", "false").lower() in ("true", "1")
    found = sorted(top.rglob("*") if recursive else top.iterdir())
    return JSONResponse([repository.entry(each.relative_to(repository.folder).as_posix()) for each in found])


async def _paths_info(request: Request) -> Response:
    repository = _repository(request)
    asked = (await request.json())["paths"]
    return JSONResponse([repository.entry(path) for path in asked if (repository.folder / path).exists()])


async def _resolve(request: Request) -> Response:
    repository = _repository(request)
    file = repository.folder / request.path_params["path"]
    headers = {"X-Repo-Commit": repository.commit(), "Accept-Ranges": "bytes"}
    if not file.is_file():
        raise _absent("EntryNotFound", f"no file {request.path_params['path']} in {repository.name}")
    return FileResponse(file, headers=headers | {"ETag": f'"{_oid(file)}"'})


async def _error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def hub(folder: Path) -> Starlette:
    """Return the hub's application for the repositories in `folder`; `state.requests` records what it was asked."""
    api = "/api/{kind:str}/{organisation}/{name}"
    repository = "/{organisation}/{name}/resolve/{revision}/{path:path}"
    routes = [
        Route(api, _info),
        Route(api + "/revision/{revision}", _info),
        Route(api + "/tree/{revision}", _tree),
        Route(api + "/tree/{revision}/{path:path}", _tree),
        Route(api + "/paths-info/{revision}", _paths_info, methods=["POST"]),
        Route("/datasets" + repository, _resolve),
        Route(repository, _resolve),
    ]
    application = Starlette(routes=routes, exception_handlers={HTTPException: _error})
    application.state.folder = folder
    return application
