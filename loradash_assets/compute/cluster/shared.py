"""The place that driver and workers share: a directory on a shared file system, or a bucket through fsspec.

A key is a path below the place. What has one appeared under it complete, or not at all: by rename in a directory, by
the end of the upload in a bucket.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from loradash_assets.compute.errors import ClusterError, InputError
from loradash_assets.store import copy_atomically, file_digest, fingerprint

INPUTS = "inputs"
URL = "://"


class Shared:
    """Files below `place`: a directory's path or an fsspec URL. Raises ClusterError if it cannot be used."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._bucket = _Bucket(place) if URL in place else None
        self._directory = Path(place)

    @contextmanager
    def refusals(self) -> Generator[None]:
        """Raise ClusterError saying what the place answers, if it cannot be used."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # fsspec's file systems raise their libraries' own
            raise ClusterError(f"cluster.shared_store: cannot use {self._place}: {error}") from error

    def scratch(self) -> TemporaryDirectory[str]:
        """Return a temporary directory to write files in that are to be put: in the place itself, if that is one."""
        if self._bucket is not None:
            return TemporaryDirectory(prefix="loradash-")
        self._directory.mkdir(parents=True, exist_ok=True)
        return TemporaryDirectory(prefix=".writing-", dir=self._directory, ignore_cleanup_errors=True)

    def put(self, file: Path, key: str) -> None:
        """Move a file of `scratch` to the place."""
        if self._bucket is not None:
            self._bucket.put(file, key)
        else:
            file.replace(self._directory / key)

    def take(self, key: str, file: Path) -> None:
        """Move a file from the place to `file`, which may have part of it if that is interrupted."""
        if self._bucket is not None:
            self._bucket.get(key, file)
            self._bucket.remove(key)
        else:
            shutil.move(self._directory / key, file)

    def read(self, key: str) -> bytes:
        """Return a file's content."""
        return self._bucket.read(key) if self._bucket is not None else (self._directory / key).read_bytes()

    def keys(self) -> set[str]:
        """Return the keys of the files, inputs left out."""
        if self._bucket is not None:
            return self._bucket.names()
        if not self._directory.is_dir():
            return set()
        return {entry.name for entry in os.scandir(self._directory) if entry.is_file() and entry.name[0] != "."}

    def share(self, files: Sequence[Path]) -> str:
        """Put copies of files, which together are one input; return the key of their directory, named by content."""
        key = f"{INPUTS}/{_content(files)}"
        for file in files:
            if self._bucket is not None:
                self._bucket.put(file, f"{key}/{file.name}")
            else:
                copy_atomically(file, self._directory / key / file.name)
        return key

    def fetch(self, key: str, scratch: Path) -> Path:
        """Return a directory with the files of an input; those of a bucket are downloaded into `scratch`.

        Raises ClusterError if they are not those that were shared.
        """
        directory = self._directory / key
        if self._bucket is not None:
            directory = scratch / key
            directory.mkdir(parents=True, exist_ok=True)
            self._bucket.get_all(key, directory)
        if not directory.is_dir() or _content(sorted(directory.iterdir())) != Path(key).name:
            raise ClusterError(
                f"cluster.shared_store: {directory} does not hold what was put there: name a directory that every "
                "machine of the cluster sees, or a bucket (s3://BUCKET/PREFIX)"
            )
        return directory

    def clear(self) -> None:
        """Remove everything below the place."""
        if self._bucket is not None:
            self._bucket.clear()
        else:
            shutil.rmtree(self._directory, ignore_errors=True)


def _content(files: Sequence[Path]) -> str:
    return fingerprint(sorted((file.name, file_digest(file)) for file in files))


class _Bucket:
    """What fsspec does with a URL."""

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        try:
            found: tuple[Any, str] = url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise ClusterError(f"cluster.shared_store: {url}: {error}") from error
        self._files, self._root = found

    def put(self, file: Path, key: str) -> None:
        self._files.put_file(str(file), f"{self._root}/{key}")

    def get(self, key: str, file: Path) -> None:
        self._files.get_file(f"{self._root}/{key}", str(file))

    def get_all(self, key: str, directory: Path) -> None:
        for path in self._files.ls(f"{self._root}/{key}", detail=False):
            self._files.get_file(path, str(directory / Path(path).name))

    def read(self, key: str) -> bytes:
        return self._files.cat_file(f"{self._root}/{key}")

    def remove(self, key: str) -> None:
        self._files.rm_file(f"{self._root}/{key}")

    def names(self) -> set[str]:
        if not self._files.exists(self._root):
            return set()
        found = self._files.ls(self._root, detail=True)
        return {Path(entry["name"]).name for entry in found if entry["type"] == "file"}

    def clear(self) -> None:
        if self._files.exists(self._root):
            self._files.rm(self._root, recursive=True)
