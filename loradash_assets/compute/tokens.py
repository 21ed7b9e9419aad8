"""Which token is which: numbers for all tokens of a dataset, and the text that each token stands for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import ArrayLike, NDArray

Offsets = Sequence[tuple[int, int]]

_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE_MARK = "\u2581"  # SentencePiece's stand-in for a space
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = sorted(set(range(0x100)) - set(_PRINTABLE))
# GPT-2's alphabet: one visible character for each byte (bytes_to_unicode in its encoder.py).
_BYTE_OF = {chr(byte): byte for byte in _PRINTABLE} | {chr(0x100 + i): byte for i, byte in enumerate(_OTHERS)}


@dataclass(frozen=True)
class TokenIndex:
    """Numbers every token of every prompt: number = offsets[prompt] + position.

    `examples` (prompts,) int32 ascends, so the order of the numbers is the order by (example, position).
    `offsets` (prompts + 1,) int64 starts with 0; a prompt may be empty.
    """

    examples: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @classmethod
    def of_lengths(cls, examples: ArrayLike, lengths: ArrayLike) -> TokenIndex:
        """Index prompts of these lengths (in tokens). Raises ValueError unless `examples` ascends strictly."""
        rows = np.asarray(examples, np.int32)
        offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))).astype(np.int64)
        if rows.size != offsets.size - 1 or bool(np.any(rows[1:] <= rows[:-1])):
            raise ValueError("prompts must be in the order of their examples, each once")
        return cls(rows, offsets)

    @property
    def tokens(self) -> int:
        """How many tokens there are."""
        return int(self.offsets[-1])

    def positions(self) -> NDArray[np.int32]:
        """Every token's position in its example, (tokens,)."""
        positions = np.ones(self.tokens, np.int32)
        lengths = np.diff(self.offsets)
        starts, before = self.offsets[:-1][lengths > 0], lengths[lengths > 0]
        positions[starts[1:]] = 1 - before[:-1]
        positions[:1] = 0
        return np.cumsum(positions, out=positions)

    def prompts_of(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The index of each token's prompt, (n,) -> (n,). Raises IndexError for a number that no token has."""
        if numbers.size and (int(numbers.min()) < 0 or int(numbers.max()) >= self.tokens):
            raise IndexError(f"token numbers run from 0 to {self.tokens - 1}")
        return np.searchsorted(self.offsets, numbers, side="right").astype(np.int64) - 1

    def locate(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """(example, position) of each token, (n,) -> (n,), (n,). Raises IndexError as `prompts_of`."""
        prompts = self.prompts_of(numbers)
        return self.examples[prompts], (numbers - self.offsets[prompts]).astype(np.int32)

    def numbers(self, examples: NDArray[np.int32], positions: NDArray[np.int32]) -> NDArray[np.int64]:
        """The inverse of `locate`, (n,), (n,) -> (n,). Raises IndexError where there is no such token."""
        prompts = np.searchsorted(self.examples, examples)
        inside = prompts < self.examples.size
        inside[inside] = self.examples[prompts[inside]] == examples[inside]
        if not bool(np.all(inside)):
            raise IndexError("no such example")
        if bool(np.any((positions < 0) | (positions >= np.diff(self.offsets)[prompts]))):
            raise IndexError("no such position")
        return self.offsets[prompts] + positions

    def windows(self, numbers: NDArray[np.int64], width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First number, and last number + 1, of ±`width` tokens around each token, clipped to its example."""
        prompts = self.prompts_of(numbers)
        starts = np.maximum(numbers - width, self.offsets[prompts])
        return starts, np.minimum(numbers + width + 1, self.offsets[prompts + 1])


def token_texts(text: str, offsets: Offsets, token_strings: Sequence[str]) -> list[str]:
    """Each token's stretch of `text`, from the tokenizer's offset mapping; nothing is decoded.

    offsets: (start, end) in characters per token; token_strings: the vocabulary's own spelling per token
    (`convert_ids_to_tokens`). `text` is what was tokenized; a truncated prompt passes the text up to its last offset.

    Invariant: leave out the tokens that stand for no text (the tokenizer's own, such as a BOS at (0, 0): they show
    their own string) and the marks, and the rest joins to `text`. To that end text between two tokens goes to the
    later, text after the last to the last, and a character cut across tokens to its first piece. The later pieces
    begin with marks: `‹97›` for each of their bytes, or the token's own spelling in them, `‹i›`, where a normaliser
    and not the bytes split the character. (A space alone at the very start has (0, 0) too where offsets are trimmed:
    it passes for the tokenizer's own, and its stretch goes to the next token.)
    """
    texts: list[str] = []
    covered, last = 0, None
    for (start, end), token in zip(_own_characters(text, offsets, token_strings), token_strings, strict=True):
        stretch = text[covered:end]
        if _stands_for_nothing(start, end, covered, token, stretch):
            texts.append(token)
            continue
        texts.append((_marks(token) if start < covered else "") + stretch)
        covered, last = max(covered, end), len(texts) - 1
    if last is not None:
        texts[last] += text[covered:]
    return texts


def _stands_for_nothing(start: int, end: int, covered: int, token: str, stretch: str) -> bool:
    # Trimmed offsets give a white-space token an empty range after its spaces: those spaces are still its own.
    if start == end and not stretch:
        return True
    # A space that the tokenizer put before the text has the range of the first character, which it does not hold.
    dummy = bool(token) and not token.strip(_SPACE_MARK) and start >= covered
    return dummy and not any(character.isspace() or character == _SPACE_MARK for character in stretch)


def _marks(token: str) -> str:
    """Marks for the part of `token` that belongs to a character which an earlier token already shows."""
    fallback = _FALLBACK.fullmatch(token)
    if fallback:
        return f"‹{fallback[1].upper()}›"
    continuation: list[int] = []
    for character in token:
        byte = _BYTE_OF.get(character, 0)
        if byte & 0xC0 != 0x80:  # not the second or a later byte of a character in UTF-8
            break
        continuation.append(byte)
    return "".join(f"‹{byte:02X}›" for byte in continuation) or f"‹{token}›"


def _own_characters(text: str, offsets: Offsets, token_strings: Sequence[str]) -> Offsets:
    """`offsets` with byte fallback made precise.

    Unigram gives every byte of an unknown stretch the range of the whole stretch; where the bytes are that
    stretch's own (not a normaliser's), each gets its own character's range.
    """
    if not any(map(_FALLBACK.fullmatch, token_strings)):
        return offsets
    precise: list[tuple[int, int]] = []
    for (start, end), run in groupby(range(len(offsets)), key=lambda i: (offsets[i][0], offsets[i][1])):
        pieces = [token_strings[i] for i in run]
        if end - start > 1 and pieces == [f"<0x{byte:02X}>" for byte in text[start:end].encode()]:
            owners = (start + i for i, character in enumerate(text[start:end]) for _ in character.encode())
            precise += [(owner, owner + 1) for owner in owners]
        else:
            precise += [(start, end)] * len(pieces)
    return precise
