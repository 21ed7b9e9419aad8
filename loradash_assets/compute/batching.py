"""What runs together, in which order: a plan that depends on the examples' tokens and the settings, nothing else.

A prefix that several examples share is a segment that runs once; what comes after it runs on its kept keys and values.
What is stored in one file, a chunk, is cut from the batches afterwards: other chunks leave the batches as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, groupby
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from loradash_assets.compute.prefix_tree import Entry, Node, entries_of, parents_of, shared_prefixes

Tokens = NDArray[np.integer]
Batch = tuple[int, ...]  # segments

# Keys and values of so many times `batch_tokens` may be needed at once: by the rows of a batch, and by what is still to
# run after prefixes. They are a fraction of what a forward pass has in memory for each of its own tokens.
PASTS = 4

# How many tokens more a batch costs beside its own; less than `prefix_tree.RUN`, as nothing waits for it.
BATCH = 32


@dataclass(frozen=True)
class Segment:
    """Tokens start:stop of an example, and of every other one that shares them; `parent` is the segment before."""

    example: int
    start: int
    stop: int
    parent: int | None

    @property
    def length(self) -> int:
        """How many tokens it has."""
        return self.stop - self.start


@dataclass(frozen=True)
class Chunk:
    """Examples that are recorded together, in the order in which they are stored, and what must run for them.

    `batches`: their numbers in the plan, parents before children. Neighbouring chunks may need the same ones.
    """

    examples: tuple[int, ...]
    batches: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """Segments, the one that has each example's last token (None if it has no tokens), batches of them, and chunks.

    The batches do not depend on the chunks, and so neither do the values.
    """

    lengths: tuple[int, ...]  # of the examples
    segments: tuple[Segment, ...]
    ends: tuple[int | None, ...]
    batches: tuple[Batch, ...]
    chunks: tuple[Chunk, ...]

    @cached_property
    def parents(self) -> frozenset[int]:
        """The segments that others come after."""
        return frozenset(segment.parent for segment in self.segments if segment.parent is not None)

    def path(self, segment: int | None) -> list[int]:
        """Return a segment and all before it, the first one first."""
        return _path(self.segments, segment)

    def runs(self, chunk: Chunk) -> list[Batch]:
        """Return everything that a chunk needs, in order."""
        return [self.batches[number] for number in chunk.batches]

    def last_uses(self, chunk: Chunk) -> dict[int, int]:
        """Return which segments others in a chunk come after, and the last of its batches that needs each of them."""
        return {
            parent: number
            for number in chunk.batches
            for segment in self.batches[number]
            if (parent := self.segments[segment].parent) is not None
        }

    def sources(self, chunk: Chunk) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where each stored token of a chunk comes from: segments and places in them, both (tokens,)."""
        parts = [
            (number, min(self.segments[number].stop, self.lengths[example]) - self.segments[number].start)
            for example in chunk.examples
            for number in self.path(self.ends[example])
        ]
        numbers, counts = np.array(parts, np.int64).reshape(-1, 2).T
        return np.repeat(numbers, counts), np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)

    @property
    def tokens(self) -> int:
        """How many tokens run, padding not counted, if every batch runs once."""
        return sum(segment.length for segment in self.segments)

    @property
    def computed_tokens(self) -> int:
        """How many tokens run, padding counted, if every batch runs once."""
        return sum(len(batch) * max(self.segments[segment].length for segment in batch) for batch in self.batches)

    @property
    def padding(self) -> float:
        """Which share of the computed tokens is padding."""
        return 1 - self.tokens / max(self.computed_tokens, 1)


def plan_recording(token_ids: Sequence[Tokens], batch_tokens: int, chunk_tokens: int, *, share: bool = True) -> Plan:
    """Plan batches of at most `batch_tokens` tokens with padding, and chunks of at most `chunk_tokens` without.

    A longer segment runs alone, as all examples do with `batch_tokens` 0; a longer example is a chunk by itself.
    Without `share` every example is one segment. Examples without tokens are in no chunk.
    """
    share = share and batch_tokens > 0
    tree = _Tree.of(token_ids) if share else _Tree.without(token_ids)
    ends: list[int | None] = [None] * len(token_ids)
    for entry, end in zip(tree.entries, tree.ends, strict=True):
        for example in entry.examples:
            ends[example] = _covering(tree.segments, end, len(token_ids[example]))
    lengths = tuple(len(ids) for ids in token_ids)
    batches = tuple(_all_batches(tree, batch_tokens))
    chunks = tuple(_chunks(tree.segments, batches, ends, lengths, chunk_tokens))
    return Plan(lengths, tuple(tree.segments), tuple(ends), batches, chunks)


