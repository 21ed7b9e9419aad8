"""Every token's id, from prompts.parquet: all that a recording needs of the prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loradash_assets.compute.row_groups import row_groups
from loradash_assets.compute.tokens import TokenIndex


@dataclass(frozen=True)
class TokenIds:
    """Every token's id, `flat` (tokens,) int32 in the order of the token numbers: 4 bytes per token."""

    COLUMNS: ClassVar = ("example", "token_ids")  # of the PROMPTS schema

    index: TokenIndex
    flat: NDArray[np.int32]

    @classmethod
    def read(cls, file: Path) -> TokenIds:
        """Read a file that has these columns. Raises ValueError unless its examples ascend strictly."""
        parts = [IdsPart.of(group) for group in row_groups(file, cls.COLUMNS)]
        return cls.joined(parts)

    @classmethod
    def joined(cls, parts: Sequence[IdsPart]) -> TokenIds:
        """Put successive parts together; raises as `read`."""
        examples, lengths, ids = zip(*parts, strict=True)
        return cls(TokenIndex.of_lengths(np.concatenate(examples), np.concatenate(lengths)), np.concatenate(ids))

    def by_example(self) -> Sequence[NDArray[np.int32]]:
        """Return each example's ids, (length,)."""
        return np.split(self.flat, self.index.offsets[1:-1]) if self.index.examples.size else []


class IdsPart(NamedTuple):
    """Of some prompts, copied: what stays of a table in memory must not keep the table there."""

    examples: NDArray[np.int32]  # (prompts,)
    lengths: NDArray[np.int32]  # (prompts,)
    flat: NDArray[np.int32]  # (tokens,)

    @classmethod
    def of(cls, prompts: pa.Table) -> IdsPart:
        """Take them from a part of a PROMPTS table."""
        lists = prompts.column("token_ids").combine_chunks()
        examples = prompts.column("example").to_numpy()
        return cls(examples.copy(), lists.value_lengths().to_numpy().copy(), flat_numbers(lists))


def flat_numbers(lists: pa.ListArray) -> NDArray[np.int32]:
    """The numbers in the lists, one after another, copied."""
    return lists.flatten().to_numpy().astype(np.int32)
