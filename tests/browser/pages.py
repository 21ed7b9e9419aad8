"""A small page that has everything a page can have, and in plain Python how the page writes its names and numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import cache
from pathlib import Path
from urllib.parse import quote

import numpy as np
from msgspec.structs import replace

from loradash_assets.schema import POLARITIES
from loradash_assets.site.build import render_dashboard
from loradash_assets.site.from_tables import layer_from_tables
from loradash_assets.site.page import (
    Adapter,
    Example,
    Feature,
    Layer,
    Neighbour,
    Neighbours,
    Note,
    Page,
    Projection,
    Text,
)
from tests.site import samples

# What a search can get wrong: capitals that change their length, matches that overlap or span tokens, line ends.
STRANGE = (
    *("İİİ", " Cat", " sat", "\n", "0", "0", "0", "0", "0", " (a.*b)", " [x]", "+", "?", " 漢", "字", " ΑΣ", " naïve"),
    *(" 👩‍👩‍👧", " $1", "\\d", " <b>", "", " New", " York", " New", " Jersey", "\t", " end"),
)
OTHER = "step-200"
NOTES: Mapping[str, Note] = {
    "layer_3_q_proj_positive": Note("numbers after equals (a.*b)"),
    "layer_3_q_proj_negative": Note("", starred=True),
    "layer_7_gate_proj_negative": Note("  "),
    "layer_7_up_proj_positive": Note("İstanbul: names of CITIES\nand people", starred=True),
    "layer_8_up_proj_c1_negative": Note("漢字 in a note"),
    "layer_40_q_proj_positive": Note("on a feature that the page does not have"),
}
SHAPES: Sequence[tuple[int, Sequence[str], int]] = (  # layer, projections, rank
    (3, samples.LLAMA, 1),
    (7, samples.LLAMA, 1),
    (8, ("gate_proj", "up_proj"), 2),
    (11, ("down_proj",), 1),
)


@cache
def rows() -> tuple[Text, ...]:
    """Return the dataset: two of the demo's rows, cut, and one of strange text."""
    texts = [*(each[:60] for each in samples.texts(2)), list(STRANGE)]
    return tuple(Text(tuple(each), tuple(range(1000, 1000 + len(each)))) for each in texts)


@cache
def rich_page() -> Page:
    """Return a page of two adapters; the first has layers 3 and 7 of rank 1, 8 of rank 2, 11 with down_proj alone."""
    first = Adapter(None, "adapter", {"Model": "a model"}, _with_neighbours([_layer(*shape) for shape in SHAPES]))
    other = Adapter(OTHER, "step 200 &=#%", {}, (_layer(7, ("up_proj",), 1, OTHER),), ("one caution",))
    return Page("everything", (first, other), dict(enumerate(rows())))


def save(page: Page, notes: Mapping[str, Note], file: Path) -> Path:
    """Write the page as one file; return its path."""
    file.write_text(render_dashboard(page, notes), "utf-8")
    return file


def _layer(layer: int, projections: Sequence[str], rank: int, adapter: str | None = None) -> Layer:
    tables = samples.layer_tables(layer, [text.tokens for text in rows()], projections, rank, k=6)
    drawn, random = layer_from_tables(tables, adapter), np.random.default_rng(layer)
    return replace(
        drawn,
        projections=tuple(
            Projection(each.name, tuple(_varied(feature, random) for feature in each.features))
            for each in drawn.projections
        ),
    )


