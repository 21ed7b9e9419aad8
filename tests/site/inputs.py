"""Stages' results on disk, small and real, as what people open is made from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from loradash_assets.schema import COACTIVATION, COSINES, INTERPRETATIONS, NEIGHBOURS, PROMPTS
from loradash_assets.site.from_tables import LayerTables
from loradash_assets.site.inputs import AdapterInputs, Run, SiteInputs

RUN = Run(
    base_model="base",
    adapter="adapter",
    dataset="rows.jsonl",
    prompt_format="text",
    num_layers=3,
    rows=9,
    examples=8,
    tokens=100,
    skipped=1,
    truncated=0,
    top_k=4,
    context_window=3,
    basis="raw",
    distinct_contexts=False,
    contexts_can_be_shared=True,
    max_per_example=None,
    first_positions=0,
    left_out={},
    unrecorded={},
    variants=["lora"],
    dropped=0,
    non_finite=0,
    recorded_at="2026-01-20T10:30:00Z",
)


def save_adapter_inputs(directory: Path, layers: Sequence[LayerTables], name: str | None = None) -> AdapterInputs:
    """Write what an adapter's stages leave; its plain list is the one that is shown."""
    directories = {tables.layer: directory / f"layer_{tables.layer:02d}" for tables in layers}
    for tables in layers:
        target = directories[tables.layer]
        target.mkdir(parents=True)
        for file, table in (
            ("shown", tables.top_tokens),
            ("plain", tables.top_tokens),
            ("samples", tables.samples),
            ("statistics", tables.statistics),
        ):
            pq.write_table(table, target / f"{file}.parquet")
    features = [tables.features for tables in layers if tables.features is not None]
    pq.write_table(pa.concat_tables(features), directory / "features.parquet")
    cosines = [tables.cosines for tables in layers]
    pq.write_table(pa.concat_tables([COSINES.empty_table(), *cosines]), directory / "cosines.parquet")
    pq.write_table(neighbours(layers), directory / "neighbours.parquet")
    pq.write_table(coactivation(layers), directory / "coactivation.parquet")
    return AdapterInputs(name, name or "adapter", RUN, directories, directory, directory, directory)


def neighbours(layers: Sequence[LayerTables]) -> pa.Table:
    """Return seeded cosines of each feature with up to ten others in both bases, falling, with a 0 at the end."""
    random = np.random.default_rng(1)
    return pa.Table.from_pylist(
        [
            label | {"basis": basis, "kind": kind} | _likenesses(random, number, len(_labels(layers)), 10, "cosines")
            for basis in ("raw", "svd")
            for kind in ("read", "write")
            for number, label in enumerate(_labels(layers))
        ],
        NEIGHBOURS,
    )


def coactivation(layers: Sequence[LayerTables]) -> pa.Table:
    """Return seeded correlations of each feature with all others, strongest first."""
    random = np.random.default_rng(2)
    labels = _labels(layers)
    return pa.Table.from_pylist(
        [
            label | {"basis": "raw"} | _likenesses(random, number, len(labels), len(labels) - 1, "correlations")
            for number, label in enumerate(labels)
        ],
        COACTIVATION,
    )


def _labels(layers: Sequence[LayerTables]) -> list[dict[str, object]]:
    names = ("layer", "projection", "component")
    return [{name: row[name] for name in names} for tables in layers for row in tables.statistics.to_pylist()]


def _likenesses(random: np.random.Generator, number: int, features: int, most: int, name: str) -> dict[str, object]:
    others = random.permutation([other for other in range(features) if other != number])[:most]
    values = random.uniform(-1, 1, len(others))
    values[-1:] = 0
    return {"partners": others, name: sorted(values, key=abs, reverse=True)}


def save_site_inputs(
    directory: Path, adapters: Sequence[AdapterInputs], tokens: Sequence[Sequence[str]], group: int = 2
) -> SiteInputs:
    """Write the prompts of `tokens` (example, position), `group` to a row group, and no notes."""
    rows = [
        {
            "example": example,
            "text": "".join(texts),
            "token_ids": [1000 * example + position for position in range(len(texts))],
            "tokens": list(texts),
            "prefixes": list(range(len(texts))),
        }
        for example, texts in enumerate(tokens)
    ]
    pq.write_table(pa.Table.from_pylist(rows, PROMPTS), directory / "prompts.parquet", row_group_size=group)
    pq.write_table(INTERPRETATIONS.empty_table(), directory / "interpretations.parquet")
    return SiteInputs("title", adapters, prompts=directory, interpretations=directory, largest_file=2**24)
