"""The canonical directions of an adapter module: singular vectors of scaling * B A, from what was recorded of A x."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DROPPED_BELOW = 1e-7  # of the largest singular value: float32 weights cannot tell such a direction from none
TIED_WITHIN = 0.01  # of the larger: bfloat16 weights, good to 0.4 %, cannot tell such directions apart
_TIED_ENTRIES = 1e-6  # of the largest entry: the sign must not hang on which of two equal ones rounding prefers


@dataclass(frozen=True)
class SvdBasis:
    """Singular directions of scaling * B A = U diag(sigma) V^T, strongest first; s of them, s <= r.

    `map` (s, r) turns recorded activations A x into V^T x. `tied` (s,) marks a direction with a neighbour of nearly
    the same sigma: only the span of the two means something.
    """

    map: NDArray[np.float64]
    sigma: NDArray[np.float64]
    tied: NDArray[np.bool_]

    def apply(self, activations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Activations A x (r, tokens) -> V^T x (s, tokens), computed in float64.

        Each token's values depend on that token alone: term by term, because a matrix product may sum in another
        order for another number of columns, and then the bytes would depend on the chunks. What is not finite stays
        so, and is counted with the statistics.
        """
        mapped = np.zeros((self.sigma.size, activations.shape[1]))
        with np.errstate(invalid="ignore", over="ignore"):
            for component, row in enumerate(activations.astype(np.float64)):
                mapped += self.map[:, component, None] * row
            return mapped.astype(np.float32)


def svd_basis(a: NDArray[np.floating], b: NDArray[np.floating], scaling: float) -> SvdBasis:
    """The basis for A (r, d_in), B (d_out, r), in float64, without forming the (d_out, d_in) product.

    A^T = Qa Ra and B = Qb Rb give scaling * B A = Qb (scaling * Rb Ra^T) Qa^T: an r x r decomposition. The map is
    diag(1 / sigma) U^T (scaling * B), which needs no inverse of A and so allows dependent rows. Sign: the entry of
    each column of V with the largest magnitude is positive; for r = 1, V points where A does.
    Raises ValueError for weights that are not finite, or shapes that do not fit.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    if a.shape[0] != b.shape[1]:
        raise ValueError(f"A has {a.shape[0]} rows, B has {b.shape[1]} columns")
    if not (np.isfinite(a).all() and np.isfinite(b).all() and np.isfinite(scaling)):
        raise ValueError("the adapter's weights are not finite")
    qa, ra = np.linalg.qr(a.T)  # (d_in, m), (m, r) with m = min(d_in, r)
    rb = scaling * np.linalg.qr(b)[1]  # (n, r) with n = min(d_out, r)
    u, sigma, vt = np.linalg.svd(rb @ ra.T, full_matrices=False)  # (n, s), (s,), (s, m)
    kept = sigma > DROPPED_BELOW * sigma.max(initial=0.0)
    u, sigma, vt = u[:, kept], sigma[kept], vt[kept]
    read = vt @ qa.T  # (s, d_in)
    signs = np.sign(read @ a[0]) if a.shape[0] == 1 else _signs(read)
    return SvdBasis(signs[:, None] * (u.T @ rb) / sigma[:, None], sigma, _tied(sigma))


def _signs(read: NDArray[np.float64]) -> NDArray[np.float64]:
    """+1 or -1 per row: the sign of its largest entry, of the first one where several are largest."""
    sizes = np.abs(read)
    largest = np.argmax(sizes >= (1 - _TIED_ENTRIES) * sizes.max(axis=1, keepdims=True), axis=1)
    return np.sign(read[np.arange(read.shape[0]), largest])


def _tied(sigma: NDArray[np.float64]) -> NDArray[np.bool_]:
    near = sigma[:-1] - sigma[1:] <= TIED_WITHIN * sigma[:-1]
    tied = np.zeros(sigma.size, np.bool_)
    tied[:-1] |= near
    tied[1:] |= near
    return tied
