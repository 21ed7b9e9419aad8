"""What the store holds, who refers to it, and how to remove what nobody does."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from filelock import FileLock, Timeout

from loradash_assets.compute.forecast import bytes_text
from loradash_assets.store import MANIFEST, PARTIAL, REFERENCES, Store

REMOVED = ".removed"


@dataclass(frozen=True)
class Holding:
    """One result in the store, or what an interrupted run left of one: its directory and what there is to know."""

    path: Path
    stage: str
    bytes: int
    changed: float  # when it was made, or last worked on: seconds since 1970
    assets: tuple[str, ...]  # whose latest result it is
    complete: bool

    @property
    def lock(self) -> Path:
        """The file that a builder holds locked."""
        return self.path.with_name(f"{self.path.name.removesuffix(PARTIAL)}.lock")


def holdings(store: Store) -> list[Holding]:
    """Return everything that the store holds, stage by stage, the newest first."""
    assets = references(store)
    found = [_holding(path, assets.get(path, ())) for path in _directories(store)]
    return sorted(found, key=lambda holding: (holding.stage, -holding.changed))


def references(store: Store) -> Mapping[Path, tuple[str, ...]]:
    """Return the assets by the directory of their latest result, of every project that is still there.

    Raises ValueError for a reference that is damaged.
    """
    found: dict[Path, list[str]] = defaultdict(list)
    for project in sorted((store.root / REFERENCES).glob("*/")):
        for file in sorted(project.rglob("*.json")):
            asset = str(file.relative_to(project).with_suffix(""))
            try:
                noted = json.loads(file.read_text(encoding="utf-8"))
                entry, owner = store.root / noted["entry"], store.root / noted["project"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{file} is damaged, so what '{asset}' needs is not known: materialise it again, or remove the file"
                ) from error
            if owner.is_dir():
                found[entry].append(asset)
    return {path: tuple(assets) for path, assets in found.items()}


def remove(store: Store, holding: Holding) -> bool:
    """Remove a result that nothing refers to; return whether it was done: not if it is in use by now."""
    try:
        with FileLock(holding.lock, timeout=0):
            if holding.path in references(store):
                return False
            # By one rename: a half-removed result must not be taken for a whole one.
            holding.path.rename(holding.path.with_name(f"{holding.path.name}{REMOVED}"))
    except (Timeout, FileNotFoundError):
        return False
    shutil.rmtree(holding.path.with_name(f"{holding.path.name}{REMOVED}"))
    return True


def _directories(store: Store) -> Iterator[Path]:
    for stage in sorted(store.root.glob("*/")):
        if stage.name != REFERENCES:
            yield from (path for path in stage.iterdir() if path.is_dir())


def _holding(path: Path, assets: tuple[str, ...]) -> Holding:
    sizes = [file.stat().st_size for file in path.rglob("*") if file.is_file()]
    manifest = path / MANIFEST
    complete = manifest.is_file() and path.suffix not in {PARTIAL, REMOVED}
    changed = max(each.stat().st_mtime for each in (manifest if complete else path, path))
    return Holding(path, path.parent.name, sum(sizes), changed, assets, complete)


def listing(held: Sequence[Holding], marked: Collection[Holding], now: float) -> Iterator[str]:
    """Yield the lines of a table: per stage, what is in use in one line, then everything else by size."""
    yield f"{'':2}{'size':>10}  {'age':>9}  result"
    for stage, of_stage in groupby(held, key=lambda holding: holding.stage):
        used, others = _parted(of_stage)
        if used:
            ages = _days(now - max(each.changed for each in used))
            yield f"{'':2}{_size(used):>10}  {ages:>9}  {stage}: {len(used)} in use"
        for each in sorted(others, key=lambda holding: -holding.bytes):
            kind = "not in use" if each.complete else "interrupted"
            mark = "*" if each in marked else ""
            yield f"{mark:2}{_size([each]):>10}  {_days(now - each.changed):>9}  {stage}/{each.path.name}: {kind}"
    yield f"{'':2}{_size(held):>10}  {'':9}  in all; {_size(marked)} of it marked *, to be removed"


def _parted(holdings: Iterable[Holding]) -> tuple[list[Holding], list[Holding]]:
    """Those in use, and the others."""
    parts: tuple[list[Holding], list[Holding]] = ([], [])
    for holding in holdings:
        parts[not holding.assets].append(holding)
    return parts


def _size(holdings: Iterable[Holding]) -> str:
    return bytes_text(sum(each.bytes for each in holdings))


def _days(seconds: float) -> str:
    hours = max(0.0, seconds) / 3600
    return f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:.0f} hours"
