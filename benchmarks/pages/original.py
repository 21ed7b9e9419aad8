"""The original's way to show a page, written anew: all rendered beforehand, every layer but one hidden by a class.

Every token is a span with its look and its activation written out, every histogram an SVG, indented as a template is;
for 64 layers × 3 projections that comes to what the original itself wrote, 31.8 MB, within some percent. What loradash
has on top (samples, minimaps, neighbours, whole examples) is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import log1p
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from loradash_assets.site.page import Feature, Histogram, Page

ABOVE, BELOW = "239, 68, 68", "59, 130, 246"
TALLEST = 60


@dataclass(frozen=True)
class Bar:
    """A bin of a histogram."""

    low: float
    high: float
    count: int
    height: float
    colour: str


def render_original(page: Page) -> str:
    """Return the page of the first adapter as HTML."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("original.html")
    return template.render(adapter=page.adapters[0], bars=_bars, colour=_colour)


def _colour(activation: float, feature: Feature) -> str:
    largest = max(abs(feature.statistics.min), abs(feature.statistics.max))
    return f"rgba({ABOVE if activation > 0 else BELOW}, {abs(activation) / largest:.2f})"


def _bars(histogram: Histogram) -> list[Bar]:
    tallest = log1p(max(histogram.total))
    return [
        Bar(low, high, count, round(TALLEST * log1p(count) / tallest, 1), f"rgb({ABOVE if low >= 0 else BELOW})")
        for (low, high), count in zip(pairwise(histogram.edges), histogram.total, strict=True)
    ]
