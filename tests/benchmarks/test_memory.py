"""Memory grows by some bytes per token and no more: every stage on two sizes of a dataset."""

from __future__ import annotations

import pytest

from benchmarks.memory import Size, Stage, measure

STAGES = ("dataset", "rows", "prompts", "recording", "tables")
SMALL, LARGE = 200_000, 1_200_000  # far enough apart: two runs of the same differ by 10 MiB
BYTES_PER_TOKEN = 80  # some 50 are used, 36 of them pages of the mapped recording; a list of the texts takes 60 more


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Stage]]:
    sizes = (Size(tokens, layers=1) for tokens in (SMALL, LARGE))
    return {size.tokens: measure(size, tmp_path_factory.mktemp("store"), STAGES) for size in sizes}


@pytest.mark.parametrize("stage", STAGES[1:])
def test_more_tokens_take_hardly_more_memory(measured: dict[int, dict[str, Stage]], stage: str) -> None:
    small, large = (measured[tokens][stage] for tokens in (SMALL, LARGE))
    assert (large.peak - small.peak) / (LARGE - SMALL) < BYTES_PER_TOKEN


def test_the_files_hold_what_they_should(measured: dict[int, dict[str, Stage]]) -> None:
    for tokens, stages in measured.items():
        assert 0 <= stages["recording"].written / (tokens * (7 * 4 + 8)) - 1 < 0.05  # seven features, one number
        assert all(stages[stage].written > 0 for stage in STAGES)
