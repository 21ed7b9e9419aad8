"""The page's data survives packing, exactly and always as the same bytes."""

from __future__ import annotations

import base64
import gzip
import json
from itertools import accumulate
from typing import Any

import msgspec

from loradash_assets.schema import POLARITIES
from loradash_assets.site.page import (
    Adapter,
    Cosine,
    Example,
    Feature,
    Layer,
    Note,
    Page,
    Projection,
    Sample,
    Statistics,
)
from loradash_assets.site.payload import payload
from tests.site import samples
from tests.site.hostile import HOSTILE


def unpack(text: str) -> dict[str, Any]:
    return json.loads(gzip.decompress(base64.b64decode(text)))


def read_page(data: dict[str, Any]) -> Page:
    """Read the page back, independently of the code that wrote it."""
    strings = data["strings"]
    return Page(data["title"], tuple(_adapter(adapter, strings) for adapter in data["adapters"]))


def _adapter(adapter: dict[str, Any], strings: list[str]) -> Adapter:
    layers = tuple(_layer(layer, strings) for layer in adapter["layers"])
    return Adapter(adapter["name"], adapter["label"], dict(adapter["metadata"]), layers, tuple(adapter["warnings"]))


def _layer(layer: dict[str, Any], strings: list[str]) -> Layer:
    projections = tuple(
        Projection(
            strings[each["name"]],
            tuple(_feature(layer["index"], strings[each["name"]], feature, strings) for feature in each["features"]),
        )
        for each in layer["projections"]
    )
    cosines = tuple(Cosine(strings[first], strings[second], value) for first, second, value in layer["cosines"])
    return Layer(layer["index"], projections, cosines)


def _feature(layer: int, name: str, feature: dict[str, Any], strings: list[str]) -> Feature:
    keys = dict(zip(POLARITIES, feature["keys"], strict=True))
    statistics = msgspec.convert(feature["statistics"], Statistics)
    positive, negative = (_examples(columns, strings) for columns in feature["examples"])
    samples = tuple(
        Sample(each["interval"], each["low"], each["high"], each["count"], _examples(each["examples"], strings))
        for each in feature["samples"]
    )
    filtered = feature["filtered"] and msgspec.convert(feature["filtered"], Statistics)
    return Feature(layer, name, feature["component"], keys, statistics, positive, negative, samples, filtered)


def _examples(columns: dict[str, list[Any]], strings: list[str]) -> tuple[Example, ...]:
    ends = list(accumulate(columns["length"]))
    return tuple(
        Example(
            activation=columns["activation"][row],
            example=columns["example"][row],
            position=columns["position"][row],
            token_id=columns["token_id"][row],
            tokens=tuple(strings[number] for number in columns["tokens"][end - columns["length"][row] : end]),
            activations=tuple(columns["activations"][end - columns["length"][row] : end]),
            target=columns["target"][row],
            occurrences=columns["occurrences"][row],
        )
        for row, end in enumerate(ends)
    )


def rounded_sample(sample: Sample) -> Sample:
    """Round the bounds to six digits and the contexts' activations to four."""
    low, high = (float(f"{bound:.6g}") for bound in (sample.low, sample.high))
    examples = tuple(
        msgspec.structs.replace(each, activations=tuple(float(f"{value:.4g}") for value in each.activations))
        for each in sample.examples
    )
    return msgspec.structs.replace(sample, low=low, high=high, examples=examples)


def as_carried(page: Page) -> Page:
    """Round the histograms' edges and the samples as the page carries them."""

    def rounded(feature: Feature) -> Feature:
        histogram = feature.statistics.histogram
        assert histogram is not None
        edges = tuple(float(f"{edge:.6g}") for edge in histogram.edges)
        carried = msgspec.structs.replace(histogram, edges=edges)
        return msgspec.structs.replace(
            feature,
            statistics=msgspec.structs.replace(feature.statistics, histogram=carried),
            samples=tuple(map(rounded_sample, feature.samples)),
        )

    def carried(adapter: Adapter) -> Adapter:
        layers = tuple(
            msgspec.structs.replace(
                layer,
                projections=tuple(
                    msgspec.structs.replace(each, features=tuple(map(rounded, each.features)))
                    for each in layer.projections
                ),
            )
            for layer in adapter.layers
        )
        return msgspec.structs.replace(adapter, layers=layers)

    return msgspec.structs.replace(page, adapters=tuple(map(carried, page.adapters)))


def test_a_page_reads_back_as_it_was() -> None:
    tables = [samples.layer_tables(layer, samples.texts(3), rank=rank) for layer, rank in ((-1, 1), (0, 1), (5, 3))]
    one = samples.page(tables, warnings=["one", "two"])
    page = Page(
        one.title, (*one.adapters, Adapter("step-200", "step-200", {"Adapter": "b"}, list(one.adapters[0].layers)[:1]))
    )
    assert all(len(feature.samples) == 3 for _, feature in page.features())
    assert read_page(unpack(payload(page, {}))) == as_carried(page)


def test_hostile_text_reads_back_as_it_was() -> None:
    tables = samples.layer_tables(0, [list(HOSTILE)], k=len(HOSTILE))
    page = samples.page([tables], title="".join(HOSTILE), warnings=HOSTILE)
    assert read_page(unpack(payload(page, {}))) == as_carried(page)


def test_the_same_page_gives_the_same_bytes() -> None:
    tokens = samples.texts(3)
    first, second = (samples.page([samples.layer_tables(layer, tokens) for layer in range(3)]) for _ in range(2))
    assert payload(first, {}) == payload(second, {})


def test_only_notes_on_features_of_the_page_are_embedded_in_the_page_s_order() -> None:
    page = samples.page([samples.layer_tables(3, samples.texts(2))])
    notes = {
        "layer_3_up_proj_negative": Note("b", True, "2024-01-20T10:30:00Z"),
        "layer_99_up_proj_positive": Note("another adapter's"),
        "layer_3_q_proj_positive": Note("a"),
    }
    assert unpack(payload(page, notes))["notes"] == [
        ["layer_3_q_proj_positive", {"text": "a", "starred": False, "lastModified": None}],
        ["layer_3_up_proj_negative", {"text": "b", "starred": True, "lastModified": "2024-01-20T10:30:00Z"}],
    ]


def test_filtered_statistics_are_carried_without_their_histogram() -> None:
    filtered = Statistics(-0.5, 1.0, 3, 0, 0.1, 0.2, 0.7)
    feature = Feature(
        0, "up_proj", None, {"positive": "p", "negative": "n"}, Statistics(-1.0, 2.0), (), (), (), filtered
    )
    page = Page("t", (Adapter(None, "a", {}, (Layer(0, (Projection("up_proj", (feature,)),)),)),))
    assert read_page(unpack(payload(page, {}))) == page


def test_a_histogram_is_optional() -> None:
    statistics = Statistics(-1.0, 2.0)
    feature = Feature(0, "up_proj", None, {"positive": "p", "negative": "n"}, statistics, (), ())
    page = Page("t", (Adapter(None, "a", {}, (Layer(0, (Projection("up_proj", (feature,)),)),)),))
    assert read_page(unpack(payload(page, {}))) == page
