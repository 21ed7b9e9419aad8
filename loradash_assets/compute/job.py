"""A recording to be made, whoever runs the model: what its files say, what only the model knows, and the plan of both.

The plan depends on these and nothing else, so every process that reads the same files and is given the same answers
has the same chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from loradash_assets.compute.batching import plan_recording
from loradash_assets.compute.catalogue import read_modules
from loradash_assets.compute.experts import experts_per_token
from loradash_assets.compute.forecast import Room, recording_bytes
from loradash_assets.compute.model import has_length_dependent_positions, load_config
from loradash_assets.compute.recheck import Plain, Sample, share_beyond
from loradash_assets.compute.recording import Forward, RecordingPlan, recorded_example
from loradash_assets.compute.token_ids import TokenIds

if TYPE_CHECKING:
    from loradash_assets.compute.features import AdaptedModule
    from loradash_assets.compute.forward import AdaptedModel

LIBRARIES = ("torch", "transformers", "peft")
FOLD_FROM = 100_000  # tokens: with fewer, putting the adapter into the weights takes longer than it saves
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


@dataclass(frozen=True)
class Answers:
    """What only the loaded model can say of a recording, in JSON's types.

    `obstacle` is why prefixes that examples share do not run once for all of them, or empty. `masked` says whether
    a mask must tell the model where there is padding.
    """

    device: str
    dtype: str
    folded: int
    prefix_determined: bool
    obstacle: str
    masked: bool
    write_norms: dict[str, list[float]]

    def lines(self) -> list[str]:
        """Return what people should know of it before the recording starts."""
        equal = "this model's activations depend on more than the tokens before: equal contexts are not counted as one"
        shared = (
            f"prefixes that examples share run {f'once for each: {self.obstacle}' if self.obstacle else 'once for all'}"
        )
        return [shared] if self.prefix_determined else [equal, shared]


@dataclass(frozen=True)
class Ran:
    """How a recording ran: tokens that were not there yet, seconds, and batches that ran in halves."""

    tokens: int
    seconds: float
    halved: int


@dataclass(frozen=True)
class Job:
    """A recording and what its files say."""

    recording: Recording
    modules: Sequence[AdaptedModule]
    config: Any
    tokens: TokenIds

    @classmethod
    def read(cls, recording: Recording) -> Job:
        """Read prompts, catalogue and the model's configuration. Raises ModelError."""
        config = load_config(recording.model, trust_remote_code=recording.trust_remote_code)
        return cls(recording, read_modules(recording.catalogue), config, TokenIds.read(recording.prompts))

    @cached_property
    def examples(self) -> Sequence[np.ndarray]:
        """Each example's token ids, (length,)."""
        return self.tokens.by_example()

    @cached_property
    def sample(self) -> Sample:
        """The tokens on which the recording is compared with the plain model."""
        return Sample.of(self.examples)

    def sample_rows(self) -> Sequence[np.ndarray]:
        """Return their ids, example by example, each (tokens,)."""
        return self.sample.rows(self.examples)

    @property
    def features(self) -> int:
        """How many features are recorded."""
        return sum(module.rank for module in self.modules)

    @property
    def folds(self) -> bool:
        """Whether there are enough tokens for folding the adapter into the model's weights to save time."""
        return self.tokens.index.tokens >= FOLD_FROM

    @property
    def chunk_tokens(self) -> int:
        """How many tokens a chunk has at most."""
        return tokens_per_chunk(self.recording.chunk_tokens, self.features)

    @property
    def expected_bytes(self) -> int:
        """How many bytes the chunks take at most: two neighbours together are larger than one may be."""
        chunks = 1 + 2 * self.tokens.index.tokens // self.chunk_tokens
        return recording_bytes(self.modules, self.config, self.tokens.index.tokens, chunks)

    def check_room(self, target: Path, log: Callable[[str], None], free: Callable[[Path], int]) -> None:
        """Say what the recording takes. Raises StorageError if the disk of `target` has not as much, says `free`."""
        room = Room.of(self.expected_bytes, target, free)
        log(str(room))
        room.check(target)

    def ask(self, model: AdaptedModel) -> Answers:
        """Ask the model what the plan and the result need to know of it."""
        more = "activations depend on more than the tokens before"
        problem = more if self._alone else model.problem_with_pasts(self.examples) or ""
        same_contexts = not problem or (not self._alone and model.is_prefix_determined(self.examples))
        problem = problem if same_contexts else more
        return Answers(
            device=str(model.device),
            dtype=model.dtype,
            folded=model.folded,
            prefix_determined=same_contexts,
            obstacle=problem if self.recording.share_prefixes else "recording.share_prefixes is false",
            masked=bool(problem),
            write_norms=model.write_norms(),
        )

    @property
    def _alone(self) -> bool:
        return has_length_dependent_positions(self.config)

    def plan(self, answers: Answers) -> RecordingPlan:
        """Return what is recorded in which batches and chunks."""
        batch_tokens = 0 if self._alone else self.recording.batch_tokens
        batches = plan_recording(self.examples, batch_tokens, self.chunk_tokens, share=not answers.obstacle)
        return RecordingPlan.of(self.examples, batches, self.modules, answers.device.partition(":")[0])

    @staticmethod
    def forward(model: AdaptedModel, answers: Answers) -> Forward:
        """Return how the model runs a batch: with a mask only where it could not do without."""
        return partial(model.record, masked=answers.masked)

    def recheck(
        self, plan: RecordingPlan, target: Path, answers: Answers, plain: Plain | None
    ) -> dict[str, float | None]:
        """Compare what was recorded of the sample with the plain model; of whole examples only, where the rest matters.

        Of a model without one that ran the sample nothing is compared.
        """
        writes = any(bool(module.B.any()) for module in self.modules)
        if plain is None:
            return {"tokens": 0, "share_off": 0.0, "worst": 0.0, "change": None, "writes": writes}
        tokens, none = self.sample.tokens, np.empty((len(plain.activations), 0), np.float32)
        recorded, expected = [none], [none]
        for row, example in enumerate(self.sample.examples):
            if answers.prefix_determined or len(self.examples[example]) == tokens:
                recorded.append(recorded_example(plan, target, example)[:, :tokens])
                expected.append(plain.activations[:, row * tokens : (row + 1) * tokens])
        compared = np.concatenate(expected, axis=1)
        share, worst = share_beyond(np.concatenate(recorded, axis=1), compared, answers.dtype)
        found = {"tokens": compared.shape[1], "share_off": share, "worst": worst, "change": plain.change}
        return {**found, "writes": writes}

    def facts(
        self, answers: Answers, plan: RecordingPlan, ran: Ran, rechecked: dict[str, float | None]
    ) -> dict[str, Any]:
        """Return what people want to know of the finished recording."""
        return {
            "tokens": self.tokens.index.tokens,
            "examples": len(self.examples),
            "features": self.features,
            "chunks": len(plan.batches.chunks),
            "expected_bytes": self.expected_bytes,
            "distinct_tokens": plan.batches.tokens,
            "padding": plan.batches.padding,
            "shares_no_prefixes": answers.obstacle,
            "prefix_determined": answers.prefix_determined,
            "folded_modules": answers.folded,
            "experts_per_token": experts_per_token(self.config),
            "write_norms": answers.write_norms,
            "libraries": {name: version(name) for name in LIBRARIES},
            "device": answers.device,
            "_rechecked": rechecked,
            "_recorded_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "_tokens_per_second": ran.tokens / ran.seconds if ran.tokens else 0.0,
            "_halved_batches": ran.halved,
        }


def tokens_per_chunk(chunk_tokens: int, features: int) -> int:
    """Return how many tokens a chunk has at most, where a crash may cost `chunk_tokens`.

    A chunk is written while the next one runs, so it may cost two of them.
    """
    return max(1, min(chunk_tokens // 2, CHUNK_BYTES // (4 * features)))
