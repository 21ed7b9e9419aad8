"""The dashboard in a real Chromium beside the original's way to show the same, and on its own with many features.

    python -m benchmarks.page [--pairs 7] [--switches 30] [--case "64 layers × 7 projections"]

The same synthetic data (real texts, ±10 tokens, 16 examples of either polarity) as loradash's file and as one in which
everything is rendered beforehand (`benchmarks/pages/original.py`), opened from disk in turns, each time in a fresh
profile, and a page with nothing on it with them. Before anything is timed, both must show what the data says. Measured
inside the page: from the navigation until the first layer's tokens in sight are painted, and until "next layer" is
answered too; from a click on it, or a key in the search field, until the second frame after what it changes. With
`--case` some are measured, and nothing is written.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser

from benchmarks.pages.browsing import File, Seen, chromium, floor, search, seconds_to_open, seen, use
from benchmarks.pages.original import render_original
from benchmarks.pages.synthetic import Size, page_of
from benchmarks.pages.ways import EMPTY, EMPTY_PAGE, LORADASH, ORIGINAL, Way
from benchmarks.timing import PAIRS, Pairs, write_result
from loradash_assets.schema import POLARITIES
from loradash_assets.settings import DashboardSettings
from loradash_assets.site.build import render_dashboard
from loradash_assets.site.files import data_directory, save_dashboard
from loradash_assets.site.page import Layer, Page
from tests.site.samples import MLP

COMPARED = {
    "64 layers × 3 projections": Size(projections=MLP),
    "64 layers × 7 projections": Size(),
}
LARGE = {
    "14,336 features": Size(layers=32, rank=64),
    "20,160 features": Size(layers=32, rank=90),
}
TARGETS = {
    "size": "64 layers × 7 projections in at most 1/25 of the original's way",
    "opening": "at least 20 times faster",
    "nodes": "fewer than 20,000",
    "switch": "under 50 ms",
    "keystroke": "under 100 ms",
}
ORIGINALS_OWN_MB = 31.8  # what the original itself wrote for 64 layers × 3 projections
SWITCHES = 30
WAYS = ("original", "loradash", "empty")  # the last one is what opening any page costs
UNTIL = ("painted", "usable")


def main() -> None:
    """Measure, print and write `benchmarks/results/page.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--switches", type=int, default=SWITCHES, help="fewer than there are layers")
    parser.add_argument("--case", action="append", choices=[*COMPARED, *LARGE], help="may be repeated; all without")
    options = parser.parse_args()
    chosen = options.case or [*COMPARED, *LARGE]
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        figures = {
            "targets": TARGETS,
            "originals_own_mb": ORIGINALS_OWN_MB,
            "chromium": browser.version,
            "compared": {
                case: compared(browser, size, Path(name), options.pairs, options.switches)
                for case, size in COMPARED.items()
                if case in chosen
            },
            "large": {
                case: large(browser, size, Path(name), options.pairs, options.switches)
                for case, size in LARGE.items()
                if case in chosen
            },
        }
    print(json.dumps(figures, indent=1, ensure_ascii=False))
    if not options.case:
        write_result("page", figures)


def compared(browser: Browser, size: Size, directory: Path, pairs: int, switches: int) -> dict[str, Any]:
    """Return the figures of both ways to show a page of `size`."""
    page = page_of(size)
    files = {
        "original": _write_original(directory, page, size.projections),
        "loradash": _save(directory, page),
    }
    for name, file in files.items():
        check(seen(browser, file), list(page.adapters[0].layers)[1], name)
    sizes = {name: file.path.stat().st_size for name, file in files.items()}
    used = {name: use(browser, file, switches) for name, file in files.items()}
    files["empty"] = _empty(directory)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    for pair in range(pairs):
        for name in WAYS if pair % 2 == 0 else reversed(WAYS):
            found[name].append(seconds_to_open(browser, files[name]))
    return {
        "bytes": sizes,
        "times_smaller": round(sizes["original"] / sizes["loradash"], 1),
        "bytes_with_samples": _bytes_with_samples(size),
        "opening": {until: _faster(found, until) for until in UNTIL},
        "frames_ms": floor(browser, files["empty"], switches),
        **used,
    }


def large(browser: Browser, size: Size, directory: Path, times: int, switches: int) -> dict[str, Any]:
    """Return the figures of loradash's page alone."""
    page = page_of(size)
    file = _save(directory, page)
    del page
    gc.collect()
    return {
        "bytes": file.path.stat().st_size,
        "bytes_beside": sum(each.stat().st_size for each in data_directory(file.path).glob("*.js")),
        "seconds": _medians([seconds_to_open(browser, file) for _ in range(times)]),
        "loradash": use(browser, file, switches),
        **({"search": search(browser, file)} if LORADASH.search else {}),
    }


def check(shown: Seen, layer: Layer, name: str) -> None:
    """Raise AssertionError unless the MLP's columns show the layer's activations, to four digits, and texts."""
    for projection in layer.projections:
        for polarity in POLARITIES if projection.name in MLP else ():
            examples = projection.features[0].examples(polarity)
            rows = shown[projection.name, polarity]
            assert len(rows) == len(examples), f"{name}: {len(rows)} examples of {projection.name} {polarity}"
            for (activation, text), example in zip(rows, examples, strict=True):
                near = abs(activation - example.activation) <= 1e-4 + 1e-3 * abs(example.activation)
                assert near, f"{name}: {activation} is not {example.activation}"
                assert text == "".join(example.tokens), f"{name}: {text!r}"


def _save(directory: Path, page: Page) -> File:
    """Write a page as a build with usual settings does: beyond 32 MB of data with files beside it."""
    path = directory / "loradash.html"
    save_dashboard(page, {}, path, DashboardSettings().largest_file)
    return _file(path, page, MLP, LORADASH)


def _write_original(directory: Path, page: Page, projections: Sequence[str]) -> File:
    path = directory / "original.html"
    path.write_text(render_original(page), encoding="utf-8")
    return _file(path, page, projections, ORIGINAL)


def _file(path: Path, page: Page, projections: Sequence[str], way: Way) -> File:
    shown = [each.features[0] for each in next(iter(page.adapters[0].layers)).projections if each.name in projections]
    examples = [example for feature in shown for polarity in POLARITIES for example in feature.examples(polarity)]
    return File(path, way, len(examples))


def _empty(directory: Path) -> File:
    path = directory / "empty.html"
    path.write_text(EMPTY_PAGE, encoding="utf-8")
    return File(path, EMPTY, examples=1)


def _bytes_with_samples(size: Size) -> int:
    page = page_of(Size(size.layers, size.projections, size.rank, size.k, samples=True))
    return len(render_dashboard(page, {}).encode())


def _faster(found: dict[str, list[dict[str, float]]], until: str) -> dict[str, Any]:
    """Return how many times as long the original's way takes, pair by pair, also beyond what an empty page takes."""
    original, loradash, empty = ([one[until] for one in found[name]] for name in WAYS)
    least = statistics.median(empty)
    beyond = Pairs([each - least for each in original], [each - least for each in loradash])
    return {
        "seconds": {name: _medians(found[name])[until] for name in WAYS},
        "times": _ratio(Pairs(original, loradash)),
        "times_beyond_empty": _ratio(beyond),
    }


def _ratio(pairs: Pairs) -> dict[str, Any]:
    figures = pairs.figures()
    return {name: figures[name] for name in ("ratio", "ratios_from_to", "pairs")}


def _medians(found: Sequence[dict[str, float]]) -> dict[str, float]:
    return {until: round(statistics.median(each[until] for each in found), 3) for until in UNTIL}


if __name__ == "__main__":
    main()
