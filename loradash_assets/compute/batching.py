"""What runs together, in which order: a plan that depends on the examples' tokens and the settings, nothing else.

A prefix that several examples share is a segment that runs once; what comes after it runs on its kept keys and values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from loradash_assets.compute.prefix_tree import RUN, Entry, Node, entries_of, parents_of, shared_prefixes

Tokens = NDArray[np.integer]
Batch = tuple[int, ...]  # segments

# Keys and values of so many times `batch_tokens` may be needed at once: by the rows of a batch, and by what is still to
# run of a chunk. They are a fraction of what a forward pass has in memory for each of its own tokens.
PASTS = 4


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
    """Examples that are recorded together, whatever else is recorded, in the order in which they are stored.

    `carried`: segments that other chunks need as well. Each runs by itself, so that its values do not depend on the
    chunk; whoever records several chunks may keep them. They come first, then `batches`: parents before children.
    """

    examples: tuple[int, ...]
    carried: tuple[int, ...]
    batches: tuple[Batch, ...]

    @property
    def runs(self) -> list[Batch]:
        """Everything that runs, in order: the carried segments one by one, then the batches."""
        return [*((segment,) for segment in self.carried), *self.batches]


@dataclass(frozen=True)
class Plan:
    """Segments, the one that has each example's last token (None if it has no tokens), and chunks."""

    lengths: tuple[int, ...]  # of the examples
    segments: tuple[Segment, ...]
    ends: tuple[int | None, ...]
    chunks: tuple[Chunk, ...]

    def path(self, segment: int | None) -> list[int]:
        """Return a segment and all before it, the first one first."""
        return _path(self.segments, segment)

    def last_uses(self, chunk: Chunk) -> dict[int, int]:
        """Return which segments others in a chunk come after, and the number of the last run that needs them."""
        parents = ((self.segments[segment].parent, number) for number, run in enumerate(chunk.runs) for segment in run)
        return {parent: number for parent, number in parents if parent is not None}

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
        """How many tokens run, padding not counted, if carried segments run once."""
        return sum(segment.length for segment in self.segments)

    @property
    def computed_tokens(self) -> int:
        """How many tokens run, padding counted, if carried segments run once."""
        carried = {segment for chunk in self.chunks for segment in chunk.carried}
        batches = [*((segment,) for segment in carried), *(batch for chunk in self.chunks for batch in chunk.batches)]
        return sum(len(batch) * max(self.segments[segment].length for segment in batch) for batch in batches)

    @property
    def padding(self) -> float:
        """Which share of the computed tokens is padding."""
        return 1 - self.tokens / max(self.computed_tokens, 1)


def plan_recording(token_ids: Sequence[Tokens], batch_tokens: int, chunk_tokens: int, *, share: bool = True) -> Plan:
    """Plan batches of at most `batch_tokens` tokens with padding, in chunks of at most `chunk_tokens` without.

    A longer segment runs alone, as all examples do with `batch_tokens` 0; a longer example is a chunk by itself.
    Without `share` every example is one segment. Examples without tokens alone make no chunk.
    """
    share = share and batch_tokens > 0
    tree = _Tree.of(token_ids, chunk_tokens) if share else _Tree.without(token_ids)
    ends: list[int | None] = [None] * len(token_ids)
    for entry, end in zip(tree.entries, tree.ends, strict=True):
        for example in entry.examples:
            ends[example] = _covering(tree.segments, end, len(token_ids[example]))
    filled = _filled(_units(tree, chunk_tokens), chunk_tokens, lambda unit: unit.tokens)
    chunks = [_chunk(tree, units, batch_tokens) for units in filled if any(unit.tokens for unit in units)]
    return Plan(tuple(len(ids) for ids in token_ids), tuple(tree.segments), tuple(ends), tuple(chunks))


