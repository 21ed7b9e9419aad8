"""Small real projects for tests: random weights, a tokenizer trained on the spot, real PEFT adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, PreTrainedTokenizerFast

from loradash_assets.project import Project
from loradash_assets.settings import load_settings

LINES = [
    "Anna has 3 apples and buys 4 more than Ben, who has 12 / 2 = 6.",
    "In total there are 5 + 10 + 37 = 52 students. 世界 🙂 naïve café",
    "A pyramid is made of 6 white tiles, 2 times as many green tiles.",
    "So 80% of 100 is 80, and 100 - 80 = 20 remain.\nThe answer is 20.",
]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of a few hundred tokens with a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(LINES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
    )


def save_base(directory: Path, config: PretrainedConfig | None = None, seed: int = 0) -> PretrainedConfig:
    """Save a random model of `config` (a Llama of three layers, if none is given) with a tokenizer."""
    tokenizer = tiny_tokenizer()
    config = config or LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
    )
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return config


def save_adapter(directory: Path, base: Path, seed: int = 1, strength: float = 0.3, **options: Any) -> None:
    """Save a LoRA with random A and B of standard deviation `strength`; rank 1 on every linear module by default."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base)
    defaults: dict[str, Any] = {"task_type": "CAUSAL_LM", "r": 1, "lora_alpha": 4, "target_modules": "all-linear"}
    lora = LoraConfig(**{**defaults, **options})
    adapted = get_peft_model(model, lora)
    assert isinstance(adapted, PeftModel)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if ".lora_A." in name or ".lora_B." in name or ".lora_embedding_" in name:
                weight.normal_(std=strength)
    adapted.save_pretrained(str(directory))


def deepseek_rows() -> list[dict[str, Any]]:
    """Return rows in the original's shape, one of them unusable (row 2), two with a long common prefix (0 and 3)."""
    rows: list[dict[str, Any]] = [
        {
            "question": line.split(".")[0],
            "deepseek_thinking_trajectory": line,
            "deepseek_attempt": f"#### {number}",
            "messages": [{"role": "user", "content": line}, {"role": "assistant", "content": f"It is {number}."}],
            "text": line,
        }
        for number, line in enumerate(LINES * 2)
    ]
    rows[2]["deepseek_attempt"] = None
    rows[3] = {**rows[0], "deepseek_attempt": "#### 3"}
    return rows


def save_project(directory: Path, **settings: dict[str, Any]) -> Path:
    """Make `directory` a project: base model, adapter, dataset and a loradash.yaml with `settings` over it."""
    directory.mkdir(parents=True, exist_ok=True)
    save_base(directory / "base")
    save_adapter(directory / "adapter", directory / "base")
    lines = [json.dumps(row, ensure_ascii=False) for row in deepseek_rows()]
    (directory / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    sections: dict[str, dict[str, Any]] = {
        "model": {"base_model": "./base"},
        "adapter": {"path": "./adapter"},
        "dataset": {"path": "rows.jsonl"},
        "recording": {"batch_tokens": 160, "chunk_tokens": 300},
    }
    for section, fields in settings.items():
        sections.setdefault(section, {}).update(fields)
    (directory / "loradash.yaml").write_text(json.dumps(sections), encoding="utf-8")
    return directory


def latest_entry(project: Path, asset: str) -> Path:
    """Return the directory of an asset's latest result in the project's store."""
    found = Project(load_settings(project))
    return found.store.root / json.loads(found.reference(asset).read_text())["entry"]
