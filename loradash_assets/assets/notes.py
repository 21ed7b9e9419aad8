"""Keeping what people open at the notes' level: a sensor that looks at what is shown, not at what happened.

A sensor that waited for events would lose those that come while it looks away, or while a page is being drawn. This
one compares: which notes are in the file, and which do dashboard and report show? It remembers nothing itself, so it
can be stopped at any time; a run that was lost, or that drew older notes, leaves a difference, and so is made again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import takewhile

import dagster as dg

from loradash_assets.assets.dashboard import shows_notes
from loradash_assets.assets.interpretations import interpretations_file
from loradash_assets.assets.project import References
from loradash_assets.project import Project
from loradash_assets.settings import Settings, SettingsError

NOTES_JOB = "notes"
NOTES_TAG = "loradash/notes"  # of a run: the hash of the interpretations file that it was started for
FIRST_WAIT, LONGEST_WAIT = 10.0, 3600.0  # seconds after a run that did not help; doubled each time
ATTEMPTS = 12  # looked at: enough for the longest wait
PATIENCE, PATIENCE_WITH_NOTES = 600.0, 60.0  # seconds: an unfinished run that wrote nothing for so long has died
UNFINISHED = [
    dg.DagsterRunStatus[name] for name in ("QUEUED", "NOT_STARTED", "MANAGED", "STARTING", "STARTED", "CANCELING")
]


def notes_job() -> dg.UnresolvedAssetJobDefinition:
    """Return the job that observes the interpretations file and draws all that shows notes."""
    drawn = dg.AssetSelection.assets("interpretations").downstream()
    return dg.define_asset_job(
        NOTES_JOB,
        drawn | dg.AssetSelection.assets("interpretations_file"),
        description="Bring the latest notes into dashboard and report.",
        executor_def=dg.in_process_executor,
    )


def notes_sensor(settings: Callable[[], Settings], clock: Callable[[], float] = time.time) -> dg.SensorDefinition:
    """Return the sensor that starts that job while what people open does not show the notes in the file.

    `settings` are asked for at each look, since they may have changed too; `clock` gives seconds since 1970.
    """
    references: dict[object, References] = {}  # which know the entries that they have checked

    @dg.sensor(
        name=NOTES_JOB,
        job_name=NOTES_JOB,
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Draws dashboard and report again when a note has changed.",
    )
    def notes(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        try:
            project = Project(settings())
        except SettingsError as error:
            return dg.SkipReason(str(error))
        if not project.settings.schedule.notes:
            return dg.SkipReason("schedule.notes is false")
        file = interpretations_file(project.settings)
        try:
            if shows_notes(project, references.setdefault(project.store.root, References(project)), file):
                return dg.SkipReason("dashboard and report show the latest notes")
        except dg.Failure as reason:
            return dg.SkipReason(f"nothing to draw yet: {reason.description}")
        if is_busy(context.instance, clock()):
            return dg.SkipReason("another run is not finished yet")
        if (seconds := _wait(context.instance, file, clock())) > 0:
            return dg.SkipReason(f"drawing these notes did not help; tried again in {seconds:.0f} s")
        return dg.RunRequest(tags={NOTES_TAG: file})

    return notes


def is_busy(instance: dg.DagsterInstance, now: float) -> bool:
    """Whether a run is under way, and so may be changing what assets are made from."""
    runs = instance.get_run_records(dg.RunsFilter(statuses=UNFINISHED))
    return any(now - _last_sign(instance, run) <= _patience(run.dagster_run) for run in runs)


def _patience(run: dg.DagsterRun) -> float:
    return PATIENCE_WITH_NOTES if run.job_name == NOTES_JOB else PATIENCE


def _last_sign(instance: dg.DagsterInstance, run: dg.RunRecord) -> float:
    """When a run last wrote something, in seconds since 1970."""
    last = instance.get_records_for_run(run.dagster_run.run_id, limit=1, ascending=False).records
    return max([run.update_timestamp.timestamp(), *(record.event_log_entry.timestamp for record in last)])


def _wait(instance: dg.DagsterInstance, file: str, now: float) -> float:
    """Seconds to wait, since the last runs were started for these very notes and they are still not shown."""
    runs = instance.get_run_records(dg.RunsFilter(job_name=NOTES_JOB), limit=ATTEMPTS)  # the newest first
    tried = [*takewhile(lambda run: run.dagster_run.tags.get(NOTES_TAG) == file, runs)]
    if not tried:
        return 0.0
    ended = tried[0].end_time or tried[0].update_timestamp.timestamp()
    return ended + min(FIRST_WAIT * 2.0 ** (len(tried) - 1), LONGEST_WAIT) - now
