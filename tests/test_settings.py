"""`loradash.yaml`: its comments, defaults and limits, and that everything wrong with it is named by its path."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from loradash_assets.settings import (
    SETTINGS_FILE,
    DatasetSettings,
    Settings,
    SettingsError,
    choices,
    commented_yaml,
    is_local,
    load_settings,
    sections,
)

REPOSITORY = Path(__file__).parent.parent
FIELDS = [(section, field) for section, kind in sections() for field in kind.model_fields]


def load(directory: Path, content: str, **overrides: dict[str, Any]) -> Settings:
    (directory / SETTINGS_FILE).write_text(content, encoding="utf-8")
    return load_settings(directory, overrides)


def problems(directory: Path, content: str, **overrides: dict[str, Any]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(directory, content, **overrides)
    return str(caught.value).splitlines()


def test_the_repositorys_settings_are_complete_and_commented() -> None:
    text = (REPOSITORY / SETTINGS_FILE).read_text(encoding="utf-8")
    assert text == commented_yaml(load_settings(REPOSITORY))
    assert [(section, field) for section, fields in yaml.safe_load(text).items() for field in fields] == FIELDS


def test_every_setting_has_a_comment_above_it() -> None:
    lines = commented_yaml(Settings()).splitlines()
    commented = [after for before, after in pairwise(lines) if len(before.lstrip(" #")) > 10]
    assert [line.strip().partition(":")[0] for line in commented if line.startswith("  ") and "# " not in line] == [
        field for _, field in FIELDS
    ]


def test_the_originals_defaults(tmp_path: Path) -> None:
    plain = load_settings(tmp_path)
    assert plain.model.base_model == "Qwen/Qwen2.5-32B-Instruct"
    assert (plain.dataset.path, plain.dataset.split) == ("simplescaling/s1K-1.1", "train")
    assert (plain.dataset.num_examples, plain.dataset.prompt_format) == (100, "deepseek")
    assert (plain.tables.top_k, plain.tables.context_window, plain.tables.histogram_bins) == (16, 10, 50)
    assert (plain.annotations.interpretations_file, plain.annotations.port) == ("interpretations.json", 8080)
    assert plain.output_dir == tmp_path / "output"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("tables: {topk: 3}", "tables.topk: unknown setting; did you mean 'top_k'?"),
        ("tabels: {top_k: 3}", "tabels: unknown setting; did you mean 'tables'?"),
        ("store: {zzz: 3}", "store.zzz: unknown setting; known: path"),
        ("project: /etc", "project: unknown section"),
        ("1: 2", "1: keys should be strings"),
        ("tables: {1: 2}", "tables.1: keys should be strings"),
        ("tables: 5", "tables: must hold settings: top_k, context_window, histogram_bins, basis, distinct_contexts"),
        ("tables: {top_k: many}", "tables.top_k: input should be a valid integer (got many)"),
        ("tables: {top_k: 3.0}", "tables.top_k: input should be a valid integer (got 3.0)"),
        ("tables: {top_k: '3'}", "tables.top_k: input should be a valid integer (got '3')"),
        ("tables: {top_k: true}", "tables.top_k: input should be a valid integer (got true)"),
        ("tables: {top_k: null}", "tables.top_k: input should be a valid integer (got null)"),
        ("tables: {top_k: [1]}", "tables.top_k: input should be a valid integer"),
        ("tables: {distinct_contexts: 1}", "tables.distinct_contexts: input should be a valid boolean (got 1)"),
        ("tables: {exclude_special_tokens: 1}", "tables.exclude_special_tokens: input should be a valid boolean"),
        (
            "tables: {exclude_first_positions: -1}",
            "tables.exclude_first_positions: input should be greater than or equal to 0 (got -1)",
        ),
        ("tables: {exclude_token_ids: 3}", "tables.exclude_token_ids: input should be a valid list (got 3)"),
        (
            "tables: {exclude_token_ids: [3, -1]}",
            "tables.exclude_token_ids.1: input should be greater than or equal to 0 (got -1)",
        ),
        (
            "tables: {exclude_token_ids: [3, '4']}",
            "tables.exclude_token_ids.1: input should be a valid integer (got '4')",
        ),
        ("tables: {max_per_example: 0}", "tables.max_per_example: input should be greater than or equal to 1 (got 0)"),
        ("tables: {intervals: 101}", "tables.intervals: input should be less than or equal to 100 (got 101)"),
        (
            "tables: {interval_samples: 0}",
            "tables.interval_samples: input should be greater than or equal to 1 (got 0)",
        ),
        ("tables: {random_samples: -1}", "tables.random_samples: input should be greater than or equal to 0 (got -1)"),
        ("tables: {sample_seed: 0.5}", "tables.sample_seed: input should be a valid integer"),
        ("dataset: {split: 2024-01-01}", "dataset.split: input should be a valid string"),
        ('dashboard: {title: "\\ud800"}', "dashboard.title: input should be a valid string, unable to parse raw data"),
        ('schedule: {cron: "\\ud800"}', "schedule.cron: input should be a valid string, unable to parse raw data"),
        ('store: {path: "\\ud800"}', "store.path: input should be a valid string, unable to parse raw data"),
        ("tables: {top_k: 0}", "tables.top_k: input should be greater than or equal to 1 (got 0)"),
        ("tables: {context_window: -1}", "tables.context_window: input should be greater than or equal to 0 (got -1)"),
        ("dataset: {num_examples: 1e300}", "dataset.num_examples: input should be a valid integer (got 1e300)"),
        (f"dataset: {{num_examples: {10**30}}}", "dataset.num_examples: input should be less than or equal to 21474"),
        ("annotations: {port: 65536}", "annotations.port: input should be less than or equal to 65535 (got 65536)"),
        ("model: {dtype: int8}", "model.dtype: input should be 'auto', 'float32', 'bfloat16' or 'float16' (got int8)"),
        ("model: {device: gpu}", "model.device: string should match pattern"),
        ("model: {device_map: balanced}", "model.device_map: input should be 'auto' (got balanced)"),
        (
            "model: {device: 'cuda:1', device_map: auto}",
            "model.device_map: places the model itself: with it, device must be auto or cuda, not cuda:1",
        ),
        ("dataset: {prompt_format: template}", "dataset.template: prompt_format 'template' needs one (got null)"),
        (
            "dataset: {prompt_format: template, template: '{{ x'}",
            "dataset.template: does not parse: unexpected end of template",
        ),
        (
            "dataset: {prompt_format: template, template: '{{ x | nope }}'}",
            "dataset.template: does not parse: No filter named 'nope'",
        ),
        ("model: {base_model: ''}", "model.base_model: string should match pattern"),
        ('adapter: {path: "a\\0b"}', "adapter.path: string should match pattern"),
        ("adapter: {others: {'a b': x/y}}", "adapter.others.a b: string should match pattern"),
        ("adapter: {others: {a: 3}}", "adapter.others.a: input should be a valid string (got 3)"),
        ("adapter: {others: {a: ./none}}", "adapter.others.a: no such file or directory: {project}/none"),
        ("adapter: {others: {a: x/y, a: x/z}}", "adapter.others.a: stands there twice"),
        ("adapter: {others: {s-1: x/y, S_1: x/z}}", "adapter.others: 's-1' is too much like another adapter's name"),
        ("adapter: {path: x/a, others: {a: x/y}}", "adapter.others: 'a' is too much like another adapter's name"),
        ("adapter: {others: [x/y]}", "adapter.others: input should be a valid dictionary"),
        ("model: {base_model: ./none}", "model.base_model: no such file or directory: {project}/none"),
        ("model: {base_model: none.gguf}", "model.base_model: no such file or directory: {project}/none.gguf"),
        ("adapter: {path: ~nobody-at-all/x}", "adapter.path: no such file or directory: {project}/~nobody-at-all/x"),
        ("dataset: {path: rows.jsonl}", "dataset.path: no such file or directory: {project}/rows.jsonl"),
        (f"dataset: {{path: {'x' * 5000}.csv}}", "dataset.path: no such file or directory: {project}/xxx"),
        ("cluster: {engine: dask}", "cluster.engine: input should be 'local' or 'ray' (got dask)"),
        ("cluster: {address: 'ray://head:10001'}", "cluster.address: string should match pattern"),
        ("tables: {top_k: 1, top_k: 2}", "tables.top_k: stands there twice"),
        ("tables: {top_k: 1}\ntables: {basis: svd}", "tables: stands there twice"),
        ("a: b: c", "line 1, column 5: not valid YAML: mapping values are not allowed here"),
        ("tables:\n\ttop_k: 1", "line 2, column 1: not valid YAML: found character '\\t' that cannot start any token"),
        ("dataset: {split: 2024-99-99}", "not valid YAML: month must be in 1..12"),
        ("a: \x00", "not valid YAML: unacceptable character #x0000"),
        ("[" * 5000, "not valid YAML: maximum recursion depth exceeded"),
        ("- model", "must hold sections such as 'model:', not a list"),
        ("hello", "must hold sections such as 'model:', not a str"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(tmp_path: Path, content: str, problem: str) -> None:
    (line,) = problems(tmp_path, content)
    assert line.startswith(f"loradash.yaml: {problem.replace('{project}', str(tmp_path))}")


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    content = "tables: {topk: 3, basis: pca}\nannotations: {port: x}\nadaptor: {path: y}"
    assert [line.split(": ")[:2] for line in problems(tmp_path, content)] == [
        ["loradash.yaml", "tables.basis"],
        ["loradash.yaml", "tables.topk"],
        ["loradash.yaml", "annotations.port"],
        ["loradash.yaml", "adaptor"],
    ]
    missing = "model: {base_model: ./a}\nadapter: {path: ./b}\ndataset: {path: ./c}"
    assert [line.split(": ")[1] for line in problems(tmp_path, missing)] == [
        "model.base_model",
        "adapter.path",
        "dataset.path",
    ]
    twice = "tables: {top_k: 1, top_k: 2}\nstore: {path: a, path: b}\nstore: {}"
    assert [line.split(": ")[1] for line in problems(tmp_path, twice)] == ["store", "tables.top_k", "store.path"]


def test_a_file_that_cannot_be_read_or_is_not_text(tmp_path: Path) -> None:
    (tmp_path / SETTINGS_FILE).write_bytes(b"model: \xff")
    with pytest.raises(SettingsError, match=r"^loradash.yaml: not valid YAML: 'utf-8' codec can't decode byte 0xff"):
        load_settings(tmp_path)
    (tmp_path / SETTINGS_FILE).unlink()
    (tmp_path / SETTINGS_FILE).mkdir()
    with pytest.raises(SettingsError, match=r"^loradash.yaml: cannot be read: Is a directory$"):
        load_settings(tmp_path)


def test_empty_files_and_sections_mean_the_defaults(tmp_path: Path) -> None:
    for content in ("", "# nothing\n", "tables:\nmodel: {}\n", "---\n...\n"):
        assert load(tmp_path, content) == load_settings(tmp_path.resolve())
        assert load(tmp_path, content).model_dump() == Settings().model_dump()


def test_overrides_count_before_the_file_and_are_named_as_the_command_line(tmp_path: Path) -> None:
    content = "tables: {top_k: 3, basis: svd}"
    changed = load(tmp_path, content, tables={"top_k": 4}, store={"path": "elsewhere"})
    assert (changed.tables.top_k, changed.tables.basis, changed.store.path) == (4, "svd", "elsewhere")
    assert load(tmp_path, "tables:", tables={"top_k": 4}).tables.top_k == 4
    assert problems(tmp_path, "tables: {top_k: 3, basis: pca}", tables={"top_k": 0}) == [
        "command line: tables.top_k: input should be greater than or equal to 1 (got 0)",
        "loradash.yaml: tables.basis: input should be 'raw' or 'svd' (got pca)",
    ]
    assert problems(tmp_path, "", adapter={"path": "./none"})[0].startswith("command line: adapter.path: no such file")


@pytest.mark.parametrize(
    ("name", "suffixes", "local"),
    [
        ("owner/name", set[str](), False),
        ("name", set[str](), False),
        ("simplescaling/s1K-1.1", {".jsonl"}, False),
        ("owner/rows.jsonl", {".jsonl"}, True),
        ("owner/rows.jsonl", {".gguf"}, False),
        ("./owner/name", set[str](), True),
        ("../name", set[str](), True),
        ("/name", set[str](), True),
        ("~/name", set[str](), True),
        ("a/b/c", set[str](), True),
        ("there", set[str](), True),
        ("there/inside", set[str](), True),
        ("package://there/a.gguf", {".gguf"}, False),
    ],
)
def test_what_is_a_path_and_what_a_hub_name(tmp_path: Path, name: str, suffixes: set[str], local: bool) -> None:
    (tmp_path / "there" / "inside").mkdir(parents=True)
    assert is_local(load_settings(tmp_path), name, suffixes) is local


def test_paths_are_relative_to_the_project_not_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    read = load_settings(Path("project"))
    monkeypatch.chdir(elsewhere)
    assert read.resolve("a/../b") == project / "b"
    assert read.resolve("/x") == Path("/x")
    assert read.resolve("~/x") == Path.home() / "x"
    os.symlink("loop", project / "loop")
    assert read.resolve("loop") == project / "loop"


def test_fingerprints_change_with_the_values_they_cover() -> None:
    one, other = DatasetSettings(), DatasetSettings(num_examples=7)
    assert one.fingerprint() == DatasetSettings(num_examples=100).fingerprint()
    assert one.fingerprint() != other.fingerprint()
    assert one.fingerprint("num_examples") != other.fingerprint("num_examples")
    assert one.fingerprint("path", "split") == other.fingerprint("path", "split")
    with pytest.raises(KeyError, match="pth"):
        one.fingerprint("pth")


def test_choices_are_those_of_fixed_lists_only() -> None:
    assert choices("tables", "basis") == ("raw", "svd")
    assert choices("dataset", "prompt_format") == ("text", "deepseek", "chat", "template")
    assert choices("adapter", "path") == choices("adapter", "rank") == choices("tables", "top_k") == ()


LIKE_YAML = ["null", "yes", "1e3", "2024-01-01", "<<", "{{", "0o7", "1:30", "...", "---", ">-", "&a", "*b", "!x"]
MARKS = list("~'\"\\=%|#1")
BREAKS = ["\n", "\r\n", "a\n\n  b\t\n", "\x85", "\u2028x", "---\nmodel:", "word " * 40]
UNSEEN = ["\ufeff", "\x7f", "\x1b[31m", "\u202e", "\u3000", " lead", "trail ", "\t", "\uffff"]
HOSTILE = st.text(min_size=1) | st.sampled_from([*LIKE_YAML, *MARKS, *BREAKS, *UNSEEN, "- a", "a: b", " #", "🙂"])
HUB_NAME = st.sampled_from(["owner/name", "yes", "'", '"', "a b", "x: y", "#", "1"])
NAME = HOSTILE.filter(lambda text: "\0" not in text)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    title=st.just("") | HOSTILE,
    config=st.none() | HOSTILE,
    split=NAME,
    output=NAME,
    timezone=NAME,
    top_k=st.integers(1, 2**31 - 1),
    rank=st.none() | st.integers(1, 64),
    distinct=st.booleans(),
    others=st.dictionaries(st.sampled_from(["step-200", "0", "1e3", "null", "a.b"]), HUB_NAME),
)
@example("", "", "\u2028", "\x7f", "\x85", 1, None, True, {"no": "a/b"})
def test_settings_survive_being_written_and_read(
    tmp_path: Path,
    title: str,
    config: str | None,
    split: str,
    output: str,
    timezone: str,
    top_k: int,
    rank: int | None,
    distinct: bool,
    others: dict[str, str],
) -> None:
    written = Settings.model_validate(
        {
            "adapter": {"rank": rank, "others": others},
            "dataset": {"config": config, "split": split},
            "tables": {"top_k": top_k, "distinct_contexts": distinct},
            "dashboard": {"title": title, "output_dir": output},
            "schedule": {"timezone": timezone},
            "project": tmp_path,
        }
    )
    text = commented_yaml(written)
    assert load(tmp_path, text) == written
    assert len(text.split("\n")) == len(commented_yaml(Settings()).split("\n"))
