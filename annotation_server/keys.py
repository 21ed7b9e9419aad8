"""The grammar of annotation keys, both ways; nothing else in the project takes a key apart or puts one together.

    key        = [adapter "/"] place "_" projection ["_" component] "_" polarity
    place      = "layer_" number | "model"          (model: a module outside the layers, such as lm_head)
    projection = name *("." name)                   (name: ASCII letters, digits, "_" and "-")
    component  = ("c" | "s") number                 (c: a row of A, s: a singular direction)
    polarity   = "positive" | "negative"
    number     = at most nine digits, no leading zero

Every key has one reading. The adapter ends at the last slash (no projection holds one), the layer at the first
underscore after its digits, and what looks like a component before the polarity is one. So a projection whose own
name ends like a component (`conv_c3`) always spells its component out: at rank 1, `FeatureKey` itself sets c0, and the
key is `layer_1_conv_c3_c0_positive`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast

Basis = Literal["c", "s"]
Polarity = Literal["positive", "negative"]

_NUMBER = r"(?:0|[1-9][0-9]{0,8})"
_NAME = r"[A-Za-z0-9_-]+"
_PROJECTION = rf"{_NAME}(?:\.{_NAME})*"
# For documents that cannot say it all: no part of the adapter may be '.' or '..', and `parse_key` has the last word.
KEY_PATTERN = rf"^(?:[^\x00-\x1f\x7f-\x9f/]+/)*(?:layer_{_NUMBER}|model)_{_PROJECTION}_(?:positive|negative)$"
_COMPONENT_END = re.compile(rf"(?P<projection>{_PROJECTION})_(?P<basis>[cs])(?P<index>{_NUMBER})")
_PROJECTION_ALONE = re.compile(_PROJECTION)
_KEY = re.compile(rf"(?:layer_(?P<layer>{_NUMBER})|model)_(?P<middle>{_PROJECTION})_(?P<polarity>positive|negative)")
_ALIAS = re.compile(rf"L(?P<layer>{_NUMBER})_(?P<middle>{_PROJECTION})_(?P<polarity>positive|negative)")
_UNFIT_FOR_ADAPTER = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_LARGEST_NUMBER = 999_999_999


class InvalidKey(ValueError):
    """A string, or the parts of one, that the grammar does not admit."""


@dataclass(frozen=True)
class FeatureKey:
    """One polarity of one direction of one adapted module. Raises `InvalidKey` for impossible parts."""

    adapter: str | None  # None: the project's first adapter
    layer: int | None  # None: a module outside the layers
    projection: str
    component: tuple[Basis, int] | None  # None: a module of rank 1
    polarity: Polarity

    def __post_init__(self) -> None:
        _check_adapter(self.adapter)
        _check_number("layer", self.layer)
        if not _PROJECTION_ALONE.fullmatch(self.projection):
            raise InvalidKey(
                f"projection {self.projection!a}: not letters, digits, '_' and '-', in parts joined by '.'"
            )
        if self.component is None and _COMPONENT_END.fullmatch(self.projection):
            object.__setattr__(self, "component", ("c", 0))
        elif self.component is not None:
            _check_number("component", self.component[1])

    def __str__(self) -> str:
        return format_key(self)


def format_key(key: FeatureKey) -> str:
    """The one spelling of `key`: `parse_key(format_key(key)) == key`."""
    adapter = "" if key.adapter is None else f"{key.adapter}/"
    place = "model" if key.layer is None else f"layer_{key.layer}"
    component = "" if key.component is None else f"_{key.component[0]}{key.component[1]}"
    return f"{adapter}{place}_{key.projection}{component}_{key.polarity}"


def parse_key(text: str) -> FeatureKey:
    """The parts of a key. Raises `InvalidKey` if `text` is outside the grammar."""
    adapter, slash, rest = text.rpartition("/")
    match = _KEY.fullmatch(rest)
    if match is None:
        raise InvalidKey(f"{_shown(text)} is not a key such as layer_10_gate_proj_positive or model_lm_head_negative")
    return _feature_key(adapter if slash else None, match)


def parse_import_key(text: str) -> FeatureKey:
    """Like `parse_key`, and reads the spelling `L10_gate_proj_positive` of some users' files, for importing them."""
    alias = _ALIAS.fullmatch(text)
    return parse_key(text) if alias is None else _feature_key(None, alias)


def short_key(text: str) -> str | None:
    """`L10_gate_proj_positive` for `layer_10_gate_proj_positive`; None where that spelling does not have the key.

    It has those of the first adapter's rank-1 modules within the layers.
    """
    try:
        key = parse_key(text)
    except InvalidKey:
        return None
    if key.adapter is not None or key.layer is None or key.component is not None:
        return None
    return f"L{key.layer}_{key.projection}_{key.polarity}"


def _feature_key(adapter: str | None, match: re.Match[str]) -> FeatureKey:
    layer = None if match["layer"] is None else int(match["layer"])
    polarity = cast(Polarity, match["polarity"])
    ending = _COMPONENT_END.fullmatch(match["middle"])
    if ending is None:
        return FeatureKey(adapter, layer, match["middle"], None, polarity)
    component = (cast(Basis, ending["basis"]), int(ending["index"]))
    return FeatureKey(adapter, layer, ending["projection"], component, polarity)


def _check_adapter(adapter: str | None) -> None:
    """A URL's path must carry the name, so no part of it may be empty, '.' or '..'."""
    if adapter is None:
        return
    if _UNFIT_FOR_ADAPTER.search(adapter) or any(part in ("", ".", "..") for part in adapter.split("/")):
        raise InvalidKey(f"adapter {_shown(adapter)}: no control characters, and no part that is empty, '.' or '..'")


def _check_number(what: str, number: int | None) -> None:
    if number is not None and not 0 <= number <= _LARGEST_NUMBER:
        raise InvalidKey(f"{what} {number} is not between 0 and {_LARGEST_NUMBER}")


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 100 else text[:100] + "...")
