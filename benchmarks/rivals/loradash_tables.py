"""loradash: its recording to disk and the tables of every layer, with statistics, contexts and samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.rivals.contract import NO_TOKEN, Job, Record, Top, run
from benchmarks.rivals.loradash_top_k import PROMPTS_FILE, RECORDING, Recorder
from loradash_assets.compute.layers import PLAIN, layer_features, write_layer_tables
from loradash_assets.compute.prompt_tokens import PromptTokens
from loradash_assets.compute.tables import TableOptions
from loradash_assets.schema import POLARITIES

TABLES = "tables"


def load(job: Job) -> Record:
    """Read the adapter's catalogue and load the base model."""
    recorder = Recorder(job)

    def record(token_ids: Sequence[np.ndarray], directory: Path) -> Top:
        norms = recorder.record(token_ids, directory)
        tokens = PromptTokens.read(directory / PROMPTS_FILE)
        for layer in recorder.layers:
            target = directory / TABLES / str(layer)
            target.mkdir(parents=True)
            write_layer_tables(
                layer,
                recorder.catalogue,
                directory / RECORDING,
                tokens,
                target,
                TableOptions(top_k=job.k),
                norms,
                (),
            )
        return _top(recorder, directory, np.cumsum([0, *map(len, token_ids)]), job.k)

    return record


def _top(recorder: Recorder, directory: Path, offsets: np.ndarray, k: int) -> Top:
    """Read the plain lists back from the tables."""
    names: list[str] = []
    rows: list[dict[str, Any]] = []
    for layer in recorder.layers:
        features = layer_features(recorder.catalogue, layer, {}).to_pylist()
        known = {(row["projection"], row["component"]): f"{row['module']}.{row['component']}" for row in features}
        names += known.values()
        table = pq.read_table(directory / TABLES / str(layer) / PLAIN).drop_columns(["context", "context_activations"])
        rows += [{**row, "name": known[row["projection"], row["component"]]} for row in table.to_pylist()]
    values = np.zeros((len(names), 2, k), np.float32)
    tokens = np.full(values.shape, NO_TOKEN, np.int64)
    places = {name: place for place, name in enumerate(names)}
    for row in rows:
        place = places[row["name"]], POLARITIES.index(row["polarity"]), row["rank"] - 1
        values[place], tokens[place] = row["activation"], offsets[row["example"]] + row["position"]
    return Top(names, values, tokens)


if __name__ == "__main__":
    run(load)
