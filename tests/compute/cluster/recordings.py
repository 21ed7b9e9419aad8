"""A recording of many chunks that takes a second or two, and what it is compared by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from transformers import LlamaConfig

from loradash_assets.compute.encode import Example, PromptsFile
from loradash_assets.compute.job import Recording
from tests.projects import save_adapter, save_base
from tests.recordings import recording_of

VOCABULARY = 400
EXAMPLES = 60
SHARED = 90  # tokens that every third example begins with


def make(directory: Path) -> Recording:
    """Save a model of a few layers, a DoRA, and prompts, some of which begin alike."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
    )
    save_base(directory / "base", config)
    save_adapter(directory / "adapter", directory / "base", r=2, use_dora=True, strength=0.1)
    recording = recording_of(directory, directory / "base", directory / "adapter")
    random = np.random.default_rng(0)
    shared = random.integers(3, VOCABULARY, SHARED).tolist()
    with_prompts(
        recording.prompts,
        [
            (shared if number % 3 == 0 else []) + random.integers(3, VOCABULARY, random.integers(60, 160)).tolist()
            for number in range(EXAMPLES)
        ],
    )
    return replace(recording, chunk_tokens=400)


def with_prompts(file: Path, examples: list[list[int]]) -> None:
    """Write examples of token ids as prompts."""
    with PromptsFile(file) as written:
        for row, ids in enumerate(examples):
            texts = [f" {token}" for token in ids]
            written.add(row, Example("".join(texts), ids, texts))


def files(directory: Path) -> dict[str, bytes]:
    """Return the content of every file of a recording."""
    return {file.name: file.read_bytes() for file in directory.iterdir()}
