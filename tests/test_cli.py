"""The command line on real projects: what it does, what it says, and that an error is one clear message."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner, Result

from annotation_server.store import Store
from loradash_assets import run
from loradash_assets.assets.project import STORE_IO
from loradash_assets.cli import main
from loradash_assets.compute import layers
from loradash_assets.definitions import build_definitions
from loradash_assets.settings import Settings, commented_yaml, load_settings
from tests import pages
from tests.annotation_server.service import running
from tests.projects import save_project

OUTPUTS = {
    "lora_activations_dashboard.html",
    "activations_data.json",
    "interpretation_report.html",
    "interpretation_report.csv",
    "tables",
}
COMMANDS = ("build", "generate", "render", "annotate", "import", "export", "ui", "init", "clean")
OWN_LINE = re.compile(r"  [a-z_]+(/\w+)?: (computed in \d+\.\d s|unchanged, taken from the store)")


def loradash(*arguments: str) -> Result:
    """Run the command line in this process and in the working directory."""
    return CliRunner().invoke(main, arguments, prog_name="loradash")


def said(stderr: str) -> list[str]:
    """Return the lines on standard error, without the progress bars."""
    return [line for line in re.split(r"[\r\n]+", stderr) if line and "%|" not in line]


def error(*arguments: str) -> str:
    """Run a command that fails in a way that the user can act on; return its message."""
    result = loradash(*arguments)
    lines = said(result.stderr)
    last = next(number for number, line in enumerate(lines) if line.startswith("Error: "))
    assert (result.exit_code, result.stdout) == (1, "")
    assert [line for line in lines[:last] if not OWN_LINE.fullmatch(line)] == []
    assert "Traceback" not in result.stderr
    assert "Stack Trace" not in result.stderr
    return "\n".join(lines[last:]).removeprefix("Error: ")


def contents(directory: Path) -> dict[str, bytes]:
    return {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


def shown(page: Path) -> dict[str, Any]:
    """Return the data that a dashboard carries."""
    return json.loads(pages.shown(page))


@pytest.fixture(scope="module")
def first_build(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A project of this module's, built by the installed program in a process of its own."""
    project = save_project(tmp_path_factory.mktemp("built") / "project")
    program = Path(sys.executable).with_name("loradash")
    done = subprocess.run([program, "build"], cwd=project, capture_output=True, text=True, check=False)
    return project, done


