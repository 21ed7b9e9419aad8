"""A project's asset graph on a real Dagster instance."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import dagster as dg

from loradash_assets.automation import BUILD_JOB
from loradash_assets.definitions import build_definitions
from loradash_assets.settings import Settings, load_settings
from loradash_assets.store import Entry
from tests.projects import latest_entry


def next_second() -> None:
    """Wait for the next recording to have another time, which it tells to the second."""
    time.sleep(1)


class Graph:
    """A project's graph on an instance of its own."""

    def __init__(self, project: Path, instance: dg.DagsterInstance) -> None:
        self.project = project
        self.instance = instance

    def settings(self) -> Settings:
        return load_settings(self.project)

    def definitions(self) -> dg.Definitions:
        return build_definitions(self.settings())

    def run(self, *assets: str, success: bool = True) -> dict[str, str]:
        """Run the build job (on `assets` only, if named); return whether each asset was a cache hit or a miss."""
        outcome = (
            self.definitions()
            .resolve_job_def(BUILD_JOB)
            .execute_in_process(
                instance=self.instance,
                asset_selection=[dg.AssetKey(name.split("/")) for name in assets] or None,
                run_config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}},
                raise_on_error=False,
            )
        )
        assert outcome.success == success
        return {
            event.asset_key.to_user_string(): str(event.materialization.metadata["cache"].value)
            for event in outcome.all_events
            if event.is_step_materialization and event.asset_key is not None
        }

    def change(self, **settings: dict[str, Any]) -> None:
        file = self.project / "loradash.yaml"
        sections = json.loads(file.read_text())
        for section, fields in settings.items():
            sections.setdefault(section, {}).update(fields)
        file.write_text(json.dumps(sections))

    def metadata(self, asset: str) -> dict[str, Any]:
        event = self.instance.get_latest_materialization_event(dg.AssetKey(asset.split("/")))
        assert event is not None
        assert event.asset_materialization is not None
        return dict(event.asset_materialization.metadata)

    def entry(self, asset: str) -> Path:
        return latest_entry(self.project, asset)

    def digest(self, asset: str) -> str:
        return Entry(self.entry(asset)).digest
