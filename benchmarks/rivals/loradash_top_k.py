"""loradash: its recording to disk, as `loradash build` makes it, and its top-k of what was recorded; nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from weakref import finalize

import numpy as np

from benchmarks.rivals.contract import Job, Record, Top, run
from loradash_assets.compute.activations import adapted_model, load_base, record_activations
from loradash_assets.compute.catalogue import read_modules, write_catalogue
from loradash_assets.compute.encode import Example, PromptsFile
from loradash_assets.compute.job import Recording
from loradash_assets.compute.layers import layer_features, recorded_layer
from loradash_assets.compute.model import load_tokenizer
from loradash_assets.compute.topk import TopK
from loradash_assets.settings import RecordingSettings

RECORDING = "recording"
PROMPTS_FILE = "prompts.parquet"


class Recorder:
    """Records token ids the way the asset does, once: the base model is loaded here, and `record` has the adapter."""

    def __init__(self, job: Job) -> None:
        self.catalogue = Path(mkdtemp())
        finalize(self, rmtree, self.catalogue)
        write_catalogue(job.adapter, job.model, self.catalogue, allow_pickle=False, trust_remote_code=False, rank=None)
        self.layers = sorted({module.layer for module in read_modules(self.catalogue)})
        self._tokenizer = load_tokenizer(job.model, trust_remote_code=False)
        self._recording = Recording(
            prompts=Path(PROMPTS_FILE),
            catalogue=self.catalogue,
            model=job.model,
            adapter=job.adapter,
            dtype="float32",
            device="cpu",
            device_map=None,
            trust_remote_code=False,
            **RecordingSettings().model_dump(),
        )
        self._base = load_base(self._recording)

    def record(self, token_ids: Sequence[np.ndarray], directory: Path) -> dict[str, list[float]]:
        """Record into `directory`; return the write norms that only the loaded model can tell."""
        self._write_prompts(token_ids, directory / PROMPTS_FILE)
        recording = replace(self._recording, prompts=directory / PROMPTS_FILE)
        (directory / RECORDING).mkdir()
        adapt = partial(adapted_model, base=self._base)
        return record_activations(recording, directory / RECORDING, lambda _: None, adapt)["write_norms"]

    def _write_prompts(self, token_ids: Sequence[np.ndarray], file: Path) -> None:
        with PromptsFile(file) as prompts:
            for row, ids in enumerate(token_ids):
                tokens = self._tokenizer.convert_ids_to_tokens(ids.tolist())
                prompts.add(row, Example("".join(tokens), ids.tolist(), tokens))


def load(job: Job) -> Record:
    """Read the adapter's catalogue and load the base model."""
    recorder = Recorder(job)

    def record(token_ids: Sequence[np.ndarray], directory: Path) -> Top:
        recorder.record(token_ids, directory)
        names: list[str] = []
        values: list[np.ndarray] = []
        tokens: list[np.ndarray] = []
        for layer in recorder.layers:
            features = layer_features(recorder.catalogue, layer, {})
            best = TopK(features.num_rows, job.k)
            for chunk in recorded_layer(directory / RECORDING, layer, features).chunks():
                for numbers, activations in chunk:
                    best.update(activations, numbers)
            found = best.result()
            names += [f"{row['module']}.{row['component']}" for row in features.to_pylist()]
            values.append(np.stack([found.positive.values, found.negative.values], axis=1))
            tokens.append(np.stack([found.positive.numbers, found.negative.numbers], axis=1))
        return Top(names, np.concatenate(values), np.concatenate(tokens))

    return record


if __name__ == "__main__":
    run(load)
