"""Which examples a note was written on, and how many of them its panel still shows.

A digest stands for an example by what a reader saw of it, the token and its nearest neighbours, and not by the row that
it comes from. `site_templates/js/seen.js` computes the same; `tests/site/seen_vectors.json` holds both to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from loradash_assets.site.page import Example

AROUND = 4  # tokens on each side
MOST = 64  # digests of one panel


@dataclass(frozen=True)
class Seen:
    """Of the examples that a note was written on, how many are still among the panel's."""

    here: int
    total: int

    @property
    def stale(self) -> bool:
        """Whether the note may no longer fit: fewer than half are still there."""
        return 2 * self.here < self.total


def example_digest(tokens: Sequence[str], target: int) -> str:
    """Return the digest of an example, 8 hex digits: of the token at `target` and what stands beside it."""
    start = max(target - AROUND, 0)
    text = "\0".join([*tokens[start : target + AROUND + 1], str(target - start)])
    return f"{fnv1a(text.encode()):08x}"


def fnv1a(data: bytes) -> int:
    """Return the 32-bit FNV-1a hash (draft-eastlake-fnv, section 2)."""
    value = 0x811C9DC5
    for byte in data:
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def digests(examples: Iterable[Example]) -> tuple[str, ...]:
    """Return the digests of a panel's examples in their order, each once, at most 64."""
    return tuple(dict.fromkeys(example_digest(each.tokens, each.target) for each in examples))[:MOST]


def still_seen(seen: Iterable[str], present: Iterable[str]) -> Seen:
    """Return how many of the digests `seen` are among those of the panel at present; each counts once."""
    before = set(seen)
    return Seen(len(before.intersection(present)), len(before))
