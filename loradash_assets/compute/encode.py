"""Prompts to tokens: the model's input ids and each token's stretch of the text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

import numpy as np

from loradash_assets.compute.errors import DatasetError
from loradash_assets.compute.model import load_config, load_tokenizer, max_positions
from loradash_assets.compute.prefixes import PrefixTree
from loradash_assets.compute.prompts import PromptBuilder, PromptFormat, UnusableRow, prompt_builder
from loradash_assets.compute.row_groups import RowGroups, row_groups
from loradash_assets.compute.tokens import token_texts
from loradash_assets.parquet import read_parquet
from loradash_assets.schema import PROMPTS, SKIPPED_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedTokenizerBase


PROMPTS_FILE = "prompts.parquet"
SKIPPED_FILE = "skipped.parquet"
_ROW_BYTES, _TOKEN_BYTES = 200, 64  # of Python objects beside the characters
# Texts and ids recur. Prefix numbers mostly rise by 1: as differences they take almost no space.
_LAYOUT = {
    "use_dictionary": ["text", "token_ids.list.element", "tokens.list.element"],
    "column_encoding": {"prefixes.list.element": "DELTA_BINARY_PACKED"},
}


class Example(NamedTuple):
    """A prompt: its text, and per token the id and its stretch of the text."""

    text: str
    token_ids: Sequence[int]
    tokens: Sequence[str]


def encode_prompts(
    rows: Path,
    model_directory: Path,
    target: Path,
    *,
    prompt_format: PromptFormat,
    text_column: str,
    messages_column: str,
    template: str | None,
    max_tokens: int | None,
    trust_remote_code: bool,
) -> dict[str, Any]:
    """Write prompts.parquet and skipped.parquet to `target`; return their counts and what the tokenizer's ids are.

    rows: a file in the ROWS schema. Raises DatasetError if the format needs what the tokenizer does not have, or no row
    is usable (with the first reasons).
    """
    tokenizer = load_tokenizer(model_directory, trust_remote_code=trust_remote_code)
    positions = max_positions(load_config(model_directory, trust_remote_code=trust_remote_code))
    limit = min((limit for limit in (max_tokens, positions) if limit), default=None)
    try:
        builder = prompt_builder(
            prompt_format,
            text_column=text_column,
            messages_column=messages_column,
            template=template,
            tokenizer=tokenizer,
        )
    except ValueError as error:
        raise DatasetError(f"dataset.prompt_format: {error}") from error
    counts = encode_rows(rows, target, builder, tokenizer, limit)
    if not counts["examples"]:
        found = read_parquet(target / SKIPPED_FILE).slice(0, 3).to_pylist()
        reasons = "; ".join(f"row {row['row']}: {row['reason']}" for row in found)
        raise DatasetError(f"dataset.path: none of the {counts['rows']} rows is usable: {reasons or 'it is empty'}")
    return {
        **counts,
        "vocabulary": max(tokenizer.get_vocab().values(), default=-1) + 1,
        "special_tokens": special_tokens(tokenizer),
    }


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids of all tokens that the tokenizer marks as special, in ascending order."""
    marked = {token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special}
    return sorted(marked | set(tokenizer.all_special_ids))


def encode_rows(
    rows: Path, target: Path, builder: PromptBuilder, tokenizer: PreTrainedTokenizerBase, max_tokens: int | None
) -> dict[str, int]:
    """Render and tokenise every row of a ROWS file; unusable and truncated ones are listed with the reason.

    Writes prompts.parquet and skipped.parquet to `target`, and returns how many rows, examples and tokens there were,
    and how many rows were skipped and truncated.
    """
    counts = Counter(rows=0, examples=0, tokens=0, skipped=0, truncated=0)
    with PromptsFile(target / PROMPTS_FILE) as prompts, RowGroups(target / SKIPPED_FILE, SKIPPED_ROWS) as listed:
        for number, fields, error in _parsed(rows):
            outcome, reason = None, ""
            try:
                if error:
                    raise UnusableRow(error)
                example, length = _encode(builder, fields, tokenizer, max_tokens)
                prompts.add(number, example)
                counts.update(examples=1, tokens=len(example.token_ids))
                if length > len(example.token_ids):
                    outcome, reason = "truncated", f"{length} tokens, of which the first {max_tokens} are used"
            except UnusableRow as unusable:
                outcome, reason = "skipped", str(unusable)
            counts.update(rows=1)
            if outcome:
                counts.update([outcome])
                listed.add({"row": number, "outcome": outcome, "reason": reason}, _ROW_BYTES + len(reason))
    return dict(counts)


class PromptsFile:
    """A file in the PROMPTS schema, written example by example. Memory: that of `PrefixTree`, and a group of rows."""

    def __init__(self, file: Path) -> None:
        self._groups = RowGroups(file, PROMPTS, **_LAYOUT)
        self._prefixes = PrefixTree()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._groups.__exit__(*error)

    def add(self, row: int, example: Example) -> None:
        """Write what a dataset row became; rows ascend."""
        prefixes = self._prefixes.add(np.asarray(example.token_ids, np.int32))
        size = _ROW_BYTES + len(example.text) + _TOKEN_BYTES * len(example.token_ids)
        self._groups.add({"example": row, **example._asdict(), "prefixes": prefixes}, size)


def _parsed(rows: Path) -> Iterator[tuple[int, Any, str]]:
    names = ("row", "json", "error")
    for group in row_groups(rows, names):
        for number, text, error in zip(*(group.column(name).to_pylist() for name in names), strict=True):
            yield number, json.loads(text), error


def _encode(
    builder: PromptBuilder, fields: Any, tokenizer: PreTrainedTokenizerBase, max_tokens: int | None
) -> tuple[Example, int]:
    text = builder.render(fields)
    encoded: Any = tokenizer(
        text, add_special_tokens=builder.adds_special_tokens, return_offsets_mapping=True, verbose=False
    )
    token_ids: list[int] = encoded["input_ids"]
    if not token_ids:
        raise UnusableRow("the tokenizer makes no tokens of it")
    kept: list[tuple[int, int]] = encoded["offset_mapping"][:max_tokens]
    if len(kept) < len(token_ids):
        text = text[: max(end for _, end in kept)]
    strings = cast("list[str]", tokenizer.convert_ids_to_tokens(token_ids[:max_tokens]))
    return Example(text, token_ids[:max_tokens], token_texts(text, kept, strings)), len(token_ids)
