"""`loradash build` in the current directory, killed while it records: what `chunks` starts.

    python -m benchmarks.reliability.killed_build MOMENT CHUNK [--careless]

MOMENT is one of MOMENTS, or `never`. Before the process dies it prints the numbers of the chunks that had run. The
control, careless, writes chunks in place, and takes one that is there for whole.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.reliability.still_clock import still_clock
from loradash_assets.cli import main
from loradash_assets.compute import recording
from loradash_assets.compute.recording import CHUNK_SUFFIX

MOMENTS = ("runs", "has run", "is half written", "is written", "is renamed")
RUN, WRITE, SAVE = recording._run, recording._write_parts, recording.save_file  # pyright: ignore[reportPrivateUsage]


class Death:
    """Stands in for parts of the recording, and kills the process at one moment of one chunk."""

    def __init__(self, moment: str, chunk: int, *, careless: bool) -> None:
        self._when = moment, chunk
        self._careless = careless
        self._run: list[int] = []

    def _reach(self, moment: str, chunk: int) -> None:
        if (moment, chunk) == self._when:
            print(*self._run, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    def run(self, plan: Any, chunk: Any, forward: Any, *rest: Any) -> Any:
        """Run a chunk."""
        number = plan.batches.chunks.index(chunk)

        def watched(*batch: Any) -> Any:
            self._reach("runs", number)
            return forward(*batch)

        ran = RUN(plan, chunk, watched, *rest)
        self._run.append(number)
        self._reach("has run", number)
        return ran

    def write(self, file: Path, *rest: Any) -> None:
        """Write a chunk, under its name in the end."""
        WRITE(file, *rest)
        self._reach("is renamed", _number(file))

    def save(self, tensors: Any, file: Path, **options: Any) -> None:
        """Write a chunk's bytes."""
        place = file.with_suffix(CHUNK_SUFFIX) if self._careless else file
        SAVE(tensors, place, **options)
        if self._when == ("is half written", _number(file)):
            os.truncate(place, place.stat().st_size // 2)
        self._reach("is half written", _number(file))
        self._reach("is written", _number(file))
        if self._careless:
            shutil.copyfile(place, file)


def _number(file: Path) -> int:
    return int(file.stem.removeprefix("chunk-"))


def _is_there(file: Path, *_: object) -> bool:
    return file.exists()


def run(moment: str, chunk: int, *, careless: bool) -> None:
    """Build, and die at the moment."""
    death = Death(moment, chunk, careless=careless)
    whole = _is_there if careless else recording._is_complete  # pyright: ignore[reportPrivateUsage]
    with (
        still_clock(),
        patch.multiple(recording, _run=death.run, _write_parts=death.write, save_file=death.save, _is_complete=whole),
    ):
        main(["build"], prog_name="loradash")


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), careless="--careless" in sys.argv)
