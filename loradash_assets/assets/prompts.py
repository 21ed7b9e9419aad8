"""Dataset rows, and the prompts and tokens made from them."""

from pathlib import Path

import dagster as dg

from loradash_assets.assets.keys import settings_key
from loradash_assets.assets.model import model_directory
from loradash_assets.assets.project import IN_STORE, RETRIES, STORE_IO, Metadata, file_metadata, result, user_errors
from loradash_assets.code_version import code_version
from loradash_assets.project import Project
from loradash_assets.sources import LocalSource, dataset_source
from loradash_assets.store import Entry, Facts

ROWS_MODULE = "loradash_assets.compute.rows"
PROMPTS_MODULE = "loradash_assets.compute.encode"
GROUP = "dataset"


@dg.asset(
    group_name=GROUP,
    kinds={"parquet"},
    deps=["dataset_source", settings_key("dataset")],
    io_manager_key=STORE_IO,
    code_version=code_version(ROWS_MODULE),
    retry_policy=RETRIES,
    metadata=IN_STORE,
)
def dataset_rows(context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]) -> dg.MaterializeResult[Entry]:
    """The dataset's first rows, as they are; a row that cannot be read keeps its number and says why."""
    dataset = project.settings.dataset
    with user_errors():
        source = dataset_source(project.settings)

    def build(directory: Path) -> Facts:
        from loradash_assets.compute.rows import hub_rows, local_rows, write_rows

        if isinstance(source, LocalSource):
            rows = local_rows(source.path, dataset.split)
        else:
            rows = hub_rows(source.name, dataset.config, dataset.split, source.revision)
        count = write_rows(rows, dataset.num_examples, directory / "rows.parquet")
        return {"rows": count, "_dataset": dataset.path}  # how it is spelled is no content

    def describe(entry: Entry) -> Metadata:
        return file_metadata(entry.path / "rows.parquet")

    inputs = (source.fingerprint, dataset.fingerprint("path", "config", "split", "num_examples"))
    return result(
        context, project, "dataset_rows", inputs, build, describe, module=ROWS_MODULE, libraries=("datasets",)
    )


@dg.asset(
    group_name=GROUP,
    kinds={"parquet", "huggingface"},
    deps=[settings_key("dataset"), settings_key("model")],
    io_manager_key=STORE_IO,
    code_version=code_version(PROMPTS_MODULE),
    metadata=IN_STORE,
)
def prompts(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project], dataset_rows: Entry, base_model: Entry
) -> dg.MaterializeResult[Entry]:
    """What the model reads: each usable row's text, token ids and token texts; and the rows skipped or cut."""
    dataset = project.settings.dataset
    fields = ("prompt_format", "text_column", "messages_column", "template", "max_tokens")

    def build(directory: Path) -> Facts:
        from loradash_assets.compute.encode import encode_prompts

        facts = encode_prompts(
            dataset_rows.path / "rows.parquet",
            model_directory(base_model),
            directory,
            trust_remote_code=project.settings.model.trust_remote_code,
            **dataset.model_dump(include=set(fields)),
        )
        return {**facts, "prompt_format": dataset.prompt_format}

    def describe(entry: Entry) -> Metadata:
        return {
            **file_metadata(entry.path / "prompts.parquet", ("example", "text", "tokens")),
            **entry.facts,
            "not_used_as_they_are": file_metadata(entry.path / "skipped.parquet")["preview"],
        }

    inputs = (dataset_rows.digest, base_model.digest, dataset.fingerprint(*fields))
    libraries = ("transformers", "tokenizers", "jinja2")
    from loradash_assets.compute.filters import check_token_ids

    made = result(context, project, "prompts", inputs, build, describe, module=PROMPTS_MODULE, libraries=libraries)
    with user_errors():  # here too, so that nobody waits for the model first
        check_token_ids(project.settings.tables.exclude_token_ids, made.value.facts["vocabulary"])
    return made
