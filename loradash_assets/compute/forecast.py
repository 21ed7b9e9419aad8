"""How large a recording will be, and whether the disk has room for it: said before the model is loaded."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loradash_assets.compute.errors import StorageError
from loradash_assets.compute.experts import NO_EXPERT, experts_of
from loradash_assets.compute.features import AdaptedModule

_VALUE, _NUMBER, _PLACE = 4, 8, 4  # bytes of an activation, a token number, a token's place in its chunk
_HEADER, _TENSOR = 200, 120  # bytes of a chunk file's header, at most: alone, and for each tensor


def recording_bytes(modules: Sequence[AdaptedModule], config: Any, tokens: int, chunks: int) -> int:
    """Return how many bytes the chunk files of these modules will take at most, from the base model's configuration.

    Exact but for the headers (some kilobytes per chunk), where the model sends every token to a fixed number of
    experts; where it does not say, as if it sent each to all.
    """
    dense = [module for module in modules if module.expert == NO_EXPERT]
    experts: dict[tuple[int, str], dict[int, int]] = {}  # per layer and module with experts: expert -> features
    for module in modules:
        if module.expert != NO_EXPERT:
            ranks = experts.setdefault((module.layer, experts_of(module.name)[0]), {})
            ranks[module.expert] = ranks.get(module.expert, 0) + module.rank
    per_token = _NUMBER + _VALUE * sum(module.rank for module in dense)
    per_chunk = _HEADER + _TENSOR * (1 + len({module.layer for module in dense}) + 3 * len(experts))
    sent = getattr(config.get_text_config(), "num_experts_per_tok", None)
    for ranks in experts.values():
        seen = min(len(ranks), sent) if isinstance(sent, int) else len(ranks)
        per_token += seen * (_PLACE + _VALUE * max(ranks.values()))
        per_chunk += _NUMBER * (len(ranks) + 1)
    return tokens * per_token + chunks * per_chunk


@dataclass(frozen=True)
class Room:
    """What a recording will take in the store, what of it is there already, and what is free; in bytes."""

    expected: int
    there: int
    free: int

    @classmethod
    def of(cls, expected: int, directory: Path, free: Callable[[Path], int]) -> Room:
        """Look at the directory that the recording goes to, which exists; `free` says what its disk has left."""
        there = sum(file.stat().st_size for file in directory.iterdir() if file.is_file())
        return cls(expected, there, free(directory))

    @property
    def needed(self) -> int:
        """What is still to be written."""
        return max(0, self.expected - self.there)

    def __str__(self) -> str:
        recorded = f", of which {bytes_text(self.there)} are there" if self.there else ""
        return (
            f"the recording takes {bytes_text(self.expected)} in the store{recorded}; {bytes_text(self.free)} are free"
        )

    def check(self, directory: Path) -> None:
        """Raise StorageError if the disk has not enough room."""
        if self.needed > self.free:
            raise StorageError(
                f"store.path: recording needs {bytes_text(self.needed)} more below {directory}, where "
                f"{bytes_text(self.free)} are free: make room there ('loradash clean' lists what is not in use), "
                "name a store on a larger disk, or record less (dataset.num_examples, dataset.max_tokens)"
            )


def free_bytes(directory: Path) -> int:
    """Return how many bytes can be written to the disk that a directory is on."""
    return shutil.disk_usage(directory).free


def bytes_text(size: int) -> str:
    """Bytes as people read them, in powers of 1000 as disks are sold: "18.0 GB"."""
    value, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.95 or unit == "TB":
            break
        value /= 1000
    return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"
