"""What the dashboard shows, apart from where it came from (our tables or the original's file) and how it is drawn.

Every float that was recorded in float32 is held as the float64 with the same shortest decimal form, so that the page,
the export and the report print one and the same number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from annotation_server.document import Label
from loradash_assets.schema import Polarity

ALWAYS = ("text", "starred", "lastModified")  # fields of an entry of interpretations.json


class Example(msgspec.Struct, frozen=True):
    """One token that excites a feature, with the tokens around it."""

    activation: float
    example: int  # row in the dataset, from 0
    position: int  # the token's place in its example, from 0
    token_id: int | None  # None where the source does not know it
    tokens: tuple[str, ...]  # (context,)
    activations: tuple[float, ...]  # (context,) of the same feature
    target: int  # index of the token in `tokens`
    occurrences: int
    minimap: bytes = b""  # (bins,) int8: where in the whole example the feature fires; empty where it is not known


class Text(msgspec.Struct, frozen=True):
    """A whole example of the dataset, as the model read it."""

    tokens: Sequence[str]  # (position,)
    token_ids: Sequence[int]  # (position,)


class Neighbour(msgspec.Struct, frozen=True):
    """Another feature of the adapter, and how like it is: a cosine or a correlation."""

    layer: int
    projection: str
    component: int | None  # as in Feature
    likeness: float


class Neighbours(msgspec.Struct, frozen=True):
    """The features that are most like a feature, the most alike first."""

    read: tuple[Neighbour, ...] = ()  # by the cosine of the directions that they read
    write: tuple[Neighbour, ...] = ()  # by the cosine of the directions that they write
    coactivation: tuple[Neighbour, ...] = ()  # by the correlation of their activations


class Histogram(msgspec.Struct, frozen=True):
    """Counts of a feature's activations per bin, over every token."""

    edges: tuple[float, ...]  # (bins + 1,)
    total: tuple[int, ...]  # (bins,)
    positive: tuple[int, ...]  # (bins,), activations > 0
    negative: tuple[int, ...]  # (bins,), activations < 0


class Statistics(msgspec.Struct, frozen=True):
    """A feature's activations over every token of every example; None where the source does not know it."""

    min: float
    max: float
    count: int | None = None
    non_finite: int | None = None
    mean: float | None = None
    std: float | None = None  # the population's
    skewness: float | None = None  # also None where std is 0, as the next
    kurtosis: float | None = None  # excess
    quantiles: tuple[float, ...] | None = None  # for schema.QUANTILE_SHARES
    density: tuple[float, ...] | None = None  # share with |activation| > m * std, for schema.DENSITY_MULTIPLES
    effect_scale: float | None = None  # times |activation|: the norm of what the feature adds to the module's output
    rms_effect: float | None = None  # the root mean square of that norm
    token_omega_squared: float | None = None  # of the variance, what the token alone explains; also None if undefined
    position_omega_squared: float | None = None  # likewise the token's position
    tied: bool = False  # svd: only the span with a neighbouring component means something
    histogram: Histogram | None = None


class Sample(msgspec.Struct, frozen=True):
    """Tokens drawn at random from an interval of a feature's activations, or from all of them."""

    interval: int | None  # 0 is the lowest; None: from all
    low: float
    high: float
    count: int  # tokens that they were drawn from
    examples: tuple[Example, ...]  # in the order drawn


class Feature(msgspec.Struct, frozen=True):
    """One direction of the adapter, with its most extreme tokens, most extreme first."""

    layer: int
    projection: str
    component: int | None  # None where the module's rank is 1
    keys: Mapping[Polarity, str]  # names of its notes in interpretations.json
    statistics: Statistics
    positive: tuple[Example, ...]
    negative: tuple[Example, ...]
    samples: tuple[Sample, ...] = ()  # from the highest interval down, then those from all
    filtered: Statistics | None = None  # over the tokens that no filter leaves out; None without a filter
    neighbours: Neighbours = Neighbours()

    def examples(self, polarity: Polarity) -> tuple[Example, ...]:
        """Return the examples of one polarity, the most extreme first."""
        return self.positive if polarity == "positive" else self.negative


class Projection(msgspec.Struct, frozen=True):
    """One adapted module of a layer."""

    name: str
    features: tuple[Feature, ...]  # by component


class Cosine(msgspec.Struct, frozen=True):
    """The cosine of two directions in the MLP's hidden space."""

    first: str
    second: str
    cosine: float


class Layer(msgspec.Struct, frozen=True):
    """One layer of the model; -1 holds the modules outside the layers."""

    index: int
    projections: tuple[Projection, ...]
    cosines: tuple[Cosine, ...] = ()


class Note(msgspec.Struct, frozen=True, rename="camel"):
    """What people wrote about one polarity of a feature: the fields of an entry of interpretations.json."""

    text: str = ""
    starred: bool = False
    last_modified: str | None = None
    skipped: bool = False
    text_by: str | None = None
    text_at: str | None = None
    examples_seen: tuple[str, ...] | None = None
    labels: Mapping[str, Label] = {}  # by person

    def fields(self) -> dict[str, Any]:
        """Return the entry as the file would have it: beside the three that every entry has, what somebody gave."""
        fields = msgspec.to_builtins(self)
        for label in fields["labels"].values():
            if label["tags"] is None:
                del label["tags"]
        return {name: value for name, value in fields.items() if name in ALWAYS or value}


class Adapter(msgspec.Struct, frozen=True):
    """What the dashboard shows of one adapter."""

    name: str | None  # as in the keys of its notes; None for the first one
    label: str
    metadata: Mapping[str, str]  # label -> text, in the order shown
    layers: Iterable[Layer]  # can be gone through again, though each may be read anew
    warnings: tuple[str, ...] = ()

    def features(self) -> Iterator[Feature]:
        """Yield every feature, by layer, projection and component."""
        for layer in self.layers:
            for projection in layer.projections:
                yield from projection.features


class Page(msgspec.Struct, frozen=True):
    """Everything that one dashboard shows, apart from people's notes."""

    title: str
    adapters: tuple[Adapter, ...]
    texts: Mapping[int, Text] = {}  # by the dataset's row: the whole examples, where the source has them

    def features(self) -> Iterator[tuple[Adapter, Feature]]:
        """Yield every feature with its adapter, by adapter, layer, projection and component."""
        for adapter in self.adapters:
            for feature in adapter.features():
                yield adapter, feature
