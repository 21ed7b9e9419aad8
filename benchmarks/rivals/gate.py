"""Are a method's lists the right ones? Nothing is timed before they are.

Judged against activations that no method computed: PEFT's forward pass of each example alone, in float64. Two tokens
whose activations differ by less than the rounding may stand in either order, or one in place of the other at the end
of a list: the same context in two examples has the same activation, and there a sort has nothing to go by.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.reference import activations, load_adapted
from benchmarks.rivals.contract import NO_TOKEN, Job, Top

# Of the feature's largest |activation|. Float32's rounding over all layers stays below it; a token of padding, a norm
# left out or bfloat16 does not.
TOLERANCE = 2e-5


class WrongLists(Exception):
    """A method's lists are not the right ones; says which and how."""


def reference(job: Job, token_ids: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Return every feature's activations in float64, (tokens,), by MODULE.COMPONENT."""
    model = load_adapted(job.model, job.adapter, float64=True)
    with torch.inference_mode():
        found = activations(model, job.adapter, [ids.tolist() for ids in token_ids], float64=True)
    return {
        f"{name}.{component}": values
        for name, module in found.items()
        for component, values in enumerate(module.values.T)
    }


def check(top: Top, right: Mapping[str, np.ndarray]) -> float:
    """Return the largest difference, relative to the feature's largest |activation|. Raises WrongLists.

    Each rank's value must be the reference's at that rank, and each token's value the reference's of that token.
    """
    if sorted(top.names) != sorted(right) or top.values.shape != top.tokens.shape:
        raise WrongLists(f"{len(top.names)} features in shape {top.values.shape}, not the adapter's {len(right)}")
    worst = 0.0
    for name, values, tokens in zip(top.names, top.values, top.tokens, strict=True):
        scale = np.abs(right[name]).max()
        for side, sign in enumerate((1, -1)):
            difference = _difference(sign * values[side], tokens[side], sign * right[name]) / scale
            if not difference <= TOLERANCE:
                polarity = ("positive", "negative")[side]
                raise WrongLists(f"{name}, {polarity}: off by {difference:.1e} of the feature's largest activation")
            worst = max(worst, difference)
    return worst


def _difference(scores: np.ndarray, tokens: np.ndarray, right: np.ndarray) -> Any:
    """Scores and tokens (k,), right scores of all tokens (tokens,); infinite where they are no ranking at all."""
    listed = tokens != NO_TOKEN
    if len(set(tokens[listed])) < listed.sum() or (scores[listed] <= 0).any() or scores[~listed].any():
        return np.inf
    best = np.zeros_like(scores, dtype=np.float64)
    highest = np.sort(right[right > 0])[::-1][: len(best)]
    best[: len(highest)] = highest
    return max(np.abs(scores - best).max(), np.abs(scores[listed] - right[tokens[listed]]).max(initial=0.0))


def reference_of(file: Path, job: Job, token_ids: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Return `reference`, read from `file` if it has been computed before."""
    if not file.exists():
        right = reference(job, token_ids)
        np.savez(file, names=np.array(list(right)), values=np.stack(list(right.values())))
    with np.load(file) as arrays:
        return dict(zip(arrays["names"].tolist(), arrays["values"], strict=True))
