"""One top-k table per layer, each its own asset: changed and shown on its own."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import dagster as dg
import pyarrow.compute as pc
import pyarrow.parquet as pq

from loradash_assets.assets.project import IN_STORE, Metadata, Project, result, table_metadata
from loradash_assets.assets.sources import settings_key
from loradash_assets.code_version import code_version
from loradash_assets.schema import OUTSIDE_LAYERS
from loradash_assets.store import Entry, Facts

MODULE = "loradash_assets.compute.layers"
GROUP = "tables"
CHECK = "all_finite_and_counted"
CHECK_DESCRIPTION = "No activation is NaN or infinite, and every token of every example counts once for every feature."
PREVIEW = ("projection", "component", "polarity", "rank", "activation", "token", "example", "position", "occurrences")


def table_key(layer: int) -> dg.AssetKey:
    """Return the key of a layer's table."""
    return dg.AssetKey(["top_tokens", layer_name(layer)])


def layer_name(layer: int) -> str:
    """Return `layer_07`, or `outside_layers`."""
    return "outside_layers" if layer == OUTSIDE_LAYERS else f"layer_{layer:02d}"


def table_assets(layers: Sequence[int]) -> dg.AssetsDefinition:
    """Return the assets of the adapted layers: one step that makes any selection of them."""
    by_key = {table_key(layer): layer for layer in layers}
    upstream = ("prompts", "features", "activations")

    @dg.multi_asset(
        name="top_tokens",
        specs=[_spec(layer, upstream) for layer in layers],
        ins={name: dg.AssetIn(name) for name in upstream},
        check_specs=[dg.AssetCheckSpec(CHECK, asset=key, description=CHECK_DESCRIPTION) for key in by_key],
        can_subset=True,
    )
    def top_tokens(
        context: dg.AssetExecutionContext,
        project: dg.ResourceParam[Project],
        prompts: Entry,
        features: Entry,
        activations: Entry,
    ) -> Iterator[dg.MaterializeResult[Entry]]:
        for key in sorted(context.selected_asset_keys, key=lambda key: by_key[key]):
            yield _layer_table(context, project, by_key[key], prompts, features, activations)

    return top_tokens


def _spec(layer: int, upstream: Sequence[str]) -> dg.AssetSpec:
    where = "the modules outside the layers" if layer == OUTSIDE_LAYERS else f"layer {layer}"
    return dg.AssetSpec(
        table_key(layer),
        deps=[*upstream, settings_key("tables")],
        description=f"The tokens that excite each feature of {where} most, in context; statistics over all tokens.",
        group_name=GROUP,
        kinds={"parquet"},
        skippable=True,
        code_version=code_version(MODULE),
        metadata=IN_STORE,
    )


def _layer_table(
    context: dg.AssetExecutionContext,
    project: Project,
    layer: int,
    prompts: Entry,
    features: Entry,
    activations: Entry,
) -> dg.MaterializeResult[Entry]:
    settings = project.settings.tables

    def build(directory: Path) -> Facts:
        from loradash_assets.compute.filters import check_token_ids
        from loradash_assets.compute.layers import write_layer_tables
        from loradash_assets.compute.tables import TableOptions

        check_token_ids(settings.exclude_token_ids, prompts.facts["vocabulary"])
        options = settings.model_dump()
        options["distinct_contexts"] &= activations.facts["prefix_determined"]
        facts = write_layer_tables(
            layer,
            features.path,
            activations.path,
            prompts.path / "prompts.parquet",
            directory,
            TableOptions(**options),
            activations.facts["write_norms"],
            prompts.facts["special_tokens"],
        )
        return {**facts, "settings": settings.model_dump()}

    def describe(entry: Entry) -> Metadata:
        table = pq.read_table(entry.path / "shown.parquet")
        counts = {name: entry.facts[name] for name in ("features", "dropped", "non_finite", "left_out")}
        return {**table_metadata(table, PREVIEW), **counts}

    inputs = (layer, prompts.digest, features.digest, activations.digest, settings.fingerprint())
    return result(
        context,
        project,
        "top_tokens",
        inputs,
        build,
        describe,
        module=MODULE,
        asset_key=table_key(layer),
        check=lambda entry: [_check(layer, entry, prompts.facts["tokens"])],
    )


def _check(layer: int, table: Entry, tokens: int) -> dg.AssetCheckResult:
    file = table.path / "statistics.parquet"
    statistics = pq.read_table(file, columns=["count", "non_finite"], filters=~pc.field("filtered"))
    counted = [count + others for count, others in zip(*statistics.to_pydict().values(), strict=True)]
    non_finite = table.facts["non_finite"]
    return dg.AssetCheckResult(
        asset_key=table_key(layer),
        check_name=CHECK,
        passed=non_finite == 0 and all(count == tokens for count in counted),
        metadata={"non_finite": non_finite, "tokens": tokens, "fewest": min(counted), "most": max(counted)},
    )
