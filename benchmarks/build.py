"""A whole build of the demo, rows to HTML, beside the bare model's forward pass over the same tokens.

    python -m benchmarks.build [--rows 200] [--pairs 3]

Each pair is one build into an empty project, as `loradash build` runs it, Dagster's events, checks and the store
included, and one pass of the base model's backbone over all tokens in length-sorted batches under the same budget;
who is first changes from pair to pair. Both happen in this process, which has made a build of two rows before, so that
nothing is imported while the clock runs. Measured apart, and no part of the ratio: starting Python; importing what a
build imports, both in processes of their own; making the base model ready (the demo's GGUF file is converted once,
`base_model`), and loading it. A second build, which finds everything in the store, is timed too.

Nothing counts unless the page is there and every asset was computed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from typing import Any
from unittest.mock import patch

from benchmarks.bare import BareForward
from benchmarks.timing import Pairs, write_result

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "examples" / "gsm_symbolic"
IMPORTS = "import loradash_assets.run, torch, peft, transformers.models.llama.modeling_llama"
MODEL = ("base model", "loading the model")
REST = "Dagster, checks, publishing"
TARGET = 1.10


@dataclass(frozen=True)
class Build:
    """One build: its project, the seconds of it all, and those of its parts, by name in their order."""

    project: Path
    seconds: float
    parts: Mapping[str, float]

    @property
    def without_model(self) -> float:
        """Seconds of all but making the base model ready and loading it."""
        return self.seconds - sum(self.parts[name] for name in MODEL)


def main() -> None:
    """Measure, print and write `benchmarks/results/build.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    start, imports = _process_seconds("pass"), _process_seconds(IMPORTS)
    with tempfile.TemporaryDirectory() as scratch:
        build(Path(scratch) / "warm", rows=2)
        figures = compare(Path(scratch), options.rows, options.pairs)
    figures["process_start_seconds"] = round(start, 3)
    figures["imports_seconds"] = round(imports - start, 3)
    print(figures)
    write_result("build", figures)


def _process_seconds(code: str) -> float:
    """The median of three processes that run `code` alone, in seconds."""

    def run() -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
        return time.perf_counter() - started

    return statistics.median(run() for _ in range(3))


def compare(scratch: Path, rows: int, pairs: int) -> dict[str, Any]:
    """Return the figures of builds and bare forward passes in turns."""
    builds = [build(scratch / "0", rows)]
    tokens, forward = bare_forward(builds[0].project)
    baseline = [forward()]
    for pair in range(1, pairs):
        if pair % 2 == 1:
            baseline.append(forward())
        builds.append(build(scratch / str(pair), rows))
        if pair % 2 == 0:
            baseline.append(forward())
    found = Pairs([each.without_model for each in builds], baseline)
    return {
        "what": "a build of the demo, rows to HTML, without imports and model loading / the bare backbone forward",
        "target": f"at most {TARGET}",
        "rows": rows,
        "tokens": tokens,
        **found.figures(),
        "seconds_of_pairs": [
            [round(seconds, 2) for seconds in pair] for pair in zip(found.measured, found.baseline, strict=True)
        ],
        "median_parts_seconds": _medians([each.parts for each in builds]),
        "second_build_seconds": round(second_build(builds[-1].project, rows), 3),
    }


def _medians(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(each[name] for each in parts), 3) for name in parts[0]}


def build(project: Path, rows: int) -> Build:
    """Build the demo's first `rows` rows in a new project. Raises AssertionError if anything is missing after it."""
    from loradash_assets.compute import activations
    from loradash_assets.site.outputs import DASHBOARD_FILE

    copytree(DEMO, project / DEMO.relative_to(ROOT))
    (project / "loradash.yaml").write_bytes((ROOT / "loradash.yaml").read_bytes())
    loading: list[float] = []
    load = activations.load_base

    def timed(*arguments: Any) -> Any:
        started = time.perf_counter()
        model = load(*arguments)
        loading.append(time.perf_counter() - started)
        return model

    with patch.object(activations, "load_base", timed):
        summary, seconds = _run(project, rows)
    assert summary.startswith("Computed all"), summary
    assert (project / "output" / DASHBOARD_FILE).stat().st_size > 10_000
    return Build(project, seconds, _parts(project, rows, seconds, sum(loading)))


def second_build(project: Path, rows: int) -> float:
    """The seconds of a build that finds everything in the store."""
    summary, seconds = _run(project, rows)
    assert summary.startswith("Nothing to recompute"), summary
    return seconds


def _settings(project: Path, rows: int) -> Any:
    from loradash_assets.settings import load_settings

    return load_settings(project, {"dataset": {"num_examples": rows}})


def _run(project: Path, rows: int) -> tuple[str, float]:
    from loradash_assets.run import run

    # dagster.yaml's paths are relative to the working directory; the progress bars go nowhere
    with contextlib.chdir(project), contextlib.redirect_stderr(io.StringIO()):
        started = time.perf_counter()
        summary = run(_settings(project, rows), None, upstream=True)
        return summary, time.perf_counter() - started


def _parts(project: Path, rows: int, total: float, loading: float) -> dict[str, float]:
    """Seconds by stage, as the assets report them, in the order of a build, and of all that is left.

    Of layers, which are made beside each other, until the last one is written down, events and checks included.
    """
    import dagster as dg

    from loradash_assets.definitions import build_definitions

    graph = build_definitions(_settings(project, rows)).resolve_asset_graph()
    starts: dict[str, float] = {}
    parts: dict[str, float] = {}
    with contextlib.chdir(project), dg.DagsterInstance.from_config(str(project)) as instance:
        events = [instance.get_latest_materialization_event(key) for key in graph.materializable_asset_keys]
        for event in sorted((each for each in events if each is not None), key=lambda event: event.timestamp):
            assert event.asset_materialization is not None
            name = event.asset_materialization.asset_key.path[0].replace("_", " ")
            seconds = float(str(event.asset_materialization.metadata["seconds"].value))
            if name == "activations":
                parts |= {MODEL[1]: loading, "recording": seconds - loading}
            elif name not in starts:
                starts[name], parts[name] = event.timestamp - seconds, seconds
            else:
                parts[name] = event.timestamp - starts[name]
    return {**parts, REST: total - sum(parts.values())}


def bare_forward(project: Path) -> tuple[int, Callable[[], float]]:
    """How many tokens a built project has, and what runs the base model on all of them and returns the seconds."""
    import torch

    from loradash_assets.compute.batching import plan_recording
    from loradash_assets.compute.model import load_model
    from loradash_assets.compute.token_ids import TokenIds

    store, settings = project / ".loradash" / "store", _settings(project, 1)
    (directory,) = store.glob("base_model/*/model")
    (prompts,) = store.glob("prompts/*/prompts.parquet")
    model = load_model(directory, dtype=settings.model.dtype, device=torch.device("cpu"), trust_remote_code=False)
    examples = TokenIds.read(prompts).by_example()
    recording = settings.recording
    plan = plan_recording(examples, recording.batch_tokens, recording.chunk_tokens, share=False)
    forward = BareForward(model, examples, plan)

    def seconds() -> float:
        started = time.perf_counter()
        forward()
        return time.perf_counter() - started

    forward(1)  # what is done once is done
    return sum(map(len, examples)), seconds


if __name__ == "__main__":
    main()
