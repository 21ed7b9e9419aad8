"""`loradash.yaml`: every setting, its meaning, its default and its limits.

A project is the directory that holds `loradash.yaml`; relative paths in it are relative to that directory. The
descriptions here are the help of the command line and the comments of the file that `loradash init` writes.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import yaml
from jinja2 import Environment, TemplateSyntaxError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from loradash_assets.schema import Basis, PromptFormat

SETTINGS_FILE = "loradash.yaml"

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(min_length=1)]


class SettingsError(ValueError):
    """Everything that is wrong with the settings, one line per problem, each naming file and field."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def fingerprint(self, *fields: str) -> str:
        """Return a hash of the values of `fields` (all, if none is named)."""
        values = self.model_dump(include=set(fields) or None)
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


class ModelSettings(_Section):
    """The base model that the adapter was trained on."""

    base_model: Name = Field(
        "Qwen/Qwen2.5-32B-Instruct",
        description="hub name, directory, .gguf file, or package://PACKAGE/FILE.gguf for a file inside a Python package",
    )
    dtype: Dtype = Field("auto", description="auto (as the model was saved), float32, bfloat16 or float16")
    device: Device = Field("auto", description="auto (CUDA, else MPS, else CPU), cpu, mps, cuda or cuda:N")
    trust_remote_code: bool = Field(False, description="run Python code that comes with the model; only for models you trust")


class AdapterSettings(_Section):
    """The LoRA adapter to look at."""

    path: Name | None = Field(None, description="directory or hub name of a PEFT LoRA adapter; there is no default")
    rank: Count | None = Field(None, description="refuse the adapter unless every module has this rank; null: any rank")
    allow_pickle: bool = Field(False, description="also read adapter_model.bin, which can run code; only for adapters you trust")


class DatasetSettings(_Section):
    """The text that the model reads."""

    path: Name = Field(
        "simplescaling/s1K-1.1", description="hub name, directory, or a .jsonl, .json, .parquet, .csv or .txt file"
    )
    config: str | None = Field(None, description="configuration of a hub dataset that has several; null: its default")
    split: Name = Field("train", description="split of a hub dataset or of a dataset directory")
    num_examples: Count = Field(100, description="rows to read, usable or not, from the first")
    prompt_format: PromptFormat = Field(
        "deepseek",
        description="text (one column), deepseek (question, deepseek_thinking_trajectory, deepseek_attempt), "
        "chat (the tokenizer's chat template) or template (your own)",
    )
    text_column: Name = Field("text", description="column of the text format")
    messages_column: Name = Field("messages", description="column of the chat format: a list of {role, content}")
    template: str | None = Field(None, description="Jinja template of the template format; the row's fields are its variables")
    max_tokens: Count | None = Field(None, description="longer examples are cut here and listed; null: the model's positions")

    @model_validator(mode="after")
    def _template_is_there_and_parses(self) -> DatasetSettings:
        if self.prompt_format == "template":
            _check_template(self.template)
        return self


def _check_template(template: str | None) -> None:
    if template is None:
        raise ValueError("prompt format 'template' needs dataset.template")
    try:
        Environment().parse(template)
    except TemplateSyntaxError as error:
        raise ValueError(f"dataset.template does not parse: {error}") from error


class RecordingSettings(_Section):
    """The forward pass. These settings change speed and memory, and results only by rounding."""

    batch_tokens: Count = Field(2048, description="tokens per forward pass, padding included; a longer example runs alone")
    chunk_tokens: Count = Field(65536, description="tokens per file of recorded activations; at most one is redone after a crash")


class TableSettings(_Section):
    """What is kept of the recorded activations. Changing these never runs the model."""

    top_k: Count = Field(16, description="tokens to keep per feature and polarity")
    context_window: Annotated[int, Field(ge=0)] = Field(10, description="tokens shown on each side of a kept token")
    histogram_bins: Count = Field(50, description="bins of each feature's histogram")
    basis: Basis = Field(
        "raw",
        description="raw (rows of A) or svd (singular directions of scaling * B A), on the dashboard; the same for rank 1",
    )
    distinct_contexts: bool = Field(True, description="list identical contexts once with their number, on the dashboard")


class DashboardSettings(_Section):
    """The page and where the results go."""

    title: str = Field("LoRA activations", description="the page's title")
    output_dir: Name = Field("output", description="directory for the dashboard, the report and the data files")


