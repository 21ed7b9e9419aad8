"""One layer's recording to its tables: the extreme tokens of each feature with their contexts, and its statistics.

Two passes over the recording: the first ranks tokens and finds ranges, the second counts histograms and collects the
activations around the tokens that were selected. Memory grows with features and k, not with the number of tokens
(beside the prompts themselves).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loradash_assets.compute.basis import SvdBasis
from loradash_assets.compute.prefixes import first_occurrences
from loradash_assets.compute.statistics import MomentCounter, RangeCounter
from loradash_assets.compute.tokens import TokenIndex
from loradash_assets.compute.topk import TopK
from loradash_assets.schema import POLARITIES, STATISTICS, TOP_TOKENS, Basis

Chunk = tuple[NDArray[np.int64], NDArray[np.float32]]


class LayerRecording(Protocol):
    """What was recorded of one layer; `chunks` can be called again and again."""

    def chunks(self) -> Iterator[Chunk]:
        """Yield token numbers (tokens,) and activations (features, tokens), whole examples in each chunk.

        Every token comes exactly once; chunks, and examples inside a chunk, may come in any order.
        """
        ...


@dataclass(frozen=True)
class TableOptions:
    """What changes the tables and nothing before them. `context_window` is in tokens on each side."""

    top_k: int = 16
    context_window: int = 10
    histogram_bins: int = 50
    basis: Basis = "raw"
    distinct_contexts: bool = True


@dataclass(frozen=True)
class LayerTables:
    """`plain` and `shown` have the TOP_TOKENS schema, `statistics` the STATISTICS schema.

    `plain` is in the raw basis and ranks every token. `shown` is in the chosen basis, with each context once if so
    chosen. `statistics` is over every token: raw, then svd if that is the basis.
    """

    plain: pa.Table
    shown: pa.Table
    statistics: pa.Table


def layer_tables(
    recording: LayerRecording,
    features: pa.Table,
    prompts: pa.Table,
    options: TableOptions,
    bases: Mapping[str, SvdBasis],
) -> LayerTables:
    """The tables of one layer, rows in the order of features, polarities and ranks.

    features: the layer's slice of the FEATURES schema, in the order of the recorded activations; prompts: PROMPTS
    schema, in the order of the token numbers; bases: by full module name, read for the svd basis only. Raises
    KeyError for a module without basis, ValueError where recording and prompts do not have the same tokens.
    """
    tokens = _Prompts.of(prompts)
    raw = _raw_view(features)
    chosen = raw if options.basis == "raw" else _svd_view(features, bases)
    plain = _Listing(raw, tokens, options, distinct=False)
    same = chosen is raw and not options.distinct_contexts
    shown = plain if same else _Listing(chosen, tokens, options, distinct=options.distinct_contexts)
    views = [raw] if chosen is raw else [raw, chosen]
    summaries = [_Summary(view, options.histogram_bins) for view in views]
    listings = [plain] if same else [plain, shown]
    consumers: list[_Consumer] = [*summaries, *listings]
    for numbers, values in _viewed(recording, views, tokens.index.tokens):
        for consumer in consumers:
            consumer.first_pass(numbers, values[consumer.view.basis])
    for consumer in consumers:
        consumer.turn()
    for numbers, values in _viewed(recording, views, tokens.index.tokens):
        for consumer in consumers:
            consumer.second_pass(numbers, values[consumer.view.basis])
    return LayerTables(plain.table(), shown.table(), pa.concat_tables([summary.table() for summary in summaries]))


@dataclass(frozen=True)
class _View:
    """A basis in which to look at the recording, and the features that it has."""

    basis: Basis
    labels: Mapping[str, NDArray[Any]]  # STATISTICS columns that describe the feature, each (features,)
    maps: Sequence[tuple[slice, SvdBasis]] = ()  # per module: its recorded rows, and what maps them to the basis

    @property
    def features(self) -> int:
        return self.labels["component"].size

    def of(self, recorded: NDArray[np.float32]) -> NDArray[np.float32]:
        """Recorded activations (recorded features, tokens) -> this view's (features, tokens)."""
        if self.basis == "raw":
            return recorded
        return np.concatenate([basis.apply(recorded[rows]) for rows, basis in self.maps])


