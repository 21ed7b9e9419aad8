"""The prompts token by token against plain lists, from a file of several row groups."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loradash_assets.compute.encode import Example, PromptsFile
from loradash_assets.compute.prompt_tokens import PromptTokens
from loradash_assets.compute.row_groups import GROUP_BYTES, RowGroups, row_groups
from loradash_assets.compute.token_ids import TokenIds
from loradash_assets.schema import PROMPTS, ROWS


def _examples(count: int) -> dict[int, Example]:
    """Every third is one token longer than the one before; a text hangs on more than the id."""
    generator = np.random.default_rng(0)
    examples: dict[int, Example] = {}
    ids: list[int] = []
    for number in range(count):
        ids = [*ids, 7] if number % 3 == 2 else generator.integers(0, 5_000, generator.integers(0, 4_000)).tolist()
        tokens = [f"{'«' if token % 11 == number % 11 else ''}{token}" for token in ids]
        examples[2 * number] = Example("".join(tokens), ids, tokens)
    return examples


def _write(examples: dict[int, Example], file: Path) -> None:
    with PromptsFile(file) as prompts:
        for row, example in examples.items():
            prompts.add(row, example)


def test_every_token_is_what_the_examples_say(tmp_path: Path) -> None:
    examples = _examples(120)
    _write(examples, tmp_path / "prompts.parquet")
    assert pq.read_metadata(tmp_path / "prompts.parquet").num_row_groups > 2
    ids = [token for example in examples.values() for token in example.token_ids]
    texts = [token for example in examples.values() for token in example.tokens]
    lengths = [len(example.token_ids) for example in examples.values()]
    tokens = PromptTokens.read(tmp_path / "prompts.parquet")
    assert tokens.ids.tolist() == ids
    assert tokens.index.examples.tolist() == list(examples)
    assert tokens.index.offsets.tolist() == [0, *accumulate(lengths)]
    assert tokens.index.positions().tolist() == [position for length in lengths for position in range(length)]
    numbers = np.random.default_rng(1).integers(0, len(ids), 5_000)
    assert tokens.texts.take(numbers).to_pylist() == [texts[number] for number in numbers]
    assert len(tokens.texts.distinct) == len(set(texts))

    known: dict[tuple[int, int], int] = {}  # a prefix as the number of the one before, and its last id
    prefixes: list[int] = []
    for example in examples.values():
        number = -1
        for token in example.token_ids:
            number = known.setdefault((number, token), len(known))
            prefixes.append(number)
    again = [(first, prefix) for first, prefix in enumerate(prefixes)]
    firsts: dict[int, int] = {}
    for place, prefix in again:
        firsts.setdefault(prefix, place)
    counts = np.bincount(prefixes)
    assert tokens.repeats.first.tolist() == [firsts[prefix] == place for place, prefix in again]
    assert tokens.repeats.counts.tolist() == counts[prefixes].tolist()
    assert counts.max() > 1


def test_ids_alone_are_the_same(tmp_path: Path) -> None:
    examples = _examples(60)
    _write(examples, tmp_path / "prompts.parquet")
    ids = TokenIds.read(tmp_path / "prompts.parquet")
    assert ids.flat.dtype == np.int32
    assert [each.tolist() for each in ids.by_example()] == [example.token_ids for example in examples.values()]


def test_how_a_file_is_cut_into_groups_changes_nothing(tmp_path: Path) -> None:
    _write(_examples(60), tmp_path / "groups.parquet")
    pq.write_table(pq.read_table(tmp_path / "groups.parquet"), tmp_path / "whole.parquet")
    assert pq.read_metadata(tmp_path / "whole.parquet").num_row_groups == 1
    several, one = (PromptTokens.read(tmp_path / f"{name}.parquet") for name in ("groups", "whole"))
    numbers = np.arange(one.index.tokens)
    assert several.texts.take(numbers).equals(one.texts.take(numbers))
    np.testing.assert_array_equal(several.ids, one.ids)
    np.testing.assert_array_equal(several.prefixes, one.prefixes)


def test_no_prompts_are_no_tokens(tmp_path: Path) -> None:
    _write({}, tmp_path / "none.parquet")
    pq.write_table(PROMPTS.empty_table(), tmp_path / "empty.parquet")
    for name in ("none", "empty"):
        tokens = PromptTokens.read(tmp_path / f"{name}.parquet")
        assert (tokens.index.tokens, tokens.ids.size, tokens.prefixes.size) == (0, 0, 0)
        assert tokens.index.positions().size == tokens.groups.token.count == 0
        assert tokens.texts.take(np.empty(0, np.int64)).to_pylist() == []
        assert TokenIds.read(tmp_path / f"{name}.parquet").by_example() == []


def test_examples_out_of_order_are_refused() -> None:
    rows = [{"example": row, "text": "", "token_ids": [], "tokens": [], "prefixes": []} for row in (1, 1)]
    with pytest.raises(ValueError, match="in the order of their examples"):
        PromptTokens.of([pa.Table.from_pylist(rows, schema=PROMPTS)])


def test_a_group_ends_where_its_rows_are_large_enough(tmp_path: Path) -> None:
    sizes = [GROUP_BYTES, 1, GROUP_BYTES - 1, GROUP_BYTES // 2, 1]
    with RowGroups(tmp_path / "rows.parquet", ROWS) as rows:
        for number, size in enumerate(sizes):
            rows.add({"row": number, "json": "{}", "error": ""}, size)
    groups = [group["row"].to_pylist() for group in row_groups(tmp_path / "rows.parquet", ["row"])]
    assert groups == [[0], [1, 2], [3, 4]]