@dataclass(frozen=True)
class _Tree:
    """Entries, nodes of the prefix tree, and segments: those of the nodes first, then those of entries' own tokens."""

    entries: Sequence[Entry]
    nodes: Sequence[Node]
    segments: Sequence[Segment]
    ends: Sequence[int | None]  # of the entries

    @staticmethod
    def of(token_ids: Sequence[Tokens], chunk_tokens: int) -> _Tree:
        entries = entries_of(token_ids, chunk_tokens)
        return _Tree._from(entries, shared_prefixes(token_ids, entries))

    @staticmethod
    def without(token_ids: Sequence[Tokens]) -> _Tree:
        return _Tree._from([Entry((i,), len(ids), len(ids)) for i, ids in enumerate(token_ids)], [])

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
    """Neighbouring entries that stay together because they share a segment, or a single one."""

    entries: range
    carried: int | None  # the deepest segment that they share with other units
    longest: int
    tokens: int


def _units(tree: _Tree, chunk_tokens: int) -> list[_Unit]:
    """Return the units: by what they share with others, then by length."""
    totals = np.cumsum([0, *(entry.tokens for entry in tree.entries)])
    carried: list[int | None] = [None] * len(tree.entries)
    stops = [entry + 1 for entry in range(len(tree.entries))]  # of the unit that starts at an entry
    for node in reversed(tree.nodes):  # those higher up later
        if totals[node.stop] - totals[node.start] <= chunk_tokens:
            stops[node.start] = node.stop
    for number, node in enumerate(tree.nodes):
        if totals[node.stop] - totals[node.start] > chunk_tokens:
            carried[node.start : node.stop] = [number] * (node.stop - node.start)
    units: list[_Unit] = []
    start = 0
    while start < len(stops):
        inside = range(start, stops[start])
        longest = max(tree.entries[entry].length for entry in inside)
        tokens = int(totals[stops[start]] - totals[start])
        units.append(_Unit(inside, carried[start], longest, tokens))
        start = stops[start]
    first = [-1 if unit.carried is None else unit.carried for unit in units]
    order = sorted(range(len(units)), key=lambda unit: (first[unit], units[unit].longest, unit))
    return [units[unit] for unit in order]


def _filled(units: Iterable[_Unit], size: int, tokens: Callable[[_Unit], int]) -> Iterator[list[_Unit]]:
    """Yield consecutive units of at most `size` tokens together, or one that has more."""
    together: list[_Unit] = []
    total = 0
    for unit in units:
        if together and total + tokens(unit) > size:
            yield together
            together, total = [], 0
        together.append(unit)
        total += tokens(unit)
    if together:
        yield together


def _chunk(tree: _Tree, units: Sequence[_Unit], batch_tokens: int) -> Chunk:
    examples = (example for unit in units for entry in unit.entries for example in tree.entries[entry].examples)
    carried = {segment for unit in units for segment in tree.path(unit.carried)}

    def kept_tokens(unit: _Unit) -> int:
        return sum(tree.segments[node].length for node in _segments(tree, [unit]) - carried if node < len(tree.nodes))

    batches: list[Batch] = []
    for some in _filled(units, PASTS * batch_tokens, kept_tokens):
        segments = _segments(tree, some) - carried
        nodes = [segment for segment in segments if segment < len(tree.nodes)]
        for _, level in groupby(sorted(nodes, key=tree.level), key=tree.level):
            batches += _batches(tree, level, batch_tokens)
        batches += _batches(tree, segments.difference(nodes), batch_tokens)
    return Chunk(tuple(sorted(examples)), tuple(sorted(carried)), tuple(batches))


def _segments(tree: _Tree, units: Iterable[_Unit]) -> set[int]:
    return {segment for unit in units for entry in unit.entries for segment in tree.path(tree.ends[entry])}


def _batches(tree: _Tree, numbers: Iterable[int], batch_tokens: int) -> list[Batch]:
    """Group segments by length so that padding and `RUN` tokens for each batch come to as little as they can.

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
        costs = least[stop - rows] + rows * length + RUN
        starts.append(stop - int(rows[costs.argmin()]))
        least[stop] = costs.min()
    batches: list[Batch] = []
    stop = len(order)
    while stop:
        batches.append(tuple(order[starts[stop - 1] : stop]))
        stop = starts[stop - 1]
    return batches[::-1]
