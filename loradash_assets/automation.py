"""What starts runs: the job that makes everything, and the schedule that keeps it up to date."""

from __future__ import annotations

import dagster as dg

from loradash_assets.settings import SETTINGS_FILE, Settings, SettingsError

BUILD_JOB = "build"


def build_job() -> dg.UnresolvedAssetJobDefinition:
    """Return the job that observes every source and materialises every asset; what the store has is not recomputed."""
    return dg.define_asset_job(
        BUILD_JOB,
        dg.AssetSelection.all(include_sources=True),
        description="Observe what changed and bring everything up to date.",
        executor_def=dg.in_process_executor,
    )


def schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """Return the settings' schedule, if there is one. Raises SettingsError for an impossible cron line or zone."""
    if settings.schedule.cron is None:
        return []
    try:
        schedule = dg.ScheduleDefinition(
            name="regenerate",
            job_name=BUILD_JOB,
            cron_schedule=settings.schedule.cron,
            execution_timezone=settings.schedule.timezone,
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Brings everything up to date; what has not changed comes from the store.",
        )
    except dg.DagsterInvalidDefinitionError as error:
        raise SettingsError(f"{SETTINGS_FILE}: schedule: {error}") from error
    return [schedule]
