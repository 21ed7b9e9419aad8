"""The content-addressed store: every intermediate result under the fingerprint of what it was made from.

An entry is a directory `STAGE/FINGERPRINT/` with a `manifest.json`. It is built in `STAGE/FINGERPRINT.partial/` and
appears under its name by one rename, complete or not at all. The manifest holds the SHA-256 of every file and a seal
over itself; an entry that does not match is thrown away and built again. The entry's digest hashes its content, not
what it was made from: equal content from different inputs stops a recomputation from spreading. Facts whose names
begin with an underscore (times, places) are no content.

Any number of processes and projects may share a store.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, cast

from filelock import FileLock

MANIFEST = "manifest.json"
PARTIAL = ".partial"  # at the end of a name: not complete
REFERENCES = "projects"  # a directory beside the stages: which entry is an asset's latest, project by project
IN_USE = "in-use.lock"
Facts = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One complete result: where its files are and what its manifest says."""

    path: Path

    @cached_property
    def manifest(self) -> Facts:
        """The manifest: the builder's `facts`, `files` with their SHA-256, `digest` of the content, `seal` of these."""
        return cast("Facts", json.loads((self.path / MANIFEST).read_text(encoding="utf-8")))

    @property
    def digest(self) -> str:
        """Hash of the content: equal for equal files and facts."""
        return str(self.manifest["digest"])

    @property
    def facts(self) -> Facts:
        """What the builder recorded beside the files."""
        return cast("Facts", self.manifest["facts"])

    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())


Builder = Callable[[Path], Facts]


class StoreInUseError(Exception):
    """A run is using the store."""


class DamagedError(Exception):
    """Something in the store is gone, or is not what was put there; the message names it."""


@dataclass(frozen=True)
class Store:
    """The store below `root`."""

    root: Path

    def find(self, stage: str, fingerprint: str) -> Entry | None:
        """Return the entry, or None if there is none or its files are not what its manifest says."""
        entry = Entry(self.root / stage / fingerprint)
        return entry if is_intact(entry) else None

    def build(self, stage: str, fingerprint: str, builder: Builder, *, resumable: bool = False) -> tuple[Entry, bool]:
        """Return the entry and whether it was there already; `builder` fills a directory and returns facts.

        The directory starts empty unless `resumable`: then it holds what an interrupted builder left. Several
        processes may ask for one entry at once; one builds, the others wait.
        """
        target = self.root / stage / fingerprint
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if (found := self.find(stage, fingerprint)) is not None:
                return found, True
            partial = target.with_name(f"{fingerprint}{PARTIAL}")
            for leftover in [target] if resumable else [target, partial]:
                shutil.rmtree(leftover, ignore_errors=True)
            partial.mkdir(exist_ok=True)
            for unfinished in partial.rglob("*.tmp"):  # of a writer that was killed; not part of the result
                unfinished.unlink()
            _write_manifest(partial, builder(partial))
            partial.rename(target)
            return Entry(target), False

    def in_use(self) -> AbstractContextManager[None]:
        """Return a context in which nobody else has the store `alone`; it ends with the process, however that ends."""
        return self._locked(fcntl.LOCK_SH)

    def alone(self) -> AbstractContextManager[None]:
        """Return a context in which others wait with using the store. Raises StoreInUseError if it is in use."""
        return self._locked(fcntl.LOCK_EX | fcntl.LOCK_NB)

    @contextmanager
    def _locked(self, how: int) -> Generator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / IN_USE).open("ab") as file:
            try:
                fcntl.flock(file, how)
            except BlockingIOError as error:
                raise StoreInUseError from error
            yield


def fingerprint(*parts: object) -> str:
    """Return a short hash of `parts`, which must be plain JSON values."""
    return _hash(parts)[:32]


def file_digest(file: Path) -> str:
    """Return the SHA-256 of the file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def known_digest(file: Path) -> str:
    """Return the same as `file_digest`; the bytes are read again only once the file's status has changed."""
    status = file.stat()
    return _digest(file, (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))


@lru_cache(1024)
def _digest(file: Path, _status: tuple[int, ...]) -> str:
    return file_digest(file)


def write_atomically(file: Path, content: bytes) -> None:
    """Write a file that appears complete or not at all, in a directory that exists afterwards."""
    with _appearing(file) as temporary:
        temporary.write_bytes(content)


def copy_atomically(source: Path, file: Path) -> None:
    """Copy a file's content as `write_atomically` writes it, however large it is."""
    with _appearing(file) as temporary:
        shutil.copyfile(source, temporary)


@contextmanager
def _appearing(file: Path) -> Generator[Path]:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def is_intact(entry: Entry) -> bool:
    """Whether every file named in the manifest is there with the bytes that it names."""
    if not is_sealed(entry):
        return False
    files = cast("Mapping[str, str]", entry.manifest["files"])
    try:
        return all(file_digest(entry.path / name) == expected for name, expected in files.items())
    except OSError:
        return False


def is_sealed(entry: Entry) -> bool:
    """Whether the manifest is there and as it was written; the files that it names are not looked at."""
    try:
        return entry.manifest == _manifest(entry.manifest["files"], entry.facts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def intact_file(entry: Entry, name: str) -> Path:
    """Return a file of an entry whose manifest is sealed. Raises DamagedError unless it has the bytes named there.

    They are read once, as `known_digest` reads them.
    """
    file = entry.path / name
    try:
        intact = known_digest(file) == entry.manifest["files"][name]
    except OSError as error:
        raise DamagedError(f"{file}: {error.strerror}") from error
    if not intact:
        raise DamagedError(f"{file} is damaged")
    return file


def _write_manifest(directory: Path, facts: Facts) -> None:
    names = sorted(str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file())
    files = {name: file_digest(directory / name) for name in names if name != MANIFEST}
    as_read_back = json.loads(json.dumps(facts))  # a tuple becomes a list, a number as a key becomes text
    write_atomically(directory / MANIFEST, json.dumps(_manifest(files, as_read_back), indent=1).encode())


def _manifest(files: Mapping[str, str], facts: Facts) -> Facts:
    content = {name: value for name, value in facts.items() if not name.startswith("_")}
    manifest = {"digest": _hash({"files": files, "facts": content}), "facts": facts, "files": files}
    return {**manifest, "seal": _hash(manifest)}


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
