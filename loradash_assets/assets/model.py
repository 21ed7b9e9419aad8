"""The base model's files, ready to load."""

from pathlib import Path

import dagster as dg

from loradash_assets.assets.keys import settings_key
from loradash_assets.assets.project import IN_STORE, RETRIES, STORE_IO, Metadata, result, user_errors
from loradash_assets.code_version import code_version
from loradash_assets.project import Project
from loradash_assets.sources import HubSource, base_model_source
from loradash_assets.store import Entry, Facts

MODULE = "loradash_assets.compute.base_model"


@dg.asset(
    group_name="model",
    kinds={"huggingface", "pytorch"},
    deps=["base_model_source", settings_key("model")],
    io_manager_key=STORE_IO,
    code_version=code_version(MODULE),
    retry_policy=RETRIES,
    metadata=IN_STORE,
)
def base_model(context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]) -> dg.MaterializeResult[Entry]:
    """Where the base model's files are: a directory, a hub snapshot, or a GGUF file converted once to safetensors."""
    from loradash_assets.compute.model import download_model

    settings = project.settings.model
    with user_errors():
        source = base_model_source(project.settings)
        found = download_model(source.name, source.revision) if isinstance(source, HubSource) else source.path
    revision = source.revision if isinstance(source, HubSource) else ""

    def build(directory: Path) -> Facts:
        from loradash_assets.compute.base_model import prepare_base_model

        if found.is_file():
            context.log.info(f"base_model: converting {found.name} to safetensors, once")
        facts = prepare_base_model(found, directory, trust_remote_code=settings.trust_remote_code)
        return {
            "source": source.fingerprint,
            "_name": settings.base_model,  # how it is spelled is no content
            "revision": revision,
            "_files": str(found),
            **facts,
        }

    def describe(entry: Entry) -> Metadata:
        return {name: value for name, value in entry.facts.items() if not name.startswith("_")}

    inputs = (source.fingerprint, settings.base_model, revision, str(found))
    libraries = ("transformers", "gguf")
    return result(context, project, "base_model", inputs, build, describe, module=MODULE, libraries=libraries)


def model_directory(base_model: Entry) -> Path:
    """Return the directory that holds the base model's configuration, weights and tokenizer."""
    from loradash_assets.compute.base_model import CONVERTED

    converted = base_model.path / CONVERTED
    return converted if converted.is_dir() else Path(base_model.facts["_files"])