def _raw_view(features: pa.Table) -> _View:
    labels = {name: features.column(name).to_numpy() for name in ("layer", "projection", "component")}
    effect_scale = features.column("scaling").to_numpy() * features.column("write_norm").to_numpy()
    tied = np.zeros(features.num_rows, np.bool_)
    return _View("raw", {**labels, "tied": tied, "effect_scale": np.abs(effect_scale)})


def _svd_view(features: pa.Table, bases: Mapping[str, SvdBasis]) -> _View:
    modules, starts = np.unique(features.column("module").to_numpy().astype(str), return_index=True)
    order = np.argsort(starts)
    bounds = [*starts[order].tolist(), features.num_rows]
    chosen = [bases[str(module)] for module in modules[order]]
    sizes = [basis.sigma.size for basis in chosen]
    first_rows = features.take(pa.array(np.repeat(starts[order], sizes)))
    labels = {name: first_rows.column(name).to_numpy() for name in ("layer", "projection")}
    labels["component"] = _ranges(np.zeros(len(sizes), np.int64), np.array(sizes, np.int64))
    labels["tied"] = np.concatenate([basis.tied for basis in chosen])
    labels["effect_scale"] = np.concatenate([basis.sigma for basis in chosen])
    rows = [slice(start, stop) for start, stop in pairwise(bounds)]
    return _View("svd", labels, list(zip(rows, chosen, strict=True)))


def _viewed(
    recording: LayerRecording, views: Sequence[_View], tokens: int
) -> Iterator[tuple[NDArray[np.int64], dict[Basis, NDArray[np.float32]]]]:
    """The chunks in each basis. Raises ValueError at the end if they did not have so many tokens."""
    seen = 0
    for numbers, recorded in recording.chunks():
        seen += numbers.size
        yield numbers, {view.basis: view.of(recorded) for view in views}
    if seen != tokens:
        raise ValueError(f"{seen} tokens are recorded, but the prompts have {tokens}")


class _Consumer(Protocol):
    """Something made from the recording in two passes."""

    view: _View

    def first_pass(self, numbers: NDArray[np.int64], activations: NDArray[np.float32]) -> None: ...
    def turn(self) -> None: ...
    def second_pass(self, numbers: NDArray[np.int64], activations: NDArray[np.float32]) -> None: ...


class _Summary:
    """The statistics of one view."""

    def __init__(self, view: _View, bins: int) -> None:
        self.view = view
        self._bins = bins
        self._counter = RangeCounter(view.features)

    def first_pass(self, numbers: NDArray[np.int64], activations: NDArray[np.float32]) -> None:  # noqa: ARG002 - as _Consumer
        self._counter.update(activations)

    def turn(self) -> None:
        self._ranges = self._counter.result()
        self._moments = MomentCounter(self._ranges, self._bins)

    def second_pass(self, numbers: NDArray[np.int64], activations: NDArray[np.float32]) -> None:  # noqa: ARG002 - as _Consumer
        self._moments.update(activations)

    def table(self) -> pa.Table:
        moments = self._moments.result()
        columns = {
            **self.view.labels,
            "basis": np.full(self.view.features, self.view.basis),
            "count": self._ranges.count,
            "non_finite": self._ranges.non_finite,
            "min": self._ranges.low,
            "max": self._ranges.high,
            "mean": moments.mean,
            "std": moments.std,
            "bin_edges": _lists(moments.edges),
            "total_counts": _lists(moments.total),
            "positive_counts": _lists(moments.positive),
            "negative_counts": _lists(moments.negative),
        }
        return _table(columns, STATISTICS)


@dataclass(frozen=True)
class _Prompts:
    """The prompts token by token: all (tokens,), in the order of the token numbers."""

    index: TokenIndex
    ids: pa.Array
    texts: pa.Array
    first: NDArray[np.bool_]  # the first token with its context
    occurrences: NDArray[np.int64]  # how many tokens have its context

    @classmethod
    def of(cls, prompts: pa.Table) -> _Prompts:
        columns = [prompts.column(name).combine_chunks() for name in ("token_ids", "tokens", "prefixes")]
        ids, texts, prefixes = (column.flatten() for column in columns)
        return cls(TokenIndex.of_prompts(prompts), ids, texts, *first_occurrences(prefixes.to_numpy()))


