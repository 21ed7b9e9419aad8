"""One layer of a synthetic page.

A feature has one sorted draw of activations (a standard normal times a log-normal, float32). Its extremes are the
lists, statistics and histogram come from it, and the tokens around a listed one get values from its middle. Windows
are cut from whole examples, no two of a feature's lists from the same one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from benchmarks.pages.statistics import DRAWS, statistics_of
from loradash_assets.schema import POLARITIES
from loradash_assets.site.arrow import shortest
from loradash_assets.site.keys import feature_keys
from loradash_assets.site.page import (
    Cosine,
    Example,
    Feature,
    Layer,
    Neighbour,
    Neighbours,
    Projection,
    Sample,
    Text,
)
from tests.site.samples import MLP

WINDOW, WIDTH, MINIMAP, NEIGHBOURS = 10, 21, 64, 10
INTERVALS, PER_INTERVAL, FROM_ALL = 10, 2, 8

Activations = NDArray[np.float32]
Place = tuple[str, int]  # projection, component


class LayerData:
    """The draws of layer `index` of so many, with the features `places` and lists of length `k`."""

    def __init__(self, index: int, layers: int, places: Sequence[Place], texts: Mapping[int, Text], k: int) -> None:
        self._index, self._layers, self._places, self._texts, self._k = index, layers, places, texts, k
        self._random = np.random.default_rng([1, index])
        self._rank = len({component for _, component in places})
        values = self._random.standard_normal((len(places), DRAWS), np.float32)
        values *= np.exp(0.6 * self._random.standard_normal(values.shape, np.float32))
        values += self._random.normal(0, 0.2, (len(places), 1)).astype(np.float32)
        values *= self._random.lognormal(0, 1, (len(places), 1)).astype(np.float32)
        self._values = np.sort(values, axis=1)  # (feature, draw)

    def layer(self, *, samples: bool) -> Layer:
        """Return the layer, with samples or without."""
        tokens = sum(len(text.tokens) for text in self._texts.values())
        lists, statistics = self._lists(), statistics_of(self._values, tokens, self._random)
        features: list[Feature] = []
        for number, (name, component) in enumerate(self._places):
            shown = self._shown(component)
            features.append(
                Feature(
                    *(self._index, name, shown, feature_keys(self._index, name, shown, "raw"), statistics[number]),
                    *(lists[polarity][number] for polarity in POLARITIES),
                    samples=self._samples(number) if samples else (),
                    neighbours=Neighbours(*(self._neighbours() for _ in range(3))),
                )
            )
        grouped = groupby(features, key=lambda feature: feature.projection)
        return Layer(self._index, tuple(Projection(name, tuple(each)) for name, each in grouped), self._cosines())

    def _shown(self, component: int) -> int | None:
        return component if self._rank > 1 else None

    def _lists(self) -> dict[str, list[tuple[Example, ...]]]:
        k = self._k
        rows = np.argsort(self._random.random((len(self._places), len(self._texts))), axis=1)
        extremes = {"positive": self._values[:, : -k - 1 : -1], "negative": self._values[:, :k]}
        return {
            polarity: self._examples(extremes[polarity], rows[:, number * k : (number + 1) * k])
            for number, polarity in enumerate(POLARITIES)
        }

    def _examples(self, activations: Activations, rows: NDArray[np.int64]) -> list[tuple[Example, ...]]:
        """Return examples of these activations in these rows, both (feature, example)."""
        windows = shortest(self._windows(activations).ravel()).tolist()
        maps = self._minimaps(activations)
        occurrences = self._random.geometric(0.8, rows.shape).tolist()
        found: list[tuple[Example, ...]] = []
        for feature, of_feature in enumerate(rows.tolist()):
            starts = range(feature * len(of_feature) * WIDTH, (feature + 1) * len(of_feature) * WIDTH, WIDTH)
            examples = [
                self._example(row, windows[start : start + WIDTH], occurrences[feature][number], maps[feature, number])
                for number, (row, start) in enumerate(zip(of_feature, starts, strict=True))
            ]
            found.append(tuple(examples))
        return found

    def _windows(self, activations: Activations) -> Activations:
        """Return (feature, example, WIDTH) with the activations in the middle."""
        shape = (*activations.shape, WIDTH)
        inner = self._random.integers(self._k, DRAWS - self._k, shape)
        windows = np.take_along_axis(self._values, inner.reshape(len(inner), -1), axis=1).reshape(shape)
        windows[:, :, WINDOW] = activations
        return windows

    def _minimaps(self, activations: Activations) -> NDArray[np.int8]:
        """Return (feature, example, MINIMAP): the more extreme of two tokens, by the feature's largest."""
        shape = (*activations.shape, MINIMAP)
        drawn = self._random.integers(0, DRAWS, (2, len(self._values), activations.shape[1] * MINIMAP))
        one, other = (np.take_along_axis(self._values, each, axis=1) for each in drawn)
        extremes = np.where(np.abs(one) > np.abs(other), one, other) / np.abs(self._values).max(axis=1, keepdims=True)
        return np.rint(127 * extremes).astype(np.int8).reshape(shape)

    def _example(
        self, row: int, window: Sequence[float], occurrences: int, minimap: NDArray[np.int8] | None = None
    ) -> Example:
        """Return a token at a random position of a row; `window` (WIDTH,) is cut where the row ends."""
        text = self._texts[row]
        position = int(self._random.integers(len(text.tokens)))
        start, end = max(position - WINDOW, 0), min(position + WINDOW + 1, len(text.tokens))
        shift = position - WINDOW
        return Example(
            activation=window[WINDOW],
            example=row,
            position=position,
            token_id=text.token_ids[position],
            tokens=tuple(text.tokens[start:end]),
            activations=tuple(window[start - shift : end - shift]),
            target=position - start,
            occurrences=occurrences,
            minimap=b"" if minimap is None else minimap.tobytes(),
        )

    def _samples(self, feature: int) -> tuple[Sample, ...]:
        values = self._values[feature]
        edges = np.linspace(values[0], values[-1], INTERVALS + 1)
        ends = [0, *np.searchsorted(values, edges[1:-1]).tolist(), DRAWS]
        parts = [(number, ends[number], ends[number + 1]) for number in reversed(range(INTERVALS))]
        drawn = [self._sample(feature, *part, PER_INTERVAL) for part in parts if part[1] < part[2]]
        return (*drawn, self._sample(feature, None, 0, DRAWS, FROM_ALL))

    def _sample(self, feature: int, interval: int | None, start: int, end: int, most: int) -> Sample:
        """Return at most so many of the feature's draws from `start` to `end`."""
        values = self._values[feature]
        drawn = self._random.choice(np.arange(start, end), min(most, end - start), replace=False)
        windows = values[self._random.integers(0, DRAWS, (drawn.size, WIDTH))]
        windows[:, WINDOW] = values[drawn]
        rows = self._random.integers(0, len(self._texts), drawn.size).tolist()
        examples = tuple(
            self._example(row, shortest(window).tolist(), 1) for row, window in zip(rows, windows, strict=True)
        )
        return Sample(interval, float(values[start]), float(values[end - 1]), end - start, examples)

    def _neighbours(self) -> tuple[Neighbour, ...]:
        drawn = self._random.integers(0, (self._layers, len(self._places)), (NEIGHBOURS, 2)).tolist()
        likeness = np.sort(self._random.beta(2, 5, NEIGHBOURS))[::-1].tolist()
        found: list[Neighbour] = []
        for (layer, number), alike in zip(drawn, likeness, strict=True):
            name, component = self._places[number]
            found.append(Neighbour(layer, name, self._shown(component), alike))
        return tuple(found)

    def _cosines(self) -> tuple[Cosine, ...]:
        """Return every ordered pair of the MLP's features, as the asset does."""
        places = [(name, self._shown(component)) for name, component in self._places if name in MLP]
        names = [name if component is None else f"{name}_c{component}" for name, component in places]
        values = self._random.uniform(-1, 1, (len(names), len(names)))
        symmetric = (values + values.T) / 2
        np.fill_diagonal(symmetric, 1)
        return tuple(
            Cosine(first, second, value)
            for first, row in zip(names, symmetric.tolist(), strict=True)
            for second, value in zip(names, row, strict=True)
        )
