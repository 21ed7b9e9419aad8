"""Which features fire together: each one's correlations with the others of the adapter, over every recorded token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from loradash_assets.compute.arrays import lists, table
from loradash_assets.compute.basis import SvdBasis, svd_basis
from loradash_assets.compute.catalogue import FEATURES_FILE, read_modules
from loradash_assets.compute.correlations import Centres, Products, token_slices
from loradash_assets.compute.layers import recorded_layer
from loradash_assets.compute.passes import Chunk, LayerRecording
from loradash_assets.compute.recording import chunk_tokens
from loradash_assets.compute.strongest import Strongest
from loradash_assets.compute.views import View, raw_view, svd_view
from loradash_assets.parquet import read_parquet
from loradash_assets.schema import COACTIVATION, Basis

FILE = "coactivation.parquet"
WHOLE = 2048  # features up to which every partner is listed
PARTNERS = 50  # partners listed beyond
BLOCK = 1024  # features that meet as many others at a time, where there are more than WHOLE


def write_coactivation(catalogue: Path, recording: Path, target: Path, basis: Basis) -> dict[str, int]:
    """Write the COACTIVATION table to `target`; return how many features, partners of each, and tokens it has.

    catalogue, recording: the directories of the feature catalogue and of the recorded chunks.
    """
    source = _open(catalogue, recording, basis)
    found = coactivation(source)
    pq.write_table(found, target / FILE)
    return {
        "features": source.features,
        "partners": _partners(source.features),
        "tokens": sum(numbers.size for numbers in chunk_tokens(recording)),
    }


@dataclass(frozen=True)
class AdapterRecording:
    """All layers of a recording, in the order of the features, each with the views of its blocks."""

    directory: Path
    layers: Sequence[tuple[LayerRecording, Sequence[View]]]

    @property
    def views(self) -> list[View]:
        """Every block's view, in the order of the features."""
        return [view for _, views in self.layers for view in views]

    @property
    def features(self) -> int:
        """How many features there are."""
        return sum(view.features for view in self.views)

    def chunks(self, rows: slice) -> Iterator[NDArray[np.float32]]:
        """Yield, of every chunk, the activations of some features: (rows, tokens), 0 where a token is not seen."""
        bounds = [0, *accumulate(sum(view.features for view in views) for _, views in self.layers)]
        wanted = [
            (layer, views, slice(max(rows.start, start) - start, min(rows.stop, stop) - start))
            for (layer, views), (start, stop) in zip(self.layers, pairwise(bounds), strict=True)
            if max(rows.start, start) < min(rows.stop, stop)
        ]
        streams = zip(*(layer.chunks() for layer, _, _ in wanted), strict=True)
        for numbers, parts in zip(chunk_tokens(self.directory), streams, strict=True):
            yield np.concatenate(
                [_spread(numbers, chunks, views, part) for chunks, (_, views, part) in zip(parts, wanted, strict=True)]
            )


def _spread(
    numbers: NDArray[np.int64], chunks: Sequence[Chunk], views: Sequence[View], rows: slice
) -> NDArray[np.float32]:
    """Some of a layer's activations, in the views of its blocks, on these tokens: (rows, tokens)."""
    parts: list[NDArray[np.float32]] = []
    stops = accumulate(view.features for view in views)
    order = np.argsort(numbers)
    for (seen, values), view, stop in zip(chunks, views, stops, strict=True):
        start = stop - view.features
        first, last = max(rows.start - start, 0), min(rows.stop - start, view.features)
        if first >= last:
            continue
        part = view.of(values)[first:last]
        if not np.array_equal(seen, numbers):
            spread = np.zeros((last - first, numbers.size), np.float32)
            spread[:, order[np.searchsorted(numbers, seen, sorter=order)]] = part
            part = spread
        parts.append(part)
    return np.concatenate(parts)


def coactivation(source: AdapterRecording) -> pa.Table:
    """The COACTIVATION table of a recording, which is read three times, and for many features again and again.

    Memory: as many activations as `WHOLE` features have in a chunk, and WHOLE**2 sums at most.
    """
    features = source.features
    strongest = Strongest(features, _partners(features))
    size = features if features <= WHOLE else BLOCK
    blocks = [slice(first, min(first + size, features)) for first in range(0, features, max(1, size))]
    centres = [_centres(source, block) for block in blocks]
    spreads: list[NDArray[np.float64]] = []
    for place, block in enumerate(blocks):
        covariances = _covariances(source, [block], [centres[place]])
        spreads.append(np.sqrt(np.diagonal(covariances)))
        strongest.update(block, block, _correlations(covariances, spreads[-1], spreads[-1]))
    for i, j in combinations(range(len(blocks)), 2):
        covariances = _covariances(source, [blocks[i], blocks[j]], [centres[i], centres[j]])
        found = _correlations(covariances, spreads[i], spreads[j])
        strongest.update(blocks[i], blocks[j], found)
        strongest.update(blocks[j], blocks[i], found.T)
    labels = {
        name: np.concatenate([view.labels[name] for view in source.views])
        for name in ("layer", "projection", "component")
    }
    columns = {
        **labels,
        "basis": np.concatenate([np.full(view.features, view.basis) for view in source.views]),
        "partners": lists(strongest.partners),
        "correlations": lists(strongest.values),
    }
    return table(columns, COACTIVATION)


def _partners(features: int) -> int:
    return max(0, features - 1) if features <= WHOLE else PARTNERS


def _centres(source: AdapterRecording, block: slice) -> Centres:
    centres = Centres(block.stop - block.start)
    more = True
    while more:
        for activations in source.chunks(block):
            centres.update(activations)
        more = centres.next_pass()
    return centres


def _covariances(source: AdapterRecording, blocks: Sequence[slice], centres: Sequence[Centres]) -> NDArray[np.float64]:
    """The covariances, times tokens and in the units of `centres`, of one block or of the first with the second."""
    first, second = blocks[0], blocks[-1]
    products = Products(first.stop - first.start, second.stop - second.start)
    for chunks in zip(*(source.chunks(block) for block in blocks), strict=True):
        for columns in token_slices(chunks[0].shape[1]):
            q = [each.integers(chunk[:, columns]) for each, chunk in zip(centres, chunks, strict=True)]
            products.update(q[0], q[-1])
    return products.covariances()


def _correlations(
    covariances: NDArray[np.float64], first: NDArray[np.float64], second: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Pearson's r, (rows, columns); 0 with a feature that is constant."""
    inverse = [np.divide(1, spread, out=np.zeros_like(spread), where=spread > 0) for spread in (first, second)]
    return np.clip(covariances * inverse[0][:, None] * inverse[1], -1, 1).astype(np.float32)


def _open(catalogue: Path, recording: Path, basis: Basis) -> AdapterRecording:
    features = read_parquet(catalogue / FEATURES_FILE)
    bases: dict[str, SvdBasis] = {}
    if basis == "svd":
        bases = {module.name: svd_basis(module.A, module.B, module.scaling) for module in read_modules(catalogue)}
    numbers = features.column("layer").to_numpy()
    layers: list[tuple[LayerRecording, list[View]]] = []
    for layer in dict.fromkeys(numbers.tolist()):
        own = features.filter(pa.array(numbers == layer))
        recorded = recorded_layer(recording, layer, own)
        slices = [
            own.slice(block.features.start, block.features.stop - block.features.start) for block in recorded.blocks
        ]
        views = [raw_view(each) if basis == "raw" else svd_view(each, bases) for each in slices]
        layers.append((recorded, views))
    return AdapterRecording(recording, layers)
