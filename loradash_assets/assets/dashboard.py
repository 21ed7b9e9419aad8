"""What people open: the dashboard, the original's data file, the published tables and the interpretation report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import dagster as dg

from loradash_assets.assets.project import IN_STORE, STORE_IO, Metadata, Project, result
from loradash_assets.assets.sources import settings_key
from loradash_assets.assets.tables import layer_name, table_key
from loradash_assets.code_version import code_version, resources_version
from loradash_assets.site import outputs
from loradash_assets.site.inputs import Run, SiteInputs
from loradash_assets.store import Entry, Facts

MODULE = "loradash_assets.site.outputs"
STAGES = ("base_model", "prompts", "features", "activations", "geometry", "interpretations")


@dataclass(frozen=True)
class _Output:
    name: str
    group: str
    kinds: set[str]
    write: Callable[[SiteInputs, Run, Path], dict[str, int]]


OUTPUTS = (
    _Output("activations_data", "dashboard", {"json"}, outputs.write_data),
    _Output("published_tables", "dashboard", {"parquet"}, outputs.write_tables),
    _Output("dashboard", "dashboard", {"html"}, outputs.write_dashboard),
    _Output("interpretation_report", "annotations", {"html", "csv"}, outputs.write_report),
)
WITH_NOTES = (outputs.write_dashboard, outputs.write_report)


def output_assets(layers: Sequence[int]) -> list[dg.AssetsDefinition]:
    """Return the assets at the end of the graph, which read every layer's table."""
    return [_asset(output, layers) for output in OUTPUTS]


def _asset(output: _Output, layers: Sequence[int]) -> dg.AssetsDefinition:
    by_name = {layer_name(layer): layer for layer in layers}
    stages = STAGES if output.write in WITH_NOTES else STAGES[:-1]
    upstream = {name: dg.AssetIn(name) for name in stages}

    @dg.asset(
        name=output.name,
        ins={**upstream, **{name: dg.AssetIn(table_key(layer)) for name, layer in by_name.items()}},
        deps=[settings_key("dashboard")],
        description=output.write.__doc__,
        group_name=output.group,
        kinds=output.kinds,
        io_manager_key=STORE_IO,
        code_version=code_version(MODULE),
        metadata=IN_STORE,
    )
    def made(
        context: dg.AssetExecutionContext, project: dg.ResourceParam[Project], **entries: Entry
    ) -> dg.MaterializeResult[Entry]:
        tables = {layer: entries[name] for name, layer in by_name.items()}
        run = _run(project, entries, tables)

        def build(directory: Path) -> Facts:
            return dict(output.write(_site(entries, tables), run, directory))

        def describe(entry: Entry) -> Metadata:
            outputs.publish(entry.path, project.settings.output_dir)
            return {"directory": dg.MetadataValue.path(project.settings.output_dir), **entry.facts}

        digests = {name: entry.digest for name, entry in entries.items()}
        inputs = (digests, asdict(run), resources_version("site_templates"))
        return result(context, project, output.name, inputs, build, describe, module=MODULE)

    return made


def _site(entries: Mapping[str, Entry], tables: Mapping[int, Entry]) -> SiteInputs:
    notes = entries.get("interpretations", entries["features"])
    return SiteInputs(
        layers={layer: entry.path for layer, entry in tables.items()},
        features=entries["features"].path,
        geometry=entries["geometry"].path,
        prompts=entries["prompts"].path,
        interpretations=notes.path,
    )


def _run(project: Project, entries: Mapping[str, Entry], tables: Mapping[int, Entry]) -> Run:
    """Say what the results were made from: from their own facts, whatever the settings are by now."""
    base_model, prompts, features, activations = (entries[name].facts for name in STAGES[:4])
    options = next(iter(tables.values())).facts["settings"]
    if any(table.facts["settings"] != options for table in tables.values()):
        reason = "the layers' tables were made with different settings: materialise all of 'top_tokens' again"
        raise dg.Failure(reason, allow_retries=False)
    return Run(
        title=project.settings.dashboard.title,
        base_model=base_model["name"],
        adapter=features["adapter"],
        dataset=prompts["dataset"],
        prompt_format=prompts["prompt_format"],
        num_layers=base_model["layers"],
        rows=prompts["rows"],
        examples=prompts["examples"],
        tokens=prompts["tokens"],
        skipped=prompts["skipped"],
        truncated=prompts["truncated"],
        top_k=options["top_k"],
        context_window=options["context_window"],
        basis=options["basis"],
        distinct_contexts=options["distinct_contexts"],
        contexts_can_be_shared=activations["prefix_determined"],
        max_per_example=options["max_per_example"],
        first_positions=options["exclude_first_positions"],
        left_out=next(iter(tables.values())).facts["left_out"],
        unrecorded=features["unrecorded"],
        variants=features["variants"],
        dropped=sum(table.facts["dropped"] for table in tables.values()),
        non_finite=sum(table.facts["non_finite"] for table in tables.values()),
        recorded_at=activations["_recorded_at"],
    )