@dataclass(frozen=True)
class _Tree:
    """Entries, nodes of the prefix tree, and segments: those of the nodes first, then those of entries' own tokens."""

    entries: Sequence[Entry]
    nodes: Sequence[Node]
    segments: Sequence[Segment]
    ends: Sequence[int | None]  # of the entries

    @staticmethod
    def of(token_ids: Sequence[Tokens]) -> _Tree:
        entries = entries_of(token_ids)
        return _Tree._from(entries, shared_prefixes(token_ids, entries))

    @staticmethod
    def without(token_ids: Sequence[Tokens]) -> _Tree:
        return _Tree._from([Entry((i,), len(ids)) for i, ids in enumerate(token_ids)], [])

    @staticmethod
    def _from(entries: Sequence[Entry], nodes: Sequence[Node]) -> _Tree:
        segments: list[Segment] = []
        ends: list[int | None] = [None] * len(entries)
        for number, (node, parent) in enumerate(zip(nodes, parents_of(nodes), strict=True)):
            start = 0 if parent is None else nodes[parent].depth
            segments.append(Segment(entries[node.start].examples[-1], start, node.depth, parent))
            ends[node.start : node.stop] = [number] * (node.stop - node.start)
        for i, entry in enumerate(entries):
            parent = ends[i]
            start = 0 if parent is None else segments[parent].stop
            if entry.length > start:
                ends[i] = len(segments)
                segments.append(Segment(entry.examples[-1], start, entry.length, parent))
        return _Tree(entries, nodes, segments, ends)

    def path(self, segment: int | None) -> list[int]:
        return _path(self.segments, segment)

    def level(self, segment: int) -> int:
        return len(self.path(segment))


def _path(segments: Sequence[Segment], segment: int | None) -> list[int]:
    path: list[int] = []
    while segment is not None:
        path.append(segment)
        segment = segments[segment].parent
    return path[::-1]


def _covering(segments: Sequence[Segment], segment: int | None, length: int) -> int | None:
    """Return the first segment of those that end with this one that reaches an example's length."""
    while segment is not None and segments[segment].start >= length:
        segment = segments[segment].parent
    return segment


@dataclass(frozen=True)
class _Unit:
    """Neighbouring entries that share segments, which run before them and wait for them, or a single one."""

    entries: range
    carried: int | None  # the deepest segment that they share with other units
    longest: int
    waiting: int  # tokens of the segments that they share


def _units(tree: _Tree, limit: int) -> list[_Unit]:
    """Return the units of at most `limit` waiting tokens: by what they share with others, then by length."""
    carried: list[int | None] = [None] * len(tree.entries)
    stops = [entry + 1 for entry in range(len(tree.entries))]  # of the unit that starts at an entry
    waiting = [0] * len(tree.entries)
    below = _tokens_of_nodes(tree)
    for number in reversed(range(len(tree.nodes))):  # those higher up later
        node = tree.nodes[number]
        if below[number] <= limit:
            stops[node.start], waiting[node.start] = node.stop, below[number]
    for number, node in enumerate(tree.nodes):
        if below[number] > limit:
            carried[node.start : node.stop] = [number] * (node.stop - node.start)
    units: list[_Unit] = []
    start = 0
    while start < len(stops):
        inside = range(start, stops[start])
        longest = max(tree.entries[entry].length for entry in inside)
        units.append(_Unit(inside, carried[start], longest, waiting[start]))
        start = stops[start]
    first = [-1 if unit.carried is None else unit.carried for unit in units]
    order = sorted(range(len(units)), key=lambda unit: (first[unit], units[unit].longest, unit))
    return [units[unit] for unit in order]


def _tokens_of_nodes(tree: _Tree) -> list[int]:
    """How many tokens each node has together with the nodes below it, which follow it."""
    totals = np.cumsum([0, *(tree.segments[number].length for number in range(len(tree.nodes)))])
    ends = np.searchsorted([node.start for node in tree.nodes], [node.stop for node in tree.nodes])
    return (totals[ends] - totals[:-1]).tolist()


