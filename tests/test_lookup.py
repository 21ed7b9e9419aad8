"""Exact activations out of real builds: those that the chunk files hold, and those of the published tables."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from shutil import copytree
from typing import Any

import dagster as dg
import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from annotation_server.activations import ActivationsUnavailable
from annotation_server.keys import FeatureKey, parse_key
from loradash_assets.lookup import ActivationLookup
from loradash_assets.project import Project
from tests.annotation_server.service import Service
from tests.assets.graph import Graph
from tests.experts import FAMILIES
from tests.projects import save_adapter, save_base, save_project

pytestmark = pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")

STEP = "step-200"
KEY = "layer_1_q_proj_positive"
CHUNKS = {"batch_tokens": 300, "chunk_tokens": 700}  # several of them, and several examples in some


@dataclass(frozen=True)
class Built:
    """A project that was built, and its files read by brute force."""

    graph: Graph
    prefixes: dict[str | None, str]  # of each adapter's assets

    @cached_property
    def lookup(self) -> ActivationLookup:
        return ActivationLookup(self.graph.settings())

    @cached_property
    def examples(self) -> dict[int, range]:
        """Each row's token numbers."""
        table = pq.read_table(self.graph.entry("prompts") / "prompts.parquet").to_pylist()
        ends = np.cumsum([0, *(len(row["token_ids"]) for row in table)]).tolist()
        return {row["example"]: range(*bounds) for row, bounds in zip(table, pairwise(ends), strict=True)}

    def features(self, adapter: str | None) -> list[dict[str, Any]]:
        file = self.graph.entry(f"{self.prefixes[adapter]}features") / "features.parquet"
        return pq.read_table(file).to_pylist()

    def recorded(self, adapter: str | None) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        """Yield every feature with its activation on every token, 0 where it does not see one."""
        values = [np.zeros(self.tokens, np.float32) for _ in self.features(adapter)]
        chunks = [*self.graph.entry(f"{self.prefixes[adapter]}activations").glob("chunk-*.safetensors")]
        assert 1 < len(chunks) < len(self.examples)
        for chunk in map(load_file, chunks):
            for layer in {feature["layer"] for feature in self.features(adapter)}:
                _put(values, chunk, layer, self.features(adapter))
        return zip(self.features(adapter), values, strict=True)

    @property
    def tokens(self) -> int:
        return max(numbers.stop for numbers in self.examples.values())


def _put(values: list[np.ndarray], chunk: dict[str, np.ndarray], layer: int, features: list[dict[str, Any]]) -> None:
    """The order of a layer's features is that of the table: dense ones, then expert by expert."""
    of_layer = [feature for feature in features if feature["layer"] == layer]
    dense = [feature["feature"] for feature in of_layer if feature["expert"] == -1]
    for number, row in zip(dense, chunk.get(f"layer.{layer}", []), strict=True):
        values[number][chunk["tokens"]] = row
    experts = sorted({feature["expert"] for feature in of_layer} - {-1})
    if experts:
        bounds = [*pairwise(chunk[f"layer.{layer}.experts.0.offsets"].tolist())]
        for expert, (start, stop) in zip(experts, bounds, strict=True):
            own = [feature["feature"] for feature in of_layer if feature["expert"] == expert]
            seen = chunk["tokens"][chunk[f"layer.{layer}.experts.0.tokens"][start:stop]]
            for number, row in zip(own, chunk[f"layer.{layer}.experts.0.values"], strict=True):
                values[number][seen] = row[start:stop]


def key_of(
    adapter: str | None,
    feature: dict[str, Any],
    basis: str = "raw",
    polarity: Any = "positive",
    rank: int | None = None,
) -> FeatureKey:
    letter: Any = {"raw": "c", "svd": "s"}[basis]
    layer = None if feature["layer"] == -1 else feature["layer"]
    component = None if (rank or feature["rank"]) == 1 else (letter, feature["component"])
    return FeatureKey(adapter, layer, feature["projection"], component, polarity)


def save_two(directory: Path, **tables: Any) -> Path:
    """A project whose first adapter has rank 1, and another one of rank 3 with a module outside the layers."""
    settings: dict[str, Any] = {"adapter": {"others": {STEP: "./step-200"}}, "tables": {"context_window": 4, **tables}}
    project = save_project(directory, recording=CHUNKS, **settings)
    save_adapter(project / STEP, project / "base", seed=7, r=3, target_modules=["q_proj", "up_proj", "lm_head"])
    return project


