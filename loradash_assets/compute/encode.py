"""Prompts to tokens: the model's input ids and each token's stretch of the text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from loradash_assets.compute.errors import DatasetError
from loradash_assets.compute.model import load_config, load_tokenizer, max_positions
from loradash_assets.compute.prefixes import prefix_numbers
from loradash_assets.compute.prompts import PromptBuilder, PromptFormat, UnusableRow, prompt_builder
from loradash_assets.compute.tokens import token_texts
from loradash_assets.schema import PROMPTS, SKIPPED_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedTokenizerBase


class Prompts(NamedTuple):
    """What became of the rows: PROMPTS and SKIPPED_ROWS."""

    prompts: pa.Table
    skipped: pa.Table


class _Example(NamedTuple):
    text: str
    token_ids: list[int]
    tokens: list[str]


def encode_prompts(
    rows: pa.Table,
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

    Raises DatasetError if the format needs what the tokenizer does not have, or no row is usable (with the first
    reasons).
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
    prompts, skipped = encode_rows(rows, builder, tokenizer, limit)
    if prompts.num_rows == 0:
        reasons = "; ".join(f"row {row['row']}: {row['reason']}" for row in skipped.slice(0, 3).to_pylist())
        raise DatasetError(f"dataset.path: none of the {rows.num_rows} rows is usable: {reasons or 'it is empty'}")
    pq.write_table(prompts, target / "prompts.parquet")
    pq.write_table(skipped, target / "skipped.parquet")
    outcomes = skipped.column("outcome").to_pylist()
    return {
        "rows": rows.num_rows,
        "examples": prompts.num_rows,
        "tokens": sum(map(len, prompts.column("token_ids").to_pylist())),
        "skipped": outcomes.count("skipped"),
        "truncated": outcomes.count("truncated"),
        "vocabulary": max(tokenizer.get_vocab().values(), default=-1) + 1,
        "special_tokens": special_tokens(tokenizer),
    }


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids of all tokens that the tokenizer marks as special, in ascending order."""
    marked = {token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special}
    return sorted(marked | set(tokenizer.all_special_ids))


def encode_rows(
    rows: pa.Table, builder: PromptBuilder, tokenizer: PreTrainedTokenizerBase, max_tokens: int | None
) -> Prompts:
    """Render and tokenise every row of the ROWS table; unusable and truncated ones are listed with the reason."""
    examples: dict[int, _Example] = {}
    outcomes: list[dict[str, Any]] = []
    for number, fields, error in _parsed(rows):
        try:
            if error:
                raise UnusableRow(error)
            examples[number], length = _encode(builder, fields, tokenizer, max_tokens)
        except UnusableRow as reason:
            outcomes.append({"row": number, "outcome": "skipped", "reason": str(reason)})
            continue
        if length > len(examples[number].token_ids):
            reason = f"{length} tokens, of which the first {max_tokens} are used"
            outcomes.append({"row": number, "outcome": "truncated", "reason": reason})
    return Prompts(_table(examples), pa.Table.from_pylist(outcomes, schema=SKIPPED_ROWS))


def _parsed(rows: pa.Table) -> Iterator[tuple[int, Any, str]]:
    columns = (rows.column(name).to_pylist() for name in ("row", "json", "error"))
    for number, text, error in zip(*columns, strict=True):
        yield number, json.loads(text), error


def _encode(
    builder: PromptBuilder, fields: Any, tokenizer: PreTrainedTokenizerBase, max_tokens: int | None
) -> tuple[_Example, int]:
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
    return _Example(text, token_ids[:max_tokens], token_texts(text, kept, strings)), len(token_ids)


def _table(examples: dict[int, _Example]) -> pa.Table:
    prefixes = prefix_numbers([np.asarray(example.token_ids, dtype=np.int32) for example in examples.values()])
    columns = {
        "example": list(examples),
        "text": [example.text for example in examples.values()],
        "token_ids": [example.token_ids for example in examples.values()],
        "tokens": [example.tokens for example in examples.values()],
        "prefixes": prefixes,
    }
    return pa.table(columns, schema=PROMPTS)
