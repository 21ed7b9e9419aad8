"""The prompts token by token, from prompts.parquet: about 25 bytes per token, and the distinct token texts."""

from __future__ import annotations

from collections.abc import Sequence
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
from loradash_assets.compute.tokens import TokenIndex


@dataclass(frozen=True)
class TokenIds:
    """Every token's id, `flat` (tokens,) int32 in the order of the token numbers: 4 bytes per token."""

    index: TokenIndex
    flat: NDArray[np.int32]

    @classmethod
    def read(cls, file: Path) -> TokenIds:
        """Read a file of the PROMPTS schema. Raises ValueError unless its examples ascend strictly."""
        return cls.of(pa.concat_tables(row_groups(file, ["example", "token_ids"])))

    @classmethod
    def of(cls, prompts: pa.Table) -> TokenIds:
        """Take them from a table of the PROMPTS schema, of which it needs two columns; raises as `read`."""
        lists = prompts.column("token_ids").chunks
        lengths = [np.empty(0, np.int32), *(chunk.value_lengths().to_numpy() for chunk in lists)]
        index = TokenIndex.of_lengths(prompts.column("example").to_numpy(), np.concatenate(lengths))
        return cls(index, _flat(lists))

    def by_example(self) -> Sequence[NDArray[np.int32]]:
        """Return each example's ids, (length,)."""
        return np.split(self.flat, self.index.offsets[1:-1]) if self.index.examples.size else []


@dataclass(frozen=True)
class TokenTexts:
    """Every token's text, as its place among the distinct ones: `places` (tokens,), 4 bytes per token."""

    places: NDArray[np.int32]
    distinct: pa.StringArray

    @classmethod
    def of(cls, prompts: pa.Table) -> TokenTexts:
        """Take them from a table of the PROMPTS schema."""
        chunks = [chunk.flatten().dictionary_encode() for chunk in prompts.column("tokens").chunks]
        texts = pa.chunked_array(chunks, pa.dictionary(pa.int32(), pa.string())).unify_dictionaries()
        if texts.num_chunks == 0:
            return cls(np.empty(0, np.int32), pa.array([], pa.string()))
        return cls(np.concatenate([chunk.indices.to_numpy() for chunk in texts.chunks]), texts.chunk(0).dictionary)

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
        return numbers if self.numbers is None else np.searchsorted(self.numbers, numbers)


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
        return cls.of(pa.concat_tables(row_groups(file, columns, dictionaries=["tokens.list.element"])))

    @classmethod
    def of(cls, prompts: pa.Table) -> PromptTokens:
        """Take them from a table of the PROMPTS schema; raises as `read`."""
        ids = TokenIds.of(prompts)
        prefixes = _flat(prompts.column("prefixes").chunks)
        return cls(ids.index, ids.flat, TokenTexts.of(prompts), prefixes, Repeats(*first_occurrences(prefixes)))

    @cached_property
    def groups(self) -> TokenGroups:
        """The tokens grouped by id and by position."""
        return TokenGroups(Groups.by(self.ids), Groups.by(self.index.positions()))

    def among(self, numbers: NDArray[np.integer]) -> PromptTokens:
        """Return the same tokens for features that see only `numbers` (n,): contexts are counted among these."""
        numbers = np.sort(numbers)
        return replace(self, repeats=Repeats(*first_occurrences(self.prefixes[numbers]), numbers))


def _flat(lists: Sequence[pa.ListArray]) -> NDArray[np.int32]:
    """The numbers in the lists, one after another."""
    return np.concatenate([np.empty(0, np.int32), *(chunk.flatten().to_numpy().astype(np.int32) for chunk in lists)])
