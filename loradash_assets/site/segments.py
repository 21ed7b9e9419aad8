"""The texts that a page can show: runs of tokens, each held once, whichever windows lie in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from loradash_assets.site.columns import Array, pack, whole
from loradash_assets.site.page import Example, Text

TOKENS_IN_PART = 500_000
UNKNOWN = -1  # a token's id


class Segments:
    """Gathers segments: a whole example once something in it is shown, or a single window of one that is not known."""

    def __init__(self, whole_examples: Mapping[int, Text]) -> None:
        self._whole = whole_examples
        self._places: dict[object, int] = {}
        self._tokens: list[tuple[tuple[str, int], ...]] = []  # per segment: (text, id) of each token
        self._rows: list[int] = []
        self._firsts: list[int] = []  # the position of each segment's first token

    def place(self, example: Example) -> tuple[int, int]:
        """Return the segment that the example's window lies in, and where it starts there."""
        first = example.position - example.target
        text = self._whole.get(example.example)
        if text is not None and tuple(text.tokens[first : first + len(example.tokens)]) == example.tokens:
            return self._segment(example.example, 0, text), first
        ids = [UNKNOWN] * len(example.tokens)
        if example.token_id is not None:
            ids[example.target] = example.token_id
        return self._segment(example.example, first, Text(example.tokens, ids)), 0

    def _segment(self, row: int, first: int, text: Text) -> int:
        key = row if text is self._whole.get(row) else (row, first, text.tokens, tuple(text.token_ids))
        if key not in self._places:
            self._places[key] = len(self._tokens)
            self._tokens.append(tuple(zip(text.tokens, text.token_ids, strict=True)))
            self._rows.append(row)
            self._firsts.append(first)
        return self._places[key]

    def segments(self) -> dict[str, Array]:
        """Return a value per segment: dataset row, position of its first token, tokens."""
        lengths = [len(tokens) for tokens in self._tokens]
        return {"row": whole(self._rows), "first": whole(self._firsts), "length": whole(lengths)}

    @property
    def starts(self) -> list[int]:
        """The first segment of each part."""
        starts, tokens = [0], 0
        for number, segment in enumerate(self._tokens):
            if tokens and tokens + len(segment) > TOKENS_IN_PART:
                starts.append(number)
                tokens = 0
            tokens += len(segment)
        return starts

    def parts(self) -> Iterator[str]:
        """Yield the parts: the distinct tokens of some segments, and which they are, segment after segment."""
        for start, stop in pairwise([*self.starts, len(self._tokens)]):
            numbers: dict[tuple[str, int], int] = {}
            tokens = [numbers.setdefault(each, len(numbers)) for run in self._tokens[start:stop] for each in run]
            ids = whole([token_id for _, token_id in numbers])
            yield pack({"strings": [text for text, _ in numbers]}, {"tokens": whole(tokens), "ids": ids})
