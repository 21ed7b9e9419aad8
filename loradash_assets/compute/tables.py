"""One layer's recording to its tables: the extreme tokens of each feature with their contexts, and its statistics.

Memory grows with features and k, not with the number of tokens (beside the prompts themselves).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from loradash_assets.compute.basis import SvdBasis
from loradash_assets.compute.explained import Groups
from loradash_assets.compute.listing import Listing, PromptTokens
from loradash_assets.compute.passes import Consumer, LayerRecording, run_passes
from loradash_assets.compute.summary import Summary, TokenGroups
from loradash_assets.compute.views import raw_view, svd_view
from loradash_assets.schema import STATISTICS, TOP_TOKENS, Basis


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

    @classmethod
    def empty(cls) -> LayerTables:
        """Return the tables of a layer without features."""
        return cls(TOP_TOKENS.empty_table(), TOP_TOKENS.empty_table(), STATISTICS.empty_table())


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
    tokens = PromptTokens.of(prompts)
    groups = _token_groups(tokens)
    seen = _routed_tokens(recording)
    blocks = [
        _Block(
            features.slice(block.features.start, block.features.stop - block.features.start),
            tokens.among(seen[place]) if block.routed else tokens,
            groups.among(seen[place]) if block.routed else groups,
            options,
            bases,
        )
        for place, block in enumerate(recording.blocks)
    ]
    run_passes(recording, {place: block.consumers for place, block in enumerate(blocks)}, tokens.index.tokens)
    return LayerTables(
        plain=pa.concat_tables([block.plain.table() for block in blocks]),
        shown=pa.concat_tables([block.shown.table() for block in blocks]),
        statistics=pa.concat_tables(
            [summary.table() for view in zip(*(block.summaries for block in blocks), strict=True) for summary in view]
        ),
    )


def _routed_tokens(recording: LayerRecording) -> dict[int, np.ndarray]:
    """The token numbers that each routed block sees, by its place."""
    routed = [place for place, block in enumerate(recording.blocks) if block.routed]
    parts: dict[int, list[np.ndarray]] = {place: [np.empty(0, np.int64)] for place in routed}
    for chunks in recording.chunks() if routed else ():
        for place in routed:
            parts[place].append(chunks[place][0])
    return {place: np.concatenate(numbers) for place, numbers in parts.items()}


def _token_groups(tokens: PromptTokens) -> TokenGroups:
    positions = tokens.index.locate(np.arange(tokens.index.tokens))[1]
    return TokenGroups(Groups.by(tokens.ids.to_numpy()), Groups.by(positions))


class _Block:
    """What is made of the features that see the same tokens."""

    def __init__(
        self,
        features: pa.Table,
        tokens: PromptTokens,
        groups: TokenGroups,
        options: TableOptions,
        bases: Mapping[str, SvdBasis],
    ) -> None:
        raw = raw_view(features)
        chosen = raw if options.basis == "raw" else svd_view(features, bases)
        sizes = {"top_k": options.top_k, "window": options.context_window}
        self.plain = Listing(raw, tokens, distinct=False, **sizes)
        same = chosen is raw and not options.distinct_contexts
        self.shown = self.plain if same else Listing(chosen, tokens, distinct=options.distinct_contexts, **sizes)
        views = [raw] if chosen is raw else [raw, chosen]
        self.summaries = [Summary(view, options.histogram_bins, groups) for view in views]
        listings = [self.plain] if same else [self.plain, self.shown]
        self.consumers: Sequence[Consumer] = [*self.summaries, *listings]
