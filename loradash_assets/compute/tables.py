"""One layer's recording to its tables: each feature's extreme tokens and samples with their contexts, its statistics.

Memory grows with features and k, and by some bytes per token: those of `PromptTokens`, and of filters and experts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from loradash_assets.compute.basis import SvdBasis
from loradash_assets.compute.explained import CELLS
from loradash_assets.compute.filters import ALL, Kept, counts, left_out
from loradash_assets.compute.listing import Listed, Listing
from loradash_assets.compute.passes import Block, Consumer, LayerRecording, run_passes
from loradash_assets.compute.prompt_tokens import PromptTokens
from loradash_assets.compute.samples import Samples, SampleSizes
from loradash_assets.compute.summary import Summary, TokenGroups
from loradash_assets.compute.views import raw_view, svd_view
from loradash_assets.schema import SAMPLES, STATISTICS, TOP_TOKENS, Basis


@dataclass(frozen=True)
class TableOptions:
    """What changes the tables and nothing before them. `context_window` is in tokens on each side.

    The three that exclude tokens, and max_per_example, change what is shown and sampled, never the plain list.
    """

    top_k: int = 16
    context_window: int = 10
    histogram_bins: int = 50
    basis: Basis = "raw"
    distinct_contexts: bool = True
    exclude_special_tokens: bool = False
    exclude_first_positions: int = 0
    exclude_token_ids: Sequence[int] = ()
    max_per_example: int | None = None
    intervals: int = 10
    interval_samples: int = 2
    random_samples: int = 8
    sample_seed: int = 0


@dataclass(frozen=True)
class LayerTables:
    """`plain` and `shown` have the TOP_TOKENS schema, `samples` the SAMPLES schema, `statistics` the STATISTICS schema.

    `plain` is in the raw basis and ranks every token; it has no minimaps unless it is what is shown. `shown` and
    `samples` are in the chosen basis, without the tokens that are left out, with each context once if so chosen.
    `statistics` is over every token: raw, then svd if that is the basis; then, if a filter is active, both again over
    the tokens that it does not leave out. `left_out` counts the others by reason, see `filters.left_out`.
    """

    plain: pa.Table
    shown: pa.Table
    samples: pa.Table
    statistics: pa.Table
    left_out: Mapping[str, int]

    @classmethod
    def empty(cls) -> LayerTables:
        """Return the tables of a layer without features."""
        top_tokens = TOP_TOKENS.empty_table()
        return cls(top_tokens, top_tokens, SAMPLES.empty_table(), STATISTICS.empty_table(), {})


def layer_tables(
    recording: LayerRecording,
    features: pa.Table,
    tokens: PromptTokens,
    options: TableOptions,
    bases: Mapping[str, SvdBasis],
    special_tokens: Collection[int] = (),
) -> LayerTables:
    """The tables of one layer, rows in the order of features, polarities and ranks.

    features: the layer's slice of the FEATURES schema, in the order of the recorded activations; tokens: those of the
    prompts; bases: by full module name, read for the svd basis only; special_tokens: ids. Raises KeyError for a module
    without basis, ValueError where recording and prompts do not have the same tokens.
    """
    excluded = left_out(
        tokens.index,
        tokens.ids,
        special_tokens=special_tokens if options.exclude_special_tokens else (),
        first_positions=options.exclude_first_positions,
        token_ids=options.exclude_token_ids,
    )
    listed = Listed(tokens, options.distinct_contexts, ~excluded[ALL] if excluded else None)
    seen = _routed_tokens(recording)
    made: list[_BlockTables] = []
    for places in _together(recording.blocks, seen, tokens.groups.token.count):
        blocks = {
            place: _Block(
                features.slice(rows.start, rows.stop - rows.start),
                replace(listed, prompts=tokens.among(seen[place])) if place in seen else listed,
                tokens.groups,
                seen.get(place),
                options,
                bases,
            )
            for place in places
            for rows in (recording.blocks[place].features,)
        }
        run_passes(recording, {place: block.consumers for place, block in blocks.items()}, tokens.index.tokens)
        made += [block.tables() for block in blocks.values()]
    return LayerTables(
        plain=pa.concat_tables([tables.plain for tables in made]),
        shown=pa.concat_tables([tables.shown for tables in made]),
        samples=pa.concat_tables([tables.samples for tables in made]),
        statistics=pa.concat_tables(
            [table for view in zip(*(tables.statistics for tables in made), strict=True) for table in view]
        ),
        left_out=counts(excluded),
    )


def _together(blocks: Sequence[Block], seen: Mapping[int, np.ndarray], groups: int) -> Iterator[list[int]]:
    """Yield the places of blocks that are read together: as many as keep the sums by token id within CELLS."""
    places: list[int] = []
    cells = 0
    for place, block in enumerate(blocks):
        own = (block.features.stop - block.features.start) * min(groups, seen[place].size if place in seen else groups)
        if places and cells + own > CELLS:
            yield places
            places, cells = [], 0
        places.append(place)
        cells += own
    if places:
        yield places


def _routed_tokens(recording: LayerRecording) -> dict[int, np.ndarray]:
    """The token numbers that each routed block sees, ascending, by its place: 4 bytes each."""
    routed = [place for place, block in enumerate(recording.blocks) if block.routed]
    parts: dict[int, list[np.ndarray]] = {place: [np.empty(0, np.int32)] for place in routed}
    for chunks in recording.chunks() if routed else ():
        for place in routed:
            parts[place].append(chunks[place][0].astype(np.int32))
    return {place: np.sort(np.concatenate(parts.pop(place))) for place in routed}


@dataclass(frozen=True)
class _BlockTables:
    """The parts of LayerTables that a block's features have; `statistics` view by view."""

    plain: pa.Table
    shown: pa.Table
    samples: pa.Table
    statistics: Sequence[pa.Table]


