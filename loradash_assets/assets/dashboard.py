"""What people open: the dashboard, the original's data file, the published tables and the interpretation report."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import dagster as dg

from loradash_assets.assets.interpretations import FILE_FACT
from loradash_assets.assets.keys import adapter_key, layer_name, settings_key, table_key
from loradash_assets.assets.note_checks import EXAMPLES, note_check, without_examples
from loradash_assets.assets.project import (
    IN_STORE,
    STORE_IO,
    Metadata,
    References,
    StoreIOManager,
    dashboard_link,
    result,
)
from loradash_assets.code_version import code_version, resources_version
from loradash_assets.lookup import SHOWN_FACT, shown_fact
from loradash_assets.project import Project
from loradash_assets.site import outputs
from loradash_assets.site.inputs import AdapterInputs, Run, SiteInputs
from loradash_assets.sources import Adapter
from loradash_assets.store import Entry, Facts

MODULE = "loradash_assets.site.outputs"
SOURCES = ("base_model", "dataset_rows", "prompts")
STAGES = ("features", "activations", "geometry")
COACTIVATION = "coactivation"
NOTES_FACT = "_notes"  # the digest of the notes that a page shows; the page's own content says the rest
Layers = Sequence[tuple[Adapter, Sequence[int]]]  # the project's adapters, each with the layers that it touches


@dataclass(frozen=True)
class _Output:
    name: str
    group: str
    kinds: set[str]
    write: Callable[[SiteInputs, Path], Facts]
    is_page: bool = False  # has a title and a template
    has_notes: bool = False
    stages: Sequence[str] = STAGES  # what it needs of each adapter, beside the layers' tables
    libraries: Sequence[str] = ()  # whose versions its content hangs on


DATA = _Output("activations_data", "dashboard", {"json"}, outputs.write_data)
WITH_COACTIVATION = (*STAGES, COACTIVATION)
DASHBOARD = _Output(
    "dashboard",
    "dashboard",
    {"html"},
    outputs.write_dashboard,
    is_page=True,
    has_notes=True,
    stages=WITH_COACTIVATION,
)
REPORT = _Output(
    "interpretation_report",
    "annotations",
    {"html", "csv"},
    outputs.write_report,
    is_page=True,
    has_notes=True,
    libraries=["nltk"],
)
OF_ALL_ADAPTERS = (
    _Output("published_tables", "dashboard", {"parquet"}, outputs.write_tables, stages=WITH_COACTIVATION),
    DASHBOARD,
    REPORT,
    _Output("annotated_features", "annotations", {"parquet"}, outputs.write_annotated_features, has_notes=True),
)
OPENED = {output.name for output in (DATA, *OF_ALL_ADAPTERS)}  # what people open


def output_assets(adapters: Layers) -> list[dg.AssetsDefinition]:
    """Return the assets at the end of the graph: one data file per adapter, and what shows all of them."""
    data = [
        _asset(DATA, adapter_key(each, DATA.name), [(each, layers)], Path(*each.place)) for each, layers in adapters
    ]
    return [*data, *(_asset(output, dg.AssetKey(output.name), adapters, Path()) for output in OF_ALL_ADAPTERS)]


def _asset(output: _Output, key: dg.AssetKey, adapters: Layers, place: Path) -> dg.AssetsDefinition:
    shared = (*SOURCES, *(["interpretations"] if output.has_notes else []))
    inputs = {name: dg.AssetKey(name) for name in shared} | _inputs(adapters, output.stages)

    @dg.asset(
        key=key,
        deps=[*inputs.values(), settings_key("dashboard")],
        description=output.write.__doc__,
        group_name=output.group,
        kinds=output.kinds,
        io_manager_key=STORE_IO,
        code_version=code_version(MODULE),
        metadata=IN_STORE,
        check_specs=[note_check(EXAMPLES, key)] if output == REPORT else [],
    )
    def make(
        context: dg.AssetExecutionContext,
        project: dg.ResourceParam[Project],
        store_io: dg.ResourceParam[StoreIOManager],
    ) -> Iterator[dg.MaterializeResult[Entry] | dg.AssetCheckResult]:
        # Not as inputs: Dagster would write two events for each, over half of a run's history.
        entries = {name: store_io.latest(upstream) for name, upstream in inputs.items()}
        site = _site(project, adapters, entries)
        target = project.settings.output_dir / place

        def build(directory: Path) -> Facts:
            notes = {NOTES_FACT: entries["interpretations"].digest} if output.has_notes else {}
            shown = [_shown(number, each, inputs, entries) for number, each in enumerate(site.adapters)]
            return {**output.write(site, directory), **notes, **({SHOWN_FACT: shown} if output == DASHBOARD else {})}

        def describe(entry: Entry) -> Metadata:
            outputs.publish(entry.path, target)
            return {
                "directory": dg.MetadataValue.path(target),
                **{name: value for name, value in entry.facts.items() if not name.startswith("_")},
                **(dashboard_link(project) if output == DASHBOARD else {}),
            }

        digests = {name: entry.digest for name, entry in entries.items()}
        runs = [(each.label, asdict(each.run)) for each in site.adapters]
        look = (site.title, resources_version("site_templates")) if output.is_page else ()
        size = (site.largest_file,) if output == DASHBOARD else ()
        made_from = (digests, runs, *look, *size)
        made = result(
            context,
            project,
            output.name,
            made_from,
            build,
            describe,
            module=MODULE,
            libraries=output.libraries,
            asset_key=key,
        )
        yield made
        if output == REPORT:
            yield without_examples(key, made.value.facts[outputs.STALE_FACT])

    return make


def shows_notes(project: Project, references: References, file: str) -> bool:
    """Whether what people open shows the interpretations file whose hash is `file`, and is where they look for it.

    Raises dg.Failure if something has not been materialised yet.
    """
    notes = references.latest(dg.AssetKey("interpretations"))
    shown = [references.latest(dg.AssetKey(output.name)) for output in OF_ALL_ADAPTERS if output.has_notes]
    return notes.facts.get(FILE_FACT) == file and all(
        each.facts.get(NOTES_FACT) == notes.digest and outputs.is_published(each, project.settings.output_dir)
        for each in shown
    )


def _inputs(adapters: Layers, stages: Sequence[str]) -> dict[str, dg.AssetKey]:
    """The assets that belong to each adapter, by stage or layer and the adapter's number."""
    inputs: dict[str, dg.AssetKey] = {}
    for number, (adapter, layers) in enumerate(adapters):
        inputs |= {f"{stage}_{number}": adapter_key(adapter, stage) for stage in stages}
        inputs |= {f"{layer_name(layer)}_{number}": table_key(adapter, layer) for layer in layers}
    return inputs


