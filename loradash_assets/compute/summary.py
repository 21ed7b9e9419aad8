"""A view's statistics: one row per feature, over every token that it is given."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loradash_assets.compute.arrays import lists, table
from loradash_assets.compute.statistics import MomentCounter, RangeCounter, Ranges
from loradash_assets.compute.views import View
from loradash_assets.schema import STATISTICS


class Summary:
    """The statistics of one view; `filtered` says whether it is given only the tokens that lists may hold."""

    def __init__(self, view: View, bins: int, *, filtered: bool = False) -> None:
        self.view = view
        self._bins = bins
        self._filtered = filtered
        self._counter = RangeCounter(view.features)
        self._ranges: Ranges | None = None
        self._moments: MomentCounter | None = None

    def update(self, numbers: NDArray[np.int64], activations: NDArray[np.float32]) -> None:  # noqa: ARG002 - as Consumer
        """Take in a chunk: ranges in the first pass, moments and histogram in the second."""
        if self._moments is None:
            self._counter.update(activations)
        else:
            self._moments.update(activations)

    def next_pass(self) -> bool:
        """End the pass; the second is the last."""
        if self._moments is not None:
            return False
        self._ranges = self._counter.result()
        self._moments = MomentCounter(self._ranges, self._bins)
        return True

    def table(self) -> pa.Table:
        """Return the STATISTICS rows, once all passes are done."""
        assert self._ranges is not None
        assert self._moments is not None
        moments = self._moments.result()
        columns = {
            **self.view.labels,
            "basis": np.full(self.view.features, self.view.basis),
            "filtered": np.full(self.view.features, self._filtered),
            "count": self._ranges.count,
            "non_finite": self._ranges.non_finite,
            "min": self._ranges.low,
            "max": self._ranges.high,
            "mean": moments.mean,
            "std": moments.std,
            "bin_edges": lists(moments.edges),
            "total_counts": lists(moments.total),
            "positive_counts": lists(moments.positive),
            "negative_counts": lists(moments.negative),
        }
        return table(columns, STATISTICS)
