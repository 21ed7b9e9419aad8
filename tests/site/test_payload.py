"""The page's data survives packing, exactly and always as the same bytes."""

from __future__ import annotations

import dataclasses
from itertools import cycle
from typing import Any

import msgspec
import numpy as np
import pytest

from annotation_server import document
from loradash_assets.schema import POLARITIES
from loradash_assets.site import segments
from loradash_assets.site.columns import pack, recorded, whole
from loradash_assets.site.entries import note_of_entry
from loradash_assets.site.page import (
    Adapter,
    Cosine,
    Example,
    Feature,
    Histogram,
    Layer,
    Neighbour,
    Neighbours,
    Note,
    Page,
    Projection,
    Sample,
    Statistics,
    Text,
)
from loradash_assets.site.payload import parts
from tests.pages import Reader, unpack
from tests.site import samples
from tests.site.hostile import HOSTILE

ROUGH = ("skewness", "kurtosis", "token_omega_squared", "position_omega_squared")  # carried with six digits


def read_page(packed: dict[str, str]) -> Page:
    """Read the page back, without the whole examples and the histograms."""
    reader = Reader(packed)
    adapters = tuple(_adapter(reader, number, header) for number, header in enumerate(reader.head["adapters"]))
    return Page(reader.head["title"], adapters)


def _adapter(reader: Reader, number: int, header: dict[str, Any]) -> Adapter:
    features, found = _features(reader, number, header), list[Layer]()
    for place, index in enumerate(header["layers"]):
        of_layer = [
            feature for feature, at in zip(features, reader.head[f"{number}.layer"], strict=True) if at == place
        ]
        names = list(dict.fromkeys(feature.projection for feature in of_layer))
        cosines = _cosines(reader.parts[f"layer-{number}-{place}"])
        projections = (Projection(name, tuple(each for each in of_layer if each.projection == name)) for name in names)
        found.append(Layer(index, tuple(projections), cosines))
    warnings = tuple(header["warnings"])
    return Adapter(header["name"], header["label"], dict(header["metadata"]), tuple(found), warnings)


def _cosines(part: dict[str, Any]) -> tuple[Cosine, ...]:
    columns = (part[f"cosines.{name}"].tolist() for name in ("first", "second", "cosine"))
    names = part["directions"]
    pairs = zip(*columns, strict=True)
    return tuple(Cosine(names[first], names[second], value / part["one"]) for first, second, value in pairs)


def _features(reader: Reader, adapter: int, header: dict[str, Any]) -> list[Feature]:
    columns = (reader.head[f"{adapter}.{name}"].tolist() for name in ("layer", "projection", "component"))
    places = list(zip(*columns, strict=True))
    rows = [sum(other[0] == place[0] for other in places[:number]) for number, place in enumerate(places)]
    lists, made = reader.lists(adapter), list[Feature]()
    names: list[dict[str, Any]] = [
        {
            "layer": header["layers"][layer],
            "projection": header["projections"][projection],
            "component": None if component < 0 else component,
        }
        for layer, projection, component in places
    ]
    alike = _neighbours(reader.parts[f"neighbours-{adapter}"], names)
    for number, (layer, _, _) in enumerate(places):
        part = reader.parts[f"layer-{adapter}-{layer}"]
        skipped = sum(map(len, part["samples"][: rows[number]]))
        made.append(
            Feature(
                **names[number],
                keys=dict(zip(POLARITIES, header["keys"][number], strict=True)),
                statistics=_statistics(part, "all", rows[number]),
                positive=tuple(lists[number]["positive"]),
                negative=tuple(lists[number]["negative"]),
                samples=_samples(reader, part, part["samples"][rows[number]], skipped),
                filtered=_statistics(part, "filtered", rows[number]),
                neighbours=alike[number],
            )
        )
    return made


