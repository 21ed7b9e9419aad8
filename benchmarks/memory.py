"""How much memory each stage takes, from dataset rows to tables, and how long: on as many tokens as you like, no model.

`python -m benchmarks.memory --tokens 10000000` runs the real code, stage by stage, each in a process of its own, on a
synthetic dataset of examples of 500 to 8,000 tokens; in place of the model stands a function that makes heavy-tailed
numbers. Peaks are the kernel's (VmHWM, so Linux only), with everything in them: what importing the libraries alone
takes stands beside. The store needs tokens x features x 4 bytes of disk, and is deleted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import write_result

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from loradash_assets.compute.features import AdaptedModule
    from loradash_assets.compute.recording import Forward

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
VOCABULARY = 50_000
LENGTHS = (500, 8_000)  # tokens of an example
SHARED = 20  # tokens that all examples begin with
POOL = 1 << 24  # activations that the model's stand-in draws from: 64 MiB
MIB = 1 << 20


@dataclass(frozen=True)
class Size:
    """What is measured: `tokens` at least, and rank x layers x 7 projections features."""

    tokens: int
    layers: int = 64
    rank: int = 1

    @property
    def features(self) -> int:
        """How many features are recorded."""
        return self.layers * len(PROJECTIONS) * self.rank


@dataclass(frozen=True)
class Stage:
    """One stage's seconds and peak memory, in a process of its own, and the bytes of the files it left."""

    seconds: float
    peak: int
    written: int


def measure(size: Size, directory: Path, stages: Sequence[str]) -> dict[str, Stage]:
    """Run stages one after another in `directory`, each in its own process."""
    return {stage: _in_a_process(stage, size, directory) for stage in stages}


def _in_a_process(stage: str, size: Size, directory: Path) -> Stage:
    before = _bytes(directory)
    command = [sys.executable, "-m", "benchmarks.memory", "--stage", stage, "--directory", str(directory)]
    command += [part for name, value in asdict(size).items() for part in (f"--{name}", str(value))]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return Stage(seconds, peak, _bytes(directory) - before)


