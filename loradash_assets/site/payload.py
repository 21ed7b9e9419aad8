"""The page's data as the browser gets it: in parts, each opened only when something needs it.

`head`        titles, names, features with their keys and main numbers, notes: what every view needs first.
`windows-A`   adapter number A: where each listed example's window lies in the texts; what the search goes through.
`texts-P`     the texts: tokens and ids of whole examples, or of single windows where only those are known.
`layer-A-L`   adapter A's layer number L, in full: statistics, activations, minimaps, samples, cosines.
`neighbours-A`  adapter A's features that are like each other.

A *segment* is a run of tokens of one dataset row; a window is a piece of a segment. `site_templates/js/data.js` reads
what is written here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from loradash_assets.schema import POLARITIES
from loradash_assets.site.columns import Array, pack, recorded, whole
from loradash_assets.site.numbers import statistics_columns
from loradash_assets.site.page import (
    Adapter,
    Cosine,
    Example,
    Feature,
    Histogram,
    Layer,
    Note,
    Page,
    Sample,
    Statistics,
)
from loradash_assets.site.segments import Segments

HEAD = "head"
NUMBERS = (  # what the overview says of each feature
    *("min", "max", "mean", "std", "skewness", "kurtosis", "effect_scale", "rms_effect"),
    *("token_omega_squared", "position_omega_squared", "count"),
)
FAINT = 5  # of 127
LIKENESS = 10_000  # what stands for 1
KINDS = ("read", "write", "coactivation")


def parts(page: Page, notes: Mapping[str, Note]) -> dict[str, str]:
    """Return the data of a page and of the notes on its features: each part's text by its name, `head` last.

    Every adapter's layers are drawn once, one after the other, and not kept.
    """
    texts, made, adapters = Segments(page.texts), dict[str, str](), list[_Adapter]()
    for number, adapter in enumerate(page.adapters):
        adapters.append(_Adapter())
        for place, layer in enumerate(adapter.layers):
            made[f"layer-{number}-{place}"] = adapters[-1].layer(layer, texts)
        made[f"windows-{number}"] = adapters[-1].windows.part()
        made[f"neighbours-{number}"] = adapters[-1].neighbours()
    made |= {f"texts-{number}": text for number, text in enumerate(texts.parts())}
    head, arrays = _head(page, adapters, notes)
    return made | {HEAD: pack(head | {"texts": texts.starts}, arrays | texts.segments())}


def _head(
    page: Page, adapters: Iterable[_Adapter], notes: Mapping[str, Note]
) -> tuple[dict[str, Any], dict[str, Array]]:
    described = [each.head(adapter) for each, adapter in zip(adapters, page.adapters, strict=True)]
    keys = [key for header, _ in described for pair in header["keys"] for key in pair if key in notes]
    head = {
        "title": page.title,
        "adapters": [header for header, _ in described],
        "notes": [[key, notes[key].fields()] for key in keys],
    }
    named = [(f"{number}.{name}", array) for number, (_, of) in enumerate(described) for name, array in of.items()]
    return head, dict(named)


@dataclass
class Windows:
    """Pieces of segments, one for each example, with the examples of each list one after the other."""

    counts: list[int] = field(default_factory=list)  # of each list
    columns: dict[str, list[int]] = field(
        default_factory=lambda: {name: [] for name in ("segment", "start", "length", "target")}
    )

    def add(self, examples: Iterable[Example], texts: Segments) -> None:
        """Add a list."""
        before = len(self.columns["segment"])
        for example in examples:
            segment, start = texts.place(example)
            for name, value in zip(self.columns, (segment, start, len(example.tokens), example.target), strict=True):
                self.columns[name].append(value)
        self.counts.append(len(self.columns["segment"]) - before)

    def arrays(self) -> dict[str, Array]:
        """Return the columns; `counts` is one number per list."""
        return {"counts": whole(self.counts)} | {name: whole(values) for name, values in self.columns.items()}

    def part(self) -> str:
        """Return the columns as a part of their own."""
        return pack({}, self.arrays())


def _values(examples: Iterable[Example]) -> dict[str, Array]:
    """Return what is known of the examples beside their windows; the target's activation is the ranked one."""
    examples = list(examples)
    flat = [value for each in examples for value in _activations(each)]
    return {
        "activations": recorded(flat),
        "occurrences": whole([each.occurrences for each in examples]),
        "bins": whole([len(each.minimap) for each in examples]),
        "minimap": _drawn(np.frombuffer(b"".join(each.minimap for each in examples), np.int8)),
    }


def _drawn(minimap: Array) -> Array:
    """Return minimaps without values for which a picture of 16 pixels has no room, which compresses better."""
    return np.where(np.abs(minimap.astype(np.int16)) < FAINT, np.int8(0), minimap)


def _activations(example: Example) -> Iterator[float]:
    yield from example.activations[: example.target]
    yield example.activation
    yield from example.activations[example.target + 1 :]