def save_experts(directory: Path, **tables: Any) -> Path:
    project = save_project(directory, recording=CHUNKS, tables={"context_window": 3, **tables})
    family = FAMILIES["mixtral"]
    save_base(project / "base", family.config)
    options: dict[str, Any] = {"r": 2, "target_modules": ["q_proj"], "target_parameters": family.both}
    save_adapter(project / "adapter", project / "base", **options)
    return project


@pytest.fixture(scope="module", params=["two raw", "two svd", "experts raw", "experts svd"])
def built(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Generator[Built]:
    kind, basis = request.param.split()
    save, others = {"two": (save_two, {STEP: f"adapters/{STEP}/"}), "experts": (save_experts, {})}[kind]
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(save(tmp_path_factory.mktemp("built"), basis=basis), instance)
        graph.run()
        yield Built(graph, {None: "", **others})


ONE = pytest.mark.parametrize("built", ["two raw"], indirect=True, scope="module")


def test_every_token_of_every_example_is_as_the_chunks_have_it(built: Built) -> None:
    basis = built.graph.settings().tables.basis
    for adapter in built.prefixes:
        for feature, values in built.recorded(adapter):
            if feature["rank"] == 1 and basis == "svd":
                continue  # its keys name no basis, so it is in the page's
            for example, numbers in built.examples.items():
                found = built.lookup(key_of(adapter, feature), example)
                assert found == [float(str(value)) for value in values[numbers.start : numbers.stop]]


def test_the_published_tables_have_the_same(built: Built) -> None:
    settings = built.graph.settings()
    table = pq.read_table(settings.output_dir / "tables" / "top_tokens.parquet").to_pylist()
    assert {row["projection"] for row in table} >= {"q_proj"}
    labels = {"adapter": None, STEP: STEP}
    for row in table:
        adapter = labels[row["adapter"]]
        ranks = {(each["layer"], each["projection"]): each["rank"] for each in built.features(adapter)}
        rank = ranks[row["layer"], row["projection"]]
        found = built.lookup(key_of(adapter, row, settings.tables.basis, row["polarity"], rank), row["example"])
        assert found is not None
        assert len(found) == len(built.examples[row["example"]])
        start = row["position"] - row["target_position"]
        shown = np.array(found[start : start + len(row["context"])], np.float32)
        assert shown.tolist() == row["context_activations"]
        assert np.float32(found[row["position"]]) == np.float32(row["activation"])


def test_singular_directions_are_those_of_the_whole_update(built: Built) -> None:
    """|v · x| by way of the pseudo-inverse of A, from numpy's own SVD of scaling * B A."""
    for adapter, prefix in built.prefixes.items():
        weights = load_file(built.graph.entry(f"{prefix}features") / "directions.safetensors")
        recorded = [*built.recorded(adapter)]
        for feature, _ in recorded:
            if feature["component"] or feature["rank"] == 1:
                continue
            A, B = (weights[f"{feature['module']}.{side}"].astype(np.float64) for side in "AB")
            _, _, directions = np.linalg.svd(feature["scaling"] * B @ A, full_matrices=False)
            values = np.array([row for each, row in recorded if each["module"] == feature["module"]])
            for component in range(feature["rank"]):
                expected = np.abs(directions[component] @ np.linalg.pinv(A) @ values)
                for example, numbers in built.examples.items():
                    key = key_of(adapter, {**feature, "component": component}, "svd", "negative")
                    found = built.lookup(key, example)
                    assert found is not None
                    assert np.allclose(np.abs(found), expected[numbers.start : numbers.stop], rtol=1e-4, atol=1e-5)


@ONE
def test_what_the_dashboard_does_not_have_is_none(built: Built) -> None:
    assert built.lookup(parse_key("layer_1_q_proj_positive"), 0) is not None
    for key, example in [
        ("layer_1_q_proj_positive", 2),  # a row that became no prompt
        ("layer_1_q_proj_positive", 8),
        ("layer_1_q_proj_positive", 999_999_999),
        ("layer_3_q_proj_positive", 0),
        ("layer_1_Q_proj_positive", 0),
        ("layer_1_q_positive", 0),
        ("model_q_proj_positive", 0),
        ("layer_1_q_proj_c0_positive", 0),  # rank 1: its keys name no component
        ("layer_1_q_proj_s0_positive", 0),
        (f"{STEP}/layer_1_q_proj_positive", 0),  # rank 3: they always do
        (f"{STEP}/layer_1_q_proj_c3_positive", 0),
        (f"{STEP}/layer_1_q_proj_s3_positive", 0),
        (f"{STEP}/layer_1_v_proj_c0_positive", 0),
        ("adapter/layer_1_q_proj_positive", 0),
        ("step-201/layer_1_q_proj_c0_positive", 0),
        ("a/../b/layer_1_q_proj_c0_positive".replace("..", "..."), 0),
        (f"{'x' * 5000}/layer_1_q_proj_c0_positive", 0),
    ]:
        assert built.lookup(parse_key(key), example) is None, key


@ONE
def test_many_at_once_get_the_same(built: Built) -> None:
    lookup, found = ActivationLookup(built.graph.settings()), list[object]()
    key = parse_key("layer_1_q_proj_positive")
    threads = [threading.Thread(target=lambda row=row: found.append(lookup(key, row))) for row in [0, 1, 3, 4] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, found)) == sorted(str(built.lookup(key, row)) for row in [0, 1, 3, 4] * 3)


