"""What the earlier stages left on disk, and the facts of the run, as everything that people open needs them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from loradash_assets.parquet import read_parquet
from loradash_assets.schema import OUTSIDE_LAYERS, TOP_TOKENS, Basis
from loradash_assets.site.from_neighbours import FeatureName, NeighbourTables
from loradash_assets.site.from_tables import LayerTables
from loradash_assets.site.original import ExportMetadata
from loradash_assets.site.page import Text
from loradash_assets.site.texts import read_texts

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """What a run was made from, for the page's header and the export's metadata."""

    base_model: str
    adapter: str
    dataset: str
    prompt_format: str
    num_layers: int
    rows: int
    examples: int
    tokens: int
    skipped: int
    truncated: int
    top_k: int
    context_window: int
    basis: Basis
    distinct_contexts: bool
    contexts_can_be_shared: bool
    max_per_example: int | None
    first_positions: int  # left out of each example
    left_out: Mapping[str, int]  # tokens, by reason; under `all` by any
    unrecorded: Mapping[str, str]
    variants: Sequence[str]
    dropped: int
    non_finite: int
    recorded_at: str

    def export_metadata(self, layers: list[int]) -> ExportMetadata:
        """Return the metadata of activations_data.json."""
        inside = tuple(layer for layer in layers if layer != OUTSIDE_LAYERS)
        return ExportMetadata(
            model_name=self.base_model,
            lora_path=self.adapter,
            num_layers=self.num_layers,
            lora_layers=inside,
            num_lora_layers=len(inside),
            num_examples=self.rows,
            top_k=self.top_k,
            context_window=self.context_window,
            generated_at=self.recorded_at,
        )

    def labels(self, layers: list[int]) -> dict[str, str]:
        """Return the lines of the page's header."""
        inside = [layer for layer in layers if layer != OUTSIDE_LAYERS]
        return {
            "Model": self.base_model,
            "Adapter": self.adapter,
            "Dataset": f"{self.dataset} ({self.prompt_format})",
            "Layers": f"{len(inside)} of {self.num_layers}",
            "Examples": f"{self.examples:,} of {self.rows:,} rows",
            "Tokens": f"{self.tokens:,}",
            "Top k": ", ".join(self._list_rules()),
            "Context": f"±{self.context_window} tokens",
            "Basis": self.basis,
            "Recorded": self.recorded_at,
        }

    def _list_rules(self) -> Iterator[str]:
        yield str(self.top_k)
        yield "distinct contexts" if self.shares_contexts else "every token"
        if self.max_per_example is not None:
            yield f"at most {self.max_per_example} of one example"

    @property
    def shares_contexts(self) -> bool:
        """Whether equal contexts are listed once."""
        return self.distinct_contexts and self.contexts_can_be_shared

    def warnings(self) -> list[str]:
        """Return what a reader must know before trusting the page."""
        lines = [f"{module} is not recorded: {reason}" for module, reason in self.unrecorded.items()]
        if self.basis == "svd" and "dora" in self.variants:
            lines.append("The svd basis describes scaling * B A alone: DoRA's rescaling of the outputs is not in it.")
        if self.dropped:
            lines.append(f"{self.dropped} directions that add nothing (singular value 0) are not shown")
        if self.non_finite:
            lines.append(f"{self.non_finite:,} activations are NaN or infinite and are not ranked")
        if self.left_out:
            lines.append(self._left_out())
        if self.skipped or self.truncated:
            lines.append(
                f"{self.skipped} rows were skipped and {self.truncated} truncated; the asset 'prompts' lists them"
            )
        if self.distinct_contexts and not self.contexts_can_be_shared:
            lines.append(
                "equal contexts are listed separately: this model's activations depend on more than the tokens before"
            )
        return lines

    def _left_out(self) -> str:
        names = {
            "special_tokens": "special tokens",
            "first_positions": f"first {self.first_positions} positions",
            "token_ids": "chosen token ids",
        }
        reasons = [f"{name} {self.left_out[reason]:,}" for reason, name in names.items() if reason in self.left_out]
        return f"Lists and samples leave out {self.left_out['all']:,} of {self.tokens:,} tokens: {', '.join(reasons)}"