@pytest.fixture
def project(first_build: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(first_build[0])
    return first_build[0]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_build_leaves_the_results_and_prints_what_each_asset_did(
    first_build: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    project, done = first_build
    dashboard = project / "output" / "lora_activations_dashboard.html"
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Computed all 16 results.",
        f"Data file: {project}/output/activations_data.json",
        f"Dashboard: {dashboard}",
        "Write notes on it with 'loradash annotate'; see the asset graph with 'loradash ui'.",
    ]
    *of_assets, size, sharing = sorted(said(done.stderr), key=lambda line: not OWN_LINE.fullmatch(line))
    assert len(of_assets) == 16
    assert re.fullmatch(r"  activations: the recording takes .* in the store; .* are free", size)
    assert sharing == "  activations: prefixes that examples share run once for all"
    assert set(contents(project / "output")) >= OUTPUTS - {"tables"}
    assert {path.name for path in (project / "output").iterdir()} >= OUTPUTS
    assert len(shown(dashboard)["adapters"][0]["layers"]) == 3
    assert list((project / ".dagster").rglob("*.db"))


def test_a_second_build_recomputes_nothing_and_says_so(project: Path) -> None:
    before = contents(project / "output")
    result = loradash("build")
    assert result.exit_code == 0
    assert result.stdout.startswith("Nothing to recompute: all 16 results were in the store.\n")
    assert [line for line in said(result.stderr) if "unchanged" not in line] == []
    assert contents(project / "output") == before


def test_what_is_damaged_in_the_store_is_recomputed_and_nothing_else(project: Path) -> None:
    before = contents(project / "output")
    (table, *_) = (project / ".loradash" / "store" / "top_tokens").glob("*/shown.parquet")
    table.write_bytes(table.read_bytes()[:-1])
    assert loradash("build").stdout.startswith("Computed 1 of 16 results; the others were in the store.\n")
    assert contents(project / "output") == before


def test_generate_writes_the_data_file_where_it_is_told_and_leaves_the_page_alone(
    project: Path, tmp_path: Path
) -> None:
    page = (project / "output" / "lora_activations_dashboard.html").read_bytes()
    target = tmp_path / "new" / "data.json"
    options = ["--num-examples", "2", "--top-k", "3", "--context-window", "1", "--histogram-bins", "7", "--rank", "1"]
    result = loradash("generate", "--no-copy", "--output", str(target), *options, "--output-dir", str(tmp_path / "out"))
    assert (result.exit_code, result.stdout.splitlines()[1:]) == (0, [f"Data file: {target}"])
    data = json.loads(target.read_bytes())
    assert [data["metadata"][name] for name in ("numExamples", "topK", "contextWindow")] == [2, 3, 1]
    feature = data["layers"][0]["gate_proj"]
    assert (len(feature["topPositive"]), len(feature["histogram"]["bins"])) == (3, 8)
    assert {name for name in contents(tmp_path / "out") if "rollout" not in name} == {"activations_data.json"}
    assert (project / "output" / "lora_activations_dashboard.html").read_bytes() == page


@pytest.mark.usefixtures("project")
def test_how_many_rows_are_read_where_nothing_says(tmp_path: Path) -> None:
    rows = "\n".join(json.dumps({"text": f"{number} apples"}) for number in range(120))
    (tmp_path / "rows.jsonl").write_text(rows, encoding="utf-8")
    shared = ["--dataset", str(tmp_path / "rows.jsonl"), "--prompt-format", "text", "--output-dir", str(tmp_path)]
    for command, count in (("build", 50), ("generate", 100)):
        assert loradash(command, "--no-copy", *shared).exit_code == 0
        metadata = json.loads((tmp_path / "activations_data.json").read_bytes())["metadata"]
        assert metadata["numExamples"] == count, command
    assert not (tmp_path / "lora_activations_dashboard.html").exists()


def test_the_file_says_how_many_rows_unless_an_option_does(project: Path, tmp_path: Path) -> None:
    settings = json.loads((project / "loradash.yaml").read_bytes())
    settings["dataset"]["num_examples"] = 3
    (project / "loradash.yaml").rename(tmp_path / "keep")
    (project / "loradash.yaml").write_text(json.dumps(settings), encoding="utf-8")
    for arguments, count in ((["build"], 3), (["generate", "--num-examples", "5"], 5)):
        assert loradash(*arguments, "--no-copy", "--output-dir", str(tmp_path)).exit_code == 0
        assert json.loads((tmp_path / "activations_data.json").read_bytes())["metadata"]["numExamples"] == count
    (tmp_path / "keep").replace(project / "loradash.yaml")


def test_render_draws_the_last_build_with_the_notes_of_now(project: Path, tmp_path: Path) -> None:
    assert loradash("build").exit_code == 0
    data = (project / "output" / "activations_data.json").read_bytes()
    note = {"layer_1_gate_proj_positive": {"text": "numbers </script>", "starred": True, **LABELLED}}
    (project / "interpretations.json").write_text(json.dumps({"interpretations": note}), encoding="utf-8")
    result = loradash("render", "--output", str(tmp_path / "page.html"))
    (project / "interpretations.json").unlink()
    assert result.stdout.splitlines() == ["Computed all 2 results.", f"Dashboard: {tmp_path}/page.html"]
    assert shown(tmp_path / "page.html")["notes"] == [[*each] for each in note.items()]
    page = project / "output" / "lora_activations_dashboard.html"
    assert page.read_bytes() == (tmp_path / "page.html").read_bytes()
    assert (project / "output" / "activations_data.json").read_bytes() == data
    assert loradash("render").stdout.splitlines()[1:] == [f"Dashboard: {page}"]
    assert "numbers" not in json.dumps(shown(page))


LABELLED: dict[str, Any] = {
    "lastModified": "2026-03-02T00:00:00Z",
    "textBy": "Ann",
    "textAt": "2026-03-01T00:00:00Z",
    "examplesSeen": ["0a0a0a0a"],
    "labels": {"Bo": {"tags": ["dense"], "confidence": None, "at": "2026-03-02T00:00:00Z"}},
}


def original() -> dict[str, Any]:
    """Return a file as the original wrote it."""
    example = {
        "activation": 1.5,
        "rollout_idx": 7,
        "token_idx": 1,
        "token": " world",
        "context": ["hello", " world"],
        "target_position": 1,
        "context_activations": [0.25, 1.5],
    }
    lists = {"topPositive": [example], "topNegative": [], "stats": {"min": 0.25, "max": 1.5}, "histogram": None}
    return {
        "metadata": {
            "modelName": "Qwen/Qwen2.5-32B-Instruct",
            "loraPath": "/somewhere/lora",
            "numLayers": 64,
            "loraLayers": [10],
            "numLoraLayers": 1,
            "numExamples": 50,
            "topK": 16,
            "contextWindow": 10,
            "generatedAt": "2025-07-21T05:00:10.069773",
        },
        "layers": [
            {
                "layerIdx": 10,
                "cosineSimilarities": {"gate_proj_gate_proj": 1.0, "gate_proj_up_proj": -0.5},
                "gate_proj": lists,
                "up_proj": lists,
                "down_proj": lists,
            }
        ],
    }


def test_render_draws_a_file_of_the_original_anywhere(empty: Path) -> None:
    (empty / "data.json").write_text(json.dumps(original()), encoding="utf-8")
    note = {"layer_10_up_proj_positive": {"text": "greets the world", "starred": False, **LABELLED}}
    (empty / "interpretations.json").write_text(json.dumps({"interpretations": note}), encoding="utf-8")
    before = contents(empty)
    result = loradash("render", "--data", "data.json")
    assert (result.exit_code, result.stdout) == (0, f"Dashboard: {empty}/lora_activations_dashboard.html\n")
    page = shown(empty / "lora_activations_dashboard.html")
    assert page["adapters"][0]["layers"] == [10]
    assert " world" in page["parts"]["texts-0"]["strings"]
    assert page["notes"] == [[*each] for each in note.items()]
    assert contents(empty).keys() - before.keys() == {"lora_activations_dashboard.html"}
    assert before.items() <= contents(empty).items()
    assert loradash("render", "--data", "data.json", "--output", "a/b.html").exit_code == 0
    assert shown(empty / "a" / "b.html") == page


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "data.json: $: not valid JSON: Input data was truncated"),
        ("{broken", "data.json: $: not valid JSON"),
        ("[]", "data.json: $: Expected `object`, got `array`"),
        ('{"layers": []}', "data.json: $: Object missing required field `metadata`"),
        ("topK", "data.json: $.metadata.topK: Expected `int`, got `str`"),
        ("NaN", "data.json: $: not valid JSON"),
    ],
)
def test_a_bad_data_file_is_one_clear_line_and_replaces_no_page(empty: Path, content: str, problem: str) -> None:
    if content in ("topK", "NaN"):
        text = json.dumps(original())
        content = text.replace('"topK": 16', '"topK": "x"') if content == "topK" else text.replace("0.25", "NaN")
    (empty / "data.json").write_text(content, encoding="utf-8")
    (empty / "lora_activations_dashboard.html").write_text("an older page", encoding="utf-8")
    message = error("render", "--data", "data.json")
    assert message.startswith(problem)
    assert "\n" not in message
    assert (empty / "lora_activations_dashboard.html").read_text(encoding="utf-8") == "an older page"


