"""What the bodies of replies hold. The handlers answer with these, and the OpenAPI document is made from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from annotation_server.document import EntryFields
from annotation_server.history import Replaced

SCHEMAS = "#/components/schemas/"
# An entry as the file has it: the fields of `EntryFields`, those that are set, and any others.
EntryObject = Annotated[Mapping[str, Any], msgspec.Meta(extra_json_schema={"$ref": f"{SCHEMAS}{EntryFields.__name__}"})]


class Error(msgspec.Struct):
    """A code for programs and a message for people."""

    code: str
    message: str


class Refusal(msgspec.Struct):
    """The body of every reply that is not a success."""

    error: Error


class Stale(Refusal):
    """The body of a 412: the entry as it stands."""

    featureKey: str  # noqa: N815 (as the API names it)
    interpretation: EntryObject


class Health(msgspec.Struct):
    """That the service answers, and how many entries the file has."""

    status: Literal["ok"]
    entries: int


class Notes(msgspec.Struct):
    """The file's content; it may have other fields beside."""

    interpretations: Mapping[str, EntryObject]


class Named(msgspec.Struct):
    """An entry with its key."""

    featureKey: str  # noqa: N815
    interpretation: EntryObject


class Saved(msgspec.Struct):
    """An entry after the original's way to save."""

    success: bool
    interpretation: EntryObject


class History(msgspec.Struct):
    """The texts of one note that were replaced, the newest first."""

    featureKey: str  # noqa: N815
    history: Sequence[Replaced]


class Changed(msgspec.Struct):
    """Entries that changed (null: no longer there); `complete` if these are all that there are."""

    cursor: str
    complete: bool
    entries: Mapping[str, EntryObject | None]


class Activations(msgspec.Struct):
    """A feature's value on each token of one example; null: not finite."""

    featureKey: str  # noqa: N815
    example: int
    activations: Sequence[float | None]