def _site(project: Project, adapters: Layers, entries: Mapping[str, Entry]) -> SiteInputs:
    notes = entries.get("interpretations", entries["prompts"])
    return SiteInputs(
        title=project.settings.dashboard.title,
        adapters=[_adapter(number, *adapter, entries) for number, adapter in enumerate(adapters)],
        prompts=entries["prompts"].path,
        interpretations=notes.path,
        largest_file=project.settings.dashboard.largest_file,
    )


def _adapter(number: int, adapter: Adapter, layers: Sequence[int], entries: Mapping[str, Entry]) -> AdapterInputs:
    stages = {stage: entries[f"{stage}_{number}"] for stage in STAGES}
    tables = {layer: entries[f"{layer_name(layer)}_{number}"] for layer in layers}
    run = _run([*(entries[name] for name in SOURCES), stages["features"], stages["activations"]], tables)
    coactivation = entries.get(f"{COACTIVATION}_{number}")
    if coactivation is not None and coactivation.facts.get("basis") != run.basis:
        reason = "'coactivation' was made with another tables.basis than 'top_tokens': materialise it again"
        raise dg.Failure(reason, allow_retries=False)
    return AdapterInputs(
        name=adapter.name,
        label=adapter.label,
        run=run,
        layers={layer: entry.path for layer, entry in tables.items()},
        features=stages["features"].path,
        geometry=stages["geometry"].path,
        coactivation=coactivation.path if coactivation else None,
    )


def _shown(
    number: int, adapter: AdapterInputs, inputs: Mapping[str, dg.AssetKey], entries: Mapping[str, Entry]
) -> Facts:
    """Say by what the exact activations behind a dashboard are found."""
    names = {"prompts": "prompts", "features": f"features_{number}", "activations": f"activations_{number}"}
    stages = {stage: (inputs[name].to_user_string(), entries[name]) for stage, name in names.items()}
    return shown_fact(adapter.name, adapter.run.basis, **stages)


def _run(made_from: Sequence[Entry], tables: Mapping[int, Entry]) -> Run:
    """Say what the results were made from: from their own facts, whatever the settings are by now."""
    base_model, dataset, prompts, features, activations = (entry.facts for entry in made_from)
    options = next(iter(tables.values())).facts["settings"]
    if any(table.facts["settings"] != options for table in tables.values()):
        reason = "the layers' tables were made with different settings: materialise all of 'top_tokens' again"
        raise dg.Failure(reason, allow_retries=False)
    return Run(
        base_model=base_model["_name"],
        adapter=features["_adapter"],
        dataset=dataset["_dataset"],
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
        left_out=next((table.facts["left_out"] for table in tables.values() if table.facts["left_out"]), {}),
        unrecorded=features["unrecorded"],
        variants=features["variants"],
        dropped=sum(table.facts["dropped"] for table in tables.values()),
        non_finite=sum(table.facts["non_finite"] for table in tables.values()),
        recorded_at=activations["_recorded_at"],
    )
