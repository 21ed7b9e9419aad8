"""One top-k table per adapter and layer, each its own asset: changed and shown on its own."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import dagster as dg

from loradash_assets.assets.keys import adapter_group, adapter_key, adapter_tags, settings_key, table_key
from loradash_assets.assets.project import (
    IN_STORE,
    Made,
    Metadata,
    dashboard_link,
    described,
    file_metadata,
    make,
    picture,
)
from loradash_assets.code_version import code_version
from loradash_assets.compute.parallel import in_order
from loradash_assets.parquet import read_parquet
from loradash_assets.project import Project
from loradash_assets.schema import OUTSIDE_LAYERS
from loradash_assets.site.histograms import COLUMNS, layer_picture
from loradash_assets.sources import Adapter
from loradash_assets.store import Entry, Facts

if TYPE_CHECKING:
    from loradash_assets.compute.prompt_tokens import PromptTokens

MODULE = "loradash_assets.compute.layers"
GROUP = "tables"
FINITE, RIGHT = "all_finite", "lists_and_counts"
CHECKS = {
    FINITE: "No activation is NaN or infinite. One that is counts nowhere, and the page says how many there are.",
    RIGHT: (
        "Every token of every example counts once for every feature; for the features of experts, as often as the "
        "router sends it to one. Every list is sorted, and every window lies inside its example, with the token and "
        "its activation in their place."
    ),
}
HISTOGRAM_COLUMNS = [*COLUMNS, "basis", "filtered"]
PREVIEW = ("projection", "component", "polarity", "rank", "activation", "token", "example", "position", "occurrences")


def table_assets(adapter: Adapter, layers: Sequence[int]) -> dg.AssetsDefinition:
    """Return the assets of an adapter's layers: one step that makes any selection of them."""
    by_key = {table_key(adapter, layer): layer for layer in layers}
    upstream = {
        "prompts": dg.AssetKey("prompts"),
        "features": adapter_key(adapter, "features"),
        "activations": adapter_key(adapter, "activations"),
    }

    @dg.multi_asset(
        name=adapter_group(adapter, "top_tokens"),
        specs=[_spec(adapter, layer, upstream.values()) for layer in layers],
        ins={name: dg.AssetIn(key) for name, key in upstream.items()},
        check_specs=[
            dg.AssetCheckSpec(name, asset=key, description=description, blocking=name == RIGHT)
            for key in by_key
            for name, description in CHECKS.items()
        ],
        can_subset=True,
    )
    def top_tokens(
        context: dg.AssetExecutionContext,
        project: dg.ResourceParam[Project],
        prompts: Entry,
        features: Entry,
        activations: Entry,
    ) -> Iterator[dg.MaterializeResult[Entry]]:
        keys = sorted(context.selected_asset_keys, key=lambda key: by_key[key])
        make_one = partial(_made, project, prompts, _shared_tokens(prompts), features, activations)
        for key, made in zip(keys, in_order(make_one, [by_key[key] for key in keys]), strict=True):
            yield _described(context, project, adapter, by_key[key], made, prompts, activations)

    return top_tokens


def _shared_tokens(prompts: Entry) -> Callable[[], "PromptTokens"]:
    """Return what reads the prompts' tokens: once for all layers, and only if one has to be computed."""
    reading = Lock()

    @cache
    def read() -> "PromptTokens":
        from loradash_assets.compute.encode import PROMPTS_FILE
        from loradash_assets.compute.prompt_tokens import PromptTokens

        return PromptTokens.read(prompts.path / PROMPTS_FILE)

    def tokens() -> "PromptTokens":
        with reading:
            return read()

    return tokens


def _spec(adapter: Adapter, layer: int, upstream: Iterable[dg.AssetKey]) -> dg.AssetSpec:
    where = "the modules outside the layers" if layer == OUTSIDE_LAYERS else f"layer {layer}"
    return dg.AssetSpec(
        table_key(adapter, layer),
        deps=[*upstream, settings_key("tables")],
        description=f"The tokens that excite each feature of {where} most, in context; statistics over all tokens.",
        group_name=adapter_group(adapter, GROUP),
        kinds={"parquet"},
        skippable=True,
        code_version=code_version(MODULE),
        tags=adapter_tags(adapter, layer),
        metadata=IN_STORE,
    )


def _made(
    project: Project,
    prompts: Entry,
    tokens: Callable[[], "PromptTokens"],
    features: Entry,
    activations: Entry,
    layer: int,
    check: Callable[[], None],
) -> Made:
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
            tokens(),
            directory,
            TableOptions(**options),
            activations.facts["write_norms"],
            prompts.facts["special_tokens"],
            check,
        )
        return {**facts, "settings": settings.model_dump()}

    inputs = (layer, prompts.digest, features.digest, activations.digest, settings.fingerprint())
    return make(project, "top_tokens", inputs, build, module=MODULE)


def _described(
    context: dg.AssetExecutionContext,
    project: Project,
    adapter: Adapter,
    layer: int,
    made: Made,
    prompts: Entry,
    activations: Entry,
) -> dg.MaterializeResult[Entry]:
    key = table_key(adapter, layer)

    def describe(entry: Entry) -> Metadata:
        counts = {name: entry.facts[name] for name in ("features", "dropped", "non_finite", "left_out")}
        statistics = read_parquet(entry.path / "statistics.parquet", columns=HISTOGRAM_COLUMNS)
        return {
            **file_metadata(entry.path / "shown.parquet", PREVIEW),
            **counts,
            "histograms": picture(layer_picture(statistics), "the features' histograms"),
            **dashboard_link(project, **({"adapter": adapter.name} if adapter.name else {}), layer=layer),
        }

    return described(
        context,
        "/".join(key.path),
        made,
        describe,
        asset_key=key,
        check=lambda entry: _checks(key, entry, prompts.facts["tokens"], activations.facts["experts_per_token"]),
        tokens=prompts.facts["tokens"],
    )


def _checks(
    key: dg.AssetKey, table: Entry, tokens: int, experts_per_token: int | None
) -> Iterator[dg.AssetCheckResult]:
    facts = table.facts
    yield dg.AssetCheckResult(
        asset_key=key,
        check_name=FINITE,
        passed=facts["non_finite"] == 0,
        metadata={"non_finite": facts["non_finite"]},
    )
    expected = {"counted": tokens} | ({} if experts_per_token is None else {"routed": tokens * experts_per_token})
    add_up = all(count == right for name, right in expected.items() for count in facts[name])
    yield dg.AssetCheckResult(
        asset_key=key,
        check_name=RIGHT,
        passed=add_up and facts["busiest"] <= tokens and facts["unsorted"] == facts["outside"] == 0,
        metadata={
            "tokens": tokens,
            "experts_per_token": experts_per_token or 0,
            **{name: facts[name] for name in ("counted", "routed", "busiest", "unsorted", "outside")},
        },
    )
