"""The content-addressed store: every intermediate result under the fingerprint of what it was made from.

An entry is a directory `STAGE/FINGERPRINT/` with a `manifest.json`. It is built in `STAGE/FINGERPRINT.partial/` and
appears under its name by one rename, complete or not at all. The manifest holds the SHA-256 of every file; an entry
that does not match it is thrown away and built again. The entry's digest hashes its content, not what it was made
from: equal content from different inputs stops a recomputation from spreading.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from filelock import FileLock

MANIFEST = "manifest.json"
Facts = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One complete result: where its files are and what its manifest says."""

    path: Path

    @cached_property
    def manifest(self) -> Facts:
        """The manifest: `facts` of the builder, `files` with their SHA-256, `digest` of all content."""
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
            partial = target.with_name(f"{fingerprint}.partial")
            for leftover in [target] if resumable else [target, partial]:
                shutil.rmtree(leftover, ignore_errors=True)
            partial.mkdir(exist_ok=True)
            _write_manifest(partial, builder(partial))
            partial.rename(target)
            return Entry(target), False


def fingerprint(*parts: object) -> str:
    """Return a short hash of `parts`, which must be plain JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def file_digest(file: Path) -> str:
    """Return the SHA-256 of the file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomically(file: Path, content: bytes) -> None:
    """Write a file that appears complete or not at all, in a directory that exists afterwards."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def is_intact(entry: Entry) -> bool:
    """Whether every file named in the manifest is there with the bytes that it names."""
    try:
        files = cast("Mapping[str, str]", entry.manifest["files"])
        return entry.digest == _digest(files, entry.facts) and all(
            file_digest(entry.path / name) == expected for name, expected in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _write_manifest(directory: Path, facts: Facts) -> None:
    names = sorted(str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file())
    files = {name: file_digest(directory / name) for name in names if name != MANIFEST}
    manifest = {"digest": _digest(files, facts), "facts": facts, "files": files}
    write_atomically(directory / MANIFEST, json.dumps(manifest, indent=1).encode())


def _digest(files: Mapping[str, str], facts: Facts) -> str:
    content = {"files": files, "facts": {name: value for name, value in facts.items() if not name.startswith("_")}}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
