"""Recordings and lists of whatever prompts, batches, chunks, kills, orders and processes, against brute force.

The models are tiny but real, and so is everything that runs of the project; "Exactness" in docs/semantics.md says what
(a), (b) and (c) are. An example without tokens never becomes a prompt: tests/compute/test_encode.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.reference import adapter_reads
from loradash_assets.compute import prefix_tree
from loradash_assets.compute.basis import svd_basis
from loradash_assets.compute.encode import Example, PromptsFile
from loradash_assets.compute.experts import experts_of
from loradash_assets.compute.features import AdaptedModule
from loradash_assets.compute.forward import AdaptedModel
from loradash_assets.compute.layers import write_layer_tables
from loradash_assets.compute.prompt_tokens import PromptTokens
from loradash_assets.compute.recording import Forward, RecordingPlan, chunk_file, record
from loradash_assets.compute.routed import Pending, Recorded, Routed
from loradash_assets.compute.tables import TableOptions
from tests.end_to_end.kinds import KINDS, LONGEST, TRUNKS, Made, make, places
from tests.end_to_end.plain import Owner, Prompts, Values, listed, read_recording, table_rows, text_of, turned
from tests.end_to_end.recorder import RUN, plan_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning"),
    pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys did not match:RuntimeWarning"),
]

REPOSITORY = Path(__file__).parents[2]
BATCH_TOKENS = st.integers(1, 90) | st.just(2048)
CHUNK_TOKENS = st.integers(1, 120) | st.just(65536)
LENGTHS = st.integers(1, LONGEST) | st.sampled_from([1, LONGEST])
# Few trunks, so that examples repeat each other, whole or in part; the last two differ in their first token alone.
CUTS = st.lists(
    st.integers(0, len(TRUNKS) - 1) | st.integers(len(TRUNKS) - 2, len(TRUNKS) - 1), min_size=1, max_size=4
).flatmap(lambda trunks: st.lists(st.tuples(st.sampled_from(trunks), LENGTHS), min_size=1, max_size=8))
ROW_GAPS = st.lists(st.integers(1, 9), min_size=8, max_size=8)
TABLES = st.builds(
    TableOptions,
    top_k=st.integers(1, 8) | st.just(1000),
    context_window=st.integers(0, 4) | st.just(100),
    basis=st.sampled_from(["raw", "svd"]),
    distinct_contexts=st.booleans(),
    intervals=st.just(0),
    random_samples=st.just(0),
)


@dataclass(frozen=True)
class Case:
    """Prompts cut from the tree's trunks, and how they are recorded and listed."""

    cuts: list[tuple[int, int]]  # trunk, length
    gaps: list[int]  # between the dataset rows
    batch_tokens: int
    chunk_tokens: int
    killed_after: int  # batches
    seed: int  # of the order in which chunks are read
    layer: int
    tables: TableOptions
    share: bool

    @property
    def prompts(self) -> Prompts:
        rows = np.cumsum(self.gaps[: len(self.cuts)]) - 1
        return Prompts(rows.tolist(), [TRUNKS[trunk][:length] for trunk, length in self.cuts])


CASES = st.builds(
    Case,
    cuts=CUTS,
    gaps=ROW_GAPS,
    batch_tokens=BATCH_TOKENS,
    chunk_tokens=CHUNK_TOKENS,
    killed_after=st.integers(0, 8),
    seed=st.integers(0, 2**31),
    layer=st.integers(0, 9),
    tables=TABLES,
    share=st.booleans(),
)


class Killed(Exception):
    """Ends a recording."""


@dataclass(frozen=True)
class _Past:
    """What the model kept of tokens, and these."""

    tokens: tuple[int, ...]
    of_model: Any


