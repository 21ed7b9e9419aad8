"""Several layers at once, in threads: numpy lets others run during all that takes long."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

import pyarrow as pa

from loradash_assets.compute.passes import Block, Chunk, LayerRecording

MOST = 8  # each piece has memory of its own

T = TypeVar("T")
R = TypeVar("R")
Check = Callable[[], None]  # raises StoppedError where somebody wants an end


class StoppedError(Exception):
    """The work that this piece belongs to has failed or was interrupted."""


def in_order(work: Callable[[T, Check], R], pieces: Sequence[T], threads: int | None = None) -> Generator[R]:
    """Yield work(piece, check) of every piece, in order, while later ones run: as many at once as there are cores.

    No more than `MOST` or, if given, `threads`. An error comes up at the turn of its piece. Whatever ends this, that or
    an interruption, or that nobody goes on reading, ends the other pieces as soon as they call `check`.
    """
    stop = Event()

    def check() -> None:
        if stop.is_set():
            raise StoppedError

    with ThreadPoolExecutor(threads or min(MOST, pa.cpu_count())) as pool:
        try:
            yield from pool.map(lambda piece: work(piece, check), pieces)
        finally:
            stop.set()


@dataclass(frozen=True)
class Checked:
    """A layer's recording that calls `check` before every chunk."""

    recording: LayerRecording
    check: Check

    @property
    def blocks(self) -> Sequence[Block]:
        """Those of the recording."""
        return self.recording.blocks

    def chunks(self) -> Iterator[Sequence[Chunk]]:
        """Yield those of the recording."""
        for chunk in self.recording.chunks():
            self.check()
            yield chunk
