"""Workers of a real cluster that sleep in place of a model: as many as the machine has no cores for."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from loradash_assets.compute.cluster.shared import Shared
from loradash_assets.compute.cluster.worker import Ready, Recorded, Task, Worker, put_answers
from loradash_assets.compute.job import Answers
from loradash_assets.compute.recording import chunk_file
from loradash_assets.store import file_digest

FILE_BYTES = 100_000
ANSWERS = Answers("cpu", "float32", 0, prefix_determined=True, obstacle="", masked=False, write_norms={})


def seconds_of(chunk: int) -> float:
    """Return how long a chunk takes."""
    return random.Random(chunk).uniform(0.5, 1.5)  # noqa: S311 (times, no secrets)


class Sleeper(Worker):
    """Says what a model might, sleeps for a chunk, and puts a file of zeros."""

    def start(self, task: Task) -> Ready:
        """Put the answers."""
        self._place = Shared(task.place)
        return Ready(os.getpid(), "here", put_answers(self._place, ANSWERS), plain=None)

    def record(self, number: int) -> Recorded:
        """Sleep while no other chunk does, and put the file while the next one may."""
        with self._turn:
            time.sleep(seconds_of(number))
        with self._place.scratch() as scratch:
            file = chunk_file(Path(scratch), number)
            file.write_bytes(bytes(FILE_BYTES))
            digest = file_digest(file)
            self._place.put(file, file.name)
        return Recorded(digest, 0)
