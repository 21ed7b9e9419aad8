"""Bit flips and truncations of what a build left on the disk, each followed by the next build.

Damaged are the store's files (recordings, tables, prompts, features, pages, manifests, references), what was published
from it, and the notes. Half of the builds find the pages' own entries gone and draw them again, from what was damaged.
The next build must give what was published before, byte for byte, or end with an error that names the file. Notes have
no digest, for they are a person's to edit: there the page must be the one that a fresh project draws from that file.

The control is a store that takes every file for what its manifest says.
"""

from __future__ import annotations

import itertools
import json
import logging
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.reliability.still_clock import still_clock
from loradash_assets import store
from loradash_assets.assets import project as assets
from loradash_assets.run import RunError, run
from loradash_assets.settings import load_settings
from loradash_assets.store import MANIFEST, Entry, is_intact
from tests.projects import save_project

CASES, CONTROL_CASES = 1000, 100
AT_ONCE = 4
OUTPUT, STORE, NOTES = "output", ".loradash/store", "interpretations.json"
DRAWN = ("activations_data", "dashboard", "interpretation_report", "published_tables")  # stages
NOTE = {"text": "numbers after = and 漢字", "starred": True, "lastModified": "2024-01-20T10:30:00Z"}
RETRIED = ("dataset_rows", "base_model", "features")  # stages; spared by the control: they are tried again for minutes
KEYS = ("layer_1_gate_proj_positive", "layer_0_q_proj_negative")
Files = Mapping[Path, bytes]  # by path in the project
RESTORED, HARMLESS, NAMED = "made again", "spelled otherwise, the same JSON", "an error that names the file"
FOLLOWED = "the page that the notes as they are now give"
WRONG, OTHER, UNSEEN = "a wrong page", "an error that does not name the file", "not seen, though not on the page"
RIGHT = (RESTORED, HARMLESS, FOLLOWED)


def _is_there(entry: Entry) -> bool:
    return (entry.path / MANIFEST).exists()


@contextmanager
def trusting() -> Generator[None]:
    """Inside, no digest is looked at: the control."""
    with patch.object(store, "is_intact", _is_there), patch.object(assets, "is_intact", _is_there):
        yield


@dataclass(frozen=True)
class Damage:
    """One file's new content, and what kind of file it is."""

    kind: str
    file: Path  # in the project
    content: bytes


class Damaged:
    """A project that was built, damaged and built again, as often as asked."""

    def __init__(self, directory: Path, spared: Collection[str] = ()) -> None:
        self._directory = directory
        self._spared = spared  # stages
        self._project = save_project(
            directory / "project",
            dashboard={"single_file_mb": 0},
            recording={"batch_tokens": 60, "chunk_tokens": 60},
        )
        notes = {"interpretations": dict.fromkeys(KEYS, NOTE)}
        (self._project / NOTES).write_text(json.dumps(notes, ensure_ascii=False, indent=2), encoding="utf-8")
        assert self._build(self._project) is None
        self._before = _files(self._project)

    def outcomes(self, seed: int) -> list[tuple[str, str]]:
        """Damage some files and build; return of each what kind it was and what came of it.

        Where something is amiss, each is damaged alone, so that it is known which file it was.
        """
        chance = random.Random(seed)
        redrawn = chance.random() < 0.5
        self._restore(redrawn=redrawn)
        damages = _damages(self._project, chance, self._spared)
        found = self._after(damages)
        if len(damages) == 1 or all(outcome in RIGHT for _, outcome in found):
            return found
        alone: list[tuple[str, str]] = []
        for damage in damages:
            self._restore(redrawn=redrawn)
            alone += self._after([damage])
        return found if all(outcome in RIGHT for _, outcome in alone) else alone

    def _after(self, damages: Sequence[Damage]) -> list[tuple[str, str]]:
        for damage in damages:
            (self._project / damage.file).write_bytes(damage.content)
        message = self._build(self._project)
        return [(damage.kind, self._judged(damage, message)) for damage in damages]

    def _judged(self, damage: Damage, message: str | None) -> str:
        file = damage.file
        if message is not None:
            return NAMED if file.name in message else OTHER
        notes = file == Path(NOTES)
        if _files(self._project / OUTPUT) != (self._drawn_anew() if notes else _below(self._before, OUTPUT)):
            return WRONG
        if notes:
            return FOLLOWED
        now, before = (self._project / file).read_bytes(), self._before[file]
        if now != damage.content and (now == before or self._is_rebuilt(file)):
            return RESTORED
        return HARMLESS if _json(now) == _json(before) is not None else UNSEEN

    def _is_rebuilt(self, file: Path) -> bool:
        """Whether a manifest belongs to an entry of the same content; how long that took to make is in it, too."""
        entry = Entry((self._project / file).parent)
        return file.name == MANIFEST and is_intact(entry) and entry.digest == json.loads(self._before[file])["digest"]

    def _drawn_anew(self) -> Files:
        """Return what a project without a store publishes from the same inputs."""
        fresh = self._directory / "fresh"
        shutil.copytree(self._project, fresh, ignore=shutil.ignore_patterns(".loradash", OUTPUT))
        assert self._build(fresh) is None
        published = _files(fresh / OUTPUT)
        shutil.rmtree(fresh)
        return published

    def _restore(self, *, redrawn: bool) -> None:
        now = _files(self._project)
        for file in now.keys() - self._before.keys():
            (self._project / file).unlink()
        for file, content in self._before.items():
            if now.get(file) != content:
                (self._project / file).parent.mkdir(parents=True, exist_ok=True)
                (self._project / file).write_bytes(content)
        for stage in DRAWN if redrawn else ():
            shutil.rmtree(self._project / STORE / stage)

    def _build(self, project: Path) -> str | None:
        """Build; return the message if that fails."""
        try:
            with still_clock():
                run(load_settings(project), None, upstream=True)
        except RunError as error:
            return error.message
        return None