def test_render_before_a_build_says_what_to_do(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(project, tmp_path / "new", ignore=shutil.ignore_patterns(".loradash", ".dagster", "output"))
    monkeypatch.chdir(tmp_path / "new")
    message = error("render")
    assert "has not been materialised yet" in message
    assert message.endswith("('loradash build' makes what is missing)")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rank", "3"], r"adapter\.rank: model\.layers\.0\.self_attn\.q_proj has rank 1, not 3"),
        (["--lora-path", "./gone"], r"command line: adapter\.path: no such file or directory: /.*/gone"),
        (["--lora-path", "gone/away"], r"adapter\.path: 'gone/away' is no local directory, and the hub says: .*"),
        (
            ["--lora-path", "./base"],
            r"adapter\.path: /.*/base holds a whole model and no adapter_config\.json; .* adapter itself",
        ),
        (["--base-model", "./adapter"], r"model\.base_model: /.*/adapter holds an adapter_config\.json, .*"),
        (
            ["--dataset", "bad.jsonl"],
            r"dataset\.path: none of the 2 rows is usable: row 0: no field 'deepseek_thinking_trajectory'; "
            r"row 1: not valid JSON: .*",
        ),
        (["--dataset", "loradash.yaml"], r"dataset\.path: /.*/loradash\.yaml must end in one of \.jsonl, .*"),
        (["--top-k", "0"], r"command line: tables\.top_k: input should be greater than or equal to 1 \(got 0\)"),
        (["--output-dir", "rows.jsonl"], r"(FileExists|NotADirectory)Error: .*/project/rows\.jsonl.*"),
    ],
)
def test_what_cannot_be_used_is_one_clear_message_and_loses_nothing(
    project: Path, options: list[str], message: str
) -> None:
    (project / "bad.jsonl").write_text('{"question": 1}\nnot json\n', encoding="utf-8")
    before = contents(project / "output")
    (line, *others) = error("build", *options).splitlines()
    assert re.fullmatch(message, line), line
    assert [other for other in others if not re.fullmatch(message, other)] == []
    assert contents(project / "output") == before


