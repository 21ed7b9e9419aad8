"""Rows to prompts: each format to the letter, and every row that cannot become one refused with its reason."""

from __future__ import annotations

from typing import Any

import pytest

from loradash_assets.compute.prompts import UnusableRow, prompt_builder
from tests.projects import tiny_tokenizer

DEEPSEEK_FIELDS = ("question", "deepseek_thinking_trajectory", "deepseek_attempt")


def _deepseek_row(**fields: Any) -> dict[str, Any]:
    return {**dict.fromkeys(DEEPSEEK_FIELDS, "x"), **fields}


def test_the_deepseek_format_is_the_originals_string() -> None:
    builder = prompt_builder("deepseek")
    row: dict[str, Any] = dict(zip(DEEPSEEK_FIELDS, ("What is 1 + 1?", "Add.\nThem.", "2"), strict=True))
    assert builder.render(row) == (
        "<|im_start|>system\nYou are a helpful mathematics assistant.\n<|im_start|>user\nWhat is 1 + 1?\n"
        "<|im_start|>assistant\n<|im_start|>think\nAdd.\nThem.\n<|im_start|>answer\n2<|im_end|>"
    )
    assert not builder.adds_special_tokens


def test_braces_and_format_fields_in_a_row_stay_as_they_are() -> None:
    text = r"\frac{1}{2} {question} {0} {{}} {question.__class__} %s"
    rendered = prompt_builder("deepseek").render(_deepseek_row(question=text, deepseek_attempt=text))
    assert rendered.count(text) == 2


@pytest.mark.parametrize("field", DEEPSEEK_FIELDS)
@pytest.mark.parametrize("value", [None, "", " \n", 3, ["x"], "\ud800"])
def test_a_deepseek_row_without_a_field_is_refused_naming_it(field: str, value: object) -> None:
    render = prompt_builder("deepseek").render
    with pytest.raises(UnusableRow, match=f"field '{field}'"):
        render(_deepseek_row(**{field: value}))
    row = _deepseek_row()
    del row[field]
    with pytest.raises(UnusableRow, match=f"no field '{field}'"):
        render(row)


def test_text_is_one_column_and_leaves_special_tokens_to_the_tokenizer() -> None:
    builder = prompt_builder("text", text_column="body")
    assert builder.render({"body": "as\0it\u202eis ", "text": "no"}) == "as\0it\u202eis "
    assert builder.adds_special_tokens
    for value, reason in ((None, "no field"), (7, "is int, not text"), ("", "is empty"), ("a\udc80", "surrogate at")):
        with pytest.raises(UnusableRow, match=reason):
            builder.render({"body": value})


def test_chat_goes_through_the_tokenizers_own_template() -> None:
    builder = prompt_builder("chat", messages_column="talk", tokenizer=tiny_tokenizer())
    talk = [{"role": "user", "content": "Hi {{ 7 * 7 }}"}, {"role": "assistant", "content": "Ho"}]
    expected = "<|im_start|>user\nHi {{ 7 * 7 }}<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>\n"
    assert builder.render({"talk": talk}) == expected
    assert not builder.adds_special_tokens


@pytest.mark.parametrize(
    "talk",
    [None, [], "hello", ["hello"], [[{"role": "user", "content": "x"}]], [{"content": "x"}], [{"role": 1}]],
)
def test_what_is_no_list_of_messages_is_refused(talk: object) -> None:
    builder = prompt_builder("chat", messages_column="talk", tokenizer=tiny_tokenizer())
    with pytest.raises(UnusableRow, match="field 'talk'"):
        builder.render({"talk": talk})


def test_a_chat_template_that_fails_or_gives_surrogates_refuses_the_row() -> None:
    tokenizer = tiny_tokenizer()
    builder = prompt_builder("chat", tokenizer=tokenizer)
    with pytest.raises(UnusableRow, match="surrogate"):
        builder.render({"messages": [{"role": "user", "content": "\ud800"}]})
    for template in ("{{ raise_exception('no system') }}", "{{ messages[0]['content'] + 1 }}", "{{ 1 / 0 }}"):
        tokenizer.chat_template = template
        with pytest.raises(UnusableRow, match="the chat template refuses field 'messages'"):
            builder.render({"messages": [{"role": "user", "content": "x"}]})


def test_chat_needs_a_chat_template() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="needs a tokenizer with a chat template"):
        prompt_builder("chat", tokenizer=tokenizer)


def test_a_template_sees_the_rows_fields_and_keeps_its_last_line_break() -> None:
    builder = prompt_builder("template", template="{% for x in parts %}[{{ x }}]{% endfor %}{{ q }}\n")
    assert builder.render({"parts": ["a", "<&>"], "q": "{{ q }}"}) == "[a][<&>]{{ q }}\n"
    assert not builder.adds_special_tokens


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ missing }}", "'missing' is undefined"),
        ("{{ q.missing }}", "no attribute 'missing'"),
        ("{{ q.__class__.__mro__ }}", "unsafe"),
        ("{{ parts.append(1) }}", "unsafe"),
        ("{% include q %}", "no loader"),
        ("{{ q + 1 }}", "str"),
        ("{{ 1 / (q | length - 1) }}", "zero"),
        ("{{ q[1:] }}", "is empty"),
    ],
)
def test_a_template_that_fails_on_a_row_refuses_that_row(template: str, reason: str) -> None:
    with pytest.raises(UnusableRow, match=reason):
        prompt_builder("template", template=template).render({"q": "x", "parts": []})


@pytest.mark.parametrize("template", [None, "{% if %}", "{{"])
def test_a_template_that_is_missing_or_does_not_parse_is_refused_at_once(template: str | None) -> None:
    with pytest.raises(ValueError, match="template"):
        prompt_builder("template", template=template)
