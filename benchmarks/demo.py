"""The demo's model, adapter and tokens, made ready below a cache directory for the benchmarks that need no build."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from loradash_assets.compute.base_model import CONVERTED, prepare_base_model
from loradash_assets.compute.encode import PROMPTS_FILE, encode_rows
from loradash_assets.compute.model import load_tokenizer
from loradash_assets.compute.prompts import PromptFormat, prompt_builder
from loradash_assets.compute.rows import local_rows, write_rows
from loradash_assets.compute.token_ids import TokenIds
from loradash_assets.settings import Settings, load_settings
from loradash_assets.sources import LocalSource, adapter_directory, adapters, base_model_source, dataset_source

ROOT = Path(__file__).parent.parent
CACHE = Path.home() / ".cache" / "loradash-benchmarks"


@dataclass(frozen=True)
class Demo:
    """The demo's settings, and where its base model and adapter are."""

    settings: Settings
    model: Path
    adapter: Path

    @staticmethod
    def prepare(cache: Path = CACHE) -> Demo:
        """Convert the base model, once."""
        settings = load_settings(ROOT)
        return Demo(settings, _model(settings, cache), adapter_directory(settings, adapters(settings)[0]))

    def token_ids(self, examples: int, prompt_format: PromptFormat | None = None) -> list[np.ndarray]:
        """Return the token ids of the dataset's first rows, (seq,) int64 each, in the demo's format or another."""
        source, dataset = dataset_source(self.settings), self.settings.dataset
        assert isinstance(source, LocalSource)  # the demo's is a file in examples/
        tokenizer = load_tokenizer(self.model, trust_remote_code=False)
        with TemporaryDirectory() as name:
            rows = Path(name) / "rows.parquet"
            write_rows(local_rows(source.path, dataset.split), examples, rows)
            builder = prompt_builder(
                prompt_format or dataset.prompt_format,
                text_column=dataset.text_column,
                messages_column=dataset.messages_column,
                template=dataset.template,
                tokenizer=tokenizer,
            )
            encode_rows(rows, Path(name), builder, tokenizer, dataset.max_tokens)
            return [ids.astype(np.int64) for ids in TokenIds.read(Path(name) / PROMPTS_FILE).by_example()]


def _model(settings: Settings, cache: Path) -> Path:
    source = base_model_source(settings)
    assert isinstance(source, LocalSource)  # the demo's is a file in a package
    models = cache / "models"
    target = models / source.fingerprint[:16]
    if not target.exists():
        models.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=models) as directory:
            prepare_base_model(source.path, Path(directory), trust_remote_code=False)
            (Path(directory) / CONVERTED).rename(target)
    return target
