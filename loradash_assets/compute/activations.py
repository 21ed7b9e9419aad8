"""From prompts, catalogue and model files to recorded activations: the one stage that runs the model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from loradash_assets.compute.allocator import freed_memory_kept
from loradash_assets.compute.batching import plan_recording
from loradash_assets.compute.catalogue import read_modules
from loradash_assets.compute.experts import experts_per_token
from loradash_assets.compute.forecast import Room, free_bytes, recording_bytes
from loradash_assets.compute.model import choose_device, has_length_dependent_positions, load_config, load_model
from loradash_assets.compute.recheck import Sample, share_beyond
from loradash_assets.compute.recording import RecordingPlan, record, recorded_example
from loradash_assets.compute.token_ids import TokenIds

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from loradash_assets.compute.features import AdaptedModule
    from loradash_assets.compute.forward import AdaptedModel
    from loradash_assets.compute.pasts import Tokens

LIBRARIES = ("torch", "transformers", "peft")
SECONDS_BETWEEN_LOG_LINES = 10
CHUNK_BYTES = 1 << 28  # of dense activations, which are in memory some three times while a chunk is recorded


@dataclass(frozen=True)
class Recording:
    """Where everything is that a recording needs, and its settings."""

    prompts: Path
    catalogue: Path
    model: Path
    adapter: Path
    dtype: str
    device: str
    device_map: str | None
    trust_remote_code: bool
    batch_tokens: int
    chunk_tokens: int
    share_prefixes: bool


def load_base(recording: Recording) -> PreTrainedModel:
    """Return the recording's base model, loaded. Raises ModelError."""
    return load_model(
        recording.model,
        dtype=recording.dtype,
        device=choose_device(recording.device),
        trust_remote_code=recording.trust_remote_code,
        device_map=recording.device_map,
    )


def adapted_model(
    recording: Recording, modules: Sequence[AdaptedModule], sample: Sequence[Tokens] = ()
) -> AdaptedModel:
    """Return the recording's adapter on a base model of its own, loaded; `sample` is for it to run plainly.

    Raises ModelError or AdapterError.
    """
    return _adapted(recording, modules, load_base(recording), sample, own_base=True)


class SharedBase:
    """Puts several adapters on one base model, which is loaded once; a quantised one again for each.

    bitsandbytes moves a weight out of its parameter at the first forward pass, so another one finds it gone.
    """

    def __init__(self) -> None:
        self._loaded: tuple[Recording, PreTrainedModel] | None = None

    def __call__(
        self, recording: Recording, modules: Sequence[AdaptedModule], sample: Sequence[Tokens] = ()
    ) -> AdaptedModel:
        """Return the recording's adapter on the base model. Raises ModelError or AdapterError."""
        return _adapted(recording, modules, self._base(recording), sample, own_base=False)

    def _base(self, recording: Recording) -> PreTrainedModel:
        if self._loaded is not None and _same_base(self._loaded[0], recording):
            return self._loaded[1]
        model = load_base(recording)
        self._loaded = None if getattr(model, "is_quantized", False) else (recording, model)
        return model


def _same_base(one: Recording, other: Recording) -> bool:
    return one == replace(other, adapter=one.adapter, catalogue=one.catalogue, prompts=one.prompts)


def _adapted(
    recording: Recording,
    modules: Sequence[AdaptedModule],
    base: PreTrainedModel,
    sample: Sequence[Tokens],
    *,
    own_base: bool,
) -> AdaptedModel:
    from loradash_assets.compute.forward import AdaptedModel  # imports torch and PEFT, which a cache hit can do without

    return AdaptedModel(base, recording.adapter, modules, own_base=own_base, sample=sample)


