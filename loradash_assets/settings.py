"""`loradash.yaml`: every setting, its meaning, its default and its limits.

A project is the directory that holds `loradash.yaml`; relative paths in it are relative to that directory. The
descriptions here are the help of the command line and the comments of the file that `loradash init` writes.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args, get_origin

import yaml
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from loradash_assets.schema import Basis, PromptFormat

SETTINGS_FILE = "loradash.yaml"

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
DeviceMap = Literal["auto"]
Engine = Literal["local", "ray"]
Address = Annotated[str, Field(pattern=r"^[^/\s]+:\d+$")]
INT32_MAX = 2**31 - 1  # rows and positions are int32 in the tables
Count = Annotated[int, Field(ge=1, le=INT32_MAX)]
CountOrNone = Annotated[int, Field(ge=0, le=INT32_MAX)]
Text = Annotated[str, Field(pattern="")]  # a pattern, even this one, refuses what is not valid Unicode
Name = Annotated[str, Field(pattern=r"^[^\x00]+$")]  # no path holds a NUL
ADAPTER_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"  # it becomes the name of a directory and of asset keys
OWNER = r"^(team:\w+|[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,})$"  # what Dagster takes
Owner = Annotated[str, Field(pattern=OWNER)]
AdapterName = Annotated[str, Field(pattern=ADAPTER_NAME)]


TOO_MUCH_ALIKE = (
    "is too much like another adapter's name (the first one has the last part of its path); "
    "case, '.', '-' and '_' do not count"
)


def comparable(adapter_name: str) -> str:
    """Return what tells an adapter's name from another's, in the names of asset groups and on every file system."""
    return re.sub("[.-]", "_", adapter_name).lower()


class SettingsError(ValueError):
    """Everything that is wrong with the settings, one line per problem, each naming file and field."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def fingerprint(self, *fields: str) -> str:
        """Return a hash of the values of `fields` (all, if none is named)."""
        values = self.model_dump()
        chosen = {name: values[name] for name in fields or values}
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


def _setting(default: object, description: str) -> Any:
    return Field(default=default, description=description, validate_default=True)


class ModelSettings(_Section):
    """The base model that the adapter was trained on."""

    base_model: Name = _setting(
        "Qwen/Qwen2.5-32B-Instruct",
        "hub name, directory, .gguf file, or package://PACKAGE/FILE.gguf for a file inside a Python package",
    )
    dtype: Dtype = _setting("auto", "auto (as the model was saved), float32, bfloat16 or float16")
    device: Device = _setting("auto", "auto (CUDA, else MPS, else CPU), cpu, mps, cuda or cuda:N")
    device_map: DeviceMap | None = _setting(
        None, "auto: spread the layers of a model that is too large for one GPU over all of them; null: one device"
    )
    trust_remote_code: bool = _setting(False, "run Python code that comes with the model; only for models you trust")

    @field_validator("device_map")
    @classmethod
    def _goes_with_the_device(cls, device_map: str | None, info: ValidationInfo) -> str | None:
        if device_map is not None and info.data.get("device", "auto") not in {"auto", "cuda"}:
            raise ValueError(
                f"places the model itself: with it, device must be auto or cuda, not {info.data['device']}"
            )
        return device_map


