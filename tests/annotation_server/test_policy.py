"""A page's own Content-Security-Policy, found in its first bytes however it is written, and fit for a header."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation_server.policy import PLACE_BYTES, frameless, page_policy
from tests.annotation_server.untimed import UNTIMED

POLICY = "default-src 'none'; script-src 'sha256-AbC+/=' 'strict-dynamic'; trusted-types loradash"
META = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'


@pytest.mark.parametrize(
    "html",
    [
        META,
        f"<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8>\n{META}<title>x</title>",
        META.replace("'", "&#39;"),
        META.replace(";", "&semi;").replace("'", "&apos;"),
        META.lower().replace("abc", "AbC").replace("meta", "META"),
        f"<meta\n content='{POLICY.replace(chr(39), '&#x27;')}'\n http-equiv=content-security-policy />",
        META.replace('content="', 'content="\n  '),
        META + '<meta http-equiv="Content-Security-Policy" content="img-src *">',
        META.replace(">", ' content="img-src *" http-equiv="refresh">'),
        '<meta name="Content-Security-Policy" content="img-src *">' + META,
        f"<!-- {META.replace('none', 'self')} -->{META}",
        f"<script>'{META.replace('none', 'self')}'</script>{META}",
        f"\ufeff<title>\N{SNOWMAN}</title>{META}",
    ],
)
def test_the_first_policy_is_found(html: str) -> None:
    assert page_policy(html.encode()) == POLICY


@pytest.mark.parametrize(
    "html",
    [
        "",
        "<!DOCTYPE html><title>x</title>",
        f"<!-- {META} -->",
        f"<script>{META}</script>",
        META.replace("Security", "Safety"),
        META[:-1],
        "<title>" + "x" * PLACE_BYTES + f"</title>{META}",
        " " * (PLACE_BYTES - len(META) + 1) + META,
        '<meta http-equiv="Content-Security-Policy">',
        '<meta http-equiv="Content-Security-Policy" content="">',
        *(
            META.replace("default", f"x{bad}y")
            for bad in ("\r\n", "\n", "\r", "\t", "\x0b", "\x7f", "\x1b", "\x85", "\0")
        ),
        *(META.replace("default", f"x{bad}y") for bad in ("&#13;&#10;", "&#10;", "&#0;", "&NewLine;", "&Tab;")),
        *(META.replace("default", f"x{bad}y") for bad in (",", "&comma;", "é", "\u2028", "😀", "&eacute;")),
        f"<![broken[{META}",
    ],
    ids=ascii,
)
def test_there_is_none_or_none_for_a_header(html: str) -> None:
    assert page_policy(html.encode()) is None


def test_a_policy_up_to_the_last_byte_is_found() -> None:
    assert page_policy((" " * (PLACE_BYTES - len(META)) + META).encode()) == POLICY


PIECES = st.sampled_from(
    [META, META[:40], '"', "'", ">", "<", "<!", "<![", "<!--", "<script>", "&#10;", "&#x", "<meta "]
)


@UNTIMED
@given(st.lists(PIECES | st.text(max_size=9) | st.binary(max_size=9), max_size=20))
def test_whatever_a_page_holds_its_header_is_one_line_of_ascii(parts: list[str | bytes]) -> None:
    html = b"".join(part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass") for part in parts)
    sent = frameless(page_policy(html))
    assert sent.startswith("frame-ancestors 'none'")
    assert sent.isascii()
    assert sent.isprintable()
    assert "," not in sent


def test_a_page_cannot_let_itself_be_framed() -> None:
    sent = frameless(page_policy(META.replace("default-src 'none'", "frame-ancestors *").encode()))
    assert sent.split("; ")[:2] == ["frame-ancestors 'none'", "frame-ancestors *"]  # the first one counts
