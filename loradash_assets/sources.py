"""The three things a user brings (base model, adapter, dataset): where they are and a fingerprint of what they hold."""

from __future__ import annotations

import re
from collections.abc import Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from loradash_assets.compute.adapter_files import (
    ADAPTER_FILES,
    CONFIG,
    download_adapter,
    layers,
    tensor_names,
    weights_file,
)
from loradash_assets.compute.errors import AdapterError, DatasetError, InputError, ModelError
from loradash_assets.compute.model import HUB_FILES, PACKAGE_SCHEME, package_file
from loradash_assets.settings import (
    ADAPTER_NAME,
    DATASET_SUFFIXES,
    TOO_MUCH_ALIKE,
    Settings,
    comparable,
    is_local,
    last_part,
)
from loradash_assets.store import fingerprint, known_digest

ADAPTER_SETTING = "adapter.path"  # what the numerics call the setting, whichever adapter they look at
HASHED_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class HubSource:
    """A repository on the hub at one commit."""

    name: str
    revision: str

    @property
    def fingerprint(self) -> str:
        """Hash of name and commit."""
        return fingerprint(self.name, self.revision)


@dataclass(frozen=True)
class LocalSource:
    """A file or directory; of a directory, the files whose names match `patterns` and lie in no hidden one."""

    path: Path
    patterns: tuple[str, ...] = ("*",)

    @property
    def fingerprint(self) -> str:
        """Hash of the content; of size and time of change for files over 256 MiB, too slow to read each time."""
        files = [self.path] if self.path.is_file() else sorted(filter(self._counts, self.path.rglob("*")))
        root = self.path if self.path.is_dir() else self.path.parent
        return fingerprint([(str(file.relative_to(root)), _content(file)) for file in files])

    def _counts(self, file: Path) -> bool:
        hidden = any(part.startswith(".") for part in file.relative_to(self.path).parts)
        return file.is_file() and not hidden and any(fnmatch(file.name, pattern) for pattern in self.patterns)


def base_model_source(settings: Settings) -> HubSource | LocalSource:
    """Locate the base model. Raises ModelError if it is nowhere."""
    name = settings.model.base_model
    if name.startswith(PACKAGE_SCHEME):
        return LocalSource(package_file(name))
    if is_local(settings, name, {".gguf"}):
        return LocalSource(settings.resolve(name), tuple(HUB_FILES))
    return HubSource(name, _revision(name, "model", ModelError, "model.base_model"))


@dataclass(frozen=True)
class Adapter:
    """One of the project's adapters: its name (None for the first, whose results have no prefix) and what it is."""

    name: str | None
    path: str
    is_checkpoint: bool = False  # one that was found in adapter.checkpoints

    @property
    def label(self) -> str:
        """How people see it called."""
        return self.name or last_part(self.path)

    @property
    def place(self) -> tuple[str, ...]:
        """Where its own assets and files stand: nothing before the first one's."""
        return ("adapters", self.name) if self.name else ()

    @property
    def setting(self) -> str:
        """The setting that names it."""
        if self.is_checkpoint:
            return f"adapter.checkpoints, {self.name}"
        return ADAPTER_SETTING if self.name is None else f"adapter.others.{self.name}"


def adapters(settings: Settings) -> list[Adapter]:
    """Return the project's adapters, the first one first. Raises AdapterError if there is none."""
    return [*_named_adapters(settings), *checkpoints(settings).usable]


def _named_adapters(settings: Settings) -> list[Adapter]:
    if settings.adapter.path is None:
        raise AdapterError(
            f"{ADAPTER_SETTING}: name the adapter's directory or hub name in loradash.yaml "
            "(build and generate also take --lora-path)"
        )
    others = (Adapter(name, path) for name, path in settings.adapter.others.items())
    return [Adapter(None, settings.adapter.path), *others]


@dataclass(frozen=True)
class Checkpoints:
    """What is in `adapter.checkpoints`, in the order of the numbers in the names."""

    usable: list[Adapter]
    left_out: dict[str, str]  # by name, why: what is being written, too, comes when it is complete

    def notices(self) -> list[str]:
        """One line for each that is left out."""
        return [f"adapter.checkpoints: {name} is left out: {reason}" for name, reason in self.left_out.items()]


