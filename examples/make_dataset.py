"""Make the demo's dataset: held-out gsm_symbolic problems with worked solutions, as JSON Lines.

    python examples/make_dataset.py

Every row has the three fields of `simplescaling/s1K-1.1` that the `deepseek` prompt format reads, and the
same problem as chat messages for the `chat` format. The worked steps are the thinking trajectory; the
last line of the solution, "#### 42", is the attempt. Nothing is added to what the generator wrote.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import reasoning_gym

HELD_OUT_SEED = 1_000_000
TRAINING_SEED = 0
HELD_OUT_ROWS = 240
DATASET = Path(__file__).parent / "gsm_symbolic" / "held_out.jsonl"


def rows(seed: int, count: int) -> list[dict[str, Any]]:
    """Return `count` problems; problem i depends on `seed + i` alone."""
    return [_row(problem) for problem in reasoning_gym.create_dataset("gsm_symbolic", seed=seed, size=count)]


def _row(problem: dict[str, Any]) -> dict[str, Any]:
    question, solution = problem["question"], problem["metadata"]["answer_cot"]
    steps, answer = solution.rsplit("\n", 1)
    return {
        "question": question,
        "deepseek_thinking_trajectory": steps,
        "deepseek_attempt": answer,
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": solution}],
    }


def main() -> None:
    """Write the committed dataset."""
    DATASET.parent.mkdir(exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows(HELD_OUT_SEED, HELD_OUT_ROWS)]
    DATASET.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} rows in {DATASET}")


if __name__ == "__main__":
    main()