def test_a_broken_file_of_notes_is_named_and_kept(project: Path) -> None:
    before = contents(project / "output")
    (project / "interpretations.json").write_text('{"interpretations": ', encoding="utf-8")
    try:
        line = r"interpretations\.json: line 1, column 21: .*"
        assert re.fullmatch(rf"annotations\.interpretations_file: {line}", error("build"))
        assert re.fullmatch(rf".*{line}", error("annotate", "--port", "0").splitlines()[0])
        assert (project / "interpretations.json").read_text(encoding="utf-8") == '{"interpretations": '
        assert contents(project / "output") == before
    finally:
        (project / "interpretations.json").unlink()


@pytest.mark.parametrize("arguments", [[], ["build"], ["generate"], ["render"], ["annotate"], ["ui"]])
def test_broken_settings_stop_every_command_before_it_starts(empty: Path, arguments: list[str]) -> None:
    (empty / "loradash.yaml").write_text("tables: {topk: 3}\nstore: {path: 7}\n", encoding="utf-8")
    assert error(*arguments).splitlines() == [
        "loradash.yaml: tables.topk: unknown setting; did you mean 'top_k'?",
        "loradash.yaml: store.path: input should be a valid string (got 7)",
    ]
    assert list(contents(empty)) == ["loradash.yaml"]


@pytest.mark.parametrize(
    ("schedule", "problem"), [({"cron": "often"}, "invalid cron schedule 'often'"), ({"timezone": "Mars/X"}, "Mars/X")]
)
def test_an_impossible_schedule_is_named(project: Path, schedule: dict[str, str], problem: str) -> None:
    kept = (project / "loradash.yaml").read_text(encoding="utf-8")
    (project / "loradash.yaml").write_text(json.dumps({**json.loads(kept), "schedule": schedule}), encoding="utf-8")
    message = error("build")
    (project / "loradash.yaml").write_text(kept, encoding="utf-8")
    assert message.startswith("loradash.yaml: schedule")
    assert problem in message


