"""What starts runs: the job that makes everything, and the schedule that keeps it up to date; and what keeps the graph
itself up to date, while it is on show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import dagster as dg

from loradash_assets.settings import SETTINGS_FILE, Settings, SettingsError

BUILD_JOB = "build"
SECONDS_BETWEEN_LOOKS = 10
RELOAD_SECONDS = 120  # at most, for the new definitions to load


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


def graph_sensor(loaded: str, current: Callable[[], str], left_out: Callable[[], Sequence[str]]) -> dg.SensorDefinition:
    """Return the sensor that has the definitions loaded anew while what they were made from is not `current`.

    What is not in the graph, and why, says `left_out`, in one line each.
    """

    @dg.sensor(
        name="asset_graph",
        minimum_interval_seconds=SECONDS_BETWEEN_LOOKS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Loads the asset graph anew when adapters came or went, or the schedule changed.",
    )
    def asset_graph(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        if current() == loaded:
            return dg.SkipReason("\n".join(["the asset graph is that of the settings and the adapters", *left_out()]))
        # Only a code server of its own, as `loradash ui` and `dagster dev` start it, can be asked.
        connect = getattr(context.code_location_origin, "create_client", None)
        if connect is None:
            return dg.SkipReason("adapters came or went, or the schedule changed: reload the definitions")
        connect().reload_code(timeout=RELOAD_SECONDS)
        return dg.SkipReason("adapters came or went, or the schedule changed: the asset graph has been loaded anew")

    return asset_graph
