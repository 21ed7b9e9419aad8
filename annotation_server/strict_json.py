"""JSON as both the notes file and the requests must be: strict, so that whatever is read can also be written.

The standard library's parser reads it, for its line numbers and because it can see repeated names (a merge that kept
both sides leaves them, and dropping one would drop a note); msgspec writes it.
"""

from __future__ import annotations

import json
import math

import msgspec


class NotJson(ValueError):
    """The bytes are not JSON in UTF-8."""


class UnusableJson(ValueError):
    """JSON, but with what cannot be kept: a repeated name, a lone surrogate, an endless number or nest."""


def parse(data: bytes) -> object:
    """The value that `data` spells. Raises `NotJson` or `UnusableJson`, with the line where the parser knows it."""
    value = _parse_text(_decode(data))
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        raise UnusableJson("a string holds half of a surrogate pair, which is not Unicode text") from None
    except RecursionError:
        raise UnusableJson("nested too deeply") from None
    return value


def serialise(value: object) -> bytes:
    """`value` as indented JSON in UTF-8 with a final line break; equal values in equal order give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")  # editors on Windows put a byte order mark in front
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise NotJson(f"line {line}: byte {error.start} is not UTF-8") from None


def _parse_text(text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise NotJson(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise UnusableJson("nested too deeply") from None
    except (NotJson, UnusableJson):
        raise
    except ValueError as error:  # an integer of more digits than Python converts
        raise UnusableJson(str(error)) from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields: dict[str, object] = {}
    for name, value in pairs:
        if name in fields:
            raise UnusableJson(f"the name {name[:100]!a} stands twice in one object")
        fields[name] = value
    return fields


def _refuse_constant(name: str) -> object:
    raise NotJson(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise UnusableJson(f"the number {digits[:40]} is too large")
    return number
