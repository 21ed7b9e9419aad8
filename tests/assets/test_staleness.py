"""The staleness table: what each setting and each source recomputes, counted until nothing is left to compute."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from loradash_assets.assets import dashboard, project
from loradash_assets.settings import Settings
from tests.assets.graph import Graph, next_second
from tests.projects import save_adapter, save_base, save_project

LAYERS = frozenset(f"top_tokens/layer_{layer:02d}" for layer in range(3))
PAGES = frozenset({"dashboard", "interpretation_report"})
OUTPUTS = PAGES | {"activations_data", "annotated_features", "published_tables"}
SHOWN = LAYERS | OUTPUTS
RECORDED = SHOWN | {"activations", "coactivation"}
AT_ANOTHER_TIME = OUTPUTS | {"activations"}  # the same activations, recorded again
OF_ADAPTER = frozenset({"features", "geometry", "interpretations"})
OF_DATASET = RECORDED | {"dataset_rows", "prompts"}
ALL = OF_DATASET | OF_ADAPTER | {"base_model"}
NOTHING = frozenset[str]()
MADE = (".loradash", ".dagster", "output", "elsewhere")  # by runs

# By setting: another value, and what is computed for it. A setting that is not here fails a test.
SETTINGS: dict[str, tuple[Any, frozenset[str]]] = {
    "tables.top_k": (3, SHOWN),
    "tables.context_window": (2, SHOWN),
    "tables.histogram_bins": (7, SHOWN),
    "tables.basis": ("svd", SHOWN | {"coactivation"}),
    "tables.distinct_contexts": (False, SHOWN),
    "tables.exclude_special_tokens": (True, SHOWN),
    "tables.exclude_first_positions": (2, SHOWN),
    "tables.exclude_token_ids": ([1, 5], SHOWN),
    "tables.max_per_example": (1, SHOWN),
    "tables.intervals": (3, SHOWN),
    "tables.interval_samples": (1, SHOWN),
    "tables.random_samples": (0, SHOWN),
    "tables.sample_seed": (1, SHOWN),
    "dashboard.title": ("Another", PAGES),
    "dashboard.single_file_mb": (0, frozenset({"dashboard"})),
    "dashboard.output_dir": ("elsewhere", NOTHING),
    "annotations.interpretations_file": ("others.json", NOTHING),
    "annotations.port": (1234, NOTHING),
    "schedule.cron": (None, NOTHING),
    "schedule.timezone": ("Europe/Berlin", NOTHING),
    "schedule.notes": (False, NOTHING),
    "dagster.owners": (["team:interpretability"], NOTHING),
    "dagster.fresh_hours": (None, NOTHING),
    "store.path": ("elsewhere", ALL),
}
SETTINGS |= {
    "dataset.path": ("copy.jsonl", OUTPUTS | {"dataset_rows"}),  # the same rows, under another name
    "dataset.num_examples": (5, OF_DATASET),
    "dataset.prompt_format": ("chat", OF_DATASET - {"dataset_rows"}),
    "dataset.text_column": ("question", frozenset({"prompts"})),
    "dataset.messages_column": ("others", frozenset({"prompts"})),
    "dataset.template": ("{{ question }}", frozenset({"prompts"})),
    "dataset.max_tokens": (12, OF_DATASET - {"dataset_rows"}),
    "model.base_model": ("./copied_base", OUTPUTS | {"base_model"}),  # the same model, under another name
    "model.dtype": ("float32", AT_ANOTHER_TIME),
    "model.device": ("cpu", AT_ANOTHER_TIME),
    "model.trust_remote_code": (True, NOTHING),
    "adapter.path": ("./copied_adapter", OUTPUTS | {"features"}),  # the same adapter, under another name
    "adapter.rank": (1, frozenset({"features"})),
    "adapter.allow_pickle": (True, frozenset({"features"})),
    "adapter.allow_other_base": (True, frozenset({"features"})),
    "recording.batch_tokens": (80, RECORDED),
    "recording.chunk_tokens": (100, RECORDED),
    "recording.share_prefixes": (False, RECORDED),
    "cluster.engine": ("ray", NOTHING),
    "cluster.address": ("localhost:6379", NOTHING),
    "cluster.workers": (2, NOTHING),
    "cluster.gpus_per_worker": (2, NOTHING),
    "cluster.threads": (1, NOTHING),
    "cluster.shared_store": ("elsewhere", NOTHING),
    "cluster.attempts": (1, NOTHING),
}
ELSEWHERE = {  # settings that this project cannot have
    "dataset.config": "of a dataset on the hub",
    "dataset.split": "of a dataset on the hub, or a directory",
    "model.device_map": "of several GPUs",
    "adapter.others": "changes the graph: tests/assets/test_several_adapters.py",
    "adapter.checkpoints": "changes the graph: tests/assets/test_checkpoints.py",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """A project that was built, with copies of what it is made from."""
    directory = save_project(tmp_path_factory.mktemp("staleness") / "project")
    shutil.copytree(directory / "base", directory / "copied_base")
    shutil.copytree(directory / "adapter", directory / "copied_adapter")
    shutil.copy(directory / "rows.jsonl", directory / "copy.jsonl")
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(directory, instance)
        assert _computed(graph) == ALL
        yield graph


def _computed(graph: Graph) -> frozenset[str]:
    """What a run of everything computes; the rest is in the store."""
    return frozenset(name for name, cache in graph.run().items() if cache == "miss")


def test_every_setting_is_in_the_table() -> None:
    sections = Settings().model_dump().items()
    assert {f"{section}.{name}" for section, fields in sections for name in fields} == {*SETTINGS, *ELSEWHERE}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_recomputes_just_that(built: Graph, setting: str) -> None:
    """What the settings before recomputed is not computed again: the store still has it."""
    value, computed = SETTINGS[setting]
    section, field = setting.split(".")
    with _restored(built.project / "loradash.yaml"):
        built.change(**{section: {field: value}})
        if computed == AT_ANOTHER_TIME:
            next_second()
        assert _computed(built) == computed


def test_one_run_leaves_nothing_to_compute_and_setting_back_costs_nothing(built: Graph) -> None:
    with _restored(built.project / "loradash.yaml"):
        built.change(tables={"top_k": 5}, dataset={"num_examples": 4})
        assert _computed(built) == OF_DATASET
        assert _computed(built) == NOTHING
    assert _computed(built) == NOTHING


@contextmanager
def _restored(file: Path) -> Generator[None]:
    before = file.read_text()
    try:
        yield
    finally:
        file.write_text(before)


def _append_a_row(directory: Path) -> None:
    with (directory / "rows.jsonl").open("a") as file:
        file.write((directory / "rows.jsonl").read_text().splitlines()[0].replace("Anna", "Bert") + "\n")


def _touch(directory: Path) -> None:
    for file in (directory / "rows.jsonl", directory / "adapter" / "adapter_model.safetensors"):
        file.touch()


def _write_a_note(directory: Path) -> None:
    notes = {"interpretations": {"layer_1_gate_proj_positive": {"text": "a note", "starred": True}}}
    (directory / "interpretations.json").write_text(json.dumps(notes))


SOURCES: dict[str, tuple[Callable[[Path], object], frozenset[str]]] = {
    "another row in the dataset": (_append_a_row, OF_DATASET),
    "files that were only touched": (_touch, NOTHING),
    "other adapter weights": (
        lambda at: save_adapter(at / "adapter", at / "base", seed=2),
        RECORDED | OF_ADAPTER,
    ),
    "another base model": (lambda at: save_base(at / "base", seed=3), RECORDED | {"base_model", "prompts", "features"}),
    "a note": (_write_a_note, PAGES | {"interpretations", "annotated_features"}),
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_recomputes_just_that_and_putting_it_back_nothing(built: Graph, tmp_path: Path, source: str) -> None:
    change, computed = SOURCES[source]
    with _put_back(built.project, tmp_path):
        change(built.project)
        assert _computed(built) == computed
    assert _computed(built) == NOTHING


@contextmanager
def _put_back(project: Path, kept: Path) -> Generator[None]:
    """Put everything but what runs make back as it was."""
    shutil.copytree(project, kept, ignore=shutil.ignore_patterns(*MADE), dirs_exist_ok=True)
    try:
        yield
    finally:
        for path in project.iterdir():
            if path.name not in MADE:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(kept, project, dirs_exist_ok=True)


# By the module whose code changes, through a library or a file of its own: what is computed again.
CODE = {
    "loradash_assets.compute.rows": frozenset({"dataset_rows"}),
    "loradash_assets.compute.encode": frozenset({"prompts"}),
    "loradash_assets.compute.base_model": frozenset({"base_model"}),
    "loradash_assets.compute.catalogue": frozenset({"features"}),
    "loradash_assets.compute.geometry": frozenset({"geometry"}),
    "loradash_assets.compute.activations": AT_ANOTHER_TIME,
    "loradash_assets.compute.layers": LAYERS,
    "loradash_assets.compute.coactivation": frozenset({"coactivation"}),
    "loradash_assets.compute.interpretations": frozenset({"interpretations"}),
    "loradash_assets.site.outputs": OUTPUTS,
}


@pytest.mark.parametrize("module", CODE)
def test_other_code_computes_its_own_results_again_and_equal_ones_go_no_further(
    built: Graph, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    version = project.code_version
    monkeypatch.setattr(project, "code_version", lambda name: f"{version(name)}{'*' * (name == module)}")
    if CODE[module] == AT_ANOTHER_TIME:
        next_second()
    assert _computed(built) == CODE[module]


def test_another_template_draws_the_pages_alone(built: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "resources_version", lambda _: "other")
    assert _computed(built) == PAGES


def test_the_page_in_the_documentation_has_this_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "lineage.md").read_text(encoding="utf-8")
    sources = [f"| {name} | {_said(computed)} |" for name, (_, computed) in SOURCES.items()]
    settings = [f"| `{name}` | {_said(computed)} |" for name, (_, computed) in SETTINGS.items()]
    lines = [*sources, *settings, f"| code or templates of the pages alone | {_said(PAGES)} |"]
    missing = [line for line in lines if line not in page]
    assert missing == [], "\n".join(missing)


def _said(computed: frozenset[str]) -> str:
    """The assets' names in the order of the graph, with the layers' tables and other groups by one name each."""
    if not computed:
        return "nothing"
    if computed == ALL:
        return "everything"
    order = ("dataset_rows", "base_model", "prompts", "features", "geometry", "activations", "coactivation")
    names = [name for name in order if name in computed]
    names += ["tables"] if computed >= LAYERS else []
    names += ["interpretations"] if "interpretations" in computed else []
    if computed >= OUTPUTS:
        names += ["outputs"]
    else:
        names += ["annotated_features"] if "annotated_features" in computed else []
        names += ["pages"] if computed >= PAGES else sorted(computed & PAGES)
    return ", ".join(names)
