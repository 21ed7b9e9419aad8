"""The catalogue on disk: what is written is what is read again, module by module."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from loradash_assets.compute.catalogue import read_modules, write_catalogue
from loradash_assets.compute.features import read_catalogue
from loradash_assets.compute.model import load_config
from loradash_assets.schema import FEATURES
from tests.projects import save_adapter, save_base


def test_a_catalogue_comes_back_as_it_was(tmp_path: Path) -> None:
    base, adapter, target = (tmp_path / name for name in ("base", "adapter", "target"))
    save_base(base)
    save_adapter(adapter, base, r=2, rank_pattern={"q_proj": 3}, use_rslora=True)
    (base / "model.safetensors").unlink()  # shapes are enough
    target.mkdir()
    facts = write_catalogue(adapter, base, target, allow_pickle=False, trust_remote_code=False, rank=None)
    assert facts["base_model_name"] == str(base)
    assert facts["unrecorded"] == {}
    assert facts["features_per_projection"]["q_proj"] == 9
    assert facts["adapter_files"] == {
        name: hashlib.sha256((adapter / name).read_bytes()).hexdigest()
        for name in ("adapter_config.json", "adapter_model.safetensors")
    }
    config = load_config(base, trust_remote_code=False)
    original = read_catalogue(adapter, config, allow_pickle=False, trust_remote_code=False)
    table = pq.read_table(target / "features.parquet")
    assert table.schema == FEATURES
    assert table.equals(original.table())
    modules = read_modules(target)
    for read, written in zip(modules, original.modules, strict=True):
        for field in ("name", "layer", "projection", "scaling", "variant"):
            assert getattr(read, field) == getattr(written, field)
        np.testing.assert_array_equal(read.A, written.A)
        np.testing.assert_array_equal(read.B, written.B)
