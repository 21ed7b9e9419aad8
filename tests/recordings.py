"""What tests of the recording share: everything that it needs on disk, and its values as one matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from loradash_assets.compute.catalogue import write_catalogue
from loradash_assets.compute.encode import encode_prompts
from loradash_assets.compute.forward import AdaptedModel
from loradash_assets.compute.job import Recording
from loradash_assets.compute.rows import write_rows
from tests.projects import deepseek_rows


def recording_of(directory: Path, base: Path, adapter: Path) -> Recording:
    """Write prompts and catalogue into `directory` and return the recording of the adapter on them."""
    rows = directory / "rows.parquet"
    write_rows([row for row in deepseek_rows() if row["deepseek_attempt"]], 100, rows)
    columns: dict[str, Any] = {"text_column": "text", "messages_column": "messages", "template": None}
    encode_prompts(rows, base, directory, prompt_format="deepseek", max_tokens=None, trust_remote_code=False, **columns)
    write_catalogue(adapter, base, directory, allow_pickle=False, trust_remote_code=False, rank=None)
    return Recording(
        prompts=directory / "prompts.parquet",
        catalogue=directory,
        model=base,
        adapter=adapter,
        dtype="auto",
        device="cpu",
        device_map=None,
        trust_remote_code=False,
        batch_tokens=400,
        chunk_tokens=300,
        share_prefixes=True,
    )


def dense(model: AdaptedModel, token_ids: Sequence[np.ndarray], *, masked: bool = True) -> torch.Tensor:
    """Return A x of the features that see every token, (features, tokens)."""
    return torch.from_numpy(model.record(token_ids, masked=masked).result().dense)
