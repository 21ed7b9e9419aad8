"""One cell of the coverage table: a tiny base and adapter on disk, recorded by loradash, compared with float64."""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from benchmarks.architectures import VOCABULARY, Architecture
from benchmarks.reference import PREFIX, Activations, activations, adapter_reads, load_adapted
from benchmarks.variants import NotApplicable, Variant, make_adapter, make_base, quantised
from benchmarks.witness import witnessed
from loradash_assets.compute.activations import record_activations
from loradash_assets.compute.catalogue import FEATURES_FILE, write_catalogue
from loradash_assets.compute.errors import InputError
from loradash_assets.compute.job import Recording
from loradash_assets.compute.recording import LayerActivations
from loradash_assets.schema import PROMPTS

LENGTHS = (46, 3, 31, 1, 17, 46, 9, 64)  # three batches, padded
BATCH_TOKENS = 100
CHUNK_TOKENS = 120
FROM_SAME_X = 1e-5  # criterion (a)
TIMES_PEFT = 2.0  # criterion (b)
FLOOR = 1e-6  # of a feature's RMS: an error below it is rounding, whoever made it

Kind = Literal["measured", "refused", "peft", "none", "crash"]


@dataclass(frozen=True)
class Cell:
    """What became of one architecture, variant and rank."""

    kind: Kind
    same_x: float | None = None  # (a), None where the x that the recording saw is not known
    times_peft: float = 0.0  # (b)
    worst: str = ""  # the feature of (b), with its errors
    reason: str = ""  # why there is no figure
    unrecorded: Mapping[str, str] = field(default_factory=dict[str, str])  # modules left out, with loradash's reason

    @property
    def passes(self) -> bool:
        """Whether the cell is no failure: within the criterion, or refused in words."""
        if self.kind == "measured":
            return (self.same_x or 0.0) <= FROM_SAME_X and self.times_peft <= TIMES_PEFT
        return self.kind != "crash"


@dataclass(frozen=True)
class Spoil:
    """Factors that make a measurement wrong on purpose."""

    recorded: float = 1.0
    reference: float = 1.0


NOTHING_SPOILED = Spoil()


def prompts() -> list[list[int]]:
    """Return the examples' token ids: no example is the beginning of another, and none holds the padding's id."""
    draws = np.random.default_rng(0)
    examples = [draws.integers(3, VOCABULARY, length).tolist() for length in LENGTHS]
    examples[5][:20] = examples[0][:20]  # two examples with a common beginning
    return examples


def measure(architecture: Architecture, variant: Variant, rank: int, spoil: Spoil = NOTHING_SPOILED) -> Cell:
    """Measure one cell in a temporary directory; whatever goes wrong becomes the cell's content.

    `spoil` multiplies what was recorded, and the reference: controls, which must fail for anything but 1.
    """
    if variant.missing:
        return Cell("none", reason=variant.missing)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory, _quiet():
        return _measure(architecture, variant, rank, Path(directory), spoil)


def _measure(architecture: Architecture, variant: Variant, rank: int, root: Path, spoil: Spoil) -> Cell:
    base, adapter = root / "base", root / "adapter"
    try:
        make_base(architecture, variant, base)
        make_adapter(architecture, variant, rank, base, adapter)
        base = _quantise(base, variant, root)
        examples = prompts()
        exact = activations(load_adapted(base, adapter, float64=True), adapter, examples, float64=True)
        own = activations(load_adapted(base, adapter, float64=False), adapter, examples, float64=False)
    except NotApplicable as reason:
        return Cell("none", reason=str(reason))
    except Exception as error:  # anything that transformers or PEFT cannot do by themselves
        return Cell("peft", reason=f"{type(error).__name__}: {_words(error, root)}")
    try:
        recorded, seen, facts = record(base, adapter, examples, root)
    except InputError as error:
        return Cell("refused", reason=_words(error, root))
    except Exception as error:  # a refusal has words of loradash's own; this is a bug
        return Cell("crash", reason=f"{type(error).__name__}: {_words(error, root)}")
    recorded, exact = spoiled(recorded, spoil.recorded), spoiled(exact, spoil.reference)
    return compare(recorded, exact, own, seen, adapter, facts["unrecorded"], variant)


