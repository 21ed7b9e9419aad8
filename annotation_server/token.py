"""The token that lets in whoever has it: where it is kept, and how a request shows it.

Programs send it in `Authorization: Bearer`. A browser gets a cookie that is made from it and does not tell it, under a
name of its own, so that services with other tokens on the same host keep theirs.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "LORADASH_TOKEN"
HOW_TO_MAKE_ONE = 'python -c "import secrets; print(secrets.token_urlsafe(32))"'
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,512}")
_BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE)


class TokenError(Exception):
    """There is a token, but none that may be used; the message is for the person who gave it, and does not hold it."""


class Token:
    """A token, and what shows that somebody has it."""

    def __init__(self, text: str) -> None:
        self._text = text.encode()
        self._proof = hmac.new(self._text, b"loradash's cookie", hashlib.sha256).hexdigest()
        self._cookie = f"loradash-{self._proof[:8]}"

    @property
    def authorization(self) -> str:
        """The `Authorization` that a program sends."""
        return f"Bearer {self._text.decode()}"

    def is_it(self, text: str) -> bool:
        """Whether `text` is the token; takes as long whatever `text` is."""
        return hmac.compare_digest(text.encode(), self._text)

    def shown(self, authorization: str, cookies: Mapping[str, str]) -> bool:
        """Whether a request with this `Authorization` and these cookies comes from somebody who has the token."""
        bearer = _BEARER.fullmatch(authorization)
        if bearer is not None and self.is_it(bearer[1]):
            return True
        return hmac.compare_digest(cookies.get(self._cookie, "").encode(), self._proof.encode())

    @property
    def set_cookie(self) -> str:
        """The `Set-Cookie` for a browser whose user has shown the token; it lasts until the browser is closed."""
        return f"{self._cookie}={self._proof}; HttpOnly; SameSite=Strict; Path=/"


def read_token(file: Path | None) -> Token | None:
    """The token in `file`, or else in the environment's LORADASH_TOKEN; None if neither is given. Raises `TokenError`.

    A file that others than its owner can read is refused, since what they have read is no secret.
    """
    where, text = (VARIABLE, os.environ.get(VARIABLE, "")) if file is None else (str(file), _private_text(file))
    if not text and file is None:
        return None
    if not _TOKEN.fullmatch(text):
        raise TokenError(
            f"{where}: a token is 16 to 512 letters, digits and . _ ~ - in one line; make one: {HOW_TO_MAKE_ONE}"
        )
    return Token(text)


def _private_text(file: Path) -> str:
    try:
        with file.open(encoding="utf-8", errors="replace") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            if mode & 0o077:
                raise TokenError(f"{file}: others can read it (mode {mode:04o}); chmod 600 it, and take a new token")
            return opened.read(4096).strip("\r\n")
    except OSError as error:
        raise TokenError(f"{file}: {error.strerror}") from None
