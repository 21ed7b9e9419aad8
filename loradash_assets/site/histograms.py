"""A picture of a layer's histograms, for where no page can be shown: one small SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import log1p
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from loradash_assets.site.environment import environment

COLUMNS = ["projection", "component", "min", "max", "bin_edges", "total_counts"]
MOST = 21
PER_ROW = 7
WIDTH, HEIGHT = 120, 80  # of a histogram with its texts
BARS, FLOOR, TALLEST = 110, 62, 44  # how wide and how tall its bars are, and where they stand


def layer_picture(statistics: pa.Table) -> str:
    """Return an SVG of the first 21 histograms of a table of the STATISTICS schema, in the raw basis over all tokens.

    Counts are on a log scale, activations from the lowest to the highest; red is above zero, blue below.
    """
    rows = statistics.filter((pc.field("basis") == "raw") & ~pc.field("filtered"))
    shown = rows.select(COLUMNS).slice(0, MOST).to_pylist()
    return (
        environment()
        .get_template("histograms.svg")
        .render(
            histograms=[_histogram(number, row) for number, row in enumerate(shown)],
            width=min(PER_ROW, max(1, len(shown))) * WIDTH,
            height=-(-max(1, len(shown)) // PER_ROW) * HEIGHT,
            bars=BARS,
            floor=FLOOR,
        )
    )


def _histogram(number: int, row: Mapping[str, Any]) -> dict[str, Any]:
    edges, counts = row["bin_edges"], row["total_counts"]
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    return {
        "name": f"{row['projection']} {row['component']}",
        "x": number % PER_ROW * WIDTH,
        "y": number // PER_ROW * HEIGHT,
        "low": f"{row['min']:.3g}",
        "high": f"{row['max']:.3g}",
        "below": " ".join(_bars(counts, [middle < 0 for middle in middles])),
        "above": " ".join(_bars(counts, [middle >= 0 for middle in middles])),
    }


def _bars(counts: Sequence[int], chosen: Sequence[bool]) -> Iterator[str]:
    """Yield the outlines of some bins' bars."""
    tallest, wide = log1p(max([1, *counts])), BARS / max(1, len(counts))
    for place, count in enumerate(counts):
        if count and chosen[place]:
            top = FLOOR - log1p(count) / tallest * TALLEST
            yield f"M{place * wide:.1f} {FLOOR}V{top:.1f}h{wide:.1f}V{FLOOR}z"
