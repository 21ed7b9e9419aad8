"""The prompts token by token, from prompts.parquet: about 25 bytes per token, and the distinct token texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

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
        parts = [_Ids.of(group) for group in row_groups(file, ["example", "token_ids"])]
        return cls.joined(parts)

    @classmethod
    def joined(cls, parts: Sequence[_Ids]) -> TokenIds:
        """Put successive parts together; raises as `read`."""
        examples, lengths, ids = zip(*parts, strict=True)
        return cls(TokenIndex.of_lengths(np.concatenate(examples), np.concatenate(lengths)), np.concatenate(ids))

    def by_example(self) -> Sequence[NDArray[np.int32]]:
        """Return each example's ids, (length,)."""
        return np.split(self.flat, self.index.offsets[1:-1]) if self.index.examples.size else []


class _Ids(NamedTuple):
    """Of some prompts, copied: what stays of a table in memory must not keep the table there."""

    examples: NDArray[np.int32]  # (prompts,)
    lengths: NDArray[np.int32]  # (prompts,)
    flat: NDArray[np.int32]  # (tokens,)

    @classmethod
    def of(cls, prompts: pa.Table) -> _Ids:
        lists = prompts.column("token_ids").combine_chunks()
        examples = prompts.column("example").to_numpy()
        return cls(examples.copy(), lists.value_lengths().to_numpy().copy(), _flat(lists))


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
        ids: list[_Ids] = []
        texts: list[tuple[NDArray[np.int32], pa.StringArray]] = []
        prefix_parts: list[NDArray[np.int32]] = []
        for part in prompts:
            encoded = part.column("tokens").combine_chunks().flatten().dictionary_encode()
            ids.append(_Ids.of(part))
            texts.append((encoded.indices.to_numpy().copy(), encoded.dictionary))
            prefix_parts.append(_flat(part.column("prefixes").combine_chunks()))
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


def _flat(lists: pa.ListArray) -> NDArray[np.int32]:
    """The numbers in the lists, one after another, copied."""
    return lists.flatten().to_numpy().astype(np.int32)