@pytest.mark.parametrize("command", ["build", "generate", "render", "ui"])
def test_without_an_adapter_every_command_asks_for_one(empty: Path, command: str) -> None:
    assert error(command).startswith("adapter.path: name the adapter's directory or hub name")
    assert contents(empty) == {}


def test_a_port_that_is_taken_is_named(empty: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert error("annotate", "--port", str(port)).startswith(f"cannot listen on 127.0.0.1 port {port}: ")
    assert contents(empty) == {}


def test_a_first_time_user_learns_what_to_do_next(empty: Path) -> None:
    result = loradash()
    assert result.exit_code == 0
    assert all(f"\n  {command} " in result.stdout for command in COMMANDS)
    assert "..." not in result.stdout.partition("Commands:")[2]  # no summary is cut short
    assert "Next: 'loradash init' writes loradash.yaml" in result.stdout
    assert "loradash build --base-model MODEL --lora-path ADAPTER --dataset DATASET" in result.stdout
    (empty / "loradash.yaml").write_text("dashboard: {output_dir: results}", encoding="utf-8")
    assert loradash().stdout.endswith(
        "\nNext: 'loradash build' makes the dashboard that loradash.yaml here describes.\n"
    )
    (empty / "results").mkdir()
    page = empty / "results" / "lora_activations_dashboard.html"
    page.touch()
    assert loradash().stdout.endswith(f"\nNext: open {page}, or write notes on it with 'loradash annotate'.\n")


def test_init_writes_every_setting_once(empty: Path) -> None:
    result = loradash("init")
    assert (result.exit_code, result.stdout.startswith(f"Wrote {empty}/loradash.yaml.")) == (0, True)
    written = (empty / "loradash.yaml").read_text(encoding="utf-8")
    assert written == commented_yaml(Settings())
    assert yaml.safe_load(written)["tables"]["top_k"] == 16
    assert yaml.safe_load((empty / "dagster.yaml").read_bytes())["storage"]["sqlite"]["base_dir"] == ".dagster/history"
    (empty / "loradash.yaml").write_text("tables: {top_k: 7}", encoding="utf-8")
    assert error("init") == f"{empty}/loradash.yaml is there already"
    assert (empty / "loradash.yaml").read_text(encoding="utf-8") == "tables: {top_k: 7}"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["bulid"], "No such command 'bulid'. Did you mean 'build'?"),
        (["build", "--topk", "3"], "No such option '--topk'. Did you mean '--top-k'?"),
        (
            ["build", "--exclude-token-ids", "3,x"],
            "Invalid value for '--exclude-token-ids': 'x' is not a valid integer.",
        ),
        (["build", "--top-k", "many"], "Invalid value for '--top-k': 'many' is not a valid integer."),
        (["build", "--basis", "pca"], "Invalid value for '--basis': 'pca' is not one of 'raw', 'svd'."),
        (["render", "--data", "gone.json"], "Invalid value for '--data': File 'gone.json' does not exist."),
        (["annotate", "--port", "99999"], "Invalid value for '--port': 99999 is not in the range 0<=x<=65535."),
        (["import"], "name a FILE, or --undo the last import"),
        (
            ["import", "--by", " Ada"],
            "Invalid value for '--by': 1 to 80 characters, no control characters, no blank at either end",
        ),
        (
            ["export", "--format", "xml"],
            "Invalid value for '--format': 'xml' is not one of 'json', 'json-short', 'csv'.",
        ),
        (["render", "--output", "."], "Invalid value for '--output': File '.' is a directory."),
    ],
)
def test_a_mistyped_command_or_option_is_named(empty: Path, arguments: list[str], problem: str) -> None:
    result = loradash(*arguments)
    assert (result.exit_code, said(result.stderr)[-1]) == (2, f"Error: {problem}")
    assert contents(empty) == {}


