"""The asset graph of a project with two layers and two adapters as text: tests/assets/asset_graph.txt.

    .venv/bin/python -m tests.assets.snapshot

writes it anew, for its changes to be read. A test compares it with what the definitions are.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from unittest.mock import patch

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph, AssetNode
from dagster._core.definitions.freshness import FreshnessPolicy, TimeWindowFreshnessPolicy
from transformers import LlamaConfig

from loradash_assets.definitions import PROJECT_VARIABLE, project_definitions
from tests.projects import save_adapter, save_base, save_project, tiny_tokenizer

FILE = Path(__file__).with_name("asset_graph.txt")
KIND = "dagster/kind/"


def project(directory: Path) -> None:
    """Make a project of two layers and two adapters."""
    save_project(directory, adapter={"others": {"step-200": "./step-200"}})
    config = LlamaConfig(
        vocab_size=len(tiny_tokenizer()),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    save_base(directory / "base", config)
    for name in ("adapter", "step-200"):
        save_adapter(directory / name, directory / "base")


def described(definitions: dg.Definitions) -> str:
    """Return every asset, check, job, schedule and sensor, with all that Dagster is told of them but prose."""
    graph = definitions.resolve_asset_graph()
    lines = [line for node in _in_order(graph) for line in _asset(definitions, graph, node)]
    repository = definitions.get_repository_def()
    for job in sorted(repository.get_all_jobs(), key=lambda job: job.name):
        if not job.name.startswith("__"):
            lines += _job(job, len(graph.executable_asset_keys))
    for schedule in repository.schedule_defs:
        lines += ["", f"schedule {schedule.name}: {schedule.cron_schedule} {schedule.execution_timezone}"]
        lines += _lines({"starts": schedule.job_name, "at first": schedule.default_status.value.lower()})
    for sensor in repository.sensor_defs:
        lines += ["", f"sensor {sensor.name}: {sensor.sensor_type.value.lower()}"]
        looks = f"{sensor.minimum_interval_seconds} s"
        starts = ", ".join(target.job_name for target in sensor.targets)
        lines += _lines({"starts": starts, "every": looks, "at first": sensor.default_status.value.lower()})
    return "\n".join(lines).lstrip() + "\n"


def _in_order(graph: AssetGraph) -> Iterator[AssetNode]:
    """Yield the assets group by group, a group where its first asset can be made."""
    nodes = [graph.get(key) for level in graph.toposorted_asset_keys_by_level for key in sorted(level)]
    for group in dict.fromkeys(node.group_name for node in nodes):
        yield from (node for node in nodes if node.group_name == group)


def _asset(definitions: dg.Definitions, graph: AssetGraph, node: AssetNode) -> list[str]:
    together = definitions.resolve_assets_def(node.key)
    op = together.op
    checks = {key.name: graph.get(key) for key in sorted(node.check_keys)}
    details = {
        "kinds": ", ".join(sorted(node.kinds)),
        "from": _keys(node.parent_keys),
        "checks": ", ".join(f"{name}{' (blocking)' * check.blocking}" for name, check in checks.items()),
        "owners": ", ".join(node.owners),
        "tags": ", ".join(f"{name}={value}" for name, value in sorted(node.tags.items()) if not name.startswith(KIND)),
        "step": op.name if len(together.keys) > 1 else "",
        "step's tags": ", ".join(f"{name}={value}" for name, value in sorted(op.tags.items())),
        "retries": _retries(op.retry_policy),
        "automation": str(node.automation_condition or ""),
        "fresh for": _fresh(node.freshness_policy),
    }
    kind = "asset" if node.is_materializable else "source"
    return ["", f"{kind} {node.key.to_user_string()} in {node.group_name}", *_lines(details)]


def _job(job: dg.JobDefinition, assets: int) -> list[str]:
    selected = set(job.asset_layer.executable_asset_keys)
    details = {
        "makes": "everything" if len(selected) == assets else _keys(selected),
        "tags": ", ".join(f"{name}={value}" for name, value in sorted(job.tags.items())),
        "retries": _retries(job.op_retry_policy),
    }
    return ["", f"job {job.name}", *_lines(details)]


def _retries(policy: dg.RetryPolicy | None) -> str:
    if policy is None:
        return ""
    backoff = f" {policy.backoff.value.lower()}" if policy.backoff else ""
    return f"{policy.max_retries} after {policy.delay} s{backoff}"


def _fresh(policy: FreshnessPolicy | None) -> str:
    if isinstance(policy, TimeWindowFreshnessPolicy):
        return str(policy.fail_window.to_timedelta())
    return str(policy or "")


def _keys(keys: Iterable[dg.AssetKey]) -> str:
    return ", ".join(key.to_user_string() for key in sorted(keys))


def _lines(details: dict[str, str]) -> list[str]:
    return [f"  {name}: {value}" for name, value in details.items() if value]


def snapshot() -> str:
    """Return the text of the definitions as they are now."""
    with tempfile.TemporaryDirectory() as place, patch.dict(os.environ, {PROJECT_VARIABLE: place}):
        project(Path(place))
        return described(project_definitions())


if __name__ == "__main__":
    FILE.write_text(snapshot(), encoding="utf-8")
    print(FILE)
