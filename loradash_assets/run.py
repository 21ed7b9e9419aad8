"""Running the asset graph in this process, from the command line."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import click
import dagster as dg

from loradash_assets.automation import BUILD_JOB
from loradash_assets.definitions import build_definitions
from loradash_assets.settings import Settings

DAGSTER_SETTINGS = "dagster.yaml"


class RunError(click.ClickException):
    """A run failed; the message is the first failed asset's."""


def history_home(project: Path) -> Path:
    """Return the directory whose dagster.yaml keeps the run history in the project; write that file if it is missing."""
    file = project / DAGSTER_SETTINGS
    if not file.exists():
        file.write_text(files("loradash_assets").joinpath(DAGSTER_SETTINGS).read_text(encoding="utf-8"), encoding="utf-8")
    return project.resolve()


def run(settings: Settings, targets: Sequence[str] | None, *, upstream: bool) -> str:
    """Materialise the named assets, with all they need if `upstream`, or everything; return what was done.

    Raises RunError, SettingsError or InputError with a message for the user.
    """
    definitions = dg.Definitions.merge(build_definitions(settings), dg.Definitions(loggers={"console": _console}))
    with warnings.catch_warnings(), dg.DagsterInstance.from_config(str(history_home(settings.project))) as instance:
        warnings.simplefilter("ignore")  # of the libraries below; what a user must know is raised or logged
        outcome = definitions.resolve_job_def(BUILD_JOB).execute_in_process(
            instance=instance,
            run_config={"loggers": {"console": {}}},
            asset_selection=_selection(definitions, targets, upstream=upstream),
            raise_on_error=False,
        )
    if not outcome.success:
        raise RunError(_failure(outcome))
    return _summary(outcome)


def _selection(
    definitions: dg.Definitions, targets: Sequence[str] | None, *, upstream: bool
) -> Sequence[dg.AssetKey] | None:
    if targets is None:
        return None
    selection = dg.AssetSelection.assets(*targets)
    chosen = selection.upstream() if upstream else selection
    return sorted(chosen.resolve(definitions.resolve_asset_graph()))


def _failure(outcome: dg.ExecuteInProcessResult) -> str:
    failed = [event for event in outcome.all_events if event.is_step_failure]
    if not failed:
        return "the run failed before its first step; see the Dagster UI ('loradash ui')"
    data = failed[0].step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return data.user_failure_data.description
    cause = data.error.cause if data.error is not None and data.error.cause is not None else data.error
    return f"asset '{failed[0].step_key}' failed: {cause.to_string() if cause is not None else 'no reason recorded'}"


def _summary(outcome: dg.ExecuteInProcessResult) -> str:
    caches = [
        (event.asset_key.to_user_string(), event.materialization.metadata["cache"].value)
        for event in outcome.all_events
        if event.is_step_materialization and event.asset_key is not None
    ]
    computed = [name for name, cache in caches if cache == "miss"]
    if not computed:
        return f"Nothing to recompute: all {len(caches)} results were in the store."
    return f"Computed {len(computed)} of {len(caches)} results; the others were in the store."


@dg.logger
def _console(context: dg.InitLoggerContext) -> logging.Logger:
    """Assets' own messages, one line each."""
    logger = logging.getLogger("loradash.run")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler = logging.StreamHandler()
    handler.setFormatter(_Message())
    logger.handlers = [handler]
    return logger


class _Message(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        message: str = getattr(record, "dagster_meta", {}).get("orig_message") or record.getMessage()
        return f"  {message}"
