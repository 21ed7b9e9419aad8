"""Recorded activations: the only step that runs the model, once loaded for all adapters."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import dagster as dg

from loradash_assets.assets.keys import adapter_group, adapter_key, adapter_tags, settings_key
from loradash_assets.assets.model import model_directory
from loradash_assets.assets.project import IN_STORE, Metadata, StoreIOManager, result, user_errors
from loradash_assets.code_version import code_version
from loradash_assets.compute.errors import AdapterError, ModelError
from loradash_assets.project import Project
from loradash_assets.settings import Settings
from loradash_assets.sources import ADAPTER_SETTING, Adapter, adapter_directory, base_model_source, errors_of
from loradash_assets.store import PARTIAL, Entry, Facts, file_digest

if TYPE_CHECKING:
    from loradash_assets.compute.job import Recording

MODULE = "loradash_assets.compute.activations"
LIBRARIES = ("torch", "transformers", "peft")
PLAIN, CHANGED = "matches_plain_forward", "adapter_changes_the_model"
CHECKS = {
    PLAIN: (
        "On the first tokens of some examples, what was recorded is what PEFT's own forward pass gives, up to "
        "rounding; of features that see every token."
    ),
    CHANGED: "With the adapter the model's last states are others than without: it was put on, and does something.",
}
MOST_OFF = 0.05  # of the activations: rounding has a tail, a wrong number is wrong everywhere
Record: TypeAlias = 'Callable[["Recording", Path, Callable[[str], None]], Facts]'


def recording_asset(adapters: Sequence[Adapter]) -> dg.AssetsDefinition:
    """Return the recordings of all adapters: one step that makes any selection of them."""
    by_key = {adapter_key(adapter, "activations"): adapter for adapter in adapters}

    @dg.multi_asset(
        name="activations",
        specs=[_spec(adapter) for adapter in adapters],
        check_specs=[
            dg.AssetCheckSpec(name, asset=key, description=description, blocking=True)
            for key in by_key
            for name, description in CHECKS.items()
        ],
        can_subset=True,
    )
    def activations(
        context: dg.AssetExecutionContext,
        project: dg.ResourceParam[Project],
        store_io: dg.ResourceParam[StoreIOManager],
    ) -> Iterator[dg.MaterializeResult[Entry]]:
        selected = {key: adapter for key, adapter in by_key.items() if key in context.selected_asset_keys}
        failures: list[dg.Failure] = []
        base_model = store_io.latest(dg.AssetKey("base_model"))
        with _engine(project.settings, base_model, several=len(selected) > 1) as record:
            step = _Step(context, project, store_io, base_model, record)
            for adapter in selected.values():
                try:
                    yield step.record(adapter)
                except dg.Failure as failure:  # of one adapter: the others can be recorded all the same
                    failures.append(failure)
        if failures:
            reasons = "\n".join(str(failure.description) for failure in failures)
            raise dg.Failure(reasons, allow_retries=False) from failures[0]

    return activations


def _spec(adapter: Adapter) -> dg.AssetSpec:
    features = adapter_key(adapter, "features")
    return dg.AssetSpec(
        adapter_key(adapter, "activations"),
        deps=["prompts", features, "base_model", settings_key("model"), settings_key("recording")],
        description="A x of every feature on every token, in the adapted model; resumes after an interruption.",
        group_name=adapter_group(adapter, "recording"),
        kinds={"pytorch", "safetensors"},
        skippable=True,
        code_version=code_version(MODULE),
        tags=adapter_tags(adapter),
        metadata=IN_STORE,
    )


@contextmanager
def _engine(settings: Settings, base_model: Entry, *, several: bool) -> Generator[Record]:
    """Yield what records, in this process or on a cluster, with a base model that `several` adapters share."""
    if settings.cluster.engine == "local":
        from loradash_assets.compute.activations import SharedBase, adapted_model, record_activations

        adapt = SharedBase() if several else adapted_model
        yield lambda recording, directory, log: record_activations(recording, directory, log, adapt)
        return

    from loradash_assets.compute.cluster.driver import Cluster
    from loradash_assets.compute.cluster.worker import HubModel

    facts = base_model.facts
    hub = HubModel(facts["_name"], facts["revision"]) if facts["revision"] else None
    with Cluster(settings.cluster, several=several) as cluster:
        yield lambda recording, directory, log: cluster.record(
            recording, directory, log, place=_shared_place(settings, directory), hub=hub
        )


def _shared_place(settings: Settings, directory: Path) -> str:
    """Where workers put what belongs into a directory of the store: by the fingerprint, so that nothing is mixed."""
    name, store = directory.name.removesuffix(PARTIAL), settings.cluster.shared_store
    if store is not None and "://" in store:
        return f"{store.rstrip('/')}/{name}"
    return str((settings.resolve(store) if store else settings.resolve(settings.store.path) / "shared") / name)


class _Step:
    """One run of the step: what its adapters share. Only the inputs of selected adapters need to be there."""

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        project: Project,
        store: StoreIOManager,
        base_model: Entry,
        record: Record,
    ) -> None:
        self._context = context
        self._project = project
        self._store = store
        self._prompts = store.latest(dg.AssetKey("prompts"))
        self._base_model = base_model
        self._record = record

    def record(self, adapter: Adapter) -> dg.MaterializeResult[Entry]:
        key, settings = adapter_key(adapter, "activations"), self._project.settings
        features = self._store.latest(adapter_key(adapter, "features"))
        with user_errors():
            files = adapter_directory(settings, adapter)

        def build(directory: Path) -> Facts:
            with errors_of(adapter):
                recording = self._recording(files, features)
                self._check_unchanged(files, features)
                facts = self._record(recording, directory, self._logger(key))
                self._check_unchanged(files, features)
            return facts

        inputs = (
            self._prompts.digest,
            features.digest,
            self._base_model.digest,
            settings.model.fingerprint("dtype", "device", "device_map"),
            settings.recording.fingerprint(),
        )
        return result(
            self._context,
            self._project,
            "activations",
            inputs,
            build,
            _describe,
            module=MODULE,
            libraries=LIBRARIES,
            resumable=True,
            asset_key=key,
            check=lambda entry: _checks(key, entry),
        )

    def _logger(self, key: dg.AssetKey) -> Callable[[str], None]:
        return lambda line: self._context.log.info(f"{'/'.join(key.path)}: {line}")

    def _recording(self, files: Path, features: Entry) -> "Recording":
        from loradash_assets.compute.job import Recording

        settings = self._project.settings
        return Recording(
            prompts=self._prompts.path / "prompts.parquet",
            catalogue=features.path,
            model=model_directory(self._base_model),
            adapter=files,
            dtype=settings.model.dtype,
            device=settings.model.device,
            device_map=settings.model.device_map,
            trust_remote_code=settings.model.trust_remote_code,
            batch_tokens=settings.recording.batch_tokens,
            chunk_tokens=settings.recording.chunk_tokens,
            share_prefixes=settings.recording.share_prefixes,
        )

    def _check_unchanged(self, adapter: Path, features: Entry) -> None:
        """Raise AdapterError or ModelError if the files to run are not those that the upstream assets looked at."""
        for name, digest in features.facts["adapter_files"].items():
            if file_digest(adapter / name) != digest:
                raise AdapterError(
                    f"{ADAPTER_SETTING}: {adapter / name} has changed since 'features' was made: run it again"
                )
        if base_model_source(self._project.settings).fingerprint != self._base_model.facts["source"]:
            raise ModelError("model.base_model: the files have changed since 'base_model' was made: run it again")


def _checks(key: dg.AssetKey, recording: Entry) -> Iterator[dg.AssetCheckResult]:
    found = recording.facts["_rechecked"]
    yield dg.AssetCheckResult(
        asset_key=key,
        check_name=PLAIN,
        passed=found["share_off"] <= MOST_OFF,
        metadata={
            **{name: found[name] for name in ("tokens", "share_off", "worst")},
            "recording": dg.MetadataValue.path(recording.path),
        },
    )
    # Untrained, with B zero, an adapter changes nothing and its activations are right.
    severity = dg.AssetCheckSeverity.ERROR if found["writes"] else dg.AssetCheckSeverity.WARN
    yield dg.AssetCheckResult(
        asset_key=key,
        check_name=CHANGED,
        passed=found["change"] != 0,
        severity=severity,
        metadata={"change": found["change"], "b_is_zero": not found["writes"]},
    )


def _describe(entry: Entry) -> Metadata:
    facts = entry.facts
    return {
        **{
            name: facts[name]
            for name in (
                *("tokens", "distinct_tokens", "examples", "features", "chunks", "expected_bytes", "padding"),
                *("shares_no_prefixes", "folded_modules", "device", "libraries"),
            )
        },
        "contexts_can_be_shared": facts["prefix_determined"],
        "recorded_at": facts["_recorded_at"],
        "tokens_per_second": facts["_tokens_per_second"],
        "halved_batches": facts["_halved_batches"],
    }
