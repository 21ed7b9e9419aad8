"""Recorded activations to tables: how many a second, on one core, through the same code as a build.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m benchmarks.tables [--tokens 1000000] [--pairs 7]

448 features, 64 layers with 7 each, read layer by layer as a build reads them: float32, heavy-tailed (a standard normal
times a log-normal), with ties. Measured in turns against one reading of the same memory, its highest value: top and
bottom 16 alone, two pages' worth of `torch.topk` and of numpy's `argpartition` over everything, all statistics, the
samples, and the correlations of all 448 features in one block. The file says activations per second.

Before anything is timed, the lists are compared with a full sort, the statistics with numpy's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from benchmarks.timing import PAIRS, Pairs, in_turns, write_result
from loradash_assets.compute.correlations import Centres, Products, token_slices
from loradash_assets.compute.listing import Listed, PromptTokens
from loradash_assets.compute.samples import Samples, SampleSizes
from loradash_assets.compute.summary import Summary
from loradash_assets.compute.topk import TopK
from loradash_assets.compute.views import View
from loradash_assets.schema import PROMPTS

LAYERS, FEATURES, K = 64, 7, 16
EXAMPLE = 500  # tokens of a prompt
VOCABULARY = 20_000
BINS = 50
SIZES = SampleSizes(10, 2, 8)
TARGETS = {"top-k lists": 500e6, "all statistics": 30e6}

Layer = NDArray[np.float32]  # (features, tokens)


def main() -> None:
    """Measure, print and write `benchmarks/results/tables.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures = measure(options.tokens, options.pairs)
    for name, found in figures["measured"].items():
        print(f"{name}: {found['activations_per_second'] / 1e6:,.0f} M/s, {found['ratio']} of one reading")
    write_result("tables", figures)


def measure(tokens: int, pairs: int) -> dict[str, Any]:
    """Return the figures for so many tokens, of which the slower parts take as many as their speed affords."""
    layers = activations(tokens)
    numbers = np.arange(tokens, dtype=np.int64)
    few = [layer[:, : tokens // 8] for layer in layers]
    prompts = prompt_tokens(few[0].shape[1])
    check_lists(layers[0], numbers)
    check_statistics(few[0], prompts)
    together = np.concatenate(few)
    runs: dict[str, tuple[list[Layer], Callable[[], object]]] = {
        "top-k lists": (layers, lambda: [top_k(layer, numbers) for layer in layers]),
        "torch.topk": (few, lambda: [torch_topk(layer) for layer in few]),
        "numpy argpartition": (few, lambda: [argpartition(layer) for layer in few]),
        "all statistics": (few, lambda: [statistics(layer, prompts) for layer in few]),
        "samples": (few, lambda: [samples(layer, prompts) for layer in few]),
        "correlations": (few, lambda: correlations(together)),
    }
    return {
        "what": "activations per second on one core; the ratio is to one reading of the same memory (its maximum)",
        "targets": TARGETS,
        "features": LAYERS * FEATURES,
        "layers": LAYERS,
        "k": K,
        "measured": {name: _figures(read, in_turns(run, _reading(read), pairs)) for name, (read, run) in runs.items()},
    }


def _reading(layers: list[Layer]) -> Callable[[], object]:
    return lambda: [layer.max() for layer in layers]


def _figures(layers: list[Layer], pairs: Pairs) -> dict[str, Any]:
    figures, size = pairs.figures(), sum(layer.size for layer in layers)
    return {
        "tokens": layers[0].shape[1],
        "activations_per_second": round(size / figures["median_seconds"]),
        "activations_per_second_reading": round(size / figures["median_seconds_baseline"]),
        **figures,
    }


def activations(tokens: int) -> list[Layer]:
    """Heavy-tailed activations of every layer, a tenth of them rounded, so that they tie."""
    random = np.random.default_rng(0)
    layers: list[Layer] = []
    for _ in range(LAYERS):
        layer = random.standard_normal((FEATURES, tokens), np.float32)
        layer *= np.exp(random.standard_normal((FEATURES, 1 << 12), np.float32)).take(
            random.integers(0, 1 << 12, tokens), axis=1
        )
        layer[:, ::10] = np.rint(layer[:, ::10])
        layers.append(layer)
    return layers


def prompt_tokens(tokens: int) -> PromptTokens:
    """Prompts of as many tokens, of equal lengths, no two alike."""
    ids = np.random.default_rng(1).zipf(1.3, tokens) % VOCABULARY
    prompts = tokens // EXAMPLE + 1
    parts = np.array_split(ids, prompts)
    columns = {
        "example": list(range(prompts)),
        "text": ["" for _ in parts],
        "token_ids": [part.tolist() for part in parts],
        "tokens": [list(map(str, part.tolist())) for part in parts],
        "prefixes": [part.tolist() for part in np.array_split(np.arange(tokens), prompts)],
    }
    return PromptTokens.of([pa.table(columns, schema=PROMPTS)])


def top_k(layer: Layer, numbers: NDArray[np.int64]) -> TopK:
    """The lists of one layer."""
    found = TopK(FEATURES, K)
    for first in range(0, numbers.size, 1 << 16):  # a recording's chunks
        part = slice(first, first + (1 << 16))
        found.update(layer[:, part], numbers[part])
    return found


def torch_topk(layer: Layer) -> None:
    """Both polarities by torch."""
    tensor = torch.from_numpy(layer)
    tensor.topk(K, dim=1)
    tensor.topk(K, dim=1, largest=False)


def argpartition(layer: Layer) -> None:
    """Both polarities by numpy, not yet in order."""
    np.argpartition(layer, (K, layer.shape[1] - K), axis=1)


def _view() -> View:
    ones = np.ones(FEATURES, np.int64)
    labels = dict.fromkeys(("layer", "component", "effect_scale"), ones)
    labels |= {"projection": np.array([f"p{place}" for place in range(FEATURES)]), "tied": ones > 1}
    return View("raw", labels)


def _passes(consumer: Any, layer: Layer) -> pa.Table:
    numbers = np.arange(layer.shape[1], dtype=np.int64)
    more = True
    while more:
        for first in range(0, numbers.size, 1 << 16):
            part = slice(first, first + (1 << 16))
            consumer.update(numbers[part], layer[:, part])
        more = consumer.next_pass()
    return consumer.table()


def statistics(layer: Layer, prompts: PromptTokens) -> pa.Table:
    """Every statistic of one layer."""
    return _passes(Summary(_view(), BINS, prompts.groups), layer)


def samples(layer: Layer, prompts: PromptTokens) -> pa.Table:
    """The samples of one layer."""
    return _passes(Samples(_view(), Listed(prompts, distinct=True), SIZES, seed=0, window=10), layer)


def correlations(activations: Layer) -> NDArray[np.float64]:
    """The covariances of all features."""
    centres, products = Centres(activations.shape[0]), Products(activations.shape[0], activations.shape[0])
    more = True
    while more:
        centres.update(activations)
        more = centres.next_pass()
    for columns in token_slices(activations.shape[1]):
        q = centres.integers(activations[:, columns])
        products.update(q, q)
    return products.covariances()


def check_lists(layer: Layer, numbers: NDArray[np.int64]) -> None:
    """Raise AssertionError unless the lists are those of a full sort, in every position."""
    found = top_k(layer, numbers).result()
    for ranking, sign in ((found.positive, 1), (found.negative, -1)):
        order = np.argsort(-sign * layer, axis=1, kind="stable")[:, :K]
        assert np.array_equal(ranking.numbers, order)
        assert np.array_equal(ranking.values, np.take_along_axis(layer, order, axis=1))


def check_statistics(layer: Layer, prompts: PromptTokens) -> None:
    """Raise AssertionError unless mean, deviation, histogram and median are numpy's."""
    table, exact = statistics(layer, prompts), layer.astype(np.float64)
    np.testing.assert_allclose(table["mean"], exact.mean(axis=1), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(table["std"], exact.std(axis=1), rtol=1e-9)
    counts = [np.histogram(row, BINS)[0].tolist() for row in exact]
    assert table["total_counts"].to_pylist() == counts


if __name__ == "__main__":
    main()
