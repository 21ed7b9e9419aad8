"""The prompts token by token, from prompts.parquet: about 25 bytes per token, and the distinct token texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loradash_assets.compute.explained import Groups
from loradash_assets.compute.prefixes import first_occurrences
from loradash_assets.compute.row_groups import row_groups
from loradash_assets.compute.summary import TokenGroups
from loradash_assets.compute.token_ids import IdsPart, TokenIds, flat_numbers
from loradash_assets.compute.tokens import TokenIndex


@dataclass(frozen=True)
class TokenTexts:
    """Every token's text, as its place among the distinct ones: `places` (tokens,), 4 bytes per token."""

    places: NDArray[np.int32]
    distinct: pa.StringArray

    @classmethod
    def joined(cls, parts: Sequence[tuple[NDArray[np.int32], pa.StringArray]]) -> TokenTexts:
        """Put successive parts together, each with places among distinct texts of its own."""
        together = pa.chunked_array([distinct for _, distinct in parts], pa.string()).combine_chunks()
        together = together.dictionary_encode()
        places, start = together.indices.to_numpy(), 0
        moved: list[NDArray[np.int32]] = []
        for part, distinct in parts:
            moved.append(places[start : start + len(distinct)][part])
            start += len(distinct)
        return cls(np.concatenate(moved), together.dictionary)

    def take(self, numbers: NDArray[np.int64]) -> pa.StringArray:
        """Return the texts of tokens, (n,) -> (n,)."""
        return self.distinct.take(pa.array(self.places[numbers]))


@dataclass(frozen=True)
class Repeats:
    """Tokens that have the same context, among all tokens or among `numbers` (n,), ascending.

    first, counts: (tokens,) or (n,): whether a token is the first with its context, how many have it.
    """

    first: NDArray[np.bool_]
    counts: NDArray[np.int32]
    numbers: NDArray[np.integer] | None = None

    def places(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where these tokens, all of them among those here, stand in `first` and `counts`."""
        return numbers if self.numbers is None else np.searchsorted(self.numbers, numbers.astype(self.numbers.dtype))


@dataclass(frozen=True)
class PromptTokens:
    """The prompts token by token: all (tokens,), in the order of the token numbers. One serves every layer."""

    index: TokenIndex
    ids: NDArray[np.int32]
    texts: TokenTexts
    prefixes: NDArray[np.int32]
    repeats: Repeats

    @classmethod
    def read(cls, file: Path) -> PromptTokens:
        """Read a file of the PROMPTS schema. Raises ValueError unless its examples ascend strictly."""
        columns = ["example", "token_ids", "tokens", "prefixes"]
        return cls.of(row_groups(file, columns, dictionaries=["tokens.list.element"]))

    @classmethod
    def of(cls, prompts: Iterable[pa.Table]) -> PromptTokens:
        """Take them from the parts, at least one, of a table of the PROMPTS schema; raises as `read`."""
        ids: list[IdsPart] = []
        texts: list[tuple[NDArray[np.int32], pa.StringArray]] = []
        prefix_parts: list[NDArray[np.int32]] = []
        for part in prompts:
            encoded = part.column("tokens").combine_chunks().flatten().dictionary_encode()
            ids.append(IdsPart.of(part))
            texts.append((encoded.indices.to_numpy().copy(), encoded.dictionary))
            prefix_parts.append(flat_numbers(part.column("prefixes").combine_chunks()))
        prefixes = np.concatenate(prefix_parts)
        del prefix_parts
        joined_texts = TokenTexts.joined(texts)
        del texts
        joined = TokenIds.joined(ids)
        del ids
        return cls(joined.index, joined.flat, joined_texts, prefixes, Repeats(*first_occurrences(prefixes)))

    @cached_property
    def groups(self) -> TokenGroups:
        """The tokens grouped by id and by position."""
        return TokenGroups(Groups.by(self.ids), Groups.by(self.index.positions()))

    def among(self, numbers: NDArray[np.integer]) -> PromptTokens:
        """Return the same tokens for features that see only `numbers` (n,), ascending: contexts count among these."""
        return replace(self, repeats=Repeats(*first_occurrences(self.prefixes[numbers]), numbers))