OURS = (
    *("--dataset", "--prompt-format", "--text-column", "--output-dir", "--basis", "--distinct-contexts"),
    *("--exclude-special-tokens", "--exclude-first-positions", "--exclude-token-ids", "--max-per-example"),
    *("--intervals", "--interval-samples", "--random-samples", "--sample-seed"),
)
GENERATE = {
    "--base-model": "Qwen/Qwen2.5-32B-Instruct",
    "--lora-path": None,
    "--num-examples": 100,
    "--top-k": 16,
    "--context-window": 10,
    "--no-copy": None,
    "--rank": None,
    "--output": None,
    "--histogram-bins": 50,
    **dict.fromkeys(OURS),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "generate": GENERATE,
    "build": {**GENERATE, "--num-examples": 50},
    "render": {"--data": "the project's own results", "--output": "lora_activations_dashboard.html"},
    "annotate": {"--port": 8080, "--interpretations-file": "interpretations.json"},
}


@pytest.mark.parametrize("command", OPTIONS)
def test_every_option_of_the_original_is_there_with_its_default_and_a_description(command: str) -> None:
    described = {
        paragraph.split()[0]: " ".join(paragraph.split()[1:])
        for paragraph in re.split(r"\n  (?=--)", loradash(command, "--help").stdout)
    }
    for option, default in OPTIONS[command].items():
        assert len(described[option]) > 30, option
        assert default is None or f"[default: {default}" in described[option], option


def test_a_file_in_the_way_is_named(empty: Path) -> None:
    (empty / "data.json").write_text(json.dumps(original()), encoding="utf-8")
    assert error("render", "--data", "data.json", "--output", "data.json/page.html") == "data.json: File exists"


@dg.op
def breaks() -> None:
    raise ZeroDivisionError("a mistake of ours")


@dg.job
def broken() -> None:
    breaks()


def test_a_mistake_of_ours_keeps_its_stack_trace() -> None:
    message = run._failure(broken.execute_in_process(raise_on_error=False))
    assert message.startswith("asset 'breaks' failed: ZeroDivisionError: a mistake of ours\n\nStack Trace:\n")
    assert Path(__file__).name in message


def test_clean_removes_what_no_current_result_is_and_asks_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(save_project(tmp_path / "project"))
    for top_k in ("3", "4"):
        assert loradash("build", "--top-k", top_k).exit_code == 0
    store = tmp_path / "project" / ".loradash" / "store"
    before = contents(store)
    refused = CliRunner().invoke(main, ["clean"], input="n\n")
    assert refused.exit_code == 1
    assert refused.stdout.count("not in use") == 8  # three tables, and the five results made of them
    assert contents(store) == before
    assert "Remove" not in loradash("clean", "--older-than", "1", "--yes").stdout
    assert re.search(r"^Removed 8 results, \d+\.\d kB\.$", loradash("clean", "--yes").stdout, re.MULTILINE)
    assert "not in use" not in loradash("clean").stdout
    assert loradash("build", "--top-k", "4").stdout.startswith("Nothing to recompute: all 16 results")
    assert loradash("build", "--top-k", "3").stdout.startswith("Computed 8 of 16 results")


