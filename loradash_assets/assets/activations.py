"""Recorded activations: the only asset that runs the model."""

from pathlib import Path

import dagster as dg

from loradash_assets.assets.model import model_directory
from loradash_assets.assets.project import IN_STORE, STORE_IO, Metadata, Project, result, user_errors
from loradash_assets.assets.sources import settings_key
from loradash_assets.code_version import code_version
from loradash_assets.compute.errors import AdapterError, ModelError
from loradash_assets.sources import adapter_directory, base_model_source
from loradash_assets.store import Entry, Facts, file_digest

MODULE = "loradash_assets.compute.activations"


@dg.asset(
    group_name="recording",
    kinds={"pytorch", "safetensors"},
    deps=[settings_key("model"), settings_key("recording")],
    io_manager_key=STORE_IO,
    code_version=code_version(MODULE),
    metadata=IN_STORE,
)
def activations(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    prompts: Entry,
    features: Entry,
    base_model: Entry,
) -> dg.MaterializeResult[Entry]:
    """A x of every feature on every token, in the adapted model; resumes after an interruption."""
    from loradash_assets.compute.activations import Recording, library_versions, record_activations

    settings = project.settings
    with user_errors():
        adapter = adapter_directory(settings)
    recording = Recording(
        prompts=prompts.path / "prompts.parquet",
        catalogue=features.path,
        model=model_directory(base_model),
        adapter=adapter,
        dtype=settings.model.dtype,
        device=settings.model.device,
        trust_remote_code=settings.model.trust_remote_code,
        batch_tokens=settings.recording.batch_tokens,
        chunk_tokens=settings.recording.chunk_tokens,
    )

    def build(directory: Path) -> Facts:
        _check_unchanged(project, adapter, features, base_model)
        facts = record_activations(recording, directory, lambda line: context.log.info(f"activations: {line}"))
        _check_unchanged(project, adapter, features, base_model)
        return facts

    def describe(entry: Entry) -> Metadata:
        facts = entry.facts
        return {
            **{name: facts[name] for name in ("tokens", "examples", "features", "chunks", "device", "libraries")},
            "contexts_can_be_shared": facts["prefix_determined"],
            "recorded_at": facts["_recorded_at"],
            "tokens_per_second": facts["_tokens_per_second"],
        }

    inputs = (
        prompts.digest,
        features.digest,
        base_model.digest,
        library_versions(),
        settings.model.fingerprint("dtype", "device"),
        settings.recording.fingerprint(),
    )
    return result(context, project, "activations", inputs, build, describe, module=MODULE, resumable=True)


def _check_unchanged(project: Project, adapter: Path, features: Entry, base_model: Entry) -> None:
    """Raise AdapterError or ModelError if the files to run are not those that the upstream assets looked at."""
    for name, digest in features.facts["adapter_files"].items():
        if file_digest(adapter / name) != digest:
            raise AdapterError(f"adapter.path: {adapter / name} has changed since 'features' was made: run it again")
    if base_model_source(project.settings).fingerprint != base_model.facts["source"]:
        raise ModelError("model.base_model: the files have changed since 'base_model' was made: run it again")
