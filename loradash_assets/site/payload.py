"""The page's data as the browser gets it: compact JSON, gzip, base64; the same page gives the same text.

Token texts and projection names stand once in a table of strings; the examples of a feature are columns, and their
contexts two flat columns beside a column of lengths. `site_templates/js/payload.js` reads what is written here.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from loradash_assets.schema import POLARITIES
from loradash_assets.site.page import Adapter, Example, Feature, Histogram, Layer, Note, Page, Sample, Statistics

GZIP = 16 + zlib.MAX_WBITS  # a gzip header without time and file name
LEVEL = 6  # 9 takes more than twice the time for 1% less


class _Strings:
    """Numbers strings by first appearance."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers))


def payload(page: Page, notes: Mapping[str, Note]) -> str:
    """Return the data of a page and of the notes on its features, as base64 text; raises nothing for a valid page."""
    return pack(contents(page, notes))


def pack(value: Any) -> str:
    """Return `value` as JSON, gzip and base64."""
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
    data = compressor.compress(msgspec.json.encode(value)) + compressor.flush()
    return base64.b64encode(data).decode("ascii")


def contents(page: Page, notes: Mapping[str, Note]) -> dict[str, Any]:
    """Return what `payload` packs."""
    strings = _Strings()
    adapters = [_adapter(adapter, strings) for adapter in page.adapters]
    keys = [key for _, feature in page.features() for key in feature.keys.values() if key in notes]
    return {
        "title": page.title,
        "adapters": adapters,
        "notes": [[key, notes[key]] for key in keys],
        "strings": list(strings.numbers),
    }


def _adapter(adapter: Adapter, strings: _Strings) -> dict[str, Any]:
    return {
        "name": adapter.name,
        "label": adapter.label,
        "metadata": list(adapter.metadata.items()),
        "warnings": adapter.warnings,
        "layers": [_layer(layer, strings) for layer in adapter.layers],
    }


def _layer(layer: Layer, strings: _Strings) -> dict[str, Any]:
    return {
        "index": layer.index,
        "projections": [
            {"name": strings(projection.name), "features": [_feature(each, strings) for each in projection.features]}
            for projection in layer.projections
        ],
        "cosines": [[strings(each.first), strings(each.second), each.cosine] for each in layer.cosines],
    }


def _feature(feature: Feature, strings: _Strings) -> dict[str, Any]:
    return {
        "component": feature.component,
        "keys": [feature.keys[polarity] for polarity in POLARITIES],
        "statistics": _statistics(feature.statistics),
        "examples": [_examples(feature.examples(polarity), strings) for polarity in POLARITIES],
        "samples": [_sample(sample, strings) for sample in feature.samples],
        "filtered": feature.filtered and {**_statistics(feature.filtered), "histogram": None},
    }


def _sample(sample: Sample, strings: _Strings) -> dict[str, Any]:
    """Return the sample, with bounds of six digits and the activations around its tokens, which are many, of four."""
    examples = _examples(sample.examples, strings)
    return {
        "interval": sample.interval,
        "low": float(f"{sample.low:.6g}"),
        "high": float(f"{sample.high:.6g}"),
        "count": sample.count,
        "examples": {**examples, "activations": [float(f"{value:.4g}") for value in examples["activations"]]},
    }


def _statistics(statistics: Statistics) -> dict[str, Any]:
    fields = msgspec.structs.asdict(statistics)
    return {**fields, "histogram": statistics.histogram and _histogram(statistics.histogram)}


def _histogram(histogram: Histogram) -> dict[str, Any]:
    """Return the counts, and edges of six digits, which is more than a picture shows."""
    return {**msgspec.structs.asdict(histogram), "edges": [float(f"{edge:.6g}") for edge in histogram.edges]}


def _examples(examples: Iterable[Example], strings: _Strings) -> dict[str, list[Any]]:
    examples = list(examples)
    return {
        "activation": [each.activation for each in examples],
        "example": [each.example for each in examples],
        "position": [each.position for each in examples],
        "token_id": [each.token_id for each in examples],
        "target": [each.target for each in examples],
        "occurrences": [each.occurrences for each in examples],
        "length": [len(each.tokens) for each in examples],
        "tokens": [strings(token) for each in examples for token in each.tokens],
        "activations": [value for each in examples for value in each.activations],
    }