class Noting:
    """An adapted model that notes every x, by hooks of our own, while it records.

    `noted` has, for the tokens up to each one that ran, every time that it did: A x in float64 and
    1e-5 · ‖x‖ · ‖A[j]‖, both (features,); NaN where an expert does not see the token. A is the adapter's file's.
    """

    def __init__(self, made: Made) -> None:
        base: Any = made.load()
        self._modules = made.modules
        self._reads = {_owner(name): A for name, A in adapter_reads(made.adapter).items() if "experts" not in name}
        self._fused = {
            (_owner(name), A.shape[1]): A for name, A in adapter_reads(made.adapter).items() if "experts" in name
        }
        self._x: dict[str, torch.Tensor] = {}
        self._inner: dict[str, list[torch.Tensor]] = {}
        for name in {name for name, _ in self._fused}:
            self._note_experts(name, base.get_submodule(name))
        self._model = AdaptedModel(base, made.adapter, self._modules, own_base=True)
        for name in self._reads:
            base.get_submodule(name).register_forward_pre_hook(self._note(name), prepend=True)
        self.noted: dict[tuple[int, ...], list[tuple[np.ndarray, np.ndarray]]] = {}
        self.shares = self._model.problem_with_pasts([np.array(TRUNKS[0])]) is None

    def _note(self, name: str) -> Callable[[Any, tuple[torch.Tensor, ...]], None]:
        return lambda _, args: self._x.__setitem__(name, args[0].detach().clone())

    def _note_experts(self, name: str, experts: Any) -> None:
        apply_gate = experts._apply_gate

        def keep(gate_up: torch.Tensor) -> torch.Tensor:
            self._inner[name].append(apply_gate(gate_up))
            return self._inner[name][-1]

        def start(_: object, args: tuple[torch.Tensor, ...]) -> None:
            self._inner[name] = []
            self._x[name], self._x[f"{name} chosen"] = args[0].clone(), args[1].clone()

        experts._apply_gate = keep
        experts.register_forward_pre_hook(start)

    def record(self, rows: Sequence[np.ndarray], pasts: Sequence[_Past | None], keep: Sequence[int]) -> Pending:
        """Record, and note what that should be."""
        before = [past and past.of_model for past in pasts]
        pending = self._model.record(rows, before, keep, masked=not self.shares)
        longest = max(map(len, rows))
        real = np.array([at < len(ids) for ids in rows for at in range(longest)])  # (batch * seq,)
        parts = [self._product(module, real) for module in self._modules]
        expected, bounds = (np.concatenate(of_modules) for of_modules in zip(*parts, strict=True))
        known = [past.tokens if past else () for past in pasts]
        prefixes = [(*past, *ids[: at + 1]) for past, ids in zip(known, rows, strict=True) for at in range(len(ids))]
        for column, prefix in enumerate(prefixes):
            self.noted.setdefault(prefix, []).append((expected[:, column], bounds[:, column]))
        kept = [_Past((*known[row], *rows[row]), past) for row, past in zip(keep, pending.pasts, strict=True)]
        return Pending(pending.result, kept)

    def _product(self, module: AdaptedModule, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if module.expert >= 0:
            return self._product_of_expert(module, real)
        A, x = self._reads[module.name].numpy(), self._x[module.name]
        if not x.is_floating_point():
            return A[:, x.flatten().numpy()[real]], 1e-5 * np.linalg.norm(A, axis=1)[:, None] * np.ones(real.sum())
        rows = x.double().reshape(len(real), -1).numpy()[real]
        return _product(A, rows)

    def _product_of_expert(self, module: AdaptedModule, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        owner, parameter = experts_of(module.name)
        chosen = self._x[f"{owner} chosen"]
        A = self._fused[owner, module.A.shape[1]].numpy().reshape(-1, module.rank, module.A.shape[1])[module.expert]
        found = np.full((2, module.rank, len(real)), np.nan)
        sees = (chosen == module.expert).any(dim=1).numpy()
        if sees.any():
            run = sorted(set(chosen.flatten().tolist())).index(module.expert)
            x = self._inner[owner][run] if parameter == "down_proj" else self._x[owner][torch.from_numpy(sees)]
            found[:, :, sees] = _product(A, x.double().numpy())
        return found[0][:, real], found[1][:, real]


def _owner(name: str) -> str:
    return name.removeprefix("base_model.model.").replace(".base_layer", "")


def _product(A: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return A @ x.T, 1e-5 * np.linalg.norm(A, axis=1)[:, None] * np.linalg.norm(x, axis=1)


@dataclass(frozen=True)
class Ready:
    """An adapted model on disk, and loaded twice: the second takes over where the first was killed."""

    made: Made

    @cached_property
    def first(self) -> Noting:
        return Noting(self.made)

    @cached_property
    def second(self) -> Noting:
        return Noting(self.made)

    @cached_property
    def maps(self) -> dict[str, np.ndarray]:
        """What turns each module's activations into the svd basis; tests/compute/test_basis.py checks that."""
        return {module.name: svd_basis(module.A, module.B, module.scaling).map for module in self.made.modules}

    @cached_property
    def owners(self) -> list[Owner]:
        return _owners(self.made.modules)


def _owners(modules: Sequence[AdaptedModule]) -> list[Owner]:
    return [Owner(module.layer, module.projection, module.rank, module.expert >= 0) for module in modules]


@pytest.fixture(scope="module", params=KINDS)
def ready(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ready:
    return Ready(make(tmp_path_factory.mktemp("made"), KINDS[request.param]))


@pytest.fixture(scope="module", autouse=True)
def short_prefixes_are_shared() -> Generator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_tree, "RUN", RUN)
        yield


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Generator[None]:
    """The models and tables are too small for more."""
    before = torch.get_num_threads(), pa.cpu_count()
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    yield
    torch.set_num_threads(before[0])
    pa.set_cpu_count(before[1])


@contextmanager
def _scratch() -> Generator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def _write_prompts(prompts: Prompts, file: Path) -> None:
    with PromptsFile(file) as written:
        for row, ids in zip(prompts.rows, prompts.ids, strict=True):
            tokens = list(map(text_of, ids))
            written.add(row, Example("".join(tokens), ids, tokens))


def _record(plan: RecordingPlan, forward: Forward, target: Path) -> int:
    target.mkdir(exist_ok=True)
    return record(plan, forward, target, lambda _: None)


def _killed_and_resumed(plan: RecordingPlan, ready: Ready, target: Path, after: int) -> None:
    """Run out of breath `after` so many batches; another model goes on in the same directory."""
    left = after

    def forward(*batch: Any) -> Pending:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return ready.first.record(*batch)

    kept = _tokens_of_whole_chunks(plan, after)
    try:
        _record(plan, forward, target)
    except Killed:
        assert kept < plan.offsets[-1]
    assert _record(plan, ready.second.record, target) == plan.offsets[-1] - kept


def _tokens_of_whole_chunks(plan: RecordingPlan, runs: int) -> int:
    tokens = 0
    before: set[int] = set()
    for chunk in plan.batches.chunks:
        runs -= len(set(chunk.batches) - before)
        before = set(chunk.batches)
        if runs < 0:
            break
        tokens += sum(len(plan.token_ids[example]) for example in chunk.examples)
    return tokens


def _files(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def _same_values(values: Values, others: Values) -> None:
    assert values.activations.tobytes() == others.activations.tobytes()
    assert values.there.tobytes() == others.there.tobytes()


def _shuffle(directory: Path, seed: int) -> None:
    """Chunks are read in the order of their names: give them others."""
    files = sorted(directory.iterdir())
    for number, file in zip(np.random.default_rng(seed).permutation(len(files)), files, strict=True):
        file.rename(directory / f"{number}.moved")
    for file in list(directory.iterdir()):
        file.rename(chunk_file(directory, int(file.stem)))


def _check_tables(case: _Listed, recording: Path, scratch: Path) -> None:
    """(c). The sort knows nothing of chunks, so their order is found not to matter where it is shuffled."""
    target = scratch / "tables"
    target.mkdir()
    directory = case.ready.made.directory
    tokens = PromptTokens.read(case.prompts_file)
    write_layer_tables(case.layer, directory, recording, tokens, target, case.options, {}, ())
    for name, basis, distinct in (
        ("plain", "raw", False),
        ("shown", case.options.basis, case.options.distinct_contexts),
    ):
        rows = table_rows(pq.read_table(target / f"{name}.parquet"))
        minimaps = name == "shown" or (case.options.basis, case.options.distinct_contexts) == ("raw", False)
        assert repr(rows) == repr(case.rows(basis, distinct=distinct, minimaps=minimaps))


@dataclass(frozen=True)
class _Listed:
    """One layer's lists by brute force, from what was recorded."""

    ready: Ready
    layer: int
    prompts: Prompts
    prompts_file: Path
    recorded: Values  # of all layers
    options: TableOptions

    @property
    def values(self) -> Values:
        modules = self.ready.made.modules
        mine = np.repeat([module.layer == self.layer for module in modules], [module.rank for module in modules])
        return Values(self.recorded.activations[mine], self.recorded.there[mine])

    def rows(self, basis: str, *, distinct: bool, minimaps: bool) -> list[tuple[Any, ...]]:
        modules = [module for module in self.ready.made.modules if module.layer == self.layer]
        maps = [self.ready.maps[module.name] for module in modules]
        sizes = [len(matrix) for matrix in maps] if basis == "svd" else [module.rank for module in modules]
        labels = [
            (self.layer, module.projection, component)
            for module, size in zip(modules, sizes, strict=True)
            for component in range(size)
        ]
        values = turned(self.values, maps) if basis == "svd" else self.values
        k, window = self.options.top_k, self.options.context_window
        return listed(self.prompts, labels, values, k=k, window=window, distinct=distinct, minimaps=minimaps)


@dataclass
class Errors:
    """(b) over all the tokens of all cases: sums of squares per feature, against float64."""

    made: Made

    def __post_init__(self) -> None:
        self._sums = np.zeros((3, len(self.made.exact)))  # recorded, PEFT's own, the values themselves

    def take(self, values: Values, prompts: Prompts) -> None:
        """Count a case in. Each value alone is also held to 4 times the worst that PEFT does in the tree."""
        at = places(prompts.ids)
        exact, peft = self.made.exact[:, at], self.made.peft[:, at]
        assert np.array_equal(values.there, ~np.isnan(exact))  # experts see the same tokens
        errors = np.where(values.there, values.activations - exact, 0.0)
        self._sums += np.nansum([errors**2, (peft - exact) ** 2, exact**2], axis=2)
        worst = np.nanmax(np.abs(self.made.peft - self.made.exact), axis=1, keepdims=True)
        scale = np.sqrt(np.nanmean(self.made.exact**2, axis=1, keepdims=True))
        assert (np.abs(errors) <= np.maximum(4 * worst, 4e-6 * scale)).all()

    def check(self) -> None:
        """(b)."""
        recorded, peft, scale = np.sqrt(self._sums)
        assert (recorded <= np.maximum(2 * peft, 1e-6 * scale)).all(), (recorded, peft, scale)


def test_whatever_is_recorded_is_exact_and_its_lists_are_sorts(ready: Ready) -> None:
    """(a), (b), (c), and the same bytes after any kill, whether prefixes that examples share run once or not.

    A case has few tokens, and over few tokens the ratio of two rounding errors says little: (b) is held over the
    tokens of all cases together, and each value of a case to a bound that is four times PEFT's worst.
    """
    errors, shared = Errors(ready.made), 0
    layers = sorted({module.layer for module in ready.made.modules})

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(CASES)
    def check(case: Case) -> None:
        nonlocal shared
        with _scratch() as scratch:
            prompts, tokens = case.prompts, sum(map(len, case.prompts.ids))
            file = scratch / "prompts.parquet"
            _write_prompts(prompts, file)
            share = case.share and ready.first.shares
            plan = plan_of(ready.made.directory, file, case.batch_tokens, case.chunk_tokens, share=share)
            ready.first.noted.clear()
            assert _record(plan, ready.first.record, scratch / "whole") == tokens
            shared += sum(map(len, ready.first.noted.values())) < tokens
            values = read_recording(scratch / "whole", ready.owners, tokens)
            _check_products(ready.first, prompts, values)
            errors.take(values, prompts)

            _killed_and_resumed(plan, ready, scratch / "killed", case.killed_after)
            assert _files(scratch / "killed") == _files(scratch / "whole")

            layer = layers[case.layer % len(layers)]
            options = case.tables
            lists = _Listed(ready, layer, prompts, file, values, options)
            _shuffle(scratch / "killed", case.seed)
            _check_tables(lists, scratch / "killed", scratch)

    check()
    errors.check()
    assert (shared > 10) == ready.first.shares


def _check_products(noting: Noting, prompts: Prompts, values: Values) -> None:
    """(a): every recorded token is one that ran after the same tokens."""
    columns = zip(values.activations.T, values.there.T, strict=True)
    for (activations, there), prefix in zip(columns, prompts.prefixes, strict=True):
        assert any(
            np.array_equal(there, ~np.isnan(expected)) and (np.abs(activations - expected) <= bounds)[there].all()
            for expected, bounds in noting.noted[prefix]
        )


FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)
NASTY = st.sampled_from([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-45, 3.4028234663852886e38, 1.0, -1.0])
FEW_IDS = st.lists(st.lists(st.integers(0, 3), max_size=7), min_size=1, max_size=7).filter(any)


@dataclass(frozen=True)
class Injected:
    """Prompts of a few ids, some without tokens, and a small choice of values: ties are the rule."""

    ids: list[list[int]]
    gaps: list[int]
    palette: list[float]
    seed: int
    batch_tokens: int
    chunk_tokens: int
    tables: TableOptions

    @property
    def prompts(self) -> Prompts:
        rows = np.cumsum(self.gaps[: len(self.ids)]) - 1
        return Prompts(rows.tolist(), self.ids)

    def values(self, modules: Sequence[AdaptedModule]) -> Values:
        """(features, tokens); an expert sees every second token or so."""
        random = np.random.default_rng(self.seed)
        tokens = sum(map(len, self.ids))
        rows = sum(module.rank for module in modules)
        activations = random.choice(np.array(self.palette, np.float32), (rows, tokens))
        seen = {
            (module.layer, module.expert): random.random(tokens) < 0.5 if module.expert >= 0 else np.ones(tokens, bool)
            for module in modules
        }
        there = np.concatenate([[seen[module.layer, module.expert]] * module.rank for module in modules])
        return Values(np.where(there, activations, np.float32(0)), there)


INJECTED = st.builds(
    Injected,
    ids=FEW_IDS,
    gaps=ROW_GAPS,
    palette=st.lists(FLOATS | NASTY, min_size=1, max_size=9),
    seed=st.integers(0, 2**31),
    batch_tokens=st.integers(0, 30),
    chunk_tokens=st.integers(1, 40),
    tables=TABLES,
)


class Giving:
    """A forward pass that gives drawn values, run after run of a plan that shares no prefixes."""

    def __init__(self, values: Values, plan: RecordingPlan, modules: Sequence[AdaptedModule]) -> None:
        self._values = values
        examples = (plan.batches.segments[segment].example for batch in plan.batches.batches for segment in batch)
        self._columns = (
            column for example in examples for column in range(*plan.offsets[example : example + 2].tolist())
        )
        dense = np.repeat([module.expert < 0 for module in modules], [module.rank for module in modules])
        self._dense = values.activations[dense]
        self._experts: dict[str, list[list[int]]] = {}  # rows of each expert
        row = 0
        for module in modules:
            if module.expert >= 0:
                experts = self._experts.setdefault(experts_of(module.name)[0], [])
                experts.extend([] for _ in range(module.expert + 1 - len(experts)))
                experts[module.expert] += range(row, row + module.rank)
            row += module.rank

    def record(self, rows: Sequence[np.ndarray], *_: object) -> Pending:
        columns = [next(self._columns) for ids in rows for _ in ids]
        routed = {name: self._routed(experts, columns) for name, experts in self._experts.items()}
        return Pending(lambda: Recorded(self._dense[:, columns], routed))

    def _routed(self, experts: list[list[int]], columns: list[int]) -> Routed:
        seen = [np.flatnonzero(self._values.there[rows[0], columns]) for rows in experts]
        values = [
            self._values.activations[rows][:, np.array(columns, int)[here]]
            for rows, here in zip(experts, seen, strict=True)
        ]
        offsets = np.cumsum([0, *map(len, seen)]).astype(np.int64)
        return Routed(offsets, np.concatenate(seen).astype(np.int32), np.concatenate(values, axis=1))


@pytest.mark.parametrize("ready", ["conv1d", "experts"], indirect=True)
def test_lists_of_any_values_are_sorts(ready: Ready) -> None:
    """(c) with ties, zeros of both signs, NaN, ±Inf, the smallest and the largest floats, and empty examples."""

    @settings(max_examples=400, deadline=None)
    @given(INJECTED)
    def check(case: Injected) -> None:
        modules = ready.made.modules
        values, prompts = case.values(modules), case.prompts
        with _scratch() as scratch:
            file = scratch / "prompts.parquet"
            _write_prompts(prompts, file)
            plan = plan_of(ready.made.directory, file, case.batch_tokens, case.chunk_tokens, share=False)
            _record(plan, Giving(values, plan, modules).record, scratch / "recorded")
            _same_values(read_recording(scratch / "recorded", ready.owners, values.there.shape[1]), values)
            _shuffle(scratch / "recorded", case.seed)
            layer = case.seed % 2
            lists = _Listed(ready, layer, prompts, file, values, case.tables)
            _check_tables(lists, scratch / "recorded", scratch)
            statistics = pq.read_table(scratch / "tables" / "statistics.parquet").to_pylist()
        recorded = [row for row in statistics if row["basis"] == "raw"]
        mine = lists.values
        assert [row["non_finite"] for row in recorded] == (mine.there & ~np.isfinite(mine.activations)).sum(
            axis=1
        ).tolist()
        assert [row["count"] for row in recorded] == (mine.there & np.isfinite(mine.activations)).sum(axis=1).tolist()

    check()


class Recorder:
    """A process of its own that records chunks: see tests/end_to_end/recorder.py."""

    def __init__(self, made: Made) -> None:
        command = [sys.executable, "-m", "tests.end_to_end.recorder", str(made.directory)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=REPOSITORY, stdin=pipe, stdout=pipe, text=True)

    def start(self, job: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()

    def wait(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "done\n"

    def stop(self) -> None:
        self._process.communicate()


@pytest.mark.parametrize("ready", ["strong dora", "experts"], indirect=True)
def test_processes_that_share_the_chunks_write_the_same_bytes_as_one(ready: Ready) -> None:
    """Each with its own model, on one thread, chunks dealt out in any way and taken in any order."""
    recorders = [Recorder(ready.made) for _ in range(3)]

    @settings(max_examples=10, deadline=None)
    @given(CASES, st.integers(2, 3))
    def check(case: Case, processes: int) -> None:
        with _scratch() as scratch:
            file = scratch / "prompts.parquet"
            _write_prompts(case.prompts, file)
            share = case.share and ready.first.shares
            sizes: dict[str, Any] = {
                "batch_tokens": case.batch_tokens,
                "chunk_tokens": case.chunk_tokens,
                "share": share,
            }
            plan = plan_of(ready.made.directory, file, **sizes)
            random = np.random.default_rng(case.seed)
            dealt = random.integers(0, processes, len(plan.batches.chunks))
            order = random.permutation(len(plan.batches.chunks))
            hands = [order[dealt[order] == process].tolist() for process in range(processes)]
            job = {"prompts": str(file), **sizes}
            for name, numbers in (("one", [list(range(len(plan.batches.chunks)))]), ("several", hands)):
                (scratch / name).mkdir()
                for recorder, hand in zip(recorders, numbers, strict=False):
                    recorder.start({**job, "target": str(scratch / name), "numbers": hand})
                for recorder, _ in zip(recorders, numbers, strict=False):
                    recorder.wait()
            assert len(_files(scratch / "one")) == len(plan.batches.chunks)
            assert _files(scratch / "several") == _files(scratch / "one")
            assert _record(plan, ready.first.record, scratch / "several") == 0

    try:
        check()
    finally:
        for recorder in recorders:
            recorder.stop()
