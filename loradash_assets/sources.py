"""The three things a user brings (base model, adapter, dataset): where they are and a fingerprint of what they hold."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from loradash_assets.compute.adapter_files import download_adapter, layers, tensor_names, weights_file
from loradash_assets.compute.errors import AdapterError, DatasetError, InputError, ModelError
from loradash_assets.compute.model import HUB_FILES, PACKAGE_SCHEME, package_file
from loradash_assets.settings import DATASET_SUFFIXES, Settings, is_local, last_part
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
        return ADAPTER_SETTING if self.name is None else f"adapter.others.{self.name}"


def adapters(settings: Settings) -> list[Adapter]:
    """Return the project's adapters, the first one first. Raises AdapterError if there is none."""
    if settings.adapter.path is None:
        raise AdapterError(
            f"{ADAPTER_SETTING}: name the adapter's directory or hub name in loradash.yaml "
            "(build and generate also take --lora-path)"
        )
    others = (Adapter(name, path) for name, path in settings.adapter.others.items())
    return [Adapter(None, settings.adapter.path), *others]


@contextmanager
def errors_of(adapter: Adapter) -> Generator[None]:
    """Let an AdapterError name the setting of the adapter that it is about."""
    try:
        yield
    except AdapterError as error:
        raise AdapterError(str(error).replace(f"{ADAPTER_SETTING}:", f"{adapter.setting}:")) from error


def adapter_directory(settings: Settings, adapter: Adapter) -> Path:
    """Return the adapter's directory, downloaded if it is on the hub. Raises AdapterError if it is nowhere."""
    if is_local(settings, adapter.path, set()):
        return settings.resolve(adapter.path)
    with errors_of(adapter):
        return download_adapter(adapter.path, allow_pickle=settings.adapter.allow_pickle)


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