def checkpoints(settings: Settings) -> Checkpoints:
    """Look for adapters in `adapter.checkpoints`; those that other settings name count once. Raises AdapterError."""
    found = Checkpoints([], {})
    if settings.adapter.checkpoints is None:
        return found
    named = _named_adapters(settings)
    known = {settings.resolve(adapter.path) for adapter in named}
    names = {comparable(adapter.label) for adapter in named}
    for directory in sorted(settings.resolve(settings.adapter.checkpoints).iterdir(), key=_by_number):
        if directory.resolve() in known or not (directory / CONFIG).is_file():
            continue
        adapter = Adapter(directory.name, str(Path(settings.adapter.checkpoints, directory.name)), is_checkpoint=True)
        if problem := _problem(settings, adapter, names):
            found.left_out[directory.name] = problem
        else:
            found.usable.append(adapter)
            names.add(comparable(directory.name))
    return found


def _by_number(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", path.name)]


def _problem(settings: Settings, adapter: Adapter, names: Collection[str]) -> str | None:
    """Say why a checkpoint cannot be one of the adapters, or None."""
    if not re.match(ADAPTER_NAME, adapter.label):
        return "a name has letters, digits, '.', '-' and '_' only, 64 at most"
    if comparable(adapter.label) in names:
        return TOO_MUCH_ALIKE
    try:
        adapter_layers(settings, adapter)
    except AdapterError as error:
        return str(error).removeprefix(f"{adapter.setting}: ")
    return None


@contextmanager
def errors_of(adapter: Adapter) -> Generator[None]:
    """Let an AdapterError name the setting of the adapter that it is about."""
    try:
        yield
    except AdapterError as error:
        raise AdapterError(str(error).replace(f"{ADAPTER_SETTING}:", f"{adapter.setting}:")) from error


def is_here(settings: Settings, adapter: Adapter) -> bool:
    """Whether an adapter is a directory, not something on the hub."""
    return adapter.is_checkpoint or is_local(settings, adapter.path, set())


def adapter_directory(settings: Settings, adapter: Adapter) -> Path:
    """Return the adapter's directory, downloaded if it is on the hub. Raises AdapterError if it is nowhere."""
    if is_here(settings, adapter):
        return settings.resolve(adapter.path)
    with errors_of(adapter):
        return download_adapter(adapter.path, allow_pickle=settings.adapter.allow_pickle)


def adapter_files(directory: Path) -> LocalSource:
    """Return those of an adapter's files that say what it is: not its optimizer's state, nor its model card."""
    return LocalSource(directory, ADAPTER_FILES)


def adapter_layers(settings: Settings, adapter: Adapter) -> list[int]:
    """Return the adapted layers, in order, from the names of the adapter's tensors. Raises AdapterError."""
    directory = adapter_directory(settings, adapter)
    with errors_of(adapter):
        file = weights_file(directory, allow_pickle=settings.adapter.allow_pickle)
        found = layers(tensor_names(file))
        if not found:
            raise AdapterError(f"{ADAPTER_SETTING}: {file} holds no LoRA tensors (lora_A, lora_embedding_A)")
        return found


def dataset_source(settings: Settings) -> HubSource | LocalSource:
    """Locate the dataset. Raises DatasetError if it is nowhere."""
    path = settings.dataset.path
    if is_local(settings, path, DATASET_SUFFIXES):
        return LocalSource(settings.resolve(path))
    return HubSource(path, _revision(path, "dataset", DatasetError, "dataset.path"))


def _content(file: Path) -> str:
    status = file.stat()
    if status.st_size > HASHED_BYTES:
        return f"{status.st_size} {status.st_mtime_ns}"
    return known_digest(file)  # sources are looked at before and in every run


def _revision(name: str, kind: str, error: type[InputError], field: str) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        return str(HfApi().repo_info(name, repo_type=kind).sha)
    except OfflineModeIsEnabled:
        return _cached_revision(name, kind, error, field)
    except Exception as reason:  # the hub's client raises its own and HTTP's
        raise error(f"{field}: '{name}' is neither here nor, as far as can be told, on the hub: {reason}") from reason


def _cached_revision(name: str, kind: str, error: type[InputError], field: str) -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:  # the directory of a cached snapshot is named for its commit
        return Path(snapshot_download(name, repo_type=kind, local_files_only=True)).name
    except LocalEntryNotFoundError as reason:
        raise error(f"{field}: '{name}' is not here, and the hub may not be asked (HF_HUB_OFFLINE)") from reason
