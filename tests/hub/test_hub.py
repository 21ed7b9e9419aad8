"""The libraries that `loradash` downloads with really work against the tests' own hub, and reach no other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.hub.fixtures import HubServer

ROWS = [{"text": f"row {number}", "number": number} for number in range(5)]
MODEL = """
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained("org/tiny")
tokenizer = AutoTokenizer.from_pretrained("org/tiny")
answer = {"sum": model.lm_head.weight.double().sum().item(), "ids": tokenizer("one two").input_ids}
"""
ADAPTER = """
from huggingface_hub import snapshot_download
from peft import PeftModel
from transformers import AutoModelForCausalLM
folder = snapshot_download("org/adapter", allow_patterns=["*.json", "*.safetensors"])
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("org/tiny"), "org/adapter")
answer = {"folder": folder, "rank": model.peft_config["default"].r}
"""
DATASET = """
from loradash_assets.compute.rows import hub_rows
answer = {"rows": list(hub_rows("org/data", None, "train", "main"))}
"""


def _in_subprocess(script: str, hub_server: HubServer, home: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", f"{script}\nimport json; print(json.dumps(answer))"]
    done = subprocess.run(command, env=hub_server.environment(home), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def _tiny_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=8, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    return LlamaForCausalLM(config)


@pytest.fixture
def tiny(hub_server: HubServer) -> LlamaForCausalLM:
    """Put a model with a tokenizer on the hub."""
    model, folder = _tiny_model(), hub_server.folder / "models" / "org" / "tiny"
    model.save_pretrained(folder)
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "one": 1, "two": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(folder)
    return model


def test_a_model_and_its_tokenizer_load(hub_server: HubServer, tiny: LlamaForCausalLM, tmp_path: Path) -> None:
    answer = _in_subprocess(MODEL, hub_server, tmp_path / "home")
    assert answer == {"sum": tiny.lm_head.weight.double().sum().item(), "ids": [1, 2]}


@pytest.mark.usefixtures("tiny")
def test_an_adapter_loads(hub_server: HubServer, tmp_path: Path) -> None:
    adapter = hub_server.folder / "models" / "org" / "adapter"
    get_peft_model(_tiny_model(), LoraConfig(r=3, target_modules=["q_proj"])).save_pretrained(str(adapter))
    answer = _in_subprocess(ADAPTER, hub_server, tmp_path / "home")
    assert answer["rank"] == 3
    name = "adapter_model.safetensors"
    assert (Path(answer["folder"]) / name).read_bytes() == (adapter / name).read_bytes()


@pytest.mark.parametrize("name", ["train.jsonl", "data/train-00000-of-00001.parquet"])
def test_a_dataset_streams(hub_server: HubServer, tmp_path: Path, name: str) -> None:
    file = hub_server.folder / "datasets" / "org" / "data" / name
    _write_rows(file)
    assert _in_subprocess(DATASET, hub_server, tmp_path / "home") == {"rows": ROWS}


def _write_rows(file: Path) -> None:
    file.parent.mkdir(parents=True)
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), file)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")


def test_what_is_not_there_is_named(hub_server: HubServer, tmp_path: Path) -> None:
    for kind in ("model", "dataset"):
        script = f"from huggingface_hub import HfApi\nHfApi().repo_info('org/none', repo_type='{kind}')"
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, env=hub_server.environment(tmp_path), capture_output=True, text=True)
        assert "RepositoryNotFoundError" in done.stderr


def test_part_of_a_file_can_be_read(hub_server: HubServer) -> None:
    file = hub_server.folder / "models" / "org" / "tiny" / "file"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"0123456789")
    address = f"{hub_server.endpoint}/org/tiny/resolve/main/file"
    reply = httpx.get(address, headers={"Range": "bytes=2-4"}, trust_env=False)
    assert (reply.status_code, reply.content) == (206, b"234")
    assert httpx.head(address, trust_env=False).headers["content-length"] == "10"
    assert hub_server.requests == ["GET /org/tiny/resolve/main/file", "HEAD /org/tiny/resolve/main/file"]


def test_no_other_host_is_reached(hub_server: HubServer, tmp_path: Path) -> None:
    script = "import httpx; httpx.get('http://192.0.2.1/')"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=hub_server.environment(tmp_path), capture_output=True, text=True)
    assert "Connection refused" in done.stderr