def _json(content: bytes) -> object:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _damages(project: Path, chance: random.Random, spared: Collection[str]) -> list[Damage]:
    """Choose files of different kinds, and what becomes of each. The notes are damaged alone: the page follows them."""
    kinds: dict[str, list[Path]] = {}
    for file, content in _files(project).items():
        if content and (kind := _kind(file)) is not None and not set(spared).intersection(file.parts):
            kinds.setdefault(kind, []).append(file)
    chosen = chance.sample(sorted(kinds), AT_ONCE)
    files = [(kind, chance.choice(sorted(kinds[kind]))) for kind in (["notes"] if chosen[0] == "notes" else chosen)]
    return [
        Damage(kind, file, _broken((project / file).read_bytes(), chance))
        for kind, file in files
        if kind != "notes" or len(files) == 1
    ]


def _kind(file: Path) -> str | None:
    """Say what kind of file it is; None for what is not damaged: the sources, the settings, the history of runs."""
    if file.is_relative_to(STORE):
        return "manifests" if file.name == MANIFEST else file.relative_to(STORE).parts[0]
    if file.is_relative_to(OUTPUT):
        return "published"
    return "notes" if file == Path(NOTES) else None


def _broken(content: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.3:
        return content[: chance.randrange(len(content))]
    flipped = bytearray(content)
    flipped[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(flipped)


def _files(directory: Path) -> Files:
    return {file.relative_to(directory): file.read_bytes() for file in _watched(directory)}


def _watched(directory: Path) -> Iterator[Path]:
    return (file for file in directory.rglob("*") if file.is_file() and ".dagster" not in file.parts)


def _below(files: Files, name: str) -> Files:
    return {file.relative_to(name): content for file, content in files.items() if file.is_relative_to(name)}


def outcomes(
    directory: Path, cases: int, say: Callable[[str], None] = lambda _: None, spared: Collection[str] = ()
) -> Counter[tuple[str, str]]:
    """Count what came of at least so many damages of one project, by kind of file and outcome; none in `spared`."""
    damaged = Damaged(directory, spared)
    counted: Counter[tuple[str, str]] = Counter()
    for seed in itertools.count():
        if counted.total() >= cases:
            break
        found = damaged.outcomes(seed)
        counted.update(found)
        say(f"{counted.total()} {found}")
    return counted


def by_outcome(counted: Counter[tuple[str, str]]) -> dict[str, int]:
    """Return how often each outcome came."""
    total: Counter[str] = Counter()
    for (_, outcome), number in counted.items():
        total[outcome] += number
    return dict(total.most_common())


def measure() -> dict[str, Any]:
    """Return the figures and those of the control."""
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as name:
        counted = outcomes(Path(name) / "measured", CASES, print)
        with trusting():
            control = outcomes(Path(name) / "control", CONTROL_CASES, print, RETRIED)
    kinds = sorted({kind for kind, _ in counted})
    return {
        "cases": counted.total(),
        "outcomes": by_outcome(counted),
        "by_kind": {kind: sum(number for (of, _), number in counted.items() if of == kind) for kind in kinds},
        "control": {"store": "looks at no digest", "cases": control.total(), "outcomes": by_outcome(control)},
    }
