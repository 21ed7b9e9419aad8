"""ETags, and what `If-Match` and `If-None-Match` ask of an entry before it may change (RFC 9110, 8.8.3 and 13).

The ETag is a hash of the text alone: a star set meanwhile does not make a text edit stale. An entry that is not there
has the ETag of the empty text, so the same request that edits a note also begins one.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from annotation_server.document import Entry

_LIST = re.compile(r'\s*(?:W/)?"[^"]*"\s*(?:,\s*(?:W/)?"[^"]*"\s*)*')
_STRONG = re.compile(r'(W/)?("[^"]*")')


class InvalidPrecondition(ValueError):
    """An `If-Match` that is neither `*` nor a list of quoted ETags, or an `If-None-Match` that is not `*`."""


@dataclass(frozen=True)
class Precondition:
    """What must hold: `etags` any of these, `present` some entry, `absent` none."""

    etags: frozenset[str] | None = None
    present: bool = False
    absent: bool = False

    def holds(self, entry: Entry | None) -> bool:
        """Whether `entry` (None: not there) may change."""
        if self.etags is not None and etag(entry) not in self.etags:
            return False
        return not (self.present and entry is None) and not (self.absent and entry is not None)


UNCONDITIONAL = Precondition()


def etag(entry: Entry | None) -> str:
    """The entry's ETag, quotes included."""
    text = "" if entry is None else entry.text
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def parse_precondition(if_match: str | None, if_none_match: str | None) -> Precondition:
    """The headers' meaning (None: not sent). Raises `InvalidPrecondition`."""
    if if_none_match is not None and if_none_match.strip() != "*":
        raise InvalidPrecondition("If-None-Match: only * is understood here (write only if there is no entry)")
    absent = if_none_match is not None
    if if_match is None:
        return Precondition(absent=absent)
    if if_match.strip() == "*":
        return Precondition(present=True, absent=absent)
    if not _LIST.fullmatch(if_match):
        raise InvalidPrecondition('If-Match: expected * or ETags in double quotes, such as "0123abcd"')
    strong = frozenset(tag for weak, tag in _STRONG.findall(if_match) if not weak)
    return Precondition(etags=strong, absent=absent)