@contextmanager
def annotating(project: Path, stderr: Path) -> Generator[Service]:
    """`loradash annotate` as a process that lists on stderr what it imports."""
    command = [sys.executable, "-X", "importtime", "-m", "loradash_assets", "annotate", "--port", "0"]
    with (
        stderr.open("w") as written,
        subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=written, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            address = re.search(r"http://127.0.0.1:(\d+)/", process.stdout.readline())
            assert address is not None
            yield Service(process, int(address[1]), project)
        finally:
            process.terminate()


@ONE
def test_annotate_serves_them_and_loads_neither_torch_nor_dagster(built: Built, tmp_path: Path) -> None:
    with annotating(built.graph.project, tmp_path / "stderr") as service:
        for key in (KEY, f"{STEP}/model_lm_head_c2_negative", f"{STEP}/layer_0_up_proj_s1_positive"):
            reply = service.request("GET", f"/api/activations/{key}?example=3")
            assert reply.status == 200
            assert reply.json == {"featureKey": key, "example": 3, "activations": built.lookup(parse_key(key), 3)}
        assert service.request("GET", f"/api/activations/{KEY}?example=2").code == "no_such_activations"
    loaded = {line.split("|")[-1].strip() for line in (tmp_path / "stderr").read_text().splitlines()}
    assert loaded >= {"numpy", "safetensors", "loradash_assets.lookup"}
    assert not loaded & {"torch", "dagster", "transformers", "peft", "datasets"}


def answer(lookup: ActivationLookup, key: str, example: int) -> list[float] | str | None:
    """What is found, or the message of the error."""
    try:
        return lookup(parse_key(key), example)
    except ActivationsUnavailable as error:
        return str(error)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of one adapter that was built."""
    project = save_project(tmp_path_factory.mktemp("one") / "project", recording=CHUNKS)
    with dg.DagsterInstance.ephemeral() as instance:
        Graph(project, instance).run()
    return project


@pytest.fixture
def graph(one: Path, tmp_path: Path) -> Iterator[Graph]:
    """A copy of it, to be damaged."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield Graph(copytree(one, tmp_path / "project"), instance)


def chunk_of(graph: Graph, example: int) -> Path:
    """The chunk file that holds an example."""
    built = Built(graph, {None: ""})
    chunks = graph.entry("activations").glob("chunk-*.safetensors")
    return next(file for file in chunks if built.examples[example].start in load_file(file)["tokens"])


def test_the_answers_follow_the_builds(tmp_path: Path) -> None:
    project = save_project(tmp_path / "project")
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(project, instance)
        lookup = ActivationLookup(graph.settings())
        assert answer(lookup, KEY, 0) is None  # nothing is built
        graph.run()
        first = answer(lookup, KEY, 0)
        assert isinstance(first, list)
        rows = (project / "rows.jsonl").read_text(encoding="utf-8").splitlines()
        (project / "rows.jsonl").write_text("\n".join([rows[1], rows[0], *rows[2:]]), encoding="utf-8")
        graph.run("dataset_source", "dataset_rows", "prompts")
        assert answer(lookup, KEY, 0) is None  # the page shows other rows than there are by now
        graph.run("activations")
        assert answer(lookup, KEY, 0) is None
        graph.run()
        assert answer(lookup, KEY, 1) == first
        assert answer(lookup, KEY, 0) != first
        save_adapter(project / "adapter", project / "base", seed=5)
        graph.run()
        found = answer(lookup, KEY, 1)
        assert isinstance(found, list)
        assert len(found) == len(first)
        assert found != first


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5])