def _statistics(part: dict[str, Any], kind: str, row: int) -> Any:
    """Return a feature's statistics, each float32 as its shortest decimal; None if the smallest is not known."""
    fields: dict[str, Any] = {}
    for name, column in part.items():
        if not name.startswith(f"{kind}."):
            continue
        wide = {"quantiles": 9, "density": 4}.get(name := name.removeprefix(f"{kind}."), 1)
        values = [None if np.isnan(each) else float(str(each)) for each in column[row * wide : (row + 1) * wide]]
        fields[name] = values[0] if wide == 1 else None if values[0] is None else values
    return (
        None
        if fields["min"] is None
        else msgspec.convert({**fields, "tied": fields["tied"] == 1}, Statistics, strict=False)
    )


def _samples(reader: Reader, part: dict[str, Any], described: list[Any], skipped: int) -> tuple[Sample, ...]:
    drawn = {name.removeprefix("drawn."): array for name, array in part.items() if name.startswith("drawn.")}
    counts, made = drawn["counts"].tolist(), list[Sample]()
    for number, each in enumerate(described, skipped):
        first = sum(counts[:number])
        examples = reader.examples(drawn, part, "drawn", first, counts[number], first)
        made.append(Sample(each["interval"], each["low"], each["high"], each["count"], tuple(examples)))
    return tuple(made)


def _neighbours(part: dict[str, Any], names: list[dict[str, Any]]) -> list[Neighbours]:
    made, place = list[Neighbours](), 0
    counts = iter(part["counts"].tolist())
    for _ in names:
        kinds: dict[str, tuple[Neighbour, ...]] = {}
        for kind in part["kinds"]:
            numbers = range(place, place := place + next(counts))
            kinds[kind] = tuple(
                Neighbour(**names[part["features"][at]], likeness=int(part["likeness"][at]) / part["one"])
                for at in numbers
            )
        made.append(Neighbours(**kinds))
    return made


def as_carried(page: Page) -> Page:
    """Round what the page carries with some digits; leave out the histograms and the whole examples."""

    def six(value: float) -> float:
        return float(f"{value:.6g}")

    def strong(examples: tuple[Example, ...]) -> tuple[Example, ...]:
        """Leave out what a minimap's picture cannot show."""
        return tuple(
            msgspec.structs.replace(each, minimap=bytes(value if 5 <= value <= 251 else 0 for value in each.minimap))
            for each in examples
        )

    def rounded(feature: Feature) -> Feature:
        samples = (
            Sample(each.interval, six(each.low), six(each.high), each.count, strong(each.examples))
            for each in feature.samples
        )
        known = msgspec.structs.asdict(feature.statistics)
        rough = {name: known[name] and six(known[name]) for name in ROUGH}
        rough["density"] = known["density"] and tuple(map(six, known["density"]))
        statistics = msgspec.structs.replace(feature.statistics, histogram=None, **rough)
        lists = {polarity: strong(feature.examples(polarity)) for polarity in POLARITIES}
        return msgspec.structs.replace(feature, statistics=statistics, samples=tuple(samples), **lists)

    return with_features(page, rounded)


def with_features(page: Page, change: Any) -> Page:
    """Return the page with every feature changed, cosines of four digits, without its whole examples."""

    def changed(layer: Layer) -> Layer:
        projections = (Projection(each.name, tuple(map(change, each.features))) for each in layer.projections)
        cosines = (Cosine(each.first, each.second, round(each.cosine, 4)) for each in layer.cosines)
        return msgspec.structs.replace(layer, projections=tuple(projections), cosines=tuple(cosines))

    adapters = (msgspec.structs.replace(each, layers=tuple(map(changed, each.layers))) for each in page.adapters)
    return Page(page.title, tuple(adapters))


def small_page() -> Page:
    tables = [samples.layer_tables(layer, samples.texts(3), rank=rank) for layer, rank in ((-1, 1), (0, 1), (5, 3))]
    one = samples.page(tables, warnings=["one", "two"])
    return Page(
        one.title,
        (*one.adapters, Adapter("step-200", "step-200", {"Adapter": "b"}, tuple(one.adapters[0].layers)[:1])),
    )


def whole_texts() -> dict[int, Text]:
    return {
        row: Text(tuple(tokens), tuple(range(1000, 1000 + len(tokens)))) for row, tokens in enumerate(samples.texts(3))
    }


def test_a_page_reads_back_as_it_was() -> None:
    page = small_page()
    assert all(len(feature.samples) == 3 for _, feature in page.features())
    assert read_page(parts(page, {})) == as_carried(page)