class _Listing:
    """The extreme tokens of one view: ranked in the first pass, their contexts' activations collected in the second."""

    def __init__(self, view: _View, prompts: _Prompts, options: TableOptions, *, distinct: bool) -> None:
        self.view = view
        self._prompts = prompts
        self._window = options.context_window
        self._distinct = distinct
        self._topk = TopK(view.features, options.top_k)

    def first_pass(self, numbers: NDArray[np.int64], activations: NDArray[np.float32]) -> None:
        if self._distinct:
            first = self._prompts.first[numbers]
            numbers, activations = numbers[first], activations[:, first]
        self._topk.update(activations, numbers)

    def turn(self) -> None:
        top = self._topk.result()
        numbers = np.stack((top.positive.numbers, top.negative.numbers), axis=1)  # (features, polarity, k)
        values = np.stack((top.positive.values, top.negative.values), axis=1)
        self._features, self._polarities, self._ranks = np.nonzero(numbers >= 0)  # (entries,), as all below
        self._numbers, self._values = numbers[numbers >= 0], values[numbers >= 0]
        self._starts, stops = self._prompts.index.windows(self._numbers, self._window)
        self._lengths = stops - self._starts
        self._offsets = np.concatenate(([0], np.cumsum(self._lengths)))  # (entries + 1,)
        self._context = np.zeros(self._offsets[-1], np.float32)

    def second_pass(self, numbers: NDArray[np.int64], activations: NDArray[np.float32]) -> None:
        """Fill in the contexts in this chunk: a context never leaves its example, nor an example its chunk."""
        order = np.argsort(numbers, kind="stable")
        place = np.searchsorted(numbers, self._starts, sorter=order)
        here = np.flatnonzero(place < numbers.size)
        here = here[numbers[order[place[here]]] == self._starts[here]]
        lengths = self._lengths[here]
        columns = order[_ranges(place[here], lengths)]
        values = activations[np.repeat(self._features[here], lengths), columns]
        # What is not finite is counted and fails a check; in the list of a finite neighbour it reads 0.
        self._context[_ranges(self._offsets[here], lengths)] = np.where(np.isfinite(values), values, np.float32(0))

    def table(self) -> pa.Table:
        prompts, numbers = self._prompts, pa.array(self._numbers)
        examples, positions = prompts.index.locate(self._numbers)
        texts = prompts.texts.take(pa.array(_ranges(self._starts, self._lengths)))
        columns = {
            **{name: self.view.labels[name][self._features] for name in ("layer", "projection", "component")},
            "polarity": np.array(POLARITIES)[self._polarities],
            "rank": self._ranks + 1,
            "activation": self._values,
            "example": examples,
            "position": positions,
            "token_id": prompts.ids.take(numbers),
            "token": prompts.texts.take(numbers),
            "occurrences": prompts.occurrences[self._numbers] if self._distinct else np.ones(len(numbers), np.int32),
            "target_position": self._numbers - self._starts,
            "context": pa.ListArray.from_arrays(pa.array(self._offsets, pa.int32()), texts),
            "context_activations": pa.ListArray.from_arrays(pa.array(self._offsets, pa.int32()), self._context),
        }
        return _table(columns, TOP_TOKENS)


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """starts[0], starts[0] + 1, ... (lengths[0] numbers), then starts[1], ...: (sum of lengths,)."""
    before = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum()), dtype=np.int64) + np.repeat(starts - before, lengths)


def _lists(rows: NDArray[Any]) -> pa.Array:
    """A list column from (rows, length)."""
    offsets = np.arange(rows.shape[0] + 1, dtype=np.int32) * np.int32(rows.shape[1])
    return pa.ListArray.from_arrays(pa.array(offsets), np.ravel(rows))


def _table(columns: Mapping[str, NDArray[Any] | pa.Array], schema: pa.Schema) -> pa.Table:
    arrays = [pa.array(columns[column.name]).cast(column.type) for column in schema]
    return pa.Table.from_arrays(arrays, schema=schema)