def _varied(feature: Feature, random: np.random.Generator) -> Feature:
    """Return a feature of its own effect, of which some things are not known, some lists empty, some filtered."""
    scale, effect, token = (float(each) for each in random.lognormal(size=3))
    known = (feature.layer, feature.projection) not in ((3, "k_proj"), (7, "o_proj"))
    statistics = replace(
        feature.statistics,
        effect_scale=scale if known else None,
        rms_effect=effect if known else None,
        token_omega_squared=token / (1 + token) if known else None,
        position_omega_squared=float(random.uniform()) / 100 if known else None,
        kurtosis=feature.statistics.kurtosis if feature.projection != "v_proj" else None,
    )
    halved = replace(statistics, quantiles=tuple(value / 2 for value in statistics.quantiles or ()))
    return replace(
        feature,
        statistics=statistics,
        filtered=halved if feature.projection == "gate_proj" else None,
        negative=() if (feature.layer, feature.projection) == (7, "q_proj") else feature.negative,
    )


def _with_neighbours(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return the layers, each feature with 3 that read alike, 2 that write alike and, but in layer 11, 1 that fires."""
    features = [feature for layer in layers for projection in layer.projections for feature in projection.features]
    random = np.random.default_rng(0)

    def some(count: int) -> tuple[Neighbour, ...]:
        chosen = [features[number] for number in random.choice(len(features), count, replace=False)]
        likeness = sorted(random.uniform(-1, 1, count).round(4).tolist(), key=abs, reverse=True)
        pairs = zip(chosen, likeness, strict=True)
        return tuple(Neighbour(each.layer, each.projection, each.component, value) for each, value in pairs)

    def alike(feature: Feature) -> Feature:
        return replace(feature, neighbours=Neighbours(some(3), some(2), some(int(feature.layer != 11))))

    return tuple(
        replace(
            layer,
            projections=tuple(Projection(each.name, tuple(map(alike, each.features))) for each in layer.projections),
        )
        for layer in layers
    )


def features_of(page: Page, adapter: int = 0) -> list[Feature]:
    return list(page.adapters[adapter].features())


def windows(feature: Feature) -> Iterator[Example]:
    """Yield a feature's listed examples, positive ones first."""
    for polarity in POLARITIES:
        yield from feature.examples(polarity)


def name_of(feature: Feature | Neighbour) -> str:
    """Return a feature's name as the overview and the neighbours write it."""
    component = "" if feature.component is None else f" c{feature.component}"
    return f"{'model' if feature.layer < 0 else f'L{feature.layer}'} {feature.projection}{component}"


def title_of(feature: Feature) -> str:
    component = "" if feature.component is None else f", component {feature.component}"
    return f"Layer {feature.layer}, {feature.projection}{component}"


def address_of(feature: Feature | Neighbour, adapter: str | None = None) -> str:
    """Return what stands after # in the link to a feature."""
    name = "" if adapter is None else f"adapter={quote(adapter)}&"
    component = "" if feature.component is None else f"&component={feature.component}"
    return f"{name}layer={feature.layer}&projection={quote(feature.projection)}{component}"


def single(value: float) -> float:
    """Return the float32 next to a value, which is what the overview has."""
    return float(np.float32(value))


def short(value: float) -> str:
    """Return a number as the page writes it for reading: four digits; ties away from zero."""
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-3 or size >= 1e6:
        digits, exponent = f"{_rounded(value, 3):e}".replace("E", "e").split("e")
        return f"{float(digits):.2f}e{int(exponent):+d}".replace("-", "−")
    if size >= 1e4:
        return str(round(value)).replace("-", "−")
    whole = len(str(int(size))) if size >= 1 else -_zeros(size)
    return f"{_rounded(value, 4):.{max(4 - whole, 0)}f}".replace("-", "−")


def percent(share: float) -> str:
    """Return a share as the page writes it: up to three digits, no needless zeros."""
    return f"{_plain(_rounded(100 * share, 3))} %"


def _rounded(value: float, digits: int) -> Decimal:
    return Context(prec=digits, rounding=ROUND_HALF_UP).plus(Decimal(value))


def _zeros(size: float) -> int:
    """Return how many zeros stand between the point and the first digit."""
    return -Decimal(size).adjusted() - 1


def _plain(value: Decimal) -> str:
    return f"{value.normalize():f}" if value else "0"
