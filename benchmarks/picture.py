"""A picture of where the time of a whole build goes, from the figures of `benchmarks.build`.

    python -m benchmarks.picture        benchmarks/results/build.json -> docs/images/build-profile.svg

One line per part, in the order of a build, each bar beginning where the one above it ends; the bare model's forward
pass below, on the same scale. It follows the reader's light or dark colours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from benchmarks.timing import RESULTS

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "build-profile.svg"
WIDTH, LEFT, RIGHT, LINE, TOP = 960, 220, 120, 24, 64  # in pixels
NAMES = {"base model": "converting the base model", "recording": "recording (forward pass)", "top tokens": "tables"}
APART = ("starting Python", "imports", "base model", "loading the model")
TEMPLATE = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{ width }} {{ height }}" role="img" aria-label="{{ title }}">
<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600; font-size: 15px }
.quiet { fill: #59636e } .apart { fill: #8c959f } .part { fill: #bc4c00 } .model { fill: #0969da }
.axis { stroke: #d1d9e0 } .ground { fill: #ffffff }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .quiet { fill: #9198a1 }
.apart { fill: #656c76 } .part { fill: #db6d28 } .model { fill: #4493f8 }
.axis { stroke: #3d444d } .ground { fill: #0d1117 }
}
</style>
<rect class="ground" width="{{ width }}" height="{{ height }}"/>
<text class="title" x="16" y="24">{{ title }}</text>
<text class="quiet" x="16" y="44">{{ subtitle }}</text>
<line class="axis" x1="{{ left }}" x2="{{ left }}" y1="{{ top - 8 }}" y2="{{ height - 12 }}"/>
{% for bar in bars %}
<text x="{{ left - 10 }}" y="{{ bar.y + 13 }}" text-anchor="end">{{ bar.name }}</text>
<rect class="{{ bar.kind }}" x="{{ bar.x }}" y="{{ bar.y }}" width="{{ bar.width }}" height="17" rx="2"/>
<text class="quiet" x="{{ bar.x + bar.width + 6 }}" y="{{ bar.y + 13 }}">{{ bar.label }}</text>
{% endfor %}
</svg>
"""


def main() -> None:
    """Read the figures, write the picture."""
    figures = json.loads((RESULTS / "build.json").read_text(encoding="utf-8"))
    PICTURE.write_text(picture(figures), encoding="utf-8")


def picture(figures: Mapping[str, Any]) -> str:
    """Return the picture as SVG."""
    parts = {
        "starting Python": figures["process_start_seconds"],
        "imports": figures["imports_seconds"],
        **figures["median_parts_seconds"],
    }
    bare = figures["median_seconds_baseline"]
    ends = list(accumulate(parts.values()))
    scale = (WIDTH - LEFT - RIGHT) / max(ends[-1], bare)
    bars = [
        _bar(row, name, end - seconds, seconds, scale)
        for row, ((name, seconds), end) in enumerate(zip(parts.items(), ends, strict=True))
    ]
    bars.append(_bar(len(bars) + 0.5, "the bare model", 0, bare, scale))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(TEMPLATE).render(
        width=WIDTH,
        height=round(TOP + (len(bars) + 1) * LINE),
        left=LEFT,
        top=TOP,
        bars=bars,
        title=f"A whole build of the demo, {figures['rows']} rows: where {ends[-1]:,.0f} seconds go",
        subtitle=(
            f"{figures['tokens']:,} tokens on {figures['machine']['cores']} cores; "
            f"without the grey parts {figures['ratio']:.2f} times the bare model's forward pass"
        ),
    )


def _bar(row: float, name: str, start: float, seconds: float, scale: float) -> dict[str, Any]:
    kind = "model" if name in {"recording", "the bare model"} else "apart" if name in APART else "part"
    return {
        "name": NAMES.get(name, name),
        "kind": kind,
        "x": round(LEFT + start * scale, 1),
        "y": round(TOP + row * LINE),
        "width": max(1.0, round(seconds * scale, 1)),
        "label": f"{seconds:,.1f} s" if seconds >= 1 else f"{seconds * 1000:,.0f} ms",
    }


if __name__ == "__main__":
    main()
