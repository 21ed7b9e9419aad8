"""The Dagster code location: every asset, job and schedule of the project in the working directory, put together.

Set LORADASH_PROJECT to look at another directory. Loading this takes no torch.
"""

from __future__ import annotations

import os
import warnings
from datetime import timedelta
from functools import partial
from pathlib import Path

import dagster as dg

from loradash_assets.assets.activations import recording_asset
from loradash_assets.assets.adapter import adapter_assets
from loradash_assets.assets.coactivation import coactivation_asset
from loradash_assets.assets.dashboard import OPENED, output_assets
from loradash_assets.assets.interpretations import interpretations_asset
from loradash_assets.assets.model import base_model
from loradash_assets.assets.notes import notes_job, notes_sensor
from loradash_assets.assets.project import STORE_IO, store_io
from loradash_assets.assets.prompts import dataset_rows, prompts
from loradash_assets.assets.sources import source_assets
from loradash_assets.assets.tables import table_assets
from loradash_assets.automation import build_job, graph_sensor, schedules
from loradash_assets.compute.errors import InputError
from loradash_assets.project import Project
from loradash_assets.settings import DagsterSettings, Settings, SettingsError, load_settings
from loradash_assets.sources import Adapter, adapter_layers, adapters, checkpoints, is_here

PROJECT_VARIABLE = "LORADASH_PROJECT"


def build_definitions(settings: Settings) -> dg.Definitions:
    """Return the asset graph of a project: one table asset for each layer that each of its adapters touches.

    Raises SettingsError or AdapterError with a message for the user.
    """
    layers = [(adapter, adapter_layers(settings, adapter)) for adapter in adapters(settings)]
    assets = [
        dataset_rows,
        prompts,
        base_model,
        *(asset for adapter, _ in layers for asset in adapter_assets(adapter)),
        recording_asset(adapters(settings)),
        *(table_assets(adapter, touched) for adapter, touched in layers),
        *(coactivation_asset(adapter) for adapter, _ in layers),
        interpretations_asset(adapters(settings)),
        *output_assets(layers),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # observable sources: the version is pinned
        return dg.Definitions(
            assets=[
                *source_assets(adapters(settings)),
                *dg.map_asset_specs(partial(_presented, settings.dagster), assets),
            ],
            jobs=[build_job(), notes_job()],
            schedules=schedules(settings),
            sensors=[notes_sensor(partial(load_settings, settings.project))],
            resources={"project": Project(settings), STORE_IO: store_io},
            executor=dg.in_process_executor,
        )


def _presented(settings: DagsterSettings, spec: dg.AssetSpec) -> dg.AssetSpec:
    """Add what the settings say of all assets: who looks after them, and how long what people open counts as fresh."""
    spec = spec.replace_attributes(owners=settings.owners)
    if settings.fresh_hours is None or spec.key.path[-1] not in OPENED:
        return spec
    window = timedelta(hours=settings.fresh_hours)
    return spec.replace_attributes(freshness_policy=dg.FreshnessPolicy.time_window(window))


def made_from(project: Path) -> str:
    """Return what decides how a project's definitions look, or what is wrong with it; the hub is not asked."""
    try:
        settings = load_settings(project)
        graph = [(each.name, each.path, _layers_here(settings, each)) for each in adapters(settings)]
    except (SettingsError, InputError) as problem:
        return str(problem)
    return repr((graph, settings.schedule.cron, settings.schedule.timezone, settings.dagster))


def _left_out(project: Path) -> list[str]:
    try:
        return checkpoints(load_settings(project)).notices()
    except (SettingsError, InputError):
        return []


def _layers_here(settings: Settings, adapter: Adapter) -> list[int] | None:
    return adapter_layers(settings, adapter) if is_here(settings, adapter) else None


def broken_definitions(problem: Exception) -> dg.Definitions:
    """Return, in place of a project's graph, one asset that says why there is none, and fails with just that."""
    text = f"{problem}\n\nOnce it is put right, the asset graph appears here within a minute."

    @dg.asset(name="no_asset_graph", description=text, group_name="sources", kinds={"yaml"})
    def no_asset_graph() -> None:
        raise dg.Failure(text, allow_retries=False)

    return dg.Definitions(assets=[no_asset_graph], executor=dg.in_process_executor)


def project_definitions() -> dg.Definitions:
    """Return the definitions of the project that Dagster was started in, or what is wrong with its settings.

    A code location that does not load shows a traceback, and takes the history's pages with it.
    """
    project = Path(os.environ.get(PROJECT_VARIABLE, "."))
    sensor = graph_sensor(made_from(project), partial(made_from, project), partial(_left_out, project))
    try:
        definitions = build_definitions(load_settings(project))
    except (SettingsError, InputError) as problem:
        definitions = broken_definitions(problem)
    return dg.Definitions.merge(definitions, dg.Definitions(sensors=[sensor]))


defs = dg.definitions(project_definitions)