def _bytes(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


def _peak() -> int:
    """The most bytes of memory that this process ever had."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def _dataset(size: Size, directory: Path) -> None:
    """No stage of loradash: the file that it begins with."""
    with (directory / "dataset.jsonl").open("w") as file:
        for ids in synthetic_examples(size.tokens):
            file.write(json.dumps({"text": " ".join(f"w{token}" for token in ids)}) + "\n")


def synthetic_examples(tokens: int) -> Iterator[list[int]]:
    """Yield examples with words as frequent as in language: the n-th in proportion to 1 / (n + 50), roughly."""
    generator = np.random.default_rng(0)
    shared, made = list(range(SHARED)), 0
    while made < tokens:
        length = int(generator.integers(*LENGTHS))
        drawn = np.minimum(50 * generator.pareto(1, length - SHARED), VOCABULARY - 1)
        yield shared + drawn.astype(int).tolist()
        made += length


def _rows(_: Size, directory: Path) -> None:
    from loradash_assets.compute.rows import local_rows, write_rows

    write_rows(local_rows(directory / "dataset.jsonl", "train"), sys.maxsize, directory / "rows.parquet")


def _prompts(_: Size, directory: Path) -> None:
    from loradash_assets.compute.encode import encode_rows
    from loradash_assets.compute.prompts import prompt_builder

    encode_rows(directory / "rows.parquet", directory, prompt_builder("text"), _tokenizer(), None)


def _tokenizer() -> PreTrainedTokenizerBase:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"w{token}": token for token in range(VOCABULARY)}, "w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words)


def _recording(size: Size, directory: Path) -> None:
    from loradash_assets.compute.batching import plan_recording
    from loradash_assets.compute.job import tokens_per_chunk
    from loradash_assets.compute.recording import RecordingPlan, record
    from loradash_assets.compute.token_ids import TokenIds
    from loradash_assets.settings import RecordingSettings

    tokens = TokenIds.read(directory / "prompts.parquet")
    examples = tokens.by_example()
    settings = RecordingSettings()
    chunk_tokens = tokens_per_chunk(settings.chunk_tokens, size.features)
    batches = plan_recording(examples, settings.batch_tokens, chunk_tokens)
    plan = RecordingPlan.of(examples, batches, list(_modules(size)))
    (directory / "chunks").mkdir()
    record(plan, _stand_in(size.features), directory / "chunks", lambda _: None)


def _stand_in(features: int) -> Forward:
    """What a model would be: heavy-tailed activations that no two tokens have in common."""
    from loradash_assets.compute.routed import Pending, Recorded

    generator = np.random.default_rng(1)
    pool = generator.standard_normal((features, POOL // features), np.float32)
    pool **= 3

    def forward(rows: Sequence[NDArray[np.integer]], _: object, keep: Sequence[int], /) -> Pending:
        ids = np.concatenate(rows).astype(np.int64)
        places = (ids * 31 + generator.integers(0, pool.shape[1], ids.size)) % pool.shape[1]
        values = pool.take(places, axis=1) * generator.uniform(0.5, 1, ids.size).astype(np.float32)
        return Pending(lambda: Recorded(values, {}), [None] * len(keep))

    return forward


def _tables(size: Size, directory: Path) -> None:
    """Several layers at once, as a build makes them."""
    from loradash_assets.compute.layers import write_layer_tables
    from loradash_assets.compute.parallel import in_order
    from loradash_assets.compute.prompt_tokens import PromptTokens
    from loradash_assets.compute.tables import TableOptions

    _write_catalogue(size, directory)
    tokens = PromptTokens.read(directory / "prompts.parquet")

    def make(layer: int, check: Callable[[], None]) -> None:
        target = directory / f"layer_{layer:02d}"
        target.mkdir()
        write_layer_tables(layer, directory, directory / "chunks", tokens, target, TableOptions(), {}, (), check)

    for _ in in_order(make, range(size.layers)):
        pass


def _coactivation(size: Size, directory: Path) -> None:
    from loradash_assets.compute.coactivation import write_coactivation

    _write_catalogue(size, directory)
    write_coactivation(directory, directory / "chunks", directory, "raw")


def _write_catalogue(size: Size, directory: Path) -> None:
    import pyarrow.parquet as pq

    from loradash_assets.compute.catalogue import FEATURES_FILE
    from loradash_assets.compute.features import Catalogue

    pq.write_table(Catalogue(tuple(_modules(size)), {}, "").table(), directory / FEATURES_FILE)


def _modules(size: Size) -> Iterator[AdaptedModule]:
    from loradash_assets.compute.features import AdaptedModule

    ones = np.ones((size.rank, 1), np.float32)
    for layer in range(size.layers):
        for name in PROJECTIONS:
            yield AdaptedModule(f"model.layers.{layer}.{name}", layer, name, 1.0, "lora", ones, ones.T)


def _imports(*_: object) -> None:
    """Nothing, with the libraries that a build has loaded."""
    for library in ("dagster", "peft", "pyarrow.parquet", "torch", "transformers"):
        import_module(library)


STAGES: Mapping[str, Callable[[Size, Path], None]] = {
    "imports": _imports,
    "dataset": _dataset,
    "rows": _rows,
    "prompts": _prompts,
    "recording": _recording,
    "tables": _tables,
    "coactivation": _coactivation,
}


def figures(size: Size, measured: Mapping[str, Stage]) -> dict[str, Any]:
    """Return what the result file says."""
    return {
        "tokens": size.tokens,
        "features": size.features,
        "layers": size.layers,
        "rank": size.rank,
        "peak_mib": round(max(stage.peak for name, stage in measured.items() if name != "dataset") / MIB),
        "stages": {
            name: {
                "seconds": round(stage.seconds, 1),
                "peak_mib": round(stage.peak / MIB),
                "tokens_per_second": round(size.tokens / max(stage.seconds, 1e-9)),
                "bytes_written": stage.written,
            }
            for name, stage in measured.items()
        },
    }


def main() -> None:
    """Run one stage, or all of them and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--layers", type=int, default=64)
    parser.add_argument("--rank", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="where the store goes for the time being")
    parser.add_argument("--name", default="memory", help="of the result file")
    parser.add_argument("--without", nargs="*", default=[], choices=list(STAGES), help="stages to leave out")
    parser.add_argument("--stage", choices=list(STAGES), help="run this one alone, in this process")
    options = parser.parse_args()
    size = Size(options.tokens, options.layers, options.rank)
    if options.stage:
        started = time.monotonic()
        STAGES[options.stage](size, options.directory)
        print(json.dumps([time.monotonic() - started, _peak()]))
        return
    with tempfile.TemporaryDirectory(dir=options.directory) as scratch:
        stages = [stage for stage in STAGES if stage not in options.without]
        print(write_result(options.name, figures(size, measure(size, Path(scratch), stages))).read_text())


if __name__ == "__main__":
    main()
