"""What shared prefixes save: recording them once, to disk, beside the bare backbone's forward pass over all tokens.

    python -m benchmarks.prefixes [--pairs 7]

Both run in turns in this process, which keeps freed memory as recording does, on the demo's model and adapter in
float32. `of_distinct_tokens` is the ratio divided by the share of tokens with a prefix that none before them has: 1
would mean that such a token costs what a token costs the bare model, and that the others cost nothing. Before anything
is timed, what is recorded of some examples is held to exactness (b) of docs/semantics.md against PEFT's forward pass of
each example alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.demo import Demo
from benchmarks.recording import CASES, Bench
from benchmarks.timing import PAIRS, in_turns, write_result
from loradash_assets.compute.allocator import freed_memory_kept

CASE = CASES["float32, folded"]
VOCABULARY = 40_000
TARGETS = {"128 shared, 128 own": {"ratio": 0.62}, "demo, chat format": {"of_distinct_tokens": 1.10}}

Examples = list[np.ndarray]


def _words(random: np.random.Generator, *lengths: int) -> Examples:
    return [random.integers(100, VOCABULARY, length) for length in lengths]


def one_prefix() -> Examples:
    """16 examples that begin with the same 128 tokens and go on with 128 of their own."""
    random = np.random.default_rng(0)
    (shared,) = _words(random, 128)
    return [np.concatenate([shared, own]) for own in _words(random, *[128] * 16)]


def nested_prefixes() -> Examples:
    """A system prompt of all, one of three few-shot blocks, a question, and two answers to it, in several turns."""
    random = np.random.default_rng(0)
    (system,) = _words(random, 90)
    examples: Examples = []
    for block in _words(random, 150, 220, 180):
        for question in _words(random, 60, 45, 80):
            for answer in _words(random, 70, 110):
                turns = np.concatenate([system, block, question, answer])
                examples += [turns, np.concatenate([turns, *_words(random, 40, 60)])]
    return examples


def distinct_tokens(examples: Sequence[np.ndarray]) -> int:
    """How many different prefixes there are."""
    return len({tuple(ids[:stop].tolist()) for ids in examples for stop in range(1, len(ids) + 1)})


def measure(demo: Demo, examples: Examples, pairs: int) -> dict[str, Any]:
    """Return one dataset's figures."""
    with TemporaryDirectory() as directory, freed_memory_kept():
        bench = Bench(CASE, demo, examples, Path(directory), share=True)
        checked = bench.check()
        figures = in_turns(bench.record, bench.bare, pairs).figures()
        tokens, distinct = sum(map(len, examples)), distinct_tokens(examples)
        return {
            "examples": len(examples),
            "tokens": tokens,
            "distinct_tokens": distinct,
            "tokens_that_run": bench.plan.tokens,
            "padding": round(bench.plan.padding, 4),
            **figures,
            "of_distinct_tokens": round(figures["ratio"] * tokens / distinct, 4),
            **checked,
        }


def main() -> None:
    """Measure, print and write `benchmarks/results/prefixes.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    options = parser.parse_args()
    demo = Demo.prepare()
    datasets = {
        "128 shared, 128 own": one_prefix(),
        "demo, chat format": demo.token_ids(40, "chat"),
        "nested": nested_prefixes(),
    }
    measured: dict[str, Any] = {}
    for name, examples in datasets.items():
        measured[name] = measure(demo, examples, options.pairs)
        print(name, measured[name], flush=True)
    what = "recording with prefixes run once / the bare backbone's forward over all tokens"
    print(write_result("prefixes", {"what": what, "targets": TARGETS, "measured": measured}))


if __name__ == "__main__":
    main()
