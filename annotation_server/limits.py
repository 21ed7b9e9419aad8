"""How long and how many what a person gives may be, whichever way it comes: one edit, or a file of notes."""

from __future__ import annotations

from typing import Annotated

import msgspec

TEXT_BYTES = 16 * 1024  # of a note's text in UTF-8
# No control character, no blank at either end.
_NAME_PATTERN = r"^(?!\s)[^\x00-\x1f\x7f-\x9f\u2028\u2029]*(?<!\s)(?![\s\S])"
_DIGEST_PATTERN = r"^[0-9a-f]{8}(?![\s\S])"

FileName = Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f-\x9f]*(?![\s\S])")]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=80, pattern=_NAME_PATTERN)]  # of a person or a tag
Tags = Annotated[list[Name], msgspec.Meta(max_length=32)]
Confidence = Annotated[int, msgspec.Meta(ge=1, le=5)]
Digests = Annotated[list[Annotated[str, msgspec.Meta(pattern=_DIGEST_PATTERN)]], msgspec.Meta(max_length=64)]
