"""Pages of any size: real texts, heavy-tailed activations from a seed, everything that a page holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from benchmarks.pages.layers import LayerData
from loradash_assets.site.page import Adapter, Page, Text
from tests.site.samples import HELD_OUT, LLAMA
from tests.site.samples import texts as problems

ROWS = 500
PROBLEMS = (2, 4)  # in a row, from and to


@dataclass(frozen=True)
class Size:
    """How much a page shows."""

    layers: int = 64
    projections: Sequence[str] = LLAMA
    rank: int = 1
    k: int = 16
    samples: bool = False

    @property
    def features(self) -> int:
        """How many features there are."""
        return self.layers * len(self.projections) * self.rank


def page_of(size: Size) -> Page:
    """Return the page of `size`; the same size gives the same page."""
    places = [(name, component) for name in size.projections for component in range(size.rank)]
    layers = (
        LayerData(index, size.layers, places, texts(), size.k).layer(samples=size.samples)
        for index in range(size.layers)
    )
    metadata = {"Model": "synthetic", "Features": f"{size.features:,}", "Examples": f"{ROWS}"}
    return Page("LoRA activations", (Adapter(None, "adapter", metadata, tuple(layers)),), texts())


@cache
def texts() -> Mapping[int, Text]:
    """Return the demo's problems and solutions by row, some in each; a word with its leading space is a token."""
    random, single = np.random.default_rng(0), problems(len(HELD_OUT.read_text("utf-8").splitlines()))
    ids: dict[str, int] = {}
    found: dict[int, Text] = {}
    for row in range(ROWS):
        chosen = random.integers(0, len(single), random.integers(*PROBLEMS, endpoint=True)).tolist()
        words = [word for each in chosen for word in single[each]]
        found[row] = Text(words, [ids.setdefault(word, len(ids)) for word in words])
    return found
