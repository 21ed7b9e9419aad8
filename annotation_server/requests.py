"""What the bodies of requests may hold; docs/annotation-api.md and the OpenAPI document say the same."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from annotation_server.keys import KEY_PATTERN

# Of a person or a tag: no control character, no blank at either end.
_NAME_PATTERN = r"^(?!\s)[^\x00-\x1f\x7f-\x9f\u2028\u2029]*(?<!\s)(?![\s\S])"
_DIGEST_PATTERN = r"^[0-9a-f]{8}(?![\s\S])"


Key = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": KEY_PATTERN})]  # what it is, `parse_key` decides


class NewEntry(msgspec.Struct):
    """What the original's page posts; whatever else it sends is passed over, as the original did."""

    featureKey: Key  # noqa: N815 (the original's name)
    text: str
    starred: bool
    skipped: bool | UnsetType = UNSET


Name = Annotated[str, msgspec.Meta(min_length=1, max_length=80, pattern=_NAME_PATTERN)]


class Changes(msgspec.Struct, forbid_unknown_fields=True):
    """The fields of an entry that a PATCH changes, as `Entry.changed` says; those not sent stay."""

    text: str | UnsetType = UNSET
    starred: bool | UnsetType = UNSET
    skipped: bool | UnsetType = UNSET
    by: Name | UnsetType = UNSET
    tags: Annotated[list[Name], msgspec.Meta(max_length=32)] | UnsetType | None = UNSET
    confidence: Annotated[int, msgspec.Meta(ge=1, le=5)] | UnsetType | None = UNSET
    examplesSeen: (  # noqa: N815 (the file's name)
        Annotated[list[Annotated[str, msgspec.Meta(pattern=_DIGEST_PATTERN)]], msgspec.Meta(max_length=64)] | UnsetType
    ) = UNSET