@dataclass(frozen=True)
class AdapterInputs:
    """One adapter's results: its name (None for the first), how people see it called, its stages' directories.

    `layers` maps each adapted layer to its tables' directory.
    """

    name: str | None
    label: str
    run: Run
    layers: Mapping[int, Path]
    features: Path
    geometry: Path
    coactivation: Path | None = None  # of what shows which features fire together

    def plain(self) -> Iterator[LayerTables]:
        """Yield each layer's plain list in the raw basis."""
        return (self._tables(layer, "plain.parquet", "raw") for layer in sorted(self.layers))

    def shown(self) -> Iterator[LayerTables]:
        """Yield what the dashboard shows of each layer, in the run's basis."""
        basis = self.run.basis
        for layer in sorted(self.layers):
            samples = read_parquet(self.layers[layer] / "samples.parquet")
            filtered = self._statistics(layer, basis, filtered=True)
            neighbours = self.neighbours.of_layer(layer)
            tables = self._tables(layer, "shown.parquet", basis)
            yield replace(tables, samples=samples, filtered=filtered, neighbours=neighbours)

    def described(self, listed: Collection[int], *, others: bool) -> Iterator[LayerTables]:
        """Yield the layers `listed` as `shown`, without samples; and `others` without lists, too."""
        for layer in sorted(self.layers):
            if layer in listed or others:
                tables = self._tables(layer, "shown.parquet", self.run.basis)
                yield tables if layer in listed else replace(tables, top_tokens=TOP_TOKENS.empty_table())

    def strongest(self) -> Iterator[LayerTables]:
        """Yield each layer as `shown`, without samples, with the first of each list alone."""
        for layer in sorted(self.layers):
            tables = self._tables(layer, "shown.parquet", self.run.basis)
            yield replace(tables, top_tokens=tables.top_tokens.filter(pc.field("rank") == 1))

    def examples(self) -> set[int]:
        """Return the dataset rows of which `shown` has a token."""
        files = [
            directory / name for directory in self.layers.values() for name in ("shown.parquet", "samples.parquet")
        ]
        columns = [read_parquet(file, columns=["example"])["example"].unique() for file in files]
        return {row for column in columns for row in column.to_pylist()}

    @cached_property
    def feature_table(self) -> pa.Table:
        """The FEATURES table."""
        return read_parquet(self.features / "features.parquet")

    @cached_property
    def ranks(self) -> Mapping[tuple[int, str], int]:
        """The rank of each module, by layer and projection."""
        columns = (self.feature_table[name].to_pylist() for name in ("layer", "projection", "rank"))
        return {(layer, projection): rank for layer, projection, rank in zip(*columns, strict=True)}

    @cached_property
    def cosines(self) -> pa.Table:
        """The COSINES table."""
        return read_parquet(self.geometry / "cosines.parquet")

    @cached_property
    def neighbours(self) -> NeighbourTables:
        """What numbers the adapter's features, in the run's basis."""
        assert self.coactivation is not None
        directions = read_parquet(self.geometry / "neighbours.parquet").filter(pc.field("basis") == self.run.basis)
        coactivation = read_parquet(self.coactivation / "coactivation.parquet")
        numbered = directions.filter(pc.field("kind") == "read")
        ranks = self.ranks
        columns = (numbered[name].to_pylist() for name in ("layer", "projection", "component"))
        names = [
            FeatureName(layer, projection, component if ranks[layer, projection] > 1 else None)
            for layer, projection, component in zip(*columns, strict=True)
        ]
        return NeighbourTables(directions, coactivation, names)

    def _tables(self, layer: int, name: str, basis: Basis) -> LayerTables:
        directory = self.layers[layer]
        return LayerTables(
            layer,
            read_parquet(directory / name),
            self._statistics(layer, basis, filtered=False),
            self.cosines.filter(pc.field("layer") == layer),
            self.feature_table,
        )

    def _statistics(self, layer: int, basis: Basis, *, filtered: bool) -> pa.Table:
        wanted = (pc.field("basis") == basis) & (pc.field("filtered") == filtered)
        return read_parquet(self.layers[layer] / "statistics.parquet").filter(wanted)


@dataclass(frozen=True)
class SiteInputs:
    """Everything that people open is made from: the adapters' results, the prompts' and the notes' directories."""

    title: str
    adapters: Sequence[AdapterInputs]
    prompts: Path
    interpretations: Path
    largest_file: int  # bytes of data up to which the dashboard is one file

    def texts(self) -> dict[int, Text]:
        """Return every example of which the dashboard shows a token, by its dataset row."""
        shown = set[int]().union(*(adapter.examples() for adapter in self.adapters))
        return read_texts(self.prompts / "prompts.parquet", shown)

    def notes(self) -> pa.Table:
        """Return the INTERPRETATIONS table."""
        return read_parquet(self.interpretations / "interpretations.parquet")