class _Block:
    """What is made of the features that see the same tokens: all, or `seen` (n,)."""

    def __init__(
        self,
        features: pa.Table,
        listed: Listed,
        groups: TokenGroups,
        seen: np.ndarray | None,
        options: TableOptions,
        bases: Mapping[str, SvdBasis],
    ) -> None:
        raw = raw_view(features)
        chosen = raw if options.basis == "raw" else svd_view(features, bases)
        every, window = Listed(listed.prompts), options.context_window
        limit = options.max_per_example
        same = chosen is raw and listed.is_every and limit is None
        self.plain = Listing(raw, every, top_k=options.top_k, window=window, minimaps=same)
        self.shown = (
            self.plain if same else Listing(chosen, listed, top_k=options.top_k, window=window, max_per_example=limit)
        )
        sizes = SampleSizes(options.intervals, options.interval_samples, options.random_samples)
        self.samples = Samples(chosen, listed, sizes, seed=options.sample_seed, window=window)
        views = [raw] if chosen is raw else [raw, chosen]
        of_seen = groups if seen is None else groups.among(seen)
        self.summaries = [Summary(view, options.histogram_bins, of_seen) for view in views]
        self.consumers: list[Consumer] = [*self.summaries, self.plain]
        if not same:
            self.consumers.append(self.shown)
        if sizes.any:
            self.consumers.append(self.samples)
        if listed.kept is not None:
            kept = np.flatnonzero(listed.kept) if seen is None else seen[listed.kept[seen]]
            of_kept = groups.among(kept)
            filtered = [Summary(view, options.histogram_bins, of_kept, filtered=True) for view in views]
            self.consumers += [Kept(summary, listed.kept) for summary in filtered]
            self.summaries += filtered

    def tables(self) -> _BlockTables:
        """Return what was made, once all passes are done."""
        statistics = [summary.table() for summary in self.summaries]
        return _BlockTables(self.plain.table(), self.shown.table(), self.samples.table(), statistics)