class AdapterSettings(_Section):
    """The LoRA adapters to look at."""

    path: Name | None = _setting(None, "directory or hub name of a PEFT LoRA adapter; there is no default")
    others: dict[AdapterName, Name] = _setting(
        {}, "more adapters of the same base model, each NAME: directory or hub name"
    )
    checkpoints: Name | None = _setting(
        None,
        "directory of a training run: every directory in it that holds an adapter is one more, by its name, also those "
        "that come later; null: none",
    )
    rank: Count | None = _setting(None, "refuse an adapter unless every module has this rank; null: any rank")
    allow_pickle: bool = _setting(False, "also read adapter_model.bin, which can run code; only for adapters you trust")
    allow_other_base: bool = _setting(
        False, "use the adapter although it says that it was trained on another base model or revision"
    )

    @field_validator("others")
    @classmethod
    def _names_can_be_told_apart(cls, others: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        path = info.data.get("path")
        first = [] if path is None else [last_part(path)]
        names = Counter(map(comparable, [*first, *others]))
        twice = [name for name in others if names[comparable(name)] > 1]
        if twice:
            raise ValueError(f"'{twice[0]}' {TOO_MUCH_ALIKE}")
        return others


class DatasetSettings(_Section):
    """The text that the model reads."""

    path: Name = _setting(
        "simplescaling/s1K-1.1", "hub name, directory, or a .jsonl, .json, .parquet, .csv or .txt file"
    )
    config: Text | None = _setting(None, "configuration of a hub dataset that has several; null: its default")
    split: Name = _setting("train", "split of a hub dataset or of a dataset directory")
    num_examples: Count = _setting(100, "rows to read, usable or not, from the first")
    prompt_format: PromptFormat = _setting(
        "deepseek",
        "text (one column), deepseek (question, deepseek_thinking_trajectory, deepseek_attempt), "
        "chat (the tokenizer's chat template) or template (your own)",
    )
    text_column: Name = _setting("text", "column of the text format")
    messages_column: Name = _setting("messages", "column of the chat format: a list of {role, content}")
    template: Text | None = _setting(None, "Jinja template of the template format; the row's fields are its variables")
    max_tokens: Count | None = _setting(None, "longer examples are cut here and listed; null: the model's positions")

    @field_validator("template")
    @classmethod
    def _template_is_there_and_parses(cls, template: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("prompt_format") == "template":
            if template is None:
                raise ValueError("prompt_format 'template' needs one")
            try:
                ImmutableSandboxedEnvironment().from_string(template)
            except TemplateError as error:
                raise ValueError(f"does not parse: {error}") from error
        return template


class RecordingSettings(_Section):
    """The forward pass. These settings change speed and memory, and results only by rounding."""

    batch_tokens: Count = _setting(2048, "tokens per forward pass, padding included; a longer example runs alone")
    chunk_tokens: Count = _setting(
        65536,
        "tokens per file of recorded activations, or fewer for a file of 256 MiB; at most one file is redone after a "
        "crash, all if this changes",
    )
    share_prefixes: bool = _setting(
        True, "run a prefix that several examples share, such as a system prompt, once for all of them"
    )


class ClusterSettings(_Section):
    """Who records. Whatever stands here, the results are the same bytes, so changing it recomputes nothing."""

    engine: Engine = _setting("local", "local (this process) or ray (workers on a Ray cluster: docs/cluster.md)")
    address: Address | None = _setting(
        None, "HOST:PORT of a Ray cluster that this machine belongs to; null: one of this machine alone, for the run"
    )
    workers: Count | None = _setting(
        None, "processes with a model each; null: as many as the GPUs suffice for, or one per machine without GPUs"
    )
    gpus_per_worker: Count = _setting(1, "GPUs of each worker, if the cluster has any; more with model.device_map")
    threads: Count | None = _setting(
        None, "CPU threads of each worker's forward pass; null: as many as the local engine takes where the run starts"
    )
    shared_store: Name | None = _setting(
        None,
        "where workers put results: a directory that all machines see, or s3://BUCKET/PREFIX; null: in store.path",
    )
    attempts: Count = _setting(3, "how often a chunk may fail, or its worker die, before the run fails")


class TableSettings(_Section):
    """What is kept of the recorded activations. Changing these never runs the model."""

    top_k: Count = _setting(16, "tokens to keep per feature and polarity")
    context_window: CountOrNone = _setting(10, "tokens shown on each side of a kept token")
    histogram_bins: Annotated[int, Field(ge=1, le=10_000)] = _setting(50, "bins of each feature's histogram")
    basis: Basis = _setting(
        "raw", "raw (rows of A) or svd (singular directions of scaling * B A), on the dashboard; the same for rank 1"
    )
    distinct_contexts: bool = _setting(True, "list identical contexts once with their number, on the dashboard")
    exclude_special_tokens: bool = _setting(
        False, "leave tokens that the tokenizer marks as special out of lists and samples, on the dashboard"
    )
    exclude_first_positions: CountOrNone = _setting(
        0, "leave the first so many tokens of each example out of lists and samples, on the dashboard"
    )
    exclude_token_ids: list[CountOrNone] = _setting(
        [], "leave tokens with these ids out of lists and samples, on the dashboard"
    )
    max_per_example: Count | None = _setting(
        None, "tokens of one example in each list at most, on the dashboard; null: any number"
    )
    intervals: Annotated[int, Field(ge=0, le=100)] = _setting(
        10, "equal intervals between a feature's lowest and highest activation to sample tokens from; 0: none"
    )
    interval_samples: Count = _setting(2, "tokens drawn at random from each interval")
    random_samples: CountOrNone = _setting(8, "tokens drawn at random from all, for each feature")
    sample_seed: CountOrNone = _setting(0, "another seed draws other samples")


class DashboardSettings(_Section):
    """The page and where the results go."""

    title: Text = _setting("LoRA activations", "the page's title")
    output_dir: Name = _setting("output", "directory for the dashboard, the report and the data files")
    single_file_mb: Annotated[float, Field(ge=0, le=500)] = _setting(
        32, "MB of data up to which the dashboard is one file; a larger one loads most of them from files beside it"
    )

    @property
    def largest_file(self) -> int:
        """`single_file_mb` in bytes."""
        return round(self.single_file_mb * 1e6)


class AnnotationSettings(_Section):
    """What people write about the features."""

    interpretations_file: Name = _setting("interpretations.json", "the file that holds the notes; keep it in git")
    port: Annotated[int, Field(ge=0, le=65535)] = _setting(8080, "port of the annotation service; 0: any free one")


class ScheduleSettings(_Section):
    """Regeneration while `loradash ui` runs."""

    cron: Text | None = _setting("0 3 * * *", "when to recompute what is out of date, as a cron line; null: never")
    timezone: Name = _setting("UTC", "time zone of the cron line")
    notes: bool = _setting(True, "draw dashboard and report again whenever a note has changed")


class DagsterSettings(_Section):
    """How the results present themselves in the Dagster UI."""

    owners: list[Owner] = _setting([], "who looks after them: e-mail addresses, or team:NAME")
    fresh_hours: Annotated[float, Field(gt=0, le=87_600)] | None = _setting(
        48, "hours after which what people open counts as out of date, unless it was looked at again; null: never"
    )


class StoreSettings(_Section):
    """Where intermediate results are kept."""

    path: Name = _setting(
        ".loradash", "directory of the content-addressed store; safe to delete, costs a recomputation"
    )


class Settings(_Section):
    """All of `loradash.yaml`, and the project directory that its paths are relative to."""

    model: ModelSettings = ModelSettings()
    adapter: AdapterSettings = AdapterSettings()
    dataset: DatasetSettings = DatasetSettings()
    recording: RecordingSettings = RecordingSettings()
    cluster: ClusterSettings = ClusterSettings()
    tables: TableSettings = TableSettings()
    dashboard: DashboardSettings = DashboardSettings()
    annotations: AnnotationSettings = AnnotationSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    dagster: DagsterSettings = DagsterSettings()
    store: StoreSettings = StoreSettings()
    project: Path = Field(default=Path(), exclude=True)

    def resolve(self, path: str) -> Path:
        """Return `path` as an absolute path; a relative one is relative to the project."""
        # not pathlib's own: those raise for an unknown ~user and for a loop of links
        return Path(os.path.realpath(self.project / os.path.expanduser(path)))

    @property
    def output_dir(self) -> Path:
        """Directory of the dashboard and the data files."""
        return self.resolve(self.dashboard.output_dir)


Overrides = Mapping[str, Mapping[str, Any]]


def load_settings(project: Path, overrides: Overrides | None = None) -> Settings:
    """Read `project`/loradash.yaml (every default, if there is none) and put `overrides` over it.

    `overrides` maps section to field to value. Raises SettingsError naming every problem.
    """
    file = project / SETTINGS_FILE
    values = _read(file) if file.exists() else {}
    for section, fields in (overrides or {}).items():
        inside = values.setdefault(section, {})
        if isinstance(inside, dict):
            inside.update(fields)
    try:
        settings = Settings.model_validate({**values, "project": project.resolve()})
    except ValidationError as error:
        raise _error([_problem(item["loc"], item) for item in error.errors()], overrides) from error
    if missing := list(_missing_files(settings)):
        raise _error(missing, overrides)
    return settings


Problem = tuple[str, str]  # path of the setting, what is wrong with it


def _error(problems: list[Problem], overrides: Overrides | None) -> SettingsError:
    given = {f"{section}.{field}" for section, fields in (overrides or {}).items() for field in fields}
    return SettingsError(
        "\n".join(f"{'command line' if path in given else SETTINGS_FILE}: {path}: {text}" for path, text in problems)
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        loader = yaml.SafeLoader(file.read_text(encoding="utf-8"))
        root = loader.get_single_node()
        values: object = None if root is None else loader.construct_document(root)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise SettingsError(f"{SETTINGS_FILE}: {_not_yaml(error)}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(f"{SETTINGS_FILE}: must hold sections such as 'model:', not a {type(values).__name__}")
    problems = [(path, "stands there twice") for path in _repeated(cast("yaml.MappingNode", root))]
    if problems or "project" in values:
        raise _error(problems or [("project", "unknown section")], None)
    sections = cast("dict[str, Any]", values)
    return {name: {} if fields is None else fields for name, fields in sections.items()}


def _not_yaml(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: not valid YAML: {error.problem}"
    return f"not valid YAML: {' '.join(str(error).split())}"


def _repeated(root: yaml.MappingNode) -> Iterator[str]:
    """Yield the path of everything that is twice in its mapping: sections, settings, names inside a setting."""
    yield from _twice(root, "")


def _twice(mapping: yaml.MappingNode, path: str) -> Iterator[str]:
    counts = Counter(name.value for name, _ in mapping.value if isinstance(name, yaml.ScalarNode))
    yield from (f"{path}{name}" for name, count in counts.items() if count > 1)
    for name, inside in mapping.value:
        if isinstance(inside, yaml.MappingNode):
            yield from _twice(inside, f"{path}{name.value}.")


def _problem(location: tuple[str | int, ...], error: Mapping[str, Any]) -> Problem:
    path = ".".join(str(part) for part in location if part != "[key]")  # pydantic's mark for a name, not its value
    if error["type"] == "extra_forbidden":
        known = _known_names(location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"
        return path, f"unknown setting; {hint}"
    if error["type"] == "model_type":
        return path, f"must hold settings: {', '.join(_known_names(location))}"
    message = str(error["msg"]).removeprefix("Value error, ")
    given = error["input"]
    shown = f" (got {_scalar(given)})" if isinstance(given, str | int | float | None) else ""
    return path, f"{message[:1].lower()}{message[1:]}{shown}"


def _known_names(location: tuple[str | int, ...]) -> list[str]:
    if not location:
        return [name for name, _ in sections()]
    return list(dict(sections())[str(location[0])].model_fields)


def _missing_files(settings: Settings) -> Iterator[Problem]:
    named = [
        ("model.base_model", settings.model.base_model, {".gguf"}),
        ("adapter.path", settings.adapter.path, set[str]()),
        *((f"adapter.others.{name}", path, set[str]()) for name, path in settings.adapter.others.items()),
        ("dataset.path", settings.dataset.path, DATASET_SUFFIXES),
    ]
    for path, value, suffixes in named:
        if value is not None and is_local(settings, value, suffixes) and not os.path.exists(settings.resolve(value)):
            yield path, f"no such file or directory: {settings.resolve(value)}"
    if (checkpoints := settings.adapter.checkpoints) and not os.path.isdir(settings.resolve(checkpoints)):
        yield "adapter.checkpoints", f"no such directory: {settings.resolve(checkpoints)}"


DATASET_SUFFIXES = {".jsonl", ".json", ".parquet", ".csv", ".txt"}


def is_local(settings: Settings, value: str, suffixes: set[str]) -> bool:
    """Whether `value` names a file or directory rather than something on a model hub.

    A hub name is NAME or OWNER/NAME. What exists in the project, starts like a path, has one of `suffixes` or
    more than one slash is a path.
    """
    if value.startswith("package://"):
        return False
    path_like = value.startswith((".", "/", "~")) or value.count("/") > 1 or Path(value).suffix in suffixes
    return path_like or os.path.exists(settings.resolve(value))  # pathlib's own raises for a name that is too long


def last_part(path: str) -> str:
    """Return the last part of a path or hub name, by which the first adapter is called."""
    return Path(path.rstrip("/")).name or path


def sections() -> Iterator[tuple[str, type[_Section]]]:
    """Yield name and class of every section, in the order of the file."""
    for name, field in Settings.model_fields.items():
        if name != "project":
            yield name, cast("type[_Section]", field.annotation)


def commented_yaml(settings: Settings) -> str:
    """Return `loradash.yaml` with every setting at its value in `settings`, each with its comment."""
    lines = ["# Every setting of loradash. Relative paths are relative to this file's directory."]
    for name, section in sections():
        summary = (section.__doc__ or "").splitlines()[0]
        lines += ["", f"# {summary}", f"{name}:"]
        for field, info in section.model_fields.items():
            value = getattr(getattr(settings, name), field)
            default = "" if value == info.default else f" (default: {_scalar(info.default)})"
            lines += [f"  # {info.description}{default}", f"  {field}: {_scalar(value)}"]
    return "\n".join(lines) + "\n"


def _scalar(value: object) -> str:
    """Return the value as YAML on one line, whatever it holds."""
    quote = '"' if isinstance(value, str) and not value.isprintable() else None
    text = yaml.safe_dump(value, default_style=quote, default_flow_style=True, allow_unicode=True, width=math.inf)
    return text.removesuffix("\n").removesuffix("\n...")


def field_info(section: str, field: str) -> FieldInfo:
    """Return description and default of one setting, for the command line's help."""
    return dict(sections())[section].model_fields[field]


def choices(section: str, field: str) -> tuple[str, ...]:
    """Return the allowed values of a setting that has a fixed list of them."""
    annotation = field_info(section, field).annotation
    return get_args(annotation) if get_origin(annotation) is Literal else ()
