"""The Jinja environment of every page: everything escaped unless it is our own source, nothing undefined passes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = "site_templates"


# HTML cannot hold a NUL, and controls that turn the text around must not reach their neighbours.
_CONTROLS = [*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)]
_SEEN = {code: chr(0x2400 + code) if code < 0x20 else f"[U+{code:04X}]" for code in _CONTROLS}
_LINES = {ord("\n"): "↵", ord("\t"): "⇥"}


def token_text(text: str) -> str:
    """Return a token's text with a visible mark for every control character, line breaks included."""
    return text.translate({**_SEEN, **_LINES})


def plain_text(text: str) -> str:
    """Return a person's text likewise, with its line breaks and tabs as they are."""
    return text.translate({code: mark for code, mark in _SEEN.items() if code not in _LINES})


@cache
def environment() -> Environment:
    """Return the environment over the templates of the package `site_templates`."""
    made = Environment(
        loader=PackageLoader(TEMPLATES, package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(token_text=token_text, plain_text=plain_text)
    return made


def source(paths: Iterable[str]) -> Markup:
    """Return our own scripts or style sheets, one after the other, to stand inline in a page as they are."""
    root = files(TEMPLATES)
    return Markup("\n" + "\n".join(root.joinpath(path).read_text("utf-8") for path in paths))  # noqa: S704 (our own)


def csp_hash(text: str) -> str:
    """Return the Content-Security-Policy source that allows exactly this inline script or style."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