class AnnotationSettings(_Section):
    """What people write about the features."""

    interpretations_file: Name = Field("interpretations.json", description="the file that holds the notes; keep it in git")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8080, description="port of the annotation service; 0: any free one")


class ScheduleSettings(_Section):
    """Regeneration while `loradash ui` runs."""

    cron: str | None = Field("0 3 * * *", description="when to recompute what is out of date, as a cron line; null: never")
    timezone: Name = Field("UTC", description="time zone of the cron line")


class StoreSettings(_Section):
    """Where intermediate results are kept."""

    path: Name = Field(".loradash", description="directory of the content-addressed store; safe to delete, costs a recomputation")


class Settings(_Section):
    """All of `loradash.yaml`, and the project directory that its paths are relative to."""

    model: ModelSettings = ModelSettings()
    adapter: AdapterSettings = AdapterSettings()
    dataset: DatasetSettings = DatasetSettings()
    recording: RecordingSettings = RecordingSettings()
    tables: TableSettings = TableSettings()
    dashboard: DashboardSettings = DashboardSettings()
    annotations: AnnotationSettings = AnnotationSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    store: StoreSettings = StoreSettings()
    project: Path = Field(default=Path(), exclude=True)

    def resolve(self, path: str) -> Path:
        """Return `path` as an absolute path; a relative one is relative to the project."""
        return (self.project / Path(path).expanduser()).resolve()

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
        lines = [_problem(cast("tuple[str | int, ...]", item["loc"]), item) for item in error.errors()]
        raise SettingsError("\n".join(f"{SETTINGS_FILE}: {line}" for line in lines)) from error
    _check_files(settings)
    return settings


def _read(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{SETTINGS_FILE}: not valid YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(f"{SETTINGS_FILE}: must hold sections such as 'model:', not a {type(values).__name__}")
    if "project" in values:
        raise SettingsError(f"{SETTINGS_FILE}: project: unknown section")
    sections = cast("dict[str, Any]", values)
    return {name: {} if fields is None else fields for name, fields in sections.items()}


def _problem(location: tuple[str | int, ...], error: Mapping[str, Any]) -> str:
    path = ".".join(str(part) for part in location)
    if error["type"] == "extra_forbidden":
        known = _known_names(location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"
        return f"{path}: unknown setting; {hint}"
    message = str(error["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return f"{path}: {message} (got {error['input']!r})" if isinstance(error["input"], str | int | float) else f"{path}: {message}"


def _known_names(location: tuple[str | int, ...]) -> list[str]:
    if not location:
        return [name for name, _ in sections()]
    return list(dict(sections())[str(location[0])].model_fields)


def _check_files(settings: Settings) -> None:
    checks = [
        ("model.base_model", settings.model.base_model, {".gguf"}),
        ("adapter.path", settings.adapter.path or "hub/name", set[str]()),
        ("dataset.path", settings.dataset.path, DATASET_SUFFIXES),
    ]
    problems = [
        f"{SETTINGS_FILE}: {field}: no such file or directory: {settings.resolve(value)}"
        for field, value, suffixes in checks
        if is_local(settings, value, suffixes) and not settings.resolve(value).exists()
    ]
    if problems:
        raise SettingsError("\n".join(problems))


DATASET_SUFFIXES = {".jsonl", ".json", ".parquet", ".csv", ".txt"}


def is_local(settings: Settings, value: str, suffixes: set[str]) -> bool:
    """Whether `value` names a file or directory rather than something on a model hub.

    A hub name is NAME or OWNER/NAME. What exists in the project, starts like a path, has one of `suffixes` or
    more than one slash is a path.
    """
    if value.startswith("package://"):
        return False
    path_like = value.startswith((".", "/", "~")) or value.count("/") > 1 or Path(value).suffix in suffixes
    return path_like or settings.resolve(value).exists()


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
    if isinstance(value, str) and "\n" in value:
        return json.dumps(value, ensure_ascii=False)
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000).removesuffix("\n...\n").strip()


def field_info(section: str, field: str) -> FieldInfo:
    """Return description and default of one setting, for the command line's help."""
    return dict(sections())[section].model_fields[field]


def choices(section: str, field: str) -> tuple[str, ...]:
    """Return the allowed values of a setting that has a fixed list of them."""
    return get_args(field_info(section, field).annotation)