def garble(file: Path) -> None:
    file.write_bytes(b"\xff" * file.stat().st_size)


@pytest.mark.parametrize("harm", [flip, cut, garble, Path.unlink])
def test_what_is_damaged_is_said_until_a_build_has_mended_it(graph: Graph, harm: Callable[[Path], None]) -> None:
    lookup = ActivationLookup(graph.settings())
    before = {row: answer(lookup, KEY, row) for row in (0, 1, 3)}
    manifests = [(stage, "manifest.json") for stage in ("features", "prompts", "activations", "dashboard")]
    chunk = ("activations", chunk_of(graph, 0).name)
    for stage, name in (chunk, ("features", "features.parquet"), ("prompts", "prompts.parquet"), *manifests):
        file = graph.entry(stage) / name
        harm(file)
        assert "loradash build" in str(answer(ActivationLookup(graph.settings()), KEY, 0)), file
        assert answer(lookup, KEY, 0) == before[0] or "loradash build" in str(answer(lookup, KEY, 0)), file
        graph.run()
        assert {row: answer(lookup, KEY, row) for row in before} == before


def test_where_examples_seemed_to_be_is_forgotten_with_the_damage(graph: Graph) -> None:
    right = {row: answer(ActivationLookup(graph.settings()), KEY, row) for row in (0, 1, 3, 4, 5, 6, 7)}
    lookup = ActivationLookup(graph.settings())
    for file in graph.entry("activations").glob("chunk-*.safetensors"):
        tensors = load_file(file)
        runs = np.split(tensors["tokens"], np.flatnonzero(np.diff(tensors["tokens"]) != 1) + 1)
        starts = [numbers.start for numbers in Built(graph, {None: ""}).examples.values()]
        parts = [part for run in runs for part in np.split(run, np.flatnonzero(np.isin(run, starts))[1:])]
        save_file({**tensors, "tokens": np.concatenate(parts[::-1])}, file)
    assert any("is damaged" in str(answer(lookup, KEY, row)) for row in right)
    graph.run()
    assert {row: answer(lookup, KEY, row) for row in right} == right


def test_only_the_chunk_that_holds_the_example_is_looked_at(graph: Graph) -> None:
    lookup, own = ActivationLookup(graph.settings()), chunk_of(graph, 0)
    before = answer(lookup, KEY, 0)
    others = [file for file in graph.entry("activations").glob("chunk-*.safetensors") if file != own]
    for file in others:
        flip(file)
    assert answer(ActivationLookup(graph.settings()), KEY, 0) == before  # of the others, the token numbers alone
    for file in others:
        file.unlink()
    assert answer(lookup, KEY, 0) == before


def test_flipped_bits_never_give_a_wrong_answer(graph: Graph) -> None:
    right = {row: answer(ActivationLookup(graph.settings()), KEY, row) for row in (0, 1, 3, 4, 5, 6, 7)}
    chunks = sorted(graph.entry("activations").glob("chunk-*.safetensors"))
    random = np.random.default_rng(0)
    said = 0
    for _ in range(300):
        file = chunks[random.integers(len(chunks))]
        whole = file.read_bytes()
        content = bytearray(whole)
        # The header, and the token numbers behind it, are read of every chunk: half of the bits are there.
        end = 8 + int.from_bytes(whole[:8], "little") if random.random() < 0.5 else len(whole)
        place = int(random.integers(end))
        content[place] ^= 1 << int(random.integers(8))
        file.write_bytes(content)
        lookup = ActivationLookup(graph.settings())
        for row, values in right.items():
            found = answer(lookup, KEY, row)
            assert found == values or isinstance(found, str), (file.name, place)
            said += isinstance(found, str)
        file.write_bytes(whole)
    assert said > 300


def test_a_damaged_reference_is_said(graph: Graph) -> None:
    lookup = ActivationLookup(graph.settings())
    assert isinstance(answer(lookup, KEY, 0), list)
    for asset in ("dashboard", "activations"):
        reference = Project(graph.settings()).reference(asset)
        content = reference.read_bytes()
        for damaged in (b"", b"{", b"[]", b"\xff", b'{"entry": 1}'):
            reference.write_bytes(damaged)
            assert "is damaged" in str(answer(lookup, KEY, 0))
        reference.unlink()
        assert answer(lookup, KEY, 0) is None
        reference.write_bytes(content)
    assert isinstance(answer(lookup, KEY, 0), list)
