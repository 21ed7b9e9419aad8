"""Train the demo's adapter and measure it on held-out problems.

    python examples/train_adapter.py BASE_MODEL_DIRECTORY

A rank-1 LoRA on every linear projection of every layer, trained on worked gsm_symbolic solutions: every other
problem in the `deepseek` prompt format, the rest in the chat template's. Takes about half an hour on two cores.
Writes the adapter, its training log and the evaluation beside the dataset in `examples/gsm_symbolic/`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from make_dataset import DATASET, TRAINING_SEED, rows
from peft import LoraConfig, PeftModel, get_peft_model
from tqdm import tqdm
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)

from loradash_assets.compute.prompts import prompt_builder
from loradash_assets.schema import PromptFormat

ADAPTER = DATASET.parent / "adapter"
BASE_MODEL_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
FORMATS: tuple[PromptFormat, ...] = ("deepseek", "chat")
SOLUTION_START = {"deepseek": "<|im_start|>think\n", "chat": "<|im_start|>assistant\n"}
PROBLEMS = 1600


def encode(row: dict[str, Any], prompt_format: PromptFormat, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Return token ids, training labels (-100 before the solution) and which tokens are the solution's own text.

    The solution's own text leaves out what the format adds inside it (`<|im_start|>answer`, `<|im_end|>`): those
    tokens are trained on, but counting them would flatter the evaluation.
    """
    text = prompt_builder(prompt_format, tokenizer=tokenizer).render(row)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    start = text.index(SOLUTION_START[prompt_format]) + len(SOLUTION_START[prompt_format])
    parts = [row["deepseek_thinking_trajectory"], row["deepseek_attempt"]]
    spans = [(at := text.index(part, start), at + len(part)) for part in parts]
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    return {
        "input_ids": ids,
        "labels": [token if begin >= start else -100 for token, (begin, _) in zip(ids, offsets, strict=True)],
        "solution": [any(first <= begin < last for first, last in spans) for begin, _ in offsets],
    }


def train(base: Path, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    """Train and save the adapter; return the training log, one entry per ten steps."""
    held_out = {json.loads(line)["question"] for line in DATASET.read_text(encoding="utf-8").splitlines()}
    problems = [row for row in rows(TRAINING_SEED, PROBLEMS) if row["question"] not in held_out]
    examples = [encode(row, FORMATS[index % 2], tokenizer) for index, row in enumerate(problems)]
    for example in examples:
        del example["solution"]

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=1, lora_alpha=16, target_modules="all-linear"))
    model.print_trainable_parameters()
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(DATASET.parent / "checkpoints"),
            num_train_epochs=1,
            per_device_train_batch_size=8,
            learning_rate=4e-4,
            lr_scheduler_type="cosine",
            warmup_steps=10,
            logging_steps=10,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            seed=0,
        ),
        train_dataset=examples,  # pyright: ignore[reportArgumentType]
        data_collator=DataCollatorForSeq2Seq(tokenizer),
    )
    trainer.train()
    model.peft_config["default"].base_model_name_or_path = BASE_MODEL_NAME
    model.save_pretrained(str(ADAPTER))
    return trainer.state.log_history


@torch.no_grad()
def solution_losses(model: PeftModel, examples: list[dict[str, Any]]) -> np.ndarray:
    """Return the summed loss on solution tokens per problem, (problems, 2): base model, adapted model."""
    losses: list[list[float]] = []
    for example in tqdm(examples, unit="problem"):
        ids = torch.tensor([example["input_ids"]])  # (1, seq)
        solution = torch.tensor(example["solution"])[1:]  # (seq - 1,)
        adapted = _token_losses(model, ids)[solution].sum().item()
        with model.disable_adapter():
            base = _token_losses(model, ids)[solution].sum().item()
        losses.append([base, adapted])
    return np.array(losses)


def _token_losses(model: PeftModel, ids: torch.Tensor) -> torch.Tensor:
    logits = model(input_ids=ids).logits[0, :-1]
    return torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")  # (seq - 1,)


def evaluate(base: Path, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Return held-out losses per solution token in both formats, with paired bootstrap intervals over problems."""
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), ADAPTER).eval()
    held_out = [json.loads(line) for line in DATASET.read_text(encoding="utf-8").splitlines()]
    report: dict[str, Any] = {}
    for prompt_format in FORMATS:
        examples = [encode(row, prompt_format, tokenizer) for row in held_out]
        counts = np.array([sum(example["solution"][1:]) for example in examples])  # (problems,)
        losses = solution_losses(model, examples)  # (problems, 2)
        draws = np.random.default_rng(0).integers(0, len(counts), size=(10_000, len(counts)))
        resampled = losses[draws].sum(axis=1) / counts[draws].sum(axis=1)[:, None]  # (draws, 2)
        base_loss, adapted_loss = (losses.sum(axis=0) / counts.sum()).tolist()
        reductions = 1 - resampled[:, 1] / resampled[:, 0]
        report[prompt_format] = {
            "problems": len(counts),
            "solution_tokens": int(counts.sum()),
            "base_loss": base_loss,
            "adapted_loss": adapted_loss,
            "reduction": 1 - adapted_loss / base_loss,
            "reduction_95_interval": np.quantile(reductions, [0.025, 0.975]).tolist(),
            "difference_95_interval": np.quantile(resampled[:, 0] - resampled[:, 1], [0.025, 0.975]).tolist(),
            "problems_improved": int((losses[:, 1] < losses[:, 0]).sum()),
        }
    return report


def main() -> None:
    """Train, evaluate, and write both records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base_model", type=Path, help="directory of SmolLM2-135M-Instruct, as loradash converts it")
    parser.add_argument("--evaluate-only", action="store_true", help="measure the committed adapter again")
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(arguments.base_model)
    if not arguments.evaluate_only:
        log = train(arguments.base_model, tokenizer)
        (ADAPTER / "training_log.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    report = evaluate(arguments.base_model, tokenizer)
    (ADAPTER / "evaluation.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