def _quantise(base: Path, variant: Variant, root: Path) -> Path:
    if variant.base == "plain":
        return base
    model = AutoModelForCausalLM.from_pretrained(base, quantization_config=quantised(variant))
    if not any(type(module).__module__.startswith("bitsandbytes") for module in model.modules()):
        raise NotApplicable("transformers quantises none of its modules")
    model.save_pretrained(root / "quantised")
    return root / "quantised"


def _words(error: Exception, root: Path) -> str:
    """The message, without what differs from run to run: directories, and the order of a set."""
    text = " ".join(str(error).replace(str(root / "adapter"), "ADAPTER").replace(str(root), "DIRECTORY").split())
    return re.sub(r"(?<=[{(])[^{}():]*, [^{}():]*(?=[})])", lambda found: ", ".join(sorted(found[0].split(", "))), text)


@contextmanager
def _quiet() -> Generator[None]:
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    with warnings.catch_warnings(), Path(os.devnull).open("w") as nowhere:
        warnings.simplefilter("ignore")
        stderr, os_stderr = os.dup(2), nowhere.fileno()
        os.dup2(os_stderr, 2)  # loradash's own progress bar
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def record(
    base: Path, adapter: Path, examples: Sequence[Sequence[int]], root: Path
) -> tuple[dict[str, Activations], dict[str, torch.Tensor], dict[str, Any]]:
    """Record with loradash's public functions; return the activations, the x that the forward saw, and the facts.

    Raises InputError where loradash refuses.
    """
    catalogue, target = root / "catalogue", root / "recording"
    catalogue.mkdir()
    target.mkdir()
    _write_prompts(examples, root / "prompts.parquet")
    facts = write_catalogue(adapter, base, catalogue, allow_pickle=False, trust_remote_code=False, rank=None)
    recording = Recording(
        prompts=root / "prompts.parquet",
        catalogue=catalogue,
        model=base,
        adapter=adapter,
        dtype="auto",
        device="cpu",
        device_map=None,
        trust_remote_code=False,
        batch_tokens=BATCH_TOKENS,
        chunk_tokens=CHUNK_TOKENS,
        share_prefixes=True,
    )
    with witnessed(examples) as seen:
        record_activations(recording, target, lambda _: None)
    return _read(catalogue, target), seen, facts


def _write_prompts(examples: Sequence[Sequence[int]], file: Path) -> None:
    numbers: dict[tuple[int, ...], int] = {}
    rows: list[dict[str, Any]] = []
    for example, ids in enumerate(examples):
        words = [f"t{token} " for token in ids]
        prefixes = [numbers.setdefault(tuple(ids[: end + 1]), len(numbers)) for end in range(len(ids))]
        texts = {"text": "".join(words), "tokens": words}
        rows.append({"example": example, "token_ids": ids, "prefixes": prefixes, **texts})
    pq.write_table(pa.Table.from_pylist(rows, schema=PROMPTS), file)


def _read(catalogue: Path, target: Path) -> dict[str, Activations]:
    """Return the recorded activations of every module and expert, tokens ascending."""
    features = pq.read_table(catalogue / FEATURES_FILE).to_pylist()
    found: dict[str, Activations] = {}
    for layer in dict.fromkeys(row["layer"] for row in features):
        names = [row["module"] for row in features if row["layer"] == layer]
        for block in zip(
            *LayerActivations(target, layer, []).chunks(), strict=True
        ):  # of every chunk, the same features
            tokens = np.concatenate([numbers for numbers, _ in block])
            values = np.concatenate([values for _, values in block], axis=1)[:, np.argsort(tokens)].T.astype(np.float64)
            here, names = names[: values.shape[1]], names[values.shape[1] :]
            for name in dict.fromkeys(here):
                columns = [index for index, other in enumerate(here) if other == name]
                found[name] = Activations(np.sort(tokens), values[:, columns], name)
    return found