@pytest.mark.parametrize("largest", [10**6, 100])
def test_with_whole_examples_it_reads_back_the_same_and_they_do_too(
    monkeypatch: pytest.MonkeyPatch, largest: int
) -> None:
    monkeypatch.setattr(segments, "TOKENS_IN_PART", largest)
    page = msgspec.structs.replace(small_page(), texts=whole_texts())
    packed = parts(page, {})
    assert read_page(packed) == as_carried(page)
    assert Reader(packed).texts() == whole_texts()
    assert sum(name.startswith("texts-") for name in packed) == (1 if largest > 1000 else 3)


def test_a_window_that_its_whole_example_does_not_have_keeps_its_own_text() -> None:
    texts = whole_texts()
    wrong = dataclasses.replace(samples.layer_tables(0, samples.texts(3)))
    page = msgspec.structs.replace(samples.page([wrong]), texts={0: texts[1], 1: texts[1]})
    assert read_page(parts(page, {})) == as_carried(page)


def test_neighbours_and_minimaps_read_back_as_they_were() -> None:
    def likened(feature: Feature) -> Feature:
        other = Neighbour(0, "up_proj", None, -0.5)
        minimap = bytes([127, 5, 128, 251])  # 127, 5, -128, -5
        examples = tuple(msgspec.structs.replace(each, minimap=minimap) for each in feature.positive)
        neighbours = Neighbours(read=(other,), coactivation=(other, Neighbour(5, "q_proj", 2, 0.25)))
        return msgspec.structs.replace(feature, positive=examples, neighbours=neighbours)

    page = with_features(
        samples.page([samples.layer_tables(0, samples.texts(2)), samples.layer_tables(5, samples.texts(2), rank=3)]),
        likened,
    )
    assert read_page(parts(page, {})) == as_carried(page)


def test_what_a_minimap_s_picture_cannot_show_is_left_out() -> None:
    example = Example(1.0, 0, 0, None, ("a",), (1.0,), 0, 1, bytes([4, 5, 252, 251, 0]))
    feature = Feature(0, "up_proj", None, {"positive": "p", "negative": "n"}, Statistics(-1.0, 2.0), (example,), ())
    page = Page("t", (Adapter(None, "a", {}, (Layer(0, (Projection("up_proj", (feature,)),)),)),))
    (read,) = read_page(parts(page, {})).features()
    assert read[1].positive[0].minimap == bytes([0, 5, 0, 251, 0])


def test_hostile_text_reads_back_as_it_was() -> None:
    tables = samples.layer_tables(0, [list(HOSTILE)], k=len(HOSTILE))
    page = samples.page([tables], title="".join(HOSTILE), warnings=HOSTILE)
    assert read_page(parts(page, {})) == as_carried(page)


def test_the_same_page_gives_the_same_bytes() -> None:
    tokens = samples.texts(3)
    first, second = (samples.page([samples.layer_tables(layer, tokens) for layer in range(3)]) for _ in range(2))
    assert parts(first, {}) == parts(second, {})


def test_numbers_that_no_float32_spells_stay_exact() -> None:
    example = Example(0.1234567890123, 0, 0, None, ("a", "b"), (0.1234567890123, 1.5), 0, 1)
    feature = Feature(0, "up_proj", None, {"positive": "p", "negative": "n"}, Statistics(-1.0, 2.0), (example,), ())
    page = Page("t", (Adapter(None, "a", {}, (Layer(0, (Projection("up_proj", (feature,)),)),)),))
    assert read_page(parts(page, {})) == page


def test_arrays_take_no_more_room_than_their_values_need() -> None:
    kinds = [whole(values).dtype.str[1:] for values in ([], [0, 255], [0, 256], [-1, 255], [70_000], [-70_000, 1])]
    assert kinds == ["u1", "u1", "u2", "i2", "u4", "i4"]
    assert [recorded(values).dtype.str[1:] for values in ([0.1, -3e20], [1 / 3], [])] == ["f4", "f8", "f4"]


