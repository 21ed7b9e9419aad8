"""What the service may be given to answer with: activations that something else recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from annotation_server.keys import FeatureKey

# Of a feature, on every token of a dataset row, in order; None where there are none. Raises ActivationsUnavailable.
Activations = Callable[[FeatureKey, int], Sequence[float] | None]


class ActivationsUnavailable(Exception):
    """There should be activations, but they cannot be read; the message says why."""
