"""A checkpoint that is saved while `loradash ui` runs: the asset graph shows it without anybody's doing."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.ui import REPOSITORY, Ui, running_ui, wait_for
from tests.projects import save_adapter, save_project

ASSETS = "{ assetNodes { assetKey { path } assetMaterializations(limit: 1) { runId } } }"
TICKS = """query Ticks($selector: InstigationSelector!) {
  instigationStateOrError(instigationSelector: $selector) { ... on InstigationState { ticks { status skipReason } } }
}"""
OLD, NEW = ("adapters/checkpoint-2/top_tokens/layer_01", "adapters/checkpoint-10/top_tokens/layer_01")


def _materialised(ui: Ui) -> dict[str, bool]:
    nodes = ui.ask(ASSETS)["assetNodes"]
    return {"/".join(node["assetKey"]["path"]): bool(node["assetMaterializations"]) for node in nodes}


def test_it_comes_into_the_graph_and_the_next_build_computes_it(tmp_path: Path) -> None:
    project = save_project(tmp_path / "project", adapter={"checkpoints": "run"})
    save_adapter(project / "run" / "checkpoint-2", project / "base", seed=5)
    with running_ui(project) as ui:
        assert NEW not in _materialised(ui)
        save_adapter(tmp_path / "written", project / "base", seed=6)
        (tmp_path / "written").rename(project / "run" / "checkpoint-10")
        wait_for(lambda: NEW in _materialised(ui))
        assert not _materialised(ui)[NEW]
        assert ui.status(ui.launch(job="build")) == "SUCCESS"
        assert _materialised(ui)[NEW]
        assert _materialised(ui)[OLD]
        ticks = ui.ask(TICKS, {"selector": {"name": "asset_graph", **REPOSITORY}})["instigationStateOrError"]["ticks"]
    assert {tick["status"] for tick in ticks} <= {"SKIPPED", "STARTED"}
    assert any("has been loaded anew" in str(tick["skipReason"]) for tick in ticks)
