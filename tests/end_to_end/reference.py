"""What a build should say, computed by brute force: no code of the project, only transformers, PEFT, numpy and sorting.

One example at a time, plain hooks on the inputs of the adapted modules, A x in float64, Python's sort.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

Feature = tuple[int, str]  # layer, projection; the adapters here have rank 1
Values = dict[Feature, list[np.ndarray]]  # per example, (seq,)


@dataclass(frozen=True)
class Example:
    """One usable row: its number, text, token ids (seq,) and each token's text (seq,)."""

    row: int
    text: str
    ids: list[int]
    tokens: list[str]


def read_examples(dataset: Path, model: Path, count: int) -> list[Example]:
    """Render and tokenise the first rows in the original's format; rows without its last two fields are left out."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    examples: list[Example] = []
    for number, line in enumerate(dataset.read_text(encoding="utf-8").splitlines()[:count]):
        row = json.loads(line)
        if not row.get("deepseek_thinking_trajectory") or not row.get("deepseek_attempt"):
            continue
        text = (
            "<|im_start|>system\nYou are a helpful mathematics assistant.\n<|im_start|>user\n"
            + row["question"]
            + "\n<|im_start|>assistant\n<|im_start|>think\n"
            + row["deepseek_thinking_trajectory"]
            + "\n<|im_start|>answer\n"
            + row["deepseek_attempt"]
            + "<|im_end|>"
        )
        encoded: Any = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        strings = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
        tokens = _token_texts(text, encoded["offset_mapping"], strings)
        examples.append(Example(number, text, encoded["input_ids"], tokens))
    return examples


def _token_texts(text: str, offsets: list[tuple[int, int]], strings: list[str]) -> list[str]:
    """Return each byte-level token's text: a character that is cut stands once, its later bytes as marks."""
    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    texts: list[str] = []
    shown = 0
    for (start, end), string in zip(offsets, strings, strict=True):
        marks = ""
        if start < shown:  # begins inside a character that is shown already
            rest = [byte_of[character] for character in string]
            while rest and 0x80 <= rest[0] < 0xC0:
                marks += f"‹{rest.pop(0):02X}›"
        texts.append(marks + text[max(start, shown) : end])
        shown = max(shown, end)
    return texts


def forward_activations(model: Path, adapter: Path, examples: list[Example], dtype: torch.dtype) -> Values:
    """Return every feature's activations in the adapted model of `dtype`, A x itself always in float64."""
    base = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
    adapted = PeftModel.from_pretrained(base, str(adapter), autocast_adapter_dtype=False).to(dtype).eval()
    inputs: dict[str, torch.Tensor] = {}
    directions: dict[str, torch.Tensor] = {}
    for name, hooked in adapted.get_base_model().named_modules():
        if isinstance(hooked, LoraLayer):
            weight: Any = hooked.lora_A["default"].weight
            directions[name] = weight.detach().double()  # (1, in)
            module: Any = hooked
            module.register_forward_pre_hook(lambda _, args, name=name: inputs.__setitem__(name, args[0].detach()))
    values: Values = {_feature(name): [] for name in directions}
    for example in examples:
        with torch.no_grad():
            adapted(input_ids=torch.tensor([example.ids]))
        for name, direction in directions.items():
            values[_feature(name)].append((inputs[name][0].double() @ direction[0]).numpy())
    return values


def recorded_activations(entry: Path, examples: list[Example], features: dict[int, list[str]]) -> Values:
    """Return what the build recorded, read from its chunk files; `features` names each layer's projections in order."""
    ends = np.cumsum([len(example.ids) for example in examples])
    flat: dict[Feature, np.ndarray] = {}
    for file in entry.glob("chunk-*.safetensors"):
        with safe_open(file, framework="np") as chunk:
            for layer, projections in features.items():
                rows = chunk.get_tensor(f"layer.{layer}")  # (features, tokens)
                for row, projection in zip(rows, projections, strict=True):
                    place = flat.setdefault((layer, projection), np.full(ends[-1], np.nan, np.float32))
                    place[chunk.get_tensor("tokens")] = row
    return {feature: np.split(values, ends[:-1]) for feature, values in flat.items()}


def top_tokens(
    examples: list[Example], values: list[np.ndarray], k: int, window: int, sign: int
) -> list[dict[str, Any]]:
    """Return the feature's k highest (sign 1) or lowest (sign -1) tokens in the original's schema."""
    ranked = sorted(
        (-sign * float(value), example.row, position, index)
        for index, example in enumerate(examples)
        for position, value in enumerate(values[index])
        if sign * value > 0
    )
    lists: list[dict[str, Any]] = []
    for negated, row, position, index in ranked[:k]:
        start, stop = max(0, position - window), position + window + 1
        lists.append(
            {
                "activation": -sign * negated,
                "rollout_idx": row,
                "token_idx": position,
                "token": examples[index].tokens[position],
                "context": examples[index].tokens[start:stop],
                "target_position": position - start,
                "context_activations": [float(value) for value in values[index][start:stop]],
            }
        )
    return lists


def _feature(name: str) -> Feature:
    parts = name.split(".")
    return int(next(part for part in parts if part.isdigit())), parts[-1]
