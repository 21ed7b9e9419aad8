"""The published tables of a whole build against numpy in float64, from the recorded values read on their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.end_to_end.builds import PROJECTIONS, Built, build_tiny

SHARES = [1, 10, 50, 250, 500, 750, 950, 990, 999]  # thousandths


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    settings = {"exclude_special_tokens": True, "exclude_first_positions": 3, "intervals": 4, "random_samples": 5}
    return build_tiny(tmp_path_factory.mktemp("published"), **settings)


def _table(built: Built, name: str) -> list[dict[str, Any]]:
    return pq.read_table(built.project / "output" / "tables" / f"{name}.parquet").to_pylist()


def _omega_squared(values: np.ndarray, groups: np.ndarray) -> float:
    members = [values[groups == group] for group in np.unique(groups)]
    between = sum(part.size * (part.mean() - values.mean()) ** 2 for part in members)
    total = ((values - values.mean()) ** 2).sum()
    within = (total - between) / (values.size - len(members))
    return max(0.0, (between - (len(members) - 1) * within) / (total + within))


def _special(built: Built) -> set[int]:
    tokens = {
        token: number for example in built.examples for token, number in zip(example.tokens, example.ids, strict=True)
    }
    return {number for token, number in tokens.items() if token.startswith("<|")}


@pytest.mark.parametrize("filtered", [False, True])
def test_every_statistic_is_that_of_the_recorded_values(built: Built, filtered: bool) -> None:
    recorded, special = built.recorded(), _special(built)
    ids = np.concatenate([example.ids for example in built.examples])
    positions = np.concatenate([np.arange(len(example.ids)) for example in built.examples])
    kept = ~np.isin(ids, list(special)) & (positions >= 3) if filtered else np.ones(ids.size, bool)
    assert special
    assert 0 < kept.sum() < ids.size or not filtered
    rows = [row for row in _table(built, "statistics") if row["filtered"] == filtered]
    assert len(rows) == 3 * len(PROJECTIONS)
    for row in rows:
        a = np.concatenate(recorded[row["layer"], row["projection"]]).astype(np.float64)[kept]
        z = (a - a.mean()) / a.std()
        got = [row[name] for name in ("count", "min", "max", "mean", "std", "skewness", "kurtosis")]
        expected = [a.size, a.min(), a.max(), a.mean(), a.std(), (z**3).mean(), (z**4).mean() - 3]
        np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-9)
        assert row["quantiles"] == [np.sort(a)[-(-share * a.size // 1000) - 1] for share in SHARES]
        assert row["density"] == [float((np.abs(a) > m * a.std()).mean()) for m in (1, 2, 3, 5)]
        assert row["rms_effect"] == pytest.approx(row["effect_scale"] * np.sqrt((a**2).mean()), rel=1e-9)
        assert row["token_omega_squared"] == pytest.approx(_omega_squared(a, ids[kept]), abs=1e-7)
        assert row["position_omega_squared"] == pytest.approx(_omega_squared(a, positions[kept]), abs=1e-7)


def test_every_correlation_is_numpys(built: Built) -> None:
    recorded, rows = built.recorded(), _table(built, "coactivation")
    features = [np.concatenate(recorded[row["layer"], row["projection"]]) for row in rows]
    expected = np.asarray(np.corrcoef(np.array(features, np.float64)))
    for number, row in enumerate(rows):
        assert sorted(row["partners"]) == [other for other in range(len(rows)) if other != number]
        np.testing.assert_allclose(row["correlations"], expected[number, row["partners"]], atol=1e-5)
        assert np.all(np.diff(np.abs(row["correlations"])) <= 0)


def test_lists_hold_the_highest_that_are_not_left_out_each_context_once(built: Built) -> None:
    recorded, special = built.recorded(), _special(built)
    top = _table(built, "top_tokens")
    for layer, projection in recorded:
        contexts: dict[tuple[int, ...], list[float]] = {}
        for example, values in zip(built.examples, recorded[layer, projection], strict=True):
            for position, (number, value) in enumerate(zip(example.ids, values.tolist(), strict=True)):
                if number not in special and position >= 3:
                    contexts.setdefault(tuple(example.ids[: position + 1]), []).append(value)
        ranked = sorted(((values[0], len(values)) for values in contexts.values()), reverse=True)
        mine = [row for row in top if (row["layer"], row["projection"]) == (layer, projection)]
        positive = [(row["activation"], row["occurrences"]) for row in mine if row["polarity"] == "positive"]
        assert positive == [pair for pair in ranked if pair[0] > 0][: len(positive)]
        assert len(positive) == min(9, sum(value > 0 for value, _ in ranked))


def test_samples_lie_in_their_interval_and_count_it(built: Built) -> None:
    recorded, special = built.recorded(), _special(built)
    samples = _table(built, "samples")
    seen: set[int] = set()
    for layer, projection in recorded:
        listed: dict[tuple[int, ...], float] = {}
        for example, values in zip(built.examples, recorded[layer, projection], strict=True):
            for position, (number, value) in enumerate(zip(example.ids, values.tolist(), strict=True)):
                if number not in special and position >= 3:
                    listed.setdefault(tuple(example.ids[: position + 1]), value)
        reached = np.array(list(listed.values()))
        for row in (row for row in samples if (row["layer"], row["projection"]) == (layer, projection)):
            seen.add(row["interval"])
            assert row["low"] <= row["activation"] <= row["high"]
            assert row["activation"] in reached
            upper = reached <= row["high"] if row["interval"] in (-1, 3) else reached < row["high"]
            assert row["count"] == int(((reached >= row["low"]) & upper).sum())
    assert seen == {-1, 0, 1, 2, 3}
