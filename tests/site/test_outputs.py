"""The dashboard's page is read from the tables one layer at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from loradash_assets.site.outputs import dashboard_page
from tests.site import samples
from tests.site.inputs import save_adapter_inputs, save_site_inputs


def test_layers_are_read_when_they_are_gone_through_and_can_be_again(tmp_path: Path) -> None:
    tokens = samples.texts(2)
    adapter = save_adapter_inputs(tmp_path, [samples.layer_tables(layer, tokens, ["up_proj"]) for layer in (0, 2)])
    page = dashboard_page(save_site_inputs(tmp_path, [adapter], tokens))
    (shown,) = page.adapters
    assert [layer.index for layer in shown.layers] == [0, 2]
    assert list(shown.layers) == list(shown.layers)
    (adapter.layers[2] / "shown.parquet").unlink()
    layers = iter(shown.layers)
    assert next(layers).index == 0
    with pytest.raises(FileNotFoundError):
        next(layers)
