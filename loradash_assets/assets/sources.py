"""Observable sources: what the user brings and each section of the settings, as data versions Dagster can compare."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import dagster as dg

from loradash_assets.assets.interpretations import interpretations_file
from loradash_assets.assets.keys import adapter_key, settings_key
from loradash_assets.assets.project import RETRIES, user_errors
from loradash_assets.project import Project
from loradash_assets.settings import Settings
from loradash_assets.sources import Adapter, adapter_directory, adapter_files, base_model_source, dataset_source

GROUP = "sources"
SECTIONS = ("model", "adapter", "dataset", "recording", "tables", "dashboard", "annotations")


SOURCES: dict[str, tuple[str, Callable[[Settings], str]]] = {
    "base_model_source": (
        "The base model's files or hub commit.",
        lambda settings: base_model_source(settings).fingerprint,
    ),
    "dataset_source": ("The dataset's file or hub commit.", lambda settings: dataset_source(settings).fingerprint),
    "interpretations_file": ("What people wrote about the features.", interpretations_file),
}


def source_assets(adapters: Sequence[Adapter]) -> list[dg.SourceAsset]:
    """Return one observable per source and per section of the settings that changes a result."""
    sources = [_source(dg.AssetKey(name), description, observe) for name, (description, observe) in SOURCES.items()]
    return [*sources, *map(_adapter, adapters), *map(_section, SECTIONS)]


def _adapter(adapter: Adapter) -> dg.SourceAsset:
    def observe(settings: Settings) -> str:
        return adapter_files(adapter_directory(settings, adapter)).fingerprint

    return _source(adapter_key(adapter, "adapter_source"), "The adapter's files.", observe)


@contextmanager
def retried(context: dg.OpExecutionContext) -> Generator[None]:
    """Have a failure that may pass retried as RETRIES say, which an observable source has no parameter for."""
    try:
        yield
    except dg.Failure as failure:
        retries = context.retry_number
        if not failure.allow_retries or retries >= RETRIES.max_retries:
            raise
        wait = RETRIES.calculate_delay(retries + 1)
        raise dg.RetryRequested(RETRIES.max_retries, seconds_to_wait=wait) from failure


def _source(key: dg.AssetKey, description: str, observe: Callable[[Settings], str]) -> dg.SourceAsset:
    @dg.observable_source_asset(key=key, group_name=GROUP, description=description, tags={"dagster/kind/file": ""})
    def observed(context: dg.OpExecutionContext, project: dg.ResourceParam[Project]) -> dg.DataVersion:
        with retried(context), user_errors():
            return dg.DataVersion(observe(project.settings))

    return observed


def _section(name: str) -> dg.SourceAsset:
    @dg.observable_source_asset(
        key=settings_key(name),
        group_name=GROUP,
        description=f"Section '{name}' of loradash.yaml.",
        tags={"dagster/kind/yaml": ""},
    )
    def observed(project: dg.ResourceParam[Project]) -> dg.DataVersion:
        return dg.DataVersion(getattr(project.settings, name).fingerprint())

    return observed
