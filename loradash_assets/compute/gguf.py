"""GGUF checkpoints: read once, kept as safetensors that every later load maps straight into memory."""

from __future__ import annotations

from pathlib import Path

from loradash_assets.compute.errors import ModelError


def convert_gguf(gguf_file: Path, target: Path) -> None:
    """Write the dequantised model and tokenizer of `gguf_file` to the directory `target`.

    `save_pretrained` refuses a model that came from GGUF because transformers counts it as quantised
    although its weights are plain tensors by then. So the weights move into a fresh model of the same
    configuration, without the mark.

    Raises ModelError naming the file if it is damaged or of an architecture that transformers cannot read.
    """
    try:
        _convert(gguf_file, target)
    except Exception as error:  # the reader trusts the file: a damaged one fails anywhere in it
        raise ModelError(f"model.base_model: cannot read {gguf_file}: {error}") from error


def _convert(gguf_file: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(gguf_file.parent), "gguf_file": gguf_file.name}
    dequantised = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    config = dequantised.config.__class__.from_dict(
        {key: value for key, value in dequantised.config.to_dict().items() if key != "quantization_config"}
    )
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(dequantised.state_dict(), strict=True, assign=True)
    plain.tie_weights()
    plain.generation_config = dequantised.generation_config
    plain.save_pretrained(target)
    AutoTokenizer.from_pretrained(**source).save_pretrained(target)
