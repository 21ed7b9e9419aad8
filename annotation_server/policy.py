"""The Content-Security-Policy that a page carries in a <meta>, to be sent as a header too.

In a <meta> it cannot say who may frame the page, and what stands before it in the file is not under it.
"""

from __future__ import annotations

import re
from contextlib import suppress
from html.parser import HTMLParser

PLACE_BYTES = 4096  # from the start of a page: a policy further down is not looked for
# What a header may carry as one policy: visible ASCII and spaces, and no comma, which would begin another policy.
_ONE_POLICY = re.compile(r"[\x20-\x2b\x2d-\x7e]+")


def frameless(policy: str | None) -> str:
    """The header's value: the page's own policy, if it has one, and that nobody may frame the page."""
    # First, since of two directives of one name the first one counts.
    return "frame-ancestors 'none'" if policy is None else f"frame-ancestors 'none'; {policy}"


def page_policy(html: bytes) -> str | None:
    """The policy in the first <meta http-equiv="Content-Security-Policy"> of a page.

    None if there is none within the first PLACE_BYTES, or none that a header can carry as it is.
    """
    parser = _Metas()
    with suppress(AssertionError):  # so it ends at some broken declarations
        parser.feed(html[:PLACE_BYTES].decode("utf-8", "replace"))
    if parser.policy is None:
        return None
    policy = parser.policy.strip("\t\n\f\r ")
    return policy if _ONE_POLICY.fullmatch(policy) else None


class _Metas(HTMLParser):
    """Keeps the first policy that it comes by."""

    policy: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called for every tag, its name and those of its attributes in lower case, their values unescaped."""
        values = {name: value or "" for name, value in reversed(attrs)}  # of two of one name the first one counts
        if tag == "meta" and values.get("http-equiv", "").lower() == "content-security-policy" and self.policy is None:
            self.policy = values.get("content", "")