def test_clean_waits_for_a_run_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of any project that shares the store: here, an asset that tries to clean."""
    store = str(tmp_path / "shared")
    running = save_project(tmp_path / "running", store={"path": store})
    monkeypatch.chdir(save_project(tmp_path / "project", store={"path": store}))
    unused = tmp_path / "shared" / "store" / "activations" / "old"
    unused.mkdir(parents=True)
    said: list[Result] = []

    @dg.asset(deps=["dataset_rows"], io_manager_key=STORE_IO)
    def cleaning() -> None:
        said.append(loradash("clean", "--yes"))

    definitions = dg.Definitions.merge(build_definitions(load_settings(running)), dg.Definitions([cleaning]))
    with dg.DagsterInstance.ephemeral() as instance:
        job = definitions.resolve_implicit_global_asset_job_def()
        selected = [dg.AssetKey("dataset_rows"), dg.AssetKey("cleaning")]
        job.execute_in_process(instance=instance, asset_selection=selected, raise_on_error=False)
    assert [each.exit_code for each in said] == [1]
    assert "a run is using the store" in said[0].stderr
    assert unused.is_dir()
    assert loradash("clean", "--yes").exit_code == 0
    assert not unused.exists()


def test_a_wrong_table_is_named_and_nothing_is_made_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = save_project(tmp_path / "project")
    monkeypatch.chdir(project)
    assert loradash("build").exit_code == 0
    page = (project / "output" / "lora_activations_dashboard.html").read_bytes()
    monkeypatch.setattr(layers, "listing_faults", lambda *_: {"unsorted": 1, "outside": 0})
    broken = loradash("build", "--top-k", "3")
    assert broken.exit_code == 1
    lines = [line for line in broken.stderr.splitlines() if "top_tokens" in line and not line.startswith("  ")]
    assert lines[0] == "Error: what 'top_tokens' made is wrong, so nothing was made from it:"
    for layer in range(3):
        start = f"check failed: top_tokens/layer_{layer:02d}, lists_and_counts: "
        assert any(line.startswith(start) and "unsorted 2" in line for line in lines)
    assert (project / "output" / "lora_activations_dashboard.html").read_bytes() == page


PANEL, OTHER_PANEL = "layer_1_up_proj_positive", "layer_2_up_proj_negative"
MINE = {"text": "mine", "starred": False, "lastModified": "2026-01-20T10:30:00Z"}
THEIRS = {"text": "theirs", "starred": True, "lastModified": "2026-01-21T10:30:00Z"}


def save_notes(file: Path, **notes: dict[str, Any]) -> Path:
    file.write_text(json.dumps({"interpretations": notes}, indent=2) + "\n", encoding="utf-8")
    return file


def notes_in(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "interpretations.json").read_bytes())["interpretations"]


@pytest.fixture
def colleague(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a note, and what a colleague's page exported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LORADASH_TOKEN", raising=False)
    save_notes(tmp_path / "interpretations.json", **{PANEL: MINE})
    return save_notes(tmp_path / "exported.json", **{PANEL: THEIRS, OTHER_PANEL: THEIRS, "odd": THEIRS})


PLAN = """\
exported.json into {folder}/interpretations.json:
  2 to add: layer_1_up_proj_positive, layer_2_up_proj_negative
  1 that differ and stay as they are here (--replace takes the file's): layer_1_up_proj_positive
  1 refused:
    entry 'odd': 'odd' is not a key such as layer_10_gate_proj_positive or model_lm_head_negative
"""


def test_an_import_shows_its_plan_and_asks(colleague: Path) -> None:
    folder = colleague.parent
    before = (folder / "interpretations.json").read_bytes()
    asked = CliRunner().invoke(main, ["import", "exported.json"], input="n\n")
    assert (asked.exit_code, asked.stdout) == (1, PLAN.format(folder=folder) + "Import? [y/N]: n\n")
    assert (folder / "interpretations.json").read_bytes() == before
    asked = CliRunner().invoke(main, ["import", "exported.json"], input="y\n")
    assert asked.stdout.endswith("Imported: 2 added, 0 replaced. 'loradash import --undo' takes it back.\n")
    assert {key: entry["text"] for key, entry in notes_in(folder).items()} == {PANEL: "mine", OTHER_PANEL: "theirs"}
    undone = loradash("import", "--undo", "--yes").stdout.splitlines()
    assert undone[0].startswith("exported.json, imported at ")
    assert undone[1] == "Undone. Notes that are as before: 2"
    assert (folder / "interpretations.json").read_bytes() == before
    assert error("import", "--undo", "--yes") == f"{folder}/interpretations.json: there is no import to undo"


def test_an_import_with_replace_takes_the_files(colleague: Path) -> None:
    result = loradash("import", "exported.json", "--replace", "--yes", "--by", "Ada")
    assert result.stdout.endswith("Imported: 1 added, 1 replaced. 'loradash import --undo' takes it back.\n")
    assert notes_in(colleague.parent) == {PANEL: THEIRS, OTHER_PANEL: THEIRS}
    (line,) = (colleague.parent / "interpretations.json.history.jsonl").read_text(encoding="utf-8").splitlines()
    assert (json.loads(line)["text"], json.loads(line)["by"]) == ("mine", "Ada")
    again = loradash("import", "exported.json", "--replace", "--yes")
    assert "  2 with nothing that is not here already\n" in again.stdout
    assert "mported" not in again.stdout


TOKEN = "a-token_of.letters~0123456789"


@pytest.mark.parametrize("token", [None, TOKEN])
def test_an_import_goes_through_the_service_that_has_the_file(
    colleague: Path, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    folder, options, headers = colleague.parent, [], {}
    if token is not None:
        (folder / "token").write_text(token, encoding="utf-8")
        (folder / "token").chmod(0o600)
        options, headers = ["--token-file", str(folder / "token")], {"Authorization": f"Bearer {token}"}
    with running(folder, *options) as service:
        if token is not None:
            assert "refuses: " in error("import", "exported.json")
            monkeypatch.setenv("LORADASH_TOKEN", token)
        cursor = service.request("GET", "/api/changes", headers=headers).json["cursor"]
        assert loradash("import", "exported.json", "--yes").exit_code == 0
        heard = service.request("GET", f"/api/changes?since={cursor}", headers=headers).json
        assert set(heard["entries"]) == {PANEL, OTHER_PANEL}
        assert (heard["complete"], heard["entries"]) == (False, notes_in(folder))
        assert service.patch({"text": "since", "by": "Ben"}, PANEL, if_match="*", **headers).status == 200
        undone = loradash("import", "--undo", "--yes").stdout
        assert undone.endswith(f"as before: 1; changed since, and left: 1 ({PANEL})\n")
        assert "not UTF-8" in error("import", str(bytes_file(folder)))
        assert "refuses: broken.json: line 1" in error("import", str(broken_file(folder)))
    assert loradash("import", "exported.json", "--yes").exit_code == 0  # the service is gone, its lock file is not


def bytes_file(folder: Path) -> Path:
    (folder / "latin.csv").write_bytes(b"key,text\nlayer_1_up_proj_positive,caf\xe9\n")
    return folder / "latin.csv"


def broken_file(folder: Path) -> Path:
    (folder / "broken.json").write_text('{"', encoding="utf-8")
    return folder / "broken.json"


def test_a_file_that_another_command_has_is_left_alone(colleague: Path) -> None:
    stale = colleague.parent / ".interpretations.json.lock"
    stale.write_text('{"pid": 1, "url": "http://127.0.0.1:1/"}', encoding="utf-8")  # of a service that has ended
    store = Store(colleague.parent / "interpretations.json")
    try:
        assert "another process is at work on this file" in error("import", "exported.json", "--yes")
    finally:
        store.close()


@pytest.mark.parametrize("name", ["notes.csv", "notes.json"])
def test_an_export_is_imported_elsewhere(colleague: Path, name: str) -> None:
    assert loradash("export", name).exit_code == 0
    form = ["--format", "csv"] if name.endswith("csv") else []
    assert loradash("export", *form).stdout_bytes == (colleague.parent / name).read_bytes()
    other = ["--interpretations-file", "other.json"]
    assert loradash("import", name, "--yes", *other).exit_code == 0
    assert (colleague.parent / "other.json").read_bytes() == (colleague.parent / "interpretations.json").read_bytes()
    own = str(colleague.parent / "interpretations.json")
    assert error("export", own) == f"{own} is the file of notes itself"
