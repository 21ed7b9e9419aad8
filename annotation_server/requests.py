"""What the bodies of requests may hold; docs/annotation-api.md and the OpenAPI document say the same."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from annotation_server.keys import KEY_PATTERN
from annotation_server.limits import Confidence, Digests, FileName, Name, Tags

Key = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": KEY_PATTERN})]  # what it is, `parse_key` decides


class NewEntry(msgspec.Struct):
    """What the original's page posts; whatever else it sends is passed over, as the original did."""

    featureKey: Key  # noqa: N815 (the original's name)
    text: str
    starred: bool
    skipped: bool | UnsetType = UNSET


class Changes(msgspec.Struct, forbid_unknown_fields=True):
    """The fields of an entry that a PATCH changes, as `Entry.changed` says; those not sent stay."""

    text: str | UnsetType = UNSET
    starred: bool | UnsetType = UNSET
    skipped: bool | UnsetType = UNSET
    by: Name | UnsetType = UNSET
    tags: Tags | UnsetType | None = UNSET
    confidence: Confidence | UnsetType | None = UNSET
    examplesSeen: Digests | UnsetType = UNSET  # noqa: N815 (the file's name)


class ImportRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A file of notes to be imported. Unless told otherwise nothing is, and the reply says what would be."""

    name: FileName
    content: str
    replace: bool = False
    dryRun: bool = True  # noqa: N815
    by: Name | None = None


class UndoRequest(msgspec.Struct, forbid_unknown_fields=True):
    """That an import is to be undone; which one is in the path."""
