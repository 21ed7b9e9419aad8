"""axe-core on a page in the browser: which rules of accessibility it breaks, and where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any, Literal

from playwright.sync_api import Page

Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
SOURCE = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
# WCAG up to 2.2, levels A and AA, and what axe-core holds for good practice. Named, or those of 2.2 would not run.
TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


def violations(page: Page) -> list[str]:
    """Return a line for every element that breaks a rule, light or dark: the rule, the element, what is wrong with it.

    The page's policy must not hold for axe-core: the context is made with `bypass_csp=True`.
    """
    if not page.evaluate("'axe' in window"):
        page.evaluate(SOURCE)
    return [line for scheme in SCHEMES for line in _in(page, scheme)]


def _in(page: Page, scheme: Scheme) -> Iterator[str]:
    page.emulate_media(color_scheme=scheme)
    options = {"runOnly": TAGS, "resultTypes": ["violations"]}
    found = page.evaluate("(options) => axe.run(document, options)", options)
    return (f"{scheme}: {rule['id']} at {_what(node)}" for rule in found["violations"] for node in rule["nodes"])


def _what(node: Mapping[str, Any]) -> str:
    """Return where the element is, what it is, and what one of its checks says."""
    checks = [*node["any"], *node["all"], *node["none"]]
    said = "; ".join(check["message"] for check in checks)
    return f"{' '.join(map(str, node['target']))} {node['html'][:120]}: {said}"
