"""The Dagster code location: every asset, job and schedule of the project in the working directory, put together.

Set LORADASH_PROJECT to look at another directory. Loading this takes no torch.
"""

from __future__ import annotations

import os
import warnings
from functools import partial
from pathlib import Path

import dagster as dg

from loradash_assets.assets.activations import recording_asset
from loradash_assets.assets.adapter import adapter_assets
from loradash_assets.assets.coactivation import coactivation_asset
from loradash_assets.assets.dashboard import output_assets
from loradash_assets.assets.interpretations import interpretations_asset
from loradash_assets.assets.model import base_model
from loradash_assets.assets.notes import notes_job, notes_sensor
from loradash_assets.assets.project import STORE_IO, Project, StoreIOManager
from loradash_assets.assets.prompts import dataset_rows, prompts
from loradash_assets.assets.sources import source_assets
from loradash_assets.assets.tables import table_assets
from loradash_assets.automation import build_job, schedules
from loradash_assets.compute.errors import InputError
from loradash_assets.settings import Settings, SettingsError, load_settings
from loradash_assets.sources import adapter_layers, adapters

PROJECT_VARIABLE = "LORADASH_PROJECT"


def build_definitions(settings: Settings) -> dg.Definitions:
    """Return the asset graph of a project: one table asset for each layer that each of its adapters touches.

    Raises SettingsError or AdapterError with a message for the user.
    """
    layers = [(adapter, adapter_layers(settings, adapter)) for adapter in adapters(settings)]
    project = Project(settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # observable sources: the version is pinned
        return dg.Definitions(
            assets=[
                *source_assets(adapters(settings)),
                dataset_rows,
                prompts,
                base_model,
                *(asset for adapter, _ in layers for asset in adapter_assets(adapter)),
                recording_asset(adapters(settings)),
                *(table_assets(adapter, touched) for adapter, touched in layers),
                *(coactivation_asset(adapter) for adapter, _ in layers),
                interpretations_asset(adapters(settings)),
                *output_assets(layers),
            ],
            jobs=[build_job(), notes_job()],
            schedules=schedules(settings),
            sensors=[notes_sensor(partial(load_settings, settings.project))],
            resources={"project": project, STORE_IO: StoreIOManager(project)},
            executor=dg.in_process_executor,
        )


def broken_definitions(problem: Exception) -> dg.Definitions:
    """Return, in place of a project's graph, one asset that says why there is none, and fails with just that."""
    text = f"{problem}\n\nThen reload the definitions: Deployment, Reload."

    @dg.asset(name="no_asset_graph", description=text, group_name="sources", kinds={"yaml"})
    def no_asset_graph() -> None:
        raise dg.Failure(text, allow_retries=False)

    return dg.Definitions(assets=[no_asset_graph], executor=dg.in_process_executor)


def project_definitions() -> dg.Definitions:
    """Return the definitions of the project that Dagster was started in, or what is wrong with its settings.

    A code location that does not load shows a traceback, and takes the history's pages with it.
    """
    try:
        return build_definitions(load_settings(Path(os.environ.get(PROJECT_VARIABLE, "."))))
    except (SettingsError, InputError) as problem:
        return broken_definitions(problem)


defs = dg.definitions(project_definitions)
