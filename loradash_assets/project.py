"""A project: its settings, its store, and which entry of the store is the latest result of each of its assets."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from loradash_assets.settings import Settings
from loradash_assets.store import REFERENCES, DamagedError, Entry, Store, fingerprint


@dataclass(frozen=True)
class Project:
    """A project's settings and the store that they name."""

    settings: Settings

    @property
    def store(self) -> Store:
        """The content-addressed store."""
        return Store(self.settings.resolve(self.settings.store.path) / "store")

    @property
    def place(self) -> str:
        """Where the project is, seen from its store: the same after both were moved together."""
        return os.path.relpath(self.settings.project, self.store.root)

    def reference(self, asset: str) -> Path:
        """Return the file that names the entry that is an asset's latest, here."""
        return self.store.root / REFERENCES / fingerprint(self.place)[:16] / f"{asset}.json"

    def noted(self, asset: str) -> Entry | None:
        """Return the entry that is an asset's latest, here, as it was noted; None if the asset was never made.

        Whether the entry is intact is not looked at. Raises DamagedError if the reference is not.
        """
        reference = self.reference(asset)
        if not reference.exists():
            return None
        try:
            return Entry(self.store.root / json.loads(reference.read_text(encoding="utf-8"))["entry"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DamagedError(f"{reference} is damaged") from error
