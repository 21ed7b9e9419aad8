"""Which examples run together: a plan that depends on their lengths and the settings, and on nothing else."""

from __future__ import annotations

from collections.abc import Sequence

Batch = tuple[int, ...]


def plan_batches(lengths: Sequence[int], budget: int) -> list[Batch]:
    """Group examples, shortest first, so that rows x longest stays within `budget` tokens.

    An example longer than the budget runs alone. With `budget` 0 every example does.
    """
    order = sorted(range(len(lengths)), key=lambda example: (lengths[example], example))
    batches: list[Batch] = []
    current: list[int] = []
    for example in order:
        if current and lengths[example] * (len(current) + 1) > budget:
            batches.append(tuple(current))
            current = []
        current.append(example)
    return [*batches, tuple(current)] if current else batches


def plan_chunks(batches: Sequence[Batch], lengths: Sequence[int], chunk_tokens: int) -> list[tuple[Batch, ...]]:
    """Group consecutive batches into chunks of at most `chunk_tokens` tokens, padding not counted.

    A batch is never split: one with more tokens than that is a chunk of its own.
    """
    chunks: list[tuple[Batch, ...]] = []
    current: list[Batch] = []
    tokens = 0
    for batch in batches:
        size = sum(lengths[example] for example in batch)
        if current and tokens + size > chunk_tokens:
            chunks.append(tuple(current))
            current, tokens = [], 0
        current.append(batch)
        tokens += size
    return [*chunks, tuple(current)] if current else chunks
