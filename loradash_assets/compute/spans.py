"""One example's activations on one module, out of a recording of any size: its tokens are found, and no others read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors import safe_open

from loradash_assets.compute.arrays import ranges
from loradash_assets.compute.experts import blocks, experts_of
from loradash_assets.compute.recording import dense_name, sparse_names
from loradash_assets.compute.row_groups import row_groups
from loradash_assets.compute.token_ids import IdsPart, TokenIds
from loradash_assets.compute.tokens import TokenIndex
from loradash_assets.store import DamagedError


@dataclass(frozen=True)
class Span:
    """An example's tokens: columns of a chunk file, and the token numbers that stand there."""

    file: Path
    columns: slice
    first: int  # the number of its first token; the others follow

    @property
    def tokens(self) -> int:
        """How many there are."""
        return self.columns.stop - self.columns.start


class ExampleIndex:
    """Where each example of a recording is: about 24 bytes per example.

    index: the tokens of the prompts that were recorded; files: the chunks, of which the token numbers are read, one
    chunk at a time. Raises DamagedError where these are not whole examples, each of them once.
    """

    def __init__(self, index: TokenIndex, files: Sequence[Path]) -> None:
        self._index = index
        self._files = files
        self._file = np.full(index.examples.size, -1, np.int32)  # (prompts,)
        self._start = np.zeros(index.examples.size, np.int64)  # (prompts,), column of the first token
        for number, file in enumerate(files):
            with safe_open(file, framework="np") as chunk:
                self._add(number, chunk.get_tensor("tokens"))
        if np.any(self._file < 0):
            raise DamagedError("the recording does not have every example")

    def find(self, example: int) -> Span | None:
        """Return where an example is, by its row in the dataset; None if that did not become a prompt."""
        prompt = int(np.searchsorted(self._index.examples, example))
        if prompt == self._index.examples.size or self._index.examples[prompt] != example:
            return None
        first, end = self._index.offsets[prompt : prompt + 2].tolist()
        start = int(self._start[prompt])
        return Span(self._files[self._file[prompt]], slice(start, start + end - first), first)

    def _add(self, number: int, tokens: NDArray[np.int64]) -> None:
        """Take in a chunk by its runs of successive token numbers, each of which is one or more whole examples."""
        if tokens.size == 0:
            return
        starts = np.concatenate([[0], np.flatnonzero(np.diff(tokens) != 1) + 1])
        ends = np.concatenate([starts[1:], [tokens.size]])
        first, last = self._prompts(tokens[starts]), self._prompts(tokens[ends - 1] + 1)
        prompts = ranges(first, last - first)
        if prompts.size != np.unique(prompts).size or np.any(self._file[prompts] >= 0):
            raise DamagedError(f"{self._files[number]}: an example is recorded twice")
        self._file[prompts] = number
        self._start[prompts] = self._index.offsets[prompts] + np.repeat(starts - tokens[starts], last - first)

    def _prompts(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the prompts that begin with these tokens; of the last token's number + 1, how many there are."""
        prompts = np.searchsorted(self._index.offsets, numbers)
        if np.any(self._index.offsets[np.minimum(prompts, self._index.offsets.size - 1)] != numbers):
            raise DamagedError("a chunk of the recording does not hold whole examples")
        return prompts


def prompt_index(prompts: Path) -> TokenIndex:
    """Return which tokens the prompts of a PROMPTS file have; no more than a group of its rows is in memory."""
    parts = [(part.examples, part.lengths) for part in map(IdsPart.of, row_groups(prompts, TokenIds.COLUMNS))]
    examples, lengths = (np.concatenate(column) for column in zip(*parts, strict=True))
    return TokenIndex.of_lengths(examples, lengths)


@dataclass(frozen=True)
class ModulePlace:
    """Where a module's features are in a layer's recording: rows among those that see every token, or of an expert.

    An expert is the `expert`-th of those that the layer's `owner`-th module with experts holds.
    """

    layer: int
    rows: slice
    owner: int | None = None
    expert: int = 0

    @staticmethod
    def of(layer: int, features: pa.Table, module: str) -> ModulePlace:
        """Find a module, by its full name, in the layer's slice of the FEATURES schema."""
        names = features.column("module").to_pylist()
        start, rank = names.index(module), names.count(module)
        found = blocks(features)
        block = next(each for each in found if each.features.start <= start < each.features.stop)
        rows = slice(start - block.features.start, start - block.features.start + rank)
        if not block.routed:
            return ModulePlace(layer, rows)
        routed = [each for each in found if each.routed]
        owners = [experts_of(names[each.features.start])[0] for each in routed]
        place = routed.index(block)
        before, owner = owners[:place], owners[place]
        return ModulePlace(layer, rows, len({*before} - {owner}), before.count(owner))


def module_activations(place: ModulePlace, span: Span) -> NDArray[np.float32]:
    """Return a module's recorded activations on an example, (rank, tokens); 0 where an expert does not see the token.

    Raises DamagedError if the chunk has other tokens there.
    """
    with safe_open(span.file, framework="np") as chunk:
        numbers = chunk.get_slice("tokens")[span.columns]
        if not np.array_equal(numbers, np.arange(span.first, span.first + span.tokens)):
            raise DamagedError(f"{span.file}: not the example's tokens")
        if place.owner is None:
            return chunk.get_slice(dense_name(place.layer))[place.rows, span.columns]
        return _of_seen(chunk, place, place.owner, span)


def _of_seen(chunk: Any, place: ModulePlace, owner: int, span: Span) -> NDArray[np.float32]:
    """An expert's columns are those of the tokens that it sees, in their order."""
    bounds, places, recorded = (chunk.get_slice(name) for name in sparse_names(place.layer, owner))
    start, stop = bounds[place.expert : place.expert + 2].tolist()
    values = np.zeros((place.rows.stop - place.rows.start, span.tokens), np.float32)
    if start == stop:  # safetensors has no empty slices
        return values
    seen = places[start:stop]  # (columns,), ascending
    first, last = np.searchsorted(seen, [span.columns.start, span.columns.stop]).tolist()
    if first < last:
        values[:, seen[first:last] - span.columns.start] = recorded[place.rows, start + first : start + last]
    return values
