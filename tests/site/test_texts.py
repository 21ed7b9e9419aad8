"""Whole examples on the page: each that a list or a sample shows a token of, and no other."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from loradash_assets.site.outputs import dashboard_page
from loradash_assets.site.page import Text
from loradash_assets.site.texts import ROWS_AT_A_TIME, read_texts
from tests.site import samples
from tests.site.inputs import save_adapter_inputs, save_site_inputs


@pytest.mark.parametrize("group", [1, 7, 1000])
def test_the_examples_that_are_wanted_are_read_whole(tmp_path: Path, group: int) -> None:
    tokens = [[f"{example}.{position}" for position in range(example % 5)] for example in range(2 * ROWS_AT_A_TIME + 1)]
    save_site_inputs(tmp_path, [], tokens, group)
    wanted = [128, 3, 0, 64, 63, 999]
    assert read_texts(tmp_path / "prompts.parquet", wanted) == {
        example: Text(tuple(tokens[example]), tuple(1000 * example + place for place in range(example % 5)))
        for example in (0, 3, 63, 64, 128)
    }
    assert read_texts(tmp_path / "prompts.parquet", []) == {}


def test_the_page_has_the_text_of_each_example_that_it_shows(tmp_path: Path) -> None:
    """Of 40 examples the lists and samples of two adapters show some, and not the same ones."""
    tokens = [[f" {example}", "a", "\n"] for example in range(40)]
    names = ["up_proj"]
    adapters = [
        save_adapter_inputs(
            tmp_path / str(seed),
            [samples.layer_tables(layer, tokens, names, k=2, seed=seed) for layer in (0, 2)],
            None if seed == 0 else f"step-{seed}",
        )
        for seed in range(2)
    ]
    shown = [
        {
            row["example"]
            for directory in adapter.layers.values()
            for file in ("shown", "samples")
            for row in pq.read_table(directory / f"{file}.parquet").to_pylist()
        }
        for adapter in adapters
    ]
    assert shown[0] - shown[1]
    assert shown[1] - shown[0]
    page = dashboard_page(save_site_inputs(tmp_path, adapters, tokens))
    assert list(page.texts) == sorted(shown[0] | shown[1])
    assert all(list(text.tokens) == tokens[example] for example, text in page.texts.items())
    of_lists = {e.example for _, feature in page.features() for p in (feature.positive, feature.negative) for e in p}
    of_samples = {e.example for _, feature in page.features() for sample in feature.samples for e in sample.examples}
    assert of_samples - of_lists
    assert of_lists | of_samples == {*page.texts}
