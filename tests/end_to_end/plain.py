"""Chunk files read, and lists of extreme tokens made, in plain Python: nothing of the project runs here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors.numpy import load_file


def text_of(token_id: int) -> str:
    """Return some text for a token."""
    return ("«", "é", " 好", "\n", "")[token_id % 5] + str(token_id)


@dataclass(frozen=True)
class Owner:
    """What one adapted module, or one expert's parameter, is called, and how many features it has."""

    layer: int
    projection: str
    rank: int
    routed: bool


@dataclass(frozen=True)
class Values:
    """Recorded activations (features, tokens) float32, and which of them there are: an expert does not see all."""

    activations: np.ndarray
    there: np.ndarray


def read_recording(directory: Path, owners: Sequence[Owner], tokens: int) -> Values:
    """Read chunk files; every token must be in exactly one of them."""
    features = sum(owner.rank for owner in owners)
    values = Values(np.zeros((features, tokens), np.float32), np.zeros((features, tokens), bool))
    seen: list[int] = []
    for file in directory.glob("*.safetensors"):
        chunk = load_file(file)
        seen += chunk["tokens"].tolist()
        row = 0
        for layer in sorted({owner.layer for owner in owners}):
            dense = sum(owner.rank for owner in owners if owner.layer == layer and not owner.routed)
            if dense:
                _put(values, slice(row, row + dense), chunk["tokens"], chunk[f"layer.{layer}"])
                row += dense
            experts = f"layer.{layer}.experts.0"
            bounds = chunk[f"{experts}.offsets"].tolist() if f"{experts}.offsets" in chunk else [0]
            for start, stop in pairwise(bounds):
                part = chunk[f"{experts}.values"][:, start:stop]
                columns = chunk["tokens"][chunk[f"{experts}.tokens"][start:stop]]
                _put(values, slice(row, row + len(part)), columns, part)
                row += len(part)
        assert row == features
    assert sorted(seen) == list(range(tokens))
    return values


def _put(values: Values, rows: slice, columns: np.ndarray, part: np.ndarray) -> None:
    assert part.dtype == np.float32
    values.activations[rows, columns] = part
    values.there[rows, columns] = True


@dataclass(frozen=True)
class Prompts:
    """Prompts and the dataset rows that they were made from."""

    rows: Sequence[int]
    ids: Sequence[Sequence[int]]

    @property
    def prefixes(self) -> list[tuple[int, ...]]:
        """Return, for every token, those up to it."""
        return [tuple(ids[: end + 1]) for ids in self.ids for end in range(len(ids))]

    @property
    def places(self) -> list[tuple[int, int, int]]:
        """(row, position, prompt) of every token, in the order of the prompts."""
        return [(row, at, n) for n, row in enumerate(self.rows) for at in range(len(self.ids[n]))]


def minimap(values: Sequence[float], scale: float) -> list[int]:
    """Return an example's minimap in fractions, from a feature's activations on all of it and what makes 127."""
    n, m = len(values), min(64, len(values))
    bins: list[int] = []
    for b in range(m):
        inside = [value if math.isfinite(value) else 0.0 for value in values[b * n // m : (b + 1) * n // m]]
        farthest = Fraction(max(inside, key=lambda value: (abs(value), value)))
        share = min(abs(farthest) * 127 / Fraction(scale), Fraction(127)) if scale else Fraction(0)
        bins.append(int(math.copysign(math.floor(share + Fraction(1, 2)), farthest)))
    return bins


def listed(
    prompts: Prompts,
    labels: Sequence[tuple[int, str, int]],
    values: Values,
    *,
    k: int,
    window: int,
    distinct: bool,
    minimaps: bool,
) -> list[tuple[Any, ...]]:
    """Return the rows of TOP_TOKENS for features with these labels (layer, projection, component), by sorted().

    `distinct`: of the tokens with equal tokens before them the first alone, with how many there are. `minimaps`:
    whether these are not empty.
    """
    places = prompts.places
    prefixes = [tuple(prompts.ids[n][: at + 1]) for _, at, n in places]
    ids = [token for tokens in prompts.ids for token in tokens]
    texts = [text_of(token) for token in ids]
    rows: list[tuple[Any, ...]] = []
    for label, activations, there in zip(labels, values.activations.tolist(), values.there.tolist(), strict=True):
        shown = [
            value if here and math.isfinite(value) else 0.0 for value, here in zip(activations, there, strict=True)
        ]
        candidates = [token for token in range(len(places)) if there[token]]
        count = Counter(prefixes[token] for token in candidates)
        if distinct:
            first = {prefixes[token]: token for token in reversed(candidates)}
            candidates = sorted(first.values())
        scale = max((abs(activations[token]) for token in candidates if math.isfinite(activations[token])), default=0.0)
        for polarity, sign in (("positive", 1), ("negative", -1)):
            ranking = sorted(
                (-sign * activations[token], places[token], token)
                for token in candidates
                if math.isfinite(activations[token]) and sign * activations[token] > 0
            )
            for rank, (_, (row, at, n), token) in enumerate(ranking[:k], 1):
                before, after = min(window, at), min(window, len(prompts.ids[n]) - 1 - at)
                around = slice(token - before, token + after + 1)
                whole = shown[token - at : token - at + len(prompts.ids[n])]
                rows.append(
                    (
                        *(*label, polarity, rank, activations[token], row, at, ids[token], texts[token]),
                        *(count[prefixes[token]] if distinct else 1, before, texts[around], shown[around]),
                        minimap(whole, scale) if minimaps else [],
                    )
                )
    return rows


def table_rows(table: pa.Table) -> list[tuple[Any, ...]]:
    """Return a table's rows."""
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def turned(values: Values, maps: Sequence[np.ndarray]) -> Values:
    """Apply each module's map (directions, its features) to its rows, term by term in Python's floats."""
    rows: list[np.ndarray] = []
    there: list[np.ndarray] = []
    start = 0
    for matrix in maps:
        own = slice(start, start + matrix.shape[1])
        columns = values.activations[own].T.tolist()
        for weights in matrix.tolist():
            sums = [_sum_of_products(weights, column) for column in columns]
            with np.errstate(over="ignore"):
                rows.append(np.array(sums, np.float64).astype(np.float32))
            there.append(values.there[start])
        start += matrix.shape[1]
    return Values(np.array(rows, np.float32), np.array(there, bool))


def _sum_of_products(weights: Sequence[float], column: Sequence[float]) -> float:
    total = 0.0
    for weight, value in zip(weights, column, strict=True):
        total += weight * value
    return total