def test_every_kind_of_array_reads_back() -> None:
    random = np.random.default_rng(0)
    arrays = {
        kind: random.integers(0, 100, 1000).astype(kind) for kind in ("u1", "u2", "u4", "i1", "i2", "i4", "f4", "f8")
    }
    read = unpack(pack({"a": 1}, arrays))
    assert read.pop("a") == 1
    assert all(np.array_equal(read[kind], array) for kind, array in arrays.items())


def test_only_notes_on_features_of_the_page_are_embedded_in_the_page_s_order() -> None:
    page = samples.page([samples.layer_tables(3, samples.texts(2))])
    notes = {
        "layer_3_up_proj_negative": Note("b", True, "2024-01-20T10:30:00Z"),
        "layer_99_up_proj_positive": Note("another adapter's"),
        "layer_3_q_proj_positive": Note("a"),
    }
    assert unpack(parts(page, notes)["head"])["notes"] == [
        ["layer_3_q_proj_positive", {"text": "a", "starred": False, "lastModified": None}],
        ["layer_3_up_proj_negative", {"text": "b", "starred": True, "lastModified": "2024-01-20T10:30:00Z"}],
    ]


def test_a_note_is_carried_as_the_file_has_it_hostile_or_not_and_always_as_the_same_bytes() -> None:
    key, page = "layer_3_q_proj_positive", samples.page([samples.layer_tables(3, samples.texts(2))])
    text = "".join(HOSTILE)
    stored = {
        "text": text,
        "starred": False,
        "lastModified": text,
        "skipped": True,
        "textBy": text,
        "textAt": text,
        "examplesSeen": ["0a0a0a0a", text],
        "labels": {
            person: {"tags": [text, person], "confidence": confidence, "at": None}
            for person, confidence in zip(HOSTILE, cycle([None, 1, 5]), strict=False)
        }
        | {"Ann": {"confidence": 3, "at": None}},
    }
    entry = document.Entry.of({**stored, "rating": 7})
    first, second = (parts(page, {key: note_of_entry(entry)})["head"] for _ in range(2))
    assert unpack(first)["notes"] == [[key, stored]]
    assert first == second


def test_filtered_statistics_are_carried_without_their_histogram() -> None:
    filtered = Statistics(-0.5, 1.0, 3, 0, 0.1, 0.2, 0.7)
    feature = Feature(
        0, "up_proj", None, {"positive": "p", "negative": "n"}, Statistics(-1.0, 2.0), (), (), (), filtered
    )
    page = Page("t", (Adapter(None, "a", {}, (Layer(0, (Projection("up_proj", (feature,)),)),)),))
    assert read_page(parts(page, {})) == page


def carried_histogram(*edges: float) -> dict[str, Any]:
    """Return what a page carries of a histogram with these edges."""
    bins = range(1, len(edges))
    histogram = Histogram(edges, *(tuple(factor * each for each in bins) for factor in (100, 10, 1)))
    feature = Feature(
        0, "up_proj", None, {"positive": "p", "negative": "n"}, Statistics(-1, 2, histogram=histogram), (), ()
    )
    page = Page("t", (Adapter(None, "a", {}, (Layer(0, (Projection("up_proj", (feature,)),)),)),))
    return unpack(parts(page, {})["layer-0-0"])["histograms"][0]


def test_a_histogram_has_what_its_picture_shows() -> None:
    assert carried_histogram(-1, -0.3333333333, 0.3333333333, 1) == {
        "edges": [-1, 1],
        "total": [100, 200, 300],
        "across": [[2, 20]],
    }
    assert carried_histogram(-1, 0, 1) == {"edges": [-1, 1], "total": [100, 200], "across": []}
    assert carried_histogram(0.25, 0.5, 2) == {"edges": [0.25, 0.5, 2], "total": [100, 200], "across": []}


def test_a_histogram_is_optional() -> None:
    statistics = Statistics(-1.0, 2.0)
    feature = Feature(0, "up_proj", None, {"positive": "p", "negative": "n"}, statistics, (), ())
    page = Page("t", (Adapter(None, "a", {}, (Layer(0, (Projection("up_proj", (feature,)),)),)),))
    assert read_page(parts(page, {})) == page
