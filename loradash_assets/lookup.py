"""Exact activations of one feature on one example, for the annotation service, from what the dashboard was made from.

Where a later run recorded anew and the dashboard is not drawn yet, there are none: rows and features may be others.
Every file is compared with its digest before the first answer from it, and a chunk is all that one answer needs.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from safetensors import SafetensorError

from annotation_server.activations import ActivationsUnavailable
from annotation_server.keys import FeatureKey
from loradash_assets.compute.basis import SvdBasis, svd_basis
from loradash_assets.compute.catalogue import DIRECTIONS_FILE, FEATURES_FILE, read_weights
from loradash_assets.compute.encode import PROMPTS_FILE
from loradash_assets.compute.interpretations import BASES, names_feature
from loradash_assets.compute.recording import CHUNK_SUFFIX
from loradash_assets.compute.spans import ExampleIndex, ModulePlace, module_activations, prompt_index
from loradash_assets.parquet import read_parquet
from loradash_assets.project import Project
from loradash_assets.schema import OUTSIDE_LAYERS, Basis
from loradash_assets.settings import Settings
from loradash_assets.site.arrow import shortest
from loradash_assets.store import DamagedError, Entry, intact_file, is_sealed

DASHBOARD = "dashboard"
SHOWN_FACT = "_shown"  # of the dashboard: a `shown_fact` for each adapter


def shown_fact(adapter: str | None, basis: Basis, **stages: tuple[str, Entry]) -> dict[str, Any]:
    """Return what a dashboard says of an adapter on it: its basis, and each stage's asset and its content's digest.

    The stages are `prompts`, `features` and `activations`.
    """
    made_from = {stage: [asset, entry.digest] for stage, (asset, entry) in stages.items()}
    return {"adapter": adapter, "basis": basis, "stages": made_from}


class ActivationLookup:
    """Finds activations in a project; may be called by several threads at once."""

    def __init__(self, settings: Settings) -> None:
        self._project = Project(settings)
        self._recorded: dict[str | None, _Recorded] = {}
        self._lock = threading.Lock()

    def __call__(self, key: FeatureKey, example: int) -> list[float] | None:
        """Return a feature's activation on every token of a dataset row, in order; 0 where an expert does not see it.

        They are in the key's basis; a module of rank 1, whose keys name none, in the dashboard's. Each is the float64
        whose decimal form is the recorded float32's shortest one. None if the dashboard shows no such feature or row,
        or was not made from the latest results. Raises ActivationsUnavailable where these are damaged or gone.
        """
        try:
            with self._lock:
                recorded = self._latest(key.adapter)
            return None if recorded is None else recorded.activations(key, example)
        except (DamagedError, OSError, SafetensorError) as error:
            self._recorded.pop(key.adapter, None)
            raise ActivationsUnavailable(f"{error} ('loradash build' makes it again)") from error

    def _latest(self, adapter: str | None) -> _Recorded | None:
        """Return what the dashboard shows of an adapter, read anew only if that is another recording than before."""
        dashboard = self._noted(DASHBOARD)
        shown = [] if dashboard is None else dashboard.facts.get(SHOWN_FACT, [])
        found = next((each for each in shown if each["adapter"] == adapter), None)
        if found is None or (entries := self._stages(found["stages"])) is None:
            return None
        known = self._recorded.get(adapter)
        if known is None or (known.basis, known.entries) != (found["basis"], entries):
            known = self._recorded[adapter] = _Recorded(found["basis"], entries, _index(**entries))
        return known

    def _stages(self, stages: Mapping[str, Sequence[str]]) -> dict[str, Entry] | None:
        """Return the latest entry of each stage; None if one has another content than was shown."""
        entries: dict[str, Entry] = {}
        for stage, (asset, digest) in stages.items():
            entry = self._noted(asset)
            if entry is None or entry.digest != digest:
                return None
            entries[stage] = entry
        return entries

    def _noted(self, asset: str) -> Entry | None:
        entry = self._project.noted(asset)
        if entry is not None and not is_sealed(entry):
            raise DamagedError(f"{entry.path} is damaged or gone")
        return entry


def _index(prompts: Entry, activations: Entry, **_: Entry) -> ExampleIndex:
    files = [activations.path / name for name in activations.manifest["files"] if name.endswith(CHUNK_SUFFIX)]
    return ExampleIndex(prompt_index(intact_file(prompts, PROMPTS_FILE)), files)


@dataclass(frozen=True)
class _Recorded:
    """One adapter's recording, by stage, the basis in which the dashboard shows it, and where each example is."""

    basis: Basis
    entries: Mapping[str, Entry]
    index: ExampleIndex

    def activations(self, key: FeatureKey, example: int) -> list[float] | None:
        layer = OUTSIDE_LAYERS if key.layer is None else key.layer
        file = intact_file(self.entries["features"], FEATURES_FILE)
        features = read_parquet(file).filter(pc.field("layer") == layer)
        of_module = features.filter(pc.field("projection") == key.projection).to_pylist()
        span = self.index.find(example)
        if span is None or not names_feature(key, len(of_module)):
            return None
        module = of_module[0]
        intact_file(self.entries["activations"], span.file.name)
        values = module_activations(ModulePlace.of(layer, features, module["module"]), span)
        letter, component = key.component or ("c", 0)
        if (self.basis if len(of_module) == 1 else BASES[letter]) == "svd":
            directions = intact_file(self.entries["features"], DIRECTIONS_FILE)
            values = _svd_basis(directions, module["module"], module["scaling"]).apply(values)
        return shortest(values[component]).tolist() if component < len(values) else None


@lru_cache(64)
def _svd_basis(directions: Path, module: str, scaling: float) -> SvdBasis:
    return svd_basis(*read_weights(directions, module), scaling)
