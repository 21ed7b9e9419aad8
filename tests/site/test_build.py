"""The dashboard is one file with the same bytes each time, and only its own script and style may run in it."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from html.parser import HTMLParser

import pytest
from jinja2 import UndefinedError

from loradash_assets.site.build import SCRIPTS, STYLES, render_dashboard
from loradash_assets.site.environment import environment, source
from loradash_assets.site.page import Note, Page
from tests.site import samples
from tests.site.hostile import HOSTILE


def small_page(title: str = "LoRA activations") -> Page:
    return samples.page([samples.layer_tables(layer, samples.texts(2)) for layer in range(2)], title)


class Tags(HTMLParser):
    """Collects (tag, attributes) and the text of scripts, styles and the title."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        last = self.tags[-1][0] if self.tags else ""
        self.text[last] = self.text.get(last, "") + data


def test_the_same_input_gives_the_same_bytes() -> None:
    notes = {"layer_0_up_proj_positive": Note("x")}
    assert render_dashboard(small_page(), notes) == render_dashboard(small_page(), notes)


def test_a_note_changes_the_page() -> None:
    assert render_dashboard(small_page(), {"layer_0_up_proj_positive": Note("x")}) != render_dashboard(small_page(), {})


def test_the_policy_allows_exactly_the_inline_script_and_style() -> None:
    html = render_dashboard(small_page(), {})
    policy = dict(each.split(" ", 1) for each in _policy(html).split("; "))
    for directive, pattern in (
        ("script-src", r"<script>(.*?)</script>"),
        ("style-src", r"<style>(.*?)</style>"),
    ):
        (text,) = re.findall(pattern, html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy[directive] == f"'sha256-{digest}'"
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert "unsafe" not in _policy(html)


def _policy(html: str) -> str:
    for tag, attributes in Tags(html).tags:
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy":
            return attributes["content"] or ""
    raise AssertionError("no policy")


def test_nothing_is_loaded_from_elsewhere_and_nothing_is_styled_or_scripted_in_attributes() -> None:
    for tag, attributes in Tags(render_dashboard(small_page(), {})).tags:
        addresses = [value for name, value in attributes.items() if name in ("src", "href", "action", "srcset")]
        assert all((address or "").startswith(("data:", "#")) for address in addresses), (tag, addresses)
        assert not [name for name in attributes if name == "style" or name.startswith("on")]


@cache
def titled(title: str) -> list[str]:
    return [tag for tag, _ in Tags(render_dashboard(small_page(title), {})).tags]


@pytest.mark.parametrize("title", HOSTILE)
def test_a_hostile_title_adds_no_element(title: str) -> None:
    assert titled(title) == titled("plain")


def test_our_own_sources_can_stand_inline() -> None:
    for text in (source(SCRIPTS).lower(), source(STYLES).lower()):
        assert not re.search(r"</script|</style|<!--|<script|\r", text)


def test_the_script_never_parses_text_as_html_or_code() -> None:
    sinks = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|setHTML|srcdoc"
    assert not re.findall(sinks, source(SCRIPTS))


def test_a_template_that_names_something_unknown_fails() -> None:
    with pytest.raises(UndefinedError, match="is undefined"):
        environment().get_template("dashboard.html").render()
