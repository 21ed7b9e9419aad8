"""The ranking with at most m tokens of an example, against a walk down the full one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from loradash_assets.compute.per_example import PerExampleTopK
from loradash_assets.compute.tokens import TokenIndex

Floats = NDArray[np.float32]


def _walk(values: Floats, examples: NDArray[np.int64], sign: int, k: int, limit: int) -> list[tuple[float, int]]:
    """(activation, token number) of one feature, from the full ranking down."""
    taken: dict[int, int] = {}
    rows: list[tuple[float, int]] = []
    usable = [n for n in range(values.size) if np.isfinite(values[n]) and sign * values[n] > 0]
    for number in sorted(usable, key=lambda n: (-sign * float(values[n]), n)):
        example = int(examples[number])
        if taken.get(example, 0) < limit and len(rows) < k:
            taken[example] = taken.get(example, 0) + 1
            rows.append((float(values[number]), number))
    return rows


def _check(values: Floats, lengths: list[int], chunking: list[NDArray[np.int64]], k: int, limit: int) -> None:
    index = TokenIndex.of_lengths(range(len(lengths)), lengths)
    topk = PerExampleTopK(values.shape[0], k, limit, index)
    for examples in chunking:
        spans = [index.offsets[example : example + 2].tolist() for example in examples.tolist()]
        numbers = [np.arange(start, stop) for start, stop in spans]
        chunk = np.concatenate([*numbers, np.empty(0, np.int64)])
        topk.update(values[:, chunk], chunk)
    result = topk.result()
    examples = np.repeat(np.arange(len(lengths)), lengths)
    for ranking, sign in ((result.positive, 1), (result.negative, -1)):
        for feature in range(values.shape[0]):
            expected = _walk(values[feature], examples, sign, k, limit)
            got = zip(ranking.values[feature].tolist(), ranking.numbers[feature].tolist(), strict=True)
            assert list(got) == expected + [(0.0, -1)] * (k - len(expected))


@pytest.mark.parametrize("limit", [1, 2, 5, 40])
@pytest.mark.parametrize("digits", [0, 1, 6])
def test_long_and_short_examples_in_any_chunks(limit: int, digits: int) -> None:
    generator = np.random.default_rng(limit)
    lengths = [0, 700, 1, 2, *generator.integers(0, 90, 60).tolist(), 300]
    values = np.round(generator.standard_normal((3, sum(lengths))), digits).astype(np.float32)
    values[1] += 2  # few negative ones
    values[2, generator.integers(0, values.shape[1], 200)] = np.nan
    values[0, generator.integers(0, values.shape[1], 50)] = np.inf
    values[0, 3:9] = -np.inf
    for cuts in ([], [5], [1, 2, 30, 50]):
        _check(values, lengths, np.split(generator.permutation(len(lengths)), cuts), 16, limit)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 999),
    st.lists(st.integers(0, 6), max_size=9),
    st.integers(1, 12),
    st.integers(1, 4),
    st.sampled_from([1, 3, 100]),
)
def test_small_examples_with_ties(seed: int, lengths: list[int], k: int, limit: int, steps: int) -> None:
    generator = np.random.default_rng(seed)
    values = (generator.integers(-steps, steps + 1, (2, sum(lengths))) / steps).astype(np.float32)
    order = generator.permutation(len(lengths))
    _check(values, lengths, np.split(order, np.sort(generator.integers(0, len(lengths) + 1, 2))), k, limit)
