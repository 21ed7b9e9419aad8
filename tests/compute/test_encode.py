"""Prompts to tokens: texts that join to the prompt, what was cut and what was skipped, and where special tokens go."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers.normalizers import Strip
from tokenizers.processors import TemplateProcessing
from transformers import AddedToken, LlamaConfig

from loradash_assets.compute.encode import encode_prompts, encode_rows, special_tokens
from loradash_assets.compute.errors import DatasetError
from loradash_assets.compute.prompts import prompt_builder
from loradash_assets.compute.rows import Row, local_rows, write_rows
from loradash_assets.schema import PROMPTS, SKIPPED_ROWS
from tests.projects import SPECIAL, deepseek_rows, save_base, tiny_tokenizer

TEXT = prompt_builder("text")


def _rows(*texts: object) -> list[Row]:
    return [{"text": text} for text in texts]


def _tables(directory: Path, rows: Sequence[Any], tokenizer: Any) -> tuple[pa.Table, pa.Table]:
    """Encode as text, however long; return the PROMPTS and the SKIPPED_ROWS table."""
    write_rows(rows, len(rows), directory / "rows.parquet")
    counts = encode_rows(directory / "rows.parquet", directory, TEXT, tokenizer, None)
    prompts, skipped = (pq.read_table(directory / f"{name}.parquet") for name in ("prompts", "skipped"))
    lengths = [len(ids) for ids in prompts["token_ids"].to_pylist()]
    assert (counts["rows"], counts["examples"], counts["tokens"]) == (len(rows), len(lengths), sum(lengths))
    assert counts["skipped"] + counts["truncated"] == skipped.num_rows
    return prompts, skipped


def _encode(directory: Path, model: Path, rows: Sequence[Row], **options: Any) -> dict[str, Any]:
    write_rows(rows, len(rows), directory / "rows.parquet")
    settings: dict[str, Any] = {
        "prompt_format": "text",
        "text_column": "text",
        "messages_column": "messages",
        "template": None,
        "max_tokens": None,
        "trust_remote_code": False,
    }
    return encode_prompts(directory / "rows.parquet", model, directory, **{**settings, **options})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("base")
    save_base(directory)
    return directory


def test_token_texts_join_to_the_prompt_and_the_ids_are_the_tokenizers(tmp_path: Path) -> None:
    texts = ["plain", "naïve 世界 🙂 ", "\0\u202e", "a\n\n<|im_end|>b"]
    tokenizer = tiny_tokenizer()
    prompts, skipped = _tables(tmp_path, _rows(*texts), tokenizer)
    assert prompts.schema == PROMPTS
    assert skipped.num_rows == 0
    for row, text in zip(prompts.to_pylist(), texts, strict=True):
        assert row["text"] == text
        assert row["token_ids"] == tokenizer(text)["input_ids"]
        assert "".join(token for token in row["tokens"] if not token.startswith("‹")) == text
        assert len(row["tokens"]) == len(row["token_ids"]) == len(row["prefixes"])


def test_bad_rows_are_listed_with_their_reason_and_the_others_keep_their_number(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(
        "\n".join(['{"text": "a"}', '{"text": ""}', '{"x": 1}', r'{"text": "\ud800"}', '{"text": "b"}', "{"])
    )
    prompts, skipped = _tables(tmp_path, list(local_rows(file, "train")), tiny_tokenizer())
    assert prompts["example"].to_pylist() == [0, 4]
    assert skipped.schema == SKIPPED_ROWS
    assert [(row["row"], row["outcome"]) for row in skipped.to_pylist()] == [(n, "skipped") for n in (1, 2, 3, 5)]
    assert [row["reason"] for row in skipped.to_pylist()] == [
        "field 'text' is empty",
        "no field 'text'",
        "field 'text' is not valid Unicode: lone surrogate at character 0",
        "not valid JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
    ]


def test_text_that_becomes_no_tokens_is_no_prompt(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = Strip()
    prompts, skipped = _tables(tmp_path, _rows("a", " ", "b"), tokenizer)
    assert prompts["example"].to_pylist() == [0, 2]
    assert [(row["row"], row["reason"]) for row in skipped.to_pylist()] == [(1, "the tokenizer makes no tokens of it")]


def test_truncation_is_on_the_right_and_listed(tmp_path: Path, model: Path) -> None:
    text = "世界 🙂 naïve café, 12 / 2 = 6"
    encoded: Any = tiny_tokenizer()(text, return_offsets_mapping=True)
    ids, ends = encoded["input_ids"], [end for _, end in encoded["offset_mapping"]]
    for limit in range(1, len(ids)):
        facts = _encode(tmp_path, model, _rows(text, "a"), max_tokens=limit)
        counts = {"rows": 2, "examples": 2, "tokens": limit + 1, "skipped": 0, "truncated": 1}
        assert facts == {**counts, "vocabulary": len(tiny_tokenizer()), "special_tokens": [0, 1, 2]}
        row = pq.read_table(tmp_path / "prompts.parquet").to_pylist()[0]
        assert row["token_ids"] == ids[:limit]
        assert row["text"] == text[: ends[limit - 1]]
        assert "".join(token.split("›")[-1] for token in row["tokens"]) == row["text"]
        assert pq.read_table(tmp_path / "skipped.parquet").to_pylist() == [
            {"row": 0, "outcome": "truncated", "reason": f"{len(ids)} tokens, of which the first {limit} are used"}
        ]
    assert _encode(tmp_path, model, _rows(text), max_tokens=len(ids))["truncated"] == 0


@pytest.mark.parametrize("max_tokens", [None, 100])
def test_no_example_is_longer_than_the_models_positions(tmp_path: Path, max_tokens: int | None) -> None:
    sizes: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tiny_tokenizer()), max_position_embeddings=5, num_key_value_heads=2, **sizes)
    save_base(tmp_path, config)
    assert _encode(tmp_path, tmp_path, _rows("0123456789"), max_tokens=max_tokens)["tokens"] == 5


def test_a_row_of_a_megabyte_is_fine(tmp_path: Path, model: Path) -> None:
    texts = ("x" * 1_000_000, "世" * 300_000)
    facts = _encode(tmp_path, model, _rows(*texts), max_tokens=400)
    assert (facts["examples"], facts["tokens"], facts["truncated"]) == (2, 800, 2)
    prompts, _ = _tables(tmp_path, _rows(*texts), tiny_tokenizer())
    assert prompts["text"].to_pylist() == list(texts)
    assert len(prompts["tokens"][0]) > 100_000


def test_only_text_gets_the_tokenizers_special_tokens(tmp_path: Path) -> None:
    save_base(tmp_path)
    tokenizer = tiny_tokenizer()
    start = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    template = TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", start)])
    tokenizer.backend_tokenizer.post_processor = template
    tokenizer.save_pretrained(tmp_path)
    rows = deepseek_rows()[:2]
    for prompt_format, text in (("text", None), ("deepseek", None), ("chat", None), ("template", "{{ question }}")):
        _encode(tmp_path, tmp_path, rows, prompt_format=prompt_format, template=text)
        prompt = pq.read_table(tmp_path / "prompts.parquet").to_pylist()[0]
        assert prompt["token_ids"].count(start) == (prompt_format == "text")
        assert ("<|endoftext|>" in prompt["tokens"]) == (prompt_format == "text")
        assert "".join(token for token in prompt["tokens"] if token != "<|endoftext|>") == prompt["text"]


def test_special_tokens_are_all_that_the_tokenizer_marks_so() -> None:
    tokenizer = tiny_tokenizer()  # whose eos and pad tokens are two of three special ones
    assert special_tokens(tokenizer) == tokenizer.convert_tokens_to_ids(SPECIAL)
    tokenizer.add_tokens([AddedToken("<think>", special=True), AddedToken("<note>", special=False)])
    assert special_tokens(tokenizer) == tokenizer.convert_tokens_to_ids([*SPECIAL, "<think>"])
    tokenizer.add_special_tokens({"bos_token": "<note>"})
    assert tokenizer.convert_tokens_to_ids("<note>") in special_tokens(tokenizer)


def test_no_usable_row_is_refused_with_the_first_reasons(tmp_path: Path, model: Path) -> None:
    with pytest.raises(DatasetError, match=r"none of the 4 rows is usable: row 0: no field 'text'; row 1: .*; row 2: "):
        _encode(tmp_path, model, [{"x": json.dumps(n)} for n in range(4)])
    with pytest.raises(DatasetError, match="none of the 0 rows is usable: it is empty"):
        _encode(tmp_path, model, [])


def test_a_format_that_the_tokenizer_cannot_do_is_refused(tmp_path: Path) -> None:
    save_base(tmp_path)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(DatasetError, match=r"dataset\.prompt_format: .*chat"):
        _encode(tmp_path, tmp_path, _rows("a"), prompt_format="chat")
