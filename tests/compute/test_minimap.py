"""Minimaps against fractions and plain loops, however the tokens of the examples are spread over chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from loradash_assets.compute import minimap as module
from loradash_assets.compute.minimap import BINS, Minimaps
from loradash_assets.compute.tokens import TokenIndex
from tests.end_to_end.plain import minimap

LENGTHS = st.lists(st.sampled_from([0, 1, 2, 63, 64, 65, 100, 127, 128, 129, 300]), min_size=1, max_size=6)
Floats = NDArray[np.float32]


def _values(generator: np.random.Generator, features: int, tokens: int, kind: str) -> Floats:
    values = generator.standard_normal((features, tokens)).astype(np.float32)
    if kind == "ties":
        values = np.round(2 * values) / np.float32(2)
    if kind == "special":
        values[generator.random(values.shape) < 0.1] = np.nan
        values[generator.random(values.shape) < 0.1] = np.inf
        values[generator.random(values.shape) < 0.1] = -np.inf
        values[generator.random(values.shape) < 0.1] = np.finfo(np.float32).max
        values[generator.random(values.shape) < 0.1] = np.float32(-1e-45)
    return values


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 9999),
    LENGTHS,
    st.sampled_from(["normal", "ties", "special"]),
    st.sampled_from([0.5, 1.0]),
    st.sampled_from(["whole examples", "scattered"]),
    st.sampled_from([1, 150, 1 << 20]),
)
def test_every_bin_has_the_activation_farthest_from_zero(
    seed: int, lengths: list[int], kind: str, share_seen: float, spread: str, at_once: int
) -> None:
    """Scales are such that some activations are beyond them, as those of tokens that lists leave out may be."""
    generator = np.random.default_rng(seed)
    index = TokenIndex.of_lengths(3 * np.arange(len(lengths)), lengths)
    values = _values(generator, 3, index.tokens, kind)
    seen = generator.random(index.tokens) < share_seen
    entries = generator.integers(0, 12 if index.tokens else 1)
    features, numbers = generator.integers(0, 3, entries), generator.integers(0, max(1, index.tokens), entries)
    scales = np.array([0.0, generator.uniform(0.5, 2), generator.choice([0.5, 2, 3e38])])
    minimaps = Minimaps(index, features, numbers, scales)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_ACTIVATIONS", at_once)
        for chunk in _chunks(generator, index, spread):
            given_tokens = chunk[seen[chunk]]
            order = np.argsort(given_tokens)
            minimaps.update(given_tokens[order], order, values[:, given_tokens])
    shown = np.where(seen, values, np.float32(0))
    expected: list[list[int]] = []
    for feature, number in zip(features, numbers, strict=True):
        prompt = next(p for p in range(len(lengths)) if number < index.offsets[p + 1])
        whole = shown[feature, index.offsets[prompt] : index.offsets[prompt + 1]]
        expected.append(minimap(whole.tolist(), float(scales[feature])))
    assert minimaps.column().to_pylist() == expected


def _chunks(generator: np.random.Generator, index: TokenIndex, spread: str) -> list[Any]:
    """Every token number once, in three chunks."""
    if spread == "scattered":
        return np.array_split(generator.permutation(index.tokens), 3)
    examples = [np.arange(*index.offsets[prompt : prompt + 2]) for prompt in range(index.examples.size)]
    parts = np.array_split(generator.permutation(len(examples)), 3)
    return [np.concatenate([np.empty(0, np.int64), *(examples[prompt] for prompt in part)]) for part in parts]


def test_bins_are_as_equal_as_can_be_and_rounding_is_away_from_zero() -> None:
    index = TokenIndex.of_lengths([0], [2 * BINS + 1])
    values = np.zeros((1, index.tokens), np.float32)
    values[0, [0, 2, 4, -3, -2, -1]] = [254, 127, -1, 3, -3, -500]
    minimaps = Minimaps(index, np.array([0]), np.array([7]), np.array([254.0]))
    minimaps.update(np.arange(index.tokens), np.arange(index.tokens), values)
    assert minimaps.column().to_pylist() == [[127, 64, -1, *[0] * (BINS - 4), -127]]


def test_of_two_as_far_from_zero_it_is_the_positive_one() -> None:
    index = TokenIndex.of_lengths([0], [BINS * 2])
    values = np.zeros((1, index.tokens), np.float32)
    values[0, :4] = [-1, 1, 1, -1]
    minimaps = Minimaps(index, np.array([0]), np.array([0]), np.array([1.0]))
    minimaps.update(np.arange(index.tokens), np.arange(index.tokens), values)
    assert minimaps.column().to_pylist()[0][:3] == [127, 127, 0]