T = TypeVar("T")


def _filled(things: Iterable[T], size: int, tokens: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield consecutive things of at most `size` tokens together, or one that has more."""
    together: list[T] = []
    total = 0
    for thing in things:
        if together and total + tokens(thing) > size:
            yield together
            together, total = [], 0
        together.append(thing)
        total += tokens(thing)
    if together:
        yield together


def _all_batches(tree: _Tree, batch_tokens: int) -> Iterator[Batch]:
    """Yield all batches, parents before children: first, one by one, segments that too much comes after to wait for.

    Then units that together have few enough waiting tokens: their shared segments, level by level, and what is left.
    """
    limit = PASTS * batch_tokens
    units = _units(tree, limit)
    carried = {segment for unit in units for segment in tree.path(unit.carried)}
    yield from ((segment,) for segment in sorted(carried))
    for some in _filled(units, limit, lambda unit: unit.waiting):
        segments = {end for unit in some for entry in unit.entries for end in tree.path(tree.ends[entry])} - carried
        nodes = [segment for segment in segments if segment < len(tree.nodes)]
        for _, level in groupby(sorted(nodes, key=tree.level), key=tree.level):
            yield from _batches(tree, level, batch_tokens)
        yield from _batches(tree, segments.difference(nodes), batch_tokens)


def _chunks(
    segments: Sequence[Segment],
    batches: Sequence[Batch],
    ends: Sequence[int | None],
    lengths: Sequence[int],
    chunk_tokens: int,
) -> Iterator[Chunk]:
    """Yield the chunks: examples in the order of the batches that they end in, whole batches where they fit."""
    batch_of = {segment: number for number, batch in enumerate(batches) for segment in batch}
    parents = [
        {batch_of[parent] for segment in batch if (parent := segments[segment].parent) is not None} for batch in batches
    ]
    ending: list[list[int]] = [[] for _ in batches]
    for example, end in enumerate(ends):
        if end is not None:
            ending[batch_of[end]].append(example)

    def tokens(examples: Sequence[int]) -> int:
        return sum(lengths[example] for example in examples)

    whole = (
        part
        for examples in ending
        if examples
        for part in ([examples] if tokens(examples) <= chunk_tokens else [[example] for example in examples])
    )
    for parts in _filled(whole, chunk_tokens, tokens):
        examples = sorted(chain.from_iterable(parts))
        ending_in = {batch_of[end] for example in examples if (end := ends[example]) is not None}
        yield Chunk(tuple(examples), tuple(sorted(_with_parents(ending_in, parents))))


def _with_parents(numbers: set[int], parents: Sequence[set[int]]) -> set[int]:
    """Return the batches, those that they come after, and so on."""
    found, new = set[int](), numbers
    while new:
        found |= new
        new = set[int]().union(*(parents[number] for number in new)) - found
    return found


def _batches(tree: _Tree, numbers: Iterable[int], batch_tokens: int) -> list[Batch]:
    """Group segments by length so that padding and `BATCH` tokens for each batch come to as little as they can.

    rows x longest stays within `batch_tokens`, with pasts within `PASTS` times as many, unless a row is alone.
    """
    segments = tree.segments
    order = sorted(numbers, key=lambda segment: (segments[segment].length, segments[segment].start, segment))
    lengths = np.array([segments[segment].length for segment in order], np.int64)
    pasts = np.array([segments[segment].start for segment in order], np.int64)
    least = np.zeros(len(order) + 1, np.int64)  # tokens that the first segments cost
    starts: list[int] = []  # of the batch that ends with each segment
    for stop, length in enumerate(lengths.tolist(), start=1):
        rows = np.arange(1, max(1, min(stop, batch_tokens // length)) + 1)
        longest_past = np.maximum.accumulate(pasts[stop - rows.size : stop][::-1])
        rows = rows[(rows == 1) | (rows * (longest_past + length) <= PASTS * batch_tokens)]
        costs = least[stop - rows] + rows * length + BATCH
        starts.append(stop - int(rows[costs.argmin()]))
        least[stop] = costs.min()
    batches: list[Batch] = []
    stop = len(order)
    while stop:
        batches.append(tuple(order[starts[stop - 1] : stop]))
        stop = starts[stop - 1]
    return batches[::-1]
