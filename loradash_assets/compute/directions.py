"""What an adapter's components read and write, in either basis."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from loradash_assets.compute.basis import svd_basis
from loradash_assets.compute.catalogue import read_modules
from loradash_assets.compute.experts import NO_EXPERT
from loradash_assets.compute.features import AdaptedModule
from loradash_assets.schema import Basis

Kind = Literal["read", "write"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class ModuleDirections:
    """What one module's components read, (components, in_features), and write, (components, out_features)."""

    layer: int
    projection: str
    read: NDArray[np.floating]
    write: NDArray[np.floating]
    expert: int = NO_EXPERT

    def of(self, kind: Kind) -> NDArray[np.floating]:
        """What they read, or what they write."""
        return self.read if kind == "read" else self.write


def read_directions(catalogue: Path, basis: Basis) -> list[ModuleDirections]:
    """Return what each module of a catalogue reads and writes, in the order of the features in this basis."""
    return [
        ModuleDirections(module.layer, module.projection, *_directions(module, basis), module.expert)
        for module in read_modules(catalogue)
    ]


def _directions(module: AdaptedModule, basis: Basis) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Rows of A and columns of B; or the singular directions v and u of scaling * B A = U diag(sigma) V^T."""
    if basis == "raw":
        return module.A, module.B.T
    a, b = module.A.astype(np.float64), module.B.astype(np.float64)
    found = svd_basis(a, b, module.scaling)
    read = found.map @ a  # V^T x = map (A x)
    write = module.scaling * (read @ a.T) @ b.T / found.sigma[:, None]
    return read.astype(np.float32), write.astype(np.float32)