def tokens_per_chunk(chunk_tokens: int, features: int) -> int:
    """Return how many tokens a chunk has at most, where a crash may cost `chunk_tokens`.

    A chunk is written while the next one runs, so it may cost two of them.
    """
    return max(1, min(chunk_tokens // 2, CHUNK_BYTES // (4 * features)))


def record_activations(
    recording: Recording,
    target: Path,
    log: Callable[[str], None],
    adapt: Callable[[Recording, Sequence[AdaptedModule], Sequence[Tokens]], AdaptedModel] = adapted_model,
    free: Callable[[Path], int] = free_bytes,
) -> dict[str, Any]:
    """Record every feature on every token into chunk files in `target`; return what people want to know of it.

    Chunks that are in `target` already are kept. `adapt` loads the model and puts the adapter on it. Raises ModelError
    or AdapterError naming what cannot be used, and StorageError before anything is loaded if the disk has not as many
    bytes left, says `free`, as are still to be written.
    """
    modules = read_modules(recording.catalogue)
    config = load_config(recording.model, trust_remote_code=recording.trust_remote_code)
    tokens = TokenIds.read(recording.prompts)
    features = sum(module.rank for module in modules)
    chunk_tokens = tokens_per_chunk(recording.chunk_tokens, features)
    chunks = 1 + 2 * tokens.index.tokens // chunk_tokens  # at most: two neighbours together are larger than one may be
    expected = recording_bytes(modules, config, tokens.index.tokens, chunks)
    room = Room.of(expected, target, free)
    log(str(room))
    room.check(target)
    examples = tokens.by_example()
    sample = Sample.of(examples)
    model = adapt(recording, modules, sample.rows(examples))
    alone = has_length_dependent_positions(config)
    same_contexts = not alone and model.is_prefix_determined(examples)
    if not same_contexts:
        log("this model's activations depend on more than the tokens before: equal contexts are not counted as one")
    obstacle = _obstacle(recording, model, examples, same_contexts=same_contexts)
    log(f"prefixes that examples share run {f'once for each: {obstacle}' if obstacle else 'once for all'}")
    batches = plan_recording(examples, 0 if alone else recording.batch_tokens, chunk_tokens, share=obstacle is None)
    plan = RecordingPlan.of(examples, batches, modules, model.device.type)
    started = time.monotonic()
    kept = freed_memory_kept() if model.device.type == "cpu" else nullcontext()
    with kept, tqdm(total=tokens.index.tokens, unit="token", desc="recording", smoothing=0.1) as bar:
        recorded = record(plan, model.record, target, _progress(bar, log))
    seconds = time.monotonic() - started
    if model.halved:
        log(f"{model.halved} batches did not fit into memory and ran in halves: lower recording.batch_tokens")
    return {
        "tokens": tokens.index.tokens,
        "examples": len(examples),
        "features": features,
        "chunks": len(batches.chunks),
        "expected_bytes": expected,
        "distinct_tokens": batches.tokens,
        "padding": batches.padding,
        "shares_no_prefixes": obstacle or "",
        "prefix_determined": same_contexts,
        "folded_modules": model.folded,
        "experts_per_token": experts_per_token(config),
        "write_norms": model.write_norms(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "device": str(model.device),
        "_rechecked": {
            **_recheck(plan, target, sample, model, same_contexts=same_contexts),
            "writes": any(bool(module.B.any()) for module in modules),
        },
        "_recorded_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "_tokens_per_second": recorded / seconds if recorded else 0.0,
        "_halved_batches": model.halved,
    }


def _recheck(
    plan: RecordingPlan, target: Path, sample: Sample, model: AdaptedModel, *, same_contexts: bool
) -> dict[str, float | None]:
    """Compare what was recorded of the sample with the plain model; where what follows matters, whole examples only."""
    plain = model.plain
    if plain is None:
        return {"tokens": 0, "share_off": 0.0, "worst": 0.0, "change": None}
    recorded = expected = np.empty((len(plain.activations), 0), np.float32)
    for row, example in enumerate(sample.examples):
        if same_contexts or len(plan.token_ids[example]) == sample.tokens:
            values = recorded_example(plan, target, example)[:, : sample.tokens]
            recorded = np.concatenate([recorded, values], axis=1)
            columns = slice(row * sample.tokens, (row + 1) * sample.tokens)
            expected = np.concatenate([expected, plain.activations[:, columns]], axis=1)
    share, worst = share_beyond(recorded, expected, model.dtype)
    return {"tokens": expected.shape[1], "share_off": share, "worst": worst, "change": plain.change}


def _obstacle(
    recording: Recording, model: AdaptedModel, examples: Sequence[np.ndarray], *, same_contexts: bool
) -> str | None:
    """Say why prefixes that examples share cannot run once for all of them, or None."""
    if not recording.share_prefixes:
        return "recording.share_prefixes is false"
    if not same_contexts:
        return "activations depend on more than the tokens before"
    return model.problem_with_pasts(examples)


def _progress(bar: Any, log: Callable[[str], None]) -> Callable[[int], None]:
    last = time.monotonic()

    def advance(tokens: int) -> None:
        nonlocal last
        bar.update(tokens)
        if time.monotonic() - last >= SECONDS_BETWEEN_LOG_LINES:
            last = time.monotonic()
            log(f"recorded {bar.n:,} of {bar.total:,} tokens")

    return advance
