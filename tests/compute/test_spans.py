"""One example's activations out of chunk files: the same as by reading all of them, however they are laid out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from loradash_assets.compute.spans import ExampleIndex, ModulePlace, module_activations
from loradash_assets.compute.tokens import TokenIndex
from loradash_assets.store import DamagedError


@dataclass(frozen=True)
class Layout:
    """Examples (row: tokens) in the order of their rows, and how the chunks have them."""

    lengths: dict[int, int]
    chunks: list[list[int]]  # of rows
    seed: int

    @property
    def index(self) -> TokenIndex:
        return TokenIndex.of_lengths([*self.lengths], [*self.lengths.values()])

    def numbers(self) -> dict[int, np.ndarray]:
        """Each row's token numbers, by counting."""
        found: dict[int, np.ndarray] = {}
        start = 0
        for row, length in self.lengths.items():
            found[row] = np.arange(start, start + length)
            start += length
        return found


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    rows = sorted(draw(st.sets(st.integers(0, 40), min_size=1, max_size=12)))
    lengths = {row: draw(st.integers(1, 5)) for row in rows}
    order = draw(st.permutations(rows))
    cuts = sorted(draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    chunks = [order[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    return Layout(lengths, chunks, draw(st.integers(0, 2**31)))


EXPERTS = 3
# Layer 4: a dense module of rank 2, one of rank 1, then two modules that hold experts, each with two parameters.
OWNERS = ("mlp.a", "mlp.b")
MODULES = [
    *(("q_proj", -1, 2), ("v_proj", -1, 1)),
    *((f"{owner}.{e}.{name}", e, 2) for owner in OWNERS for e in range(EXPERTS) for name in ("up_proj", "down_proj")),
]
FEATURES = pa.table(
    {
        "module": [name for name, _, rank in MODULES for _ in range(rank)],
        "expert": pa.array([expert for _, expert, rank in MODULES for _ in range(rank)], pa.int32()),
    }
)


def write(layout: Layout, directory: Path) -> tuple[list[Path], dict[str, np.ndarray]]:
    """Write random chunks; return them, and every module's activations in layer 4, (rank, tokens), 0 where blind."""
    random = np.random.default_rng(layout.seed)
    tokens = sum(layout.lengths.values())
    values = {name: np.zeros((rank, tokens), np.float32) for name, _, rank in MODULES}
    files: list[Path] = []
    for number, rows in enumerate(layout.chunks):
        here = np.concatenate([np.empty(0, np.int64), *(layout.numbers()[row] for row in rows)])
        dense = random.normal(size=(3, here.size)).astype(np.float32)
        values["q_proj"][:, here], values["v_proj"][:, here] = dense[:2], dense[2:]
        tensors: dict[str, np.ndarray] = {
            "tokens": here,
            "layer.4": dense,
            "layer.5": np.zeros((1, here.size), np.float32),
        }
        for owner_number, owner in enumerate(OWNERS):
            seen = [np.flatnonzero(random.random(here.size) < 0.5).astype(np.int32) for _ in range(EXPERTS)]
            parts = [random.normal(size=(4, each.size)).astype(np.float32) for each in seen]
            for expert, (columns, part) in enumerate(zip(seen, parts, strict=True)):
                values[f"{owner}.{expert}.up_proj"][:, here[columns]] = part[:2]
                values[f"{owner}.{expert}.down_proj"][:, here[columns]] = part[2:]
            name = f"layer.4.experts.{owner_number}"
            tensors[f"{name}.offsets"] = np.cumsum([0, *(each.size for each in seen)])
            tensors[f"{name}.tokens"] = np.concatenate(seen)
            tensors[f"{name}.values"] = np.ascontiguousarray(np.concatenate(parts, axis=1))
        files.append(directory / f"chunk-{number:05d}.safetensors")
        save_file(tensors, files[-1])
    return files, values


@settings(max_examples=60, deadline=None)
@given(layouts())
def test_every_example_of_every_module_is_found(layout: Layout) -> None:
    with TemporaryDirectory() as directory:
        files, values = write(layout, Path(directory))
        index = ExampleIndex(layout.index, files)
        for row in range(-1, 43):
            span = index.find(row)
            assert (span is not None) == (row in layout.lengths)
            if span is None:
                continue
            assert row in layout.chunks[files.index(span.file)]
            for name, _, _ in MODULES:
                found = module_activations(ModulePlace.of(4, FEATURES, name), span)
                assert found.dtype == np.float32
                assert np.array_equal(found, values[name][:, layout.numbers()[row]])


def test_where_modules_are() -> None:
    assert ModulePlace.of(4, FEATURES, "v_proj") == ModulePlace(4, slice(2, 3))
    assert ModulePlace.of(4, FEATURES, "mlp.a.0.up_proj") == ModulePlace(4, slice(0, 2), 0, 0)
    assert ModulePlace.of(4, FEATURES, "mlp.b.2.down_proj") == ModulePlace(4, slice(2, 4), 1, 2)


LAYOUT = Layout({0: 2, 3: 3, 4: 1}, [[3, 0], [4]], 0)


@pytest.mark.parametrize(
    "tokens",
    [
        [2, 3, 4, 0],  # an example that is cut off
        [2, 3, 0, 1],
        [3, 4, 0, 1],
        [2, 3, 4, 0, 1, 5],  # one that another chunk has, too
        [2, 3, 4, 0, 1, 0, 1],
        [2, 3, 4],  # one that is missing
        [],
        [2, 3, 4, 0, 1, 6],
        [2, 3, 4, 0, 1, -1],
        [2, 3, 4, 0, 1, 2**62],
        [4, 3, 2, 0, 1],
    ],
    ids=str,
)
def test_chunks_that_are_not_whole_examples_each_once_are_refused(tmp_path: Path, tokens: list[int]) -> None:
    files, _ = write(LAYOUT, tmp_path)
    save_file({"tokens": np.array(tokens, np.int64)}, files[0])
    with pytest.raises(DamagedError):
        ExampleIndex(LAYOUT.index, files)


def test_a_chunk_that_has_changed_since_is_refused(tmp_path: Path) -> None:
    files, _ = write(LAYOUT, tmp_path)
    span = ExampleIndex(LAYOUT.index, files).find(0)
    assert span is not None
    save_file({**load_file(files[0]), "tokens": np.array([0, 1, 2, 3, 4])}, files[0])
    with pytest.raises(DamagedError, match="chunk-00000"):
        module_activations(ModulePlace.of(4, FEATURES, "q_proj"), span)
