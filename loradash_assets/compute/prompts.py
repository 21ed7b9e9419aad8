"""Dataset rows to the text that the model reads, in one of four named formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from loradash_assets.schema import PromptFormat

Row = Mapping[str, Any]

DEEPSEEK = (
    "<|im_start|>system\nYou are a helpful mathematics assistant.\n"
    "<|im_start|>user\n{question}\n"
    "<|im_start|>assistant\n"
    "<|im_start|>think\n{deepseek_thinking_trajectory}\n"
    "<|im_start|>answer\n{deepseek_attempt}<|im_end|>"
)


class ChatTokenizer(Protocol):
    """The one method of a transformers tokenizer that the `chat` format needs."""

    def apply_chat_template(self, conversation: Any, *, tokenize: bool) -> Any:
        """Return the messages as one text if `tokenize` is false."""
        ...


class UnusableRow(ValueError):
    """A dataset row that cannot become a prompt; the message is the reason shown to the user."""


@dataclass(frozen=True)
class PromptBuilder:
    """Renders rows; `adds_special_tokens` says whether the tokenizer's defaults still have to be added."""

    render: Callable[[Row], str]
    adds_special_tokens: bool


def prompt_builder(
    prompt_format: PromptFormat,
    *,
    text_column: str = "text",
    messages_column: str = "messages",
    template: str | None = None,
    tokenizer: ChatTokenizer | None = None,
) -> PromptBuilder:
    """Return the builder for `prompt_format`.

    `chat` needs `tokenizer`, `template` needs `template`. Only `text` leaves special tokens to the
    tokenizer: the other formats spell them out. Raises ValueError for a missing ingredient or a
    template that does not parse; the builder's `render` raises UnusableRow.
    """
    if prompt_format == "text":
        return PromptBuilder(lambda row: _text(row, text_column), adds_special_tokens=True)
    if prompt_format == "deepseek":
        return PromptBuilder(_deepseek, adds_special_tokens=False)
    if prompt_format == "chat":
        if tokenizer is None or getattr(tokenizer, "chat_template", None) is None:
            raise ValueError("prompt format 'chat' needs a tokenizer with a chat template")
        return PromptBuilder(lambda row: _chat(row, messages_column, tokenizer), adds_special_tokens=False)
    if template is None:
        raise ValueError("prompt format 'template' needs dataset.template")
    return PromptBuilder(_template(template), adds_special_tokens=False)


def _text(row: Row, column: str) -> str:
    value = row.get(column)
    if value is None:
        raise UnusableRow(f"no field '{column}'")
    if not isinstance(value, str):
        raise UnusableRow(f"field '{column}' is {type(value).__name__}, not text")
    return _checked(value, f"field '{column}'")


def _deepseek(row: Row) -> str:
    for field in ("deepseek_thinking_trajectory", "deepseek_attempt", "question"):
        if not _text(row, field).strip():
            raise UnusableRow(f"field '{field}' is empty")
    return DEEPSEEK.format_map(row)


def _chat(row: Row, column: str, tokenizer: ChatTokenizer) -> str:
    messages: Any = row.get(column)
    if not isinstance(messages, list) or not messages:
        raise UnusableRow(f"no list of messages in field '{column}'")
    if not all(isinstance(message, dict) and isinstance(message.get("role"), str) for message in messages):
        raise UnusableRow(f"field '{column}' holds something that is no message with a role")
    try:
        text = str(tokenizer.apply_chat_template(messages, tokenize=False))
    except Exception as error:  # a template computes: it can fail on a row in every way that code can
        raise UnusableRow(f"the chat template refuses field '{column}': {error}") from error
    return _checked(text, f"what the chat template makes of field '{column}'")


def _template(source: str) -> Callable[[Row], str]:
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    try:
        compiled = environment.from_string(source)
    except TemplateError as error:
        raise ValueError(f"dataset.template does not parse: {error}") from error

    def render(row: Row) -> str:
        try:
            text = compiled.render(row)
        except Exception as error:  # as in _chat
            raise UnusableRow(f"the template refuses the row: {error}") from error
        return _checked(text, "what the template makes of the row")

    return render


def _checked(text: str, what: str) -> str:
    if not text:
        raise UnusableRow(f"{what} is empty")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UnusableRow(f"{what} is not valid Unicode: lone surrogate at character {error.start}") from error
    return text
