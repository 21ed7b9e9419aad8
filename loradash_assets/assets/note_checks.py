"""What is said of notes that have lost what they are about: a warning, since only a person can tell what to do."""

from collections.abc import Sequence

import dagster as dg

from loradash_assets.site.environment import token_text

FEATURES, EXAMPLES = "notes_have_their_features", "notes_have_their_examples"
CHECKS = {
    FEATURES: "Every note is on a feature that an adapter of the project has. The report lists the others, and why.",
    EXAMPLES: (
        "Of the examples that a note was written on, at least half are still among its feature's. Of notes that say "
        "which they were written on."
    ),
}
NAMED = 5


def note_check(name: str, asset: dg.AssetKey) -> dg.AssetCheckSpec:
    """Return the check of an asset, which stops nothing."""
    return dg.AssetCheckSpec(name, asset=asset, description=CHECKS[name])


def without_feature(asset: dg.AssetKey, keys: Sequence[str]) -> dg.AssetCheckResult:
    """Return what is to be said of notes whose keys name no feature."""
    notes = "1 note is on a feature" if len(keys) == 1 else f"{len(keys)} notes are on features"
    return _result(FEATURES, asset, f"{notes} that no adapter has", keys)


def without_examples(asset: dg.AssetKey, keys: Sequence[str]) -> dg.AssetCheckResult:
    """Return what is to be said of notes whose examples have changed."""
    notes = "1 note was" if len(keys) == 1 else f"{len(keys)} notes were"
    return _result(EXAMPLES, asset, f"{notes} written on other examples than are listed now", keys)


def _result(name: str, asset: dg.AssetKey, said: str, keys: Sequence[str]) -> dg.AssetCheckResult:
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=name,
        passed=not keys,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{said}: {', '.join(map(token_text, keys[:NAMED]))}{more}" if keys else None,
        metadata={"keys": [*keys]},
    )
