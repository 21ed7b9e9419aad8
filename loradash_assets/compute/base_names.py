"""Whether an adapter was trained on another base model than the one that is named: names compared as people read them.

The same model has many names: the owner differs, a quantised or instruction-tuned copy has a longer one, and a path
says something only where it names a model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from loradash_assets.compute.errors import AdapterError

HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
HUB_CACHE = re.compile(r"models--([^/]+?)--([^/]+)/snapshots/")
CHECKPOINT = re.compile(r"(checkpoint|ckpt|step|epoch|run|v)[-_]?\d+", re.IGNORECASE)
SIZE = re.compile(r"\d[bm](?![a-z0-9])", re.IGNORECASE)  # 7B, 135M
GGUF_LEVEL = re.compile(r"(?<![a-z0-9])i?q\d(_[01klmsx]+)*(?![a-z0-9])")  # Q4_1, q5_k_m, IQ2_XS
COPIES = re.compile(
    r"meta|instruct|it|chat|hf|gguf|ggml|unsloth|dynamic|ud|bnb|nf4|[48]bit|awq|gptq|hqq|torchao|quantized|quant"
    r"|int[48]|fp?(8|16|32)|bf16|w\d+(a\d+)?|g\d+"
)


@dataclass(frozen=True)
class NamedBase:
    """The base model that the user named, and its commit if that is known (else "")."""

    name: str
    revision: str

    def check(self, adapter: Path, recorded: str, revision: str | None) -> None:
        """Raise AdapterError if the adapter says that it was trained on another model, or revision of it."""
        if is_another_model(recorded, self.name):
            problem = f"was trained on '{recorded}', model.base_model is '{self.name}': name the right one there"
        elif self.revision and revision not in {None, "", "main", self.revision}:
            problem = (
                f"was trained on revision '{revision}' of '{recorded}', model.base_model is its commit "
                f"{self.revision}: download that revision and name its directory there"
            )
        else:
            return
        raise AdapterError(f"adapter.path: {adapter} {problem}, or set adapter.allow_other_base if they are the same")


def is_another_model(recorded: str, configured: str) -> bool:
    """Whether both say which model they are, and say different ones."""
    names = [_name(reference) for reference in (recorded, configured)]
    return all(names) and _core(names[0]) != _core(names[1])


def _name(reference: str) -> str:
    """Return the part that names a model, or nothing where none does: `models/base`, `/data/checkpoint-500`."""
    path = reference.replace("\\", "/").rstrip("/")
    if cached := HUB_CACHE.search(path):
        return cached[2]
    last = path.rpartition("/")[2]
    if CHECKPOINT.fullmatch(last) or not re.search(r"\d", last):
        return ""
    return last if HUB_NAME.fullmatch(path) or SIZE.search(last) else ""


def _core(name: str) -> list[str]:
    """Return the words that tell models apart."""
    words = re.findall(r"[a-z0-9]+", GGUF_LEVEL.sub("", name.lower()))
    return [word for word in words if not COPIES.fullmatch(word)]
