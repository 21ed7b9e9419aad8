"""Files that survive a crash: replaced whole or not at all, appended to in whole lines, owned by one process.

Plain system calls, each of which a test can make fail. A failed fsync says nothing about what reached the disk and may
report success when repeated, so nothing here is retried on the same file: the next attempt writes a new one.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_NEW_FILE_MODE = 0o666  # before the umask


class FileInUse(Exception):
    """Another process holds the lock."""


def signature(path: Path) -> tuple[int, ...] | None:
    """What changes whenever the file is written: device, inode, size, mtime in ns; None if there is no file."""
    try:
        return _signature(os.stat(path))
    except FileNotFoundError:
        return None


def read(path: Path) -> tuple[bytes, tuple[int, ...]] | None:
    """The file's bytes and signature; None if there is no file.

    The signature is taken before the bytes: a write in between shows as a change later and is never overlooked.
    """
    try:
        with path.open("rb") as file:
            found = _signature(os.fstat(file.fileno()))
            return file.read(), found
    except FileNotFoundError:
        return None


@contextmanager
def staged(path: Path, data: bytes) -> Generator[Path]:
    """A synced file with `data` and the mode of `path`, beside `path`; gone at the end unless renamed by `publish`."""
    temporary = temporary_path(path)
    try:
        _write_new(temporary, data, _mode(path))
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def publish(temporary: Path, path: Path) -> None:
    """Puts the staged file in the place of `path`, durably."""
    os.replace(temporary, path)
    _sync_directory(path.parent)


def temporary_path(path: Path) -> Path:
    """Always the same name: there is one writer, and what a killed one left is found and removed."""
    return path.with_name(f".{path.name}.tmp")


def append(path: Path, lines: bytes, like: Path) -> None:
    """Appends whole lines durably, apart from one that a crash tore. A new file is no more open than `like`."""
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, _mode(like) or _NEW_FILE_MODE)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        _write_all(descriptor, b"\n" + lines if torn else lines)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if size == 0:
        _sync_directory(path.parent)


def lock(path: Path) -> int:
    """Takes the lock on `path`, now empty, until the returned descriptor is closed or the process ends.

    Raises `FileInUse`. The lock file stays: removing it would let two processes each lock a file of that name.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise FileInUse from None
        raise
    return descriptor


def fill(descriptor: int, data: bytes) -> None:
    """Puts `data` into an open file that is empty."""
    _write_all(descriptor, data)


def _signature(status: os.stat_result) -> tuple[int, ...]:
    # Not ctime: a rename changes it, and the signature of a staged file must hold afterwards.
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _mode(path: Path) -> int | None:
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        return None


def _write_new(path: Path, data: bytes, mode: int | None) -> None:
    """A new file with `data`, synced; with `mode`, or what the umask leaves."""
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    descriptor = os.open(path, flags, _NEW_FILE_MODE if mode is None else 0o600)
    try:
        if mode is not None:
            os.fchmod(descriptor, mode)
        _write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