def compare(
    recorded: Mapping[str, Activations],
    exact: Mapping[str, Activations],
    own: Mapping[str, Activations],
    seen: Mapping[str, torch.Tensor],
    adapter: Path,
    unrecorded: Mapping[str, str],
    variant: Variant,
) -> Cell:
    """Return the two figures of the worst feature, or a crash where they would mean nothing."""
    if lost := [name for name, of in exact.items() if name not in recorded and of.owner not in unrecorded]:
        return Cell("crash", reason=f"neither recorded nor refused: {lost[0]} (of {len(lost)})")
    if not recorded:
        return Cell("crash", reason="nothing was recorded, and nothing said so")
    if strange := sorted(recorded.keys() - exact.keys()):
        return Cell("crash", reason=f"PEFT's forward never ran {strange[0]}, but it was recorded")
    worst = (-1.0, "")
    for name, ours in recorded.items():
        truth, theirs = exact[name], own[name]
        if variant.is_exact and not np.array_equal(ours.tokens, truth.tokens):
            return Cell("crash", reason=f"{name} was recorded on other tokens than it sees")
        tokens = reduce(np.intersect1d, (ours.tokens, truth.tokens, theirs.tokens))  # a coarse type can route otherwise
        times, error, words = _times_peft(name, *(_on(part, tokens) for part in (ours, truth, theirs)))
        if error > variant.agreement:
            off = f"PEFT's own forward is more than {variant.agreement:g} of a feature's RMS off float64 at {name}"
            return Cell("peft" if variant.base != "plain" else "crash", reason=f"{off}, so b would say nothing")
        worst = max(worst, (times, words))
    return Cell("measured", _from_same_x(recorded, seen, adapter), *worst, unrecorded=unrecorded)


def _on(found: Activations, tokens: np.ndarray) -> np.ndarray:
    return found.values[np.searchsorted(found.tokens, tokens)]


def _rms(values: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean(values**2, axis=0))  # (tokens, rank) -> (rank,)


def _times_peft(name: str, ours: np.ndarray, truth: np.ndarray, theirs: np.ndarray) -> tuple[float, float, str]:
    """Return (b) of the module's worst component, PEFT's largest relative error, and the former in words."""
    if not len(truth):
        return 0.0, 0.0, ""
    scale = np.maximum(_rms(truth), np.finfo(np.float64).tiny)
    errors, peft = _rms(ours - truth) / scale, _rms(theirs - truth) / scale
    times = errors / np.maximum(peft, FLOOR)
    component = int(np.argmax(times))
    words = f"{name}, component {component}: {errors[component]:.1e} of the feature's RMS, PEFT {peft[component]:.1e}"
    return float(times[component]), float(peft.max()), words


def _from_same_x(recorded: Mapping[str, Activations], seen: Mapping[str, torch.Tensor], adapter: Path) -> float | None:
    """Return (a), over the modules whose x is known, or None if there is none of them."""
    reads = {name.removeprefix(PREFIX): A.numpy() for name, A in adapter_reads(adapter).items()}
    worst: float | None = None
    for name in recorded.keys() & seen.keys():
        x, A = seen[name].double().numpy(), reads[name]  # (tokens, in), (rank, in)
        scale = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(A, axis=1)
        errors = np.abs(recorded[name].values - x @ A.T)[scale > 0] / scale[scale > 0]
        worst = max(worst or 0.0, float(errors.max(initial=0.0)))
    return worst


def spoiled(found: Mapping[str, Activations], factor: float) -> dict[str, Activations]:
    """Return activations times `factor`."""
    return {name: replace(part, values=part.values * factor) for name, part in found.items()}
