"""Running the asset graph in this process, from the command line."""

from __future__ import annotations

import builtins
import gc
import logging
import warnings
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import click
import dagster as dg

from loradash_assets.automation import BUILD_JOB
from loradash_assets.compute.cluster.installed import check_installed
from loradash_assets.definitions import build_definitions
from loradash_assets.history import kept_open
from loradash_assets.settings import Settings
from loradash_assets.store import write_atomically

DAGSTER_SETTINGS = "dagster.yaml"
CHECK_FAILED = "DagsterAssetCheckFailedError"
INTERRUPTIONS = ("DagsterExecutionInterruptedError", "KeyboardInterrupt")


class RunError(click.ClickException):
    """A run failed; the message is the failed assets' own."""


def history_home(project: Path) -> Path:
    """Return the directory whose dagster.yaml keeps the run history in the project; write it if it is not there."""
    file = project / DAGSTER_SETTINGS
    if not file.exists():
        write_atomically(file, files("loradash_assets").joinpath(DAGSTER_SETTINGS).read_bytes())
    return project.resolve()


def run(settings: Settings, targets: Sequence[str] | None, *, upstream: bool) -> str:
    """Materialise the named assets, with all they need if `upstream`, or everything; return what was done.

    Raises RunError, SettingsError or InputError with a message for the user.
    """
    check_installed(settings.cluster)
    gc.freeze()  # what the libraries made while they were imported stays: not to be looked through again and again
    definitions = dg.Definitions.merge(build_definitions(settings), dg.Definitions(loggers={"console": _console}))
    with (
        warnings.catch_warnings(),
        dg.DagsterInstance.from_config(str(history_home(settings.project))) as instance,
        kept_open(instance),
    ):
        warnings.simplefilter("ignore")  # of the libraries below; what a user must know is raised or logged
        outcome = definitions.resolve_job_def(BUILD_JOB).execute_in_process(
            instance=instance,
            run_config={"loggers": {"console": {}}},
            asset_selection=_selection(definitions, targets, upstream=upstream),
            raise_on_error=False,
        )
    failed = [check for check in outcome.get_asset_check_evaluations() if not check.passed]
    checks = [_failed_check(check) for check in failed if check.severity == dg.AssetCheckSeverity.ERROR]
    if not outcome.success or checks:
        raise RunError("\n".join([_summary(outcome) if outcome.success else _failure(outcome), *checks]))
    notices = [check.description or _failed_check(check) for check in failed]
    return "\n".join([_summary(outcome), *notices])


def _selection(
    definitions: dg.Definitions, targets: Sequence[str] | None, *, upstream: bool
) -> Sequence[dg.AssetKey] | None:
    if targets is None:
        return None
    selection = dg.AssetSelection.assets(*map(dg.AssetKey.from_user_string, targets))
    chosen = selection.upstream() if upstream else selection
    return sorted(chosen.resolve(definitions.resolve_asset_graph()))


def _failure(outcome: dg.ExecuteInProcessResult) -> str:
    reasons = dict.fromkeys(_reason(event) for event in outcome.all_events if event.is_step_failure)
    return "\n".join(reasons) or "the run failed before its first step; see the Dagster UI ('loradash ui')"


def _reason(event: dg.DagsterEvent) -> str:
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return data.user_failure_data.description
    error = data.error
    if error is None:
        return f"asset '{event.step_key}' failed: no reason recorded"
    if error.cls_name == CHECK_FAILED:
        return f"what '{event.step_key}' made is wrong, so nothing was made from it:"
    chain = [error]  # and all that led to it: an interruption of a library's call may come up as that library's error
    for each in chain:
        chain += [behind for behind in (each.cause, each.context) if behind is not None]
    if any(each.cls_name in INTERRUPTIONS for each in chain):
        return "stopped; what was done is kept, and the same command goes on from there"
    cause = error.cause or error
    if issubclass(vars(builtins).get(cause.cls_name or "", Exception), OSError):  # a full disk, a file in the way
        return cause.message.strip()
    return f"asset '{event.step_key}' failed: {cause.to_string()}"


def _failed_check(check: dg.AssetCheckEvaluation) -> str:
    values = ", ".join(f"{name} {value.value}" for name, value in check.metadata.items())
    return f"check failed: {check.asset_key.to_user_string()}, {check.check_name}: {values}"


def _summary(outcome: dg.ExecuteInProcessResult) -> str:
    caches = [
        (event.asset_key.to_user_string(), event.materialization.metadata["cache"].value)
        for event in outcome.all_events
        if event.is_step_materialization and event.asset_key is not None
    ]
    computed = [name for name, cache in caches if cache == "miss"]
    if not computed:
        return f"Nothing to recompute: all {len(caches)} results were in the store."
    if len(computed) == len(caches):
        return f"Computed all {len(caches)} results."
    return f"Computed {len(computed)} of {len(caches)} results; the others were in the store."


@dg.logger
def _console(_context: dg.InitLoggerContext) -> logging.Logger:
    """Return a logger that prints the assets' own messages, one line each, and not Dagster's on its own doings."""
    logger = logging.getLogger("loradash.run")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: record.levelno < logging.ERROR)  # failures come up as RunError
    handler.setFormatter(_Message())
    logger.handlers = [handler]
    return logger


class _Message(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        message: str = getattr(record, "dagster_meta", {}).get("orig_message") or record.getMessage()
        return f"  {message}"