class _Adapter:
    """Takes an adapter's layers in, one after the other, and keeps of each what the other parts need."""

    def __init__(self) -> None:
        self.windows = Windows()
        self._layers: list[int] = []
        self._names: dict[str, int] = {}
        self._features: list[Feature] = []  # without examples and samples
        self._places: list[int] = []  # each feature's layer, as a place in `_layers`

    def layer(self, layer: Layer, texts: Segments) -> str:
        """Take in a layer; return its part."""
        features = [feature for projection in layer.projections for feature in projection.features]
        lists = [feature.examples(polarity) for feature in features for polarity in POLARITIES]
        samples = [sample for feature in features for sample in feature.samples]
        drawn = Windows()
        for examples in lists:
            self.windows.add(examples, texts)
        for sample in samples:
            drawn.add(sample.examples, texts)
        self._keep(layer, features)
        arrays = {
            "cosines": _cosines(layer.cosines),
            "listed": _values(example for examples in lists for example in examples),
            "all": statistics_columns([each.statistics for each in features]),
            "filtered": statistics_columns([each.filtered for each in features]),
            "drawn": drawn.arrays() | _values(example for sample in samples for example in sample.examples),
        }
        header = {
            "histograms": [_histogram(feature.statistics.histogram) for feature in features],
            "samples": [[_sample(sample) for sample in feature.samples] for feature in features],
            "directions": _directions(layer.cosines),
            "one": LIKENESS,
        }
        return pack(header, {f"{kind}.{name}": array for kind, of in arrays.items() for name, array in of.items()})

    def _keep(self, layer: Layer, features: Iterable[Feature]) -> None:
        for projection in layer.projections:
            self._names.setdefault(projection.name, len(self._names))
        for feature in features:
            self._features.append(msgspec.structs.replace(feature, positive=(), negative=(), samples=()))
            self._places.append(len(self._layers))
        self._layers.append(layer.index)

    def head(self, adapter: Adapter) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return what the page's head says of the adapter: its header, and a value per feature of each column."""
        features = self._features
        header = {
            "name": adapter.name,
            "label": adapter.label,
            "metadata": list(adapter.metadata.items()),
            "warnings": adapter.warnings,
            "layers": self._layers,
            "projections": list(self._names),
            "keys": [[each.keys[polarity] for polarity in POLARITIES] for each in features],
        }
        columns = {
            "layer": whole(self._places),
            "projection": whole([self._names[each.projection] for each in features]),
            "component": whole([-1 if each.component is None else each.component for each in features]),
            "scale": _numbers(_scale(each.filtered or each.statistics) for each in features),
            "beyond": _numbers((each.statistics.density or _NO_DENSITY)[2] for each in features),
            **{name: _numbers(getattr(each.statistics, name) for each in features) for name in NUMBERS},
        }
        return header, columns

    def neighbours(self) -> str:
        """Return the part that says which features are alike: by feature and kind, numbers of features and likeness."""
        numbers = {(each.layer, each.projection, each.component): place for place, each in enumerate(self._features)}
        lists = [getattr(each.neighbours, kind) for each in self._features for kind in KINDS]
        found = [each for neighbours in lists for each in neighbours]
        arrays = {
            "counts": whole([len(neighbours) for neighbours in lists]),
            "features": whole([numbers[each.layer, each.projection, each.component] for each in found]),
            "likeness": whole([round(each.likeness * LIKENESS) for each in found]),
        }
        return pack({"kinds": KINDS, "one": LIKENESS}, arrays)


_NO_DENSITY = (None, None, None, None)


def _directions(cosines: Sequence[Cosine]) -> list[str]:
    return list(dict.fromkeys([*(each.first for each in cosines), *(each.second for each in cosines)]))


def _cosines(cosines: Sequence[Cosine]) -> dict[str, Array]:
    """Return the cosines in steps of 1 / LIKENESS, with the numbers of both directions."""
    numbers = {name: number for number, name in enumerate(_directions(cosines))}
    return {
        "first": whole([numbers[each.first] for each in cosines]),
        "second": whole([numbers[each.second] for each in cosines]),
        "cosine": whole([round(each.cosine * LIKENESS) for each in cosines]),
    }


def _scale(statistics: Statistics) -> float:
    """Return the |activation| that few tokens exceed: what gets the full colour on the feature's own scale."""
    if statistics.quantiles is None:
        return max(abs(statistics.min), abs(statistics.max))
    return max(abs(statistics.quantiles[0]), abs(statistics.quantiles[-1]))


def _numbers(values: Iterable[float | None]) -> Array:
    """Return a column for the overview, which shows four digits; NaN for what is not known."""
    return np.array([np.nan if value is None else value for value in values], np.float32)


def _sample(sample: Sample) -> dict[str, Any]:
    """Return what is said of a sample, with bounds of six digits."""
    bounds = {"low": float(f"{sample.low:.6g}"), "high": float(f"{sample.high:.6g}")}
    return {"interval": sample.interval, **bounds, "count": sample.count}


def _histogram(histogram: Histogram | None) -> dict[str, Any] | None:
    """Return what the picture shows: counts, those on either side of zero in the bin across it, edges of six digits.

    Of edges at equal distances, as ours are, the first and the last.
    """
    if histogram is None:
        return None
    edges = np.array(histogram.edges)
    equal = np.linspace(edges[0], edges[-1], edges.size)
    across = np.flatnonzero((edges[:-1] < 0) & (edges[1:] > 0)).tolist()
    shown = edges[[0, -1]] if np.allclose(edges, equal, rtol=0, atol=1e-6 * np.ptp(edges)) else edges
    return {
        "edges": [float(f"{edge:.6g}") for edge in shown],
        "total": histogram.total,
        "across": [[histogram.negative[bin_], histogram.positive[bin_]] for bin_ in across],
    }
