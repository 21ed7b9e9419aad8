"""States of tokens that run after a past, against each example in one piece by itself, in float64.

Routers, norms and ALiBi stay in float32 inside some models, so that not all digits are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    DeepseekV3Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    MixtralConfig,
    OPTConfig,
    PretrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    RwkvConfig,
)

from loradash_assets.compute import batching, prefix_tree
from loradash_assets.compute.batching import Plan, plan_recording
from loradash_assets.compute.pasts import NO_PAST, Body, Forward, Past, problem_with_pasts

VOCABULARY = 90
LONGEST = 48
COMMON: dict[str, Any] = {
    **{"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": LONGEST},
}
GATED: dict[str, Any] = {**COMMON, "intermediate_size": 24, "num_key_value_heads": 2}
LATENT: dict[str, Any] = {
    **{**GATED, "num_key_value_heads": 4, "moe_intermediate_size": 12, "n_routed_experts": 4, "n_group": 1},
    **{"topk_group": 1, "num_experts_per_tok": 2, "n_shared_experts": 1, "first_k_dense_replace": 1},
    **{"q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 4, "qk_rope_head_dim": 4, "v_head_dim": 6},
}
CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**GATED),
    "gpt2": GPT2Config(
        vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=4, n_positions=LONGEST, bos_token_id=1, eos_token_id=2
    ),
    "gemma 3": Gemma3TextConfig(
        **GATED, head_dim=4, sliding_window=8, layer_types=["sliding_attention", "full_attention"]
    ),
    "mistral": MistralConfig(**GATED, sliding_window=8),
    "opt": OPTConfig(**COMMON, ffn_dim=24, word_embed_proj_dim=16),
    "bloom": BloomConfig(vocab_size=VOCABULARY, hidden_size=16, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2),
    "mixtral": MixtralConfig(**GATED, num_local_experts=4, num_experts_per_tok=2),
    "deepseek": DeepseekV3Config(**LATENT),
}
OTHERS: dict[str, tuple[PretrainedConfig, str]] = {
    "mamba": (MambaConfig(**COMMON, state_size=4, time_step_rank=8), "LinearAttentionLayer"),
    "rwkv": (RwkvConfig(vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2), "keeps no keys and values"),
    # Counts positions from its padding token's id on, unless it is told positions.
    "roberta": (RobertaConfig(**COMMON, intermediate_size=24, is_decoder=True), "after a past its states differ"),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Several threads only wait for each other over so small matrices."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _model(config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, experts_implementation="eager").to(dtype).eval()
    with torch.no_grad():
        for weight in model.parameters():  # every token then matters to all after it
            if weight.ndim > 1:
                weight.normal_(std=0.3)
    return model.base_model


def _examples() -> list[np.ndarray]:
    """A start of all, two blocks, questions of some, examples that end early; the longest uses all positions."""
    rng = np.random.default_rng(0)

    def some(length: int) -> np.ndarray:
        return rng.integers(3, VOCABULARY, length)

    start, blocks = some(11), (some(9), some(4))
    rows = [np.concatenate([start, blocks[i % 2], some(length)]) for i, length in enumerate((3, 20, 1, 7, 28, 12))]
    rows += [np.concatenate([rows[1][:30], some(5)]), rows[4][:33], rows[0], start[:5], some(LONGEST), some(2)]
    assert max(len(row) for row in rows) == LONGEST
    return rows


def _states(
    model: PreTrainedModel, ids: list[np.ndarray], plan: Plan, *, masked: bool
) -> tuple[list[np.ndarray], list[Forward]]:
    """Run the plan, chunk by chunk with nothing in common, as whoever records does; states of every example."""
    body, states, forwards = Body.of(model, 0), [np.empty(0)] * len(ids), list[Forward]()
    for chunk in plan.chunks:
        pasts, computed = dict[int | None, Past]({None: NO_PAST}), dict[int, np.ndarray]()
        for run in plan.runs(chunk):
            segments = [plan.segments[number] for number in run]
            keep = [row for row, number in enumerate(run) if number in plan.parents]
            rows = [ids[segment.example][segment.start : segment.stop] for segment in segments]
            before = [pasts[segment.parent] for segment in segments]
            forwards.append(body.forward(rows, before, keep, masked=masked))
            result = model(**forwards[-1].arguments)[0]
            for row, number in enumerate(run):
                computed[number] = result[row][forwards[-1].mask[row]].numpy()
            pasts |= zip([run[row] for row in keep], forwards[-1].kept(), strict=True)
        numbers, places = plan.sources(chunk)
        stored = np.stack([computed[n][place] for n, place in zip(numbers.tolist(), places.tolist(), strict=True)])
        ends = np.cumsum([len(ids[example]) for example in chunk.examples])
        for example, part in zip(chunk.examples, np.split(stored, ends[:-1]), strict=True):
            states[example] = part
    return states, forwards


@torch.inference_mode()
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_shared_prefixes_give_the_states_of_each_example_alone(
    name: str, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_tree, "RUN", 2)
    monkeypatch.setattr(batching, "BATCH", 1000)  # few batches, of rows of all lengths
    model, ids = _model(CONFIGS[name], torch.float64), _examples()
    alone = [model(input_ids=torch.tensor(row[None]), use_cache=False)[0][0].numpy() for row in ids]
    for batch_tokens, chunk_tokens in ((200, 10_000), (100, 200)):
        plan = plan_recording(ids, batch_tokens, chunk_tokens)
        assert plan.tokens < 0.75 * sum(plan.lengths)
        assert max(len(plan.path(end)) for end in plan.ends) > 2
        for found, expected in zip(_states(model, ids, plan, masked=masked)[0], alone, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize("name", CONFIGS)
def test_the_probe_lets_these_models_share(name: str) -> None:
    assert _problem(_model(CONFIGS[name], torch.float32), lambda _: None) is None


@torch.inference_mode()
@pytest.mark.parametrize("name", OTHERS)
def test_the_probe_says_why_others_do_not(name: str) -> None:
    config, why = OTHERS[name]
    problem = _problem(_model(config, torch.float32), lambda _: None)
    assert problem is not None
    assert why in problem


def _no_positions(arguments: dict[str, Any]) -> None:
    arguments.pop("position_ids", None)


def _unmasked(arguments: dict[str, Any]) -> None:
    if "attention_mask" in arguments:
        arguments["attention_mask"] = torch.ones_like(arguments["attention_mask"])


def _deaf(arguments: dict[str, Any]) -> None:
    """Forget the past, but not the positions."""
    arguments.update(past_key_values=None, attention_mask=None, use_cache=False)


@torch.inference_mode()
@pytest.mark.parametrize("break_it", [_no_positions, _unmasked])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_the_probe_notices(name: str, break_it: Callable[[dict[str, Any]], None]) -> None:
    """A model that tells positions by its cache, or sees the padding of pasts, differs where pasts differ in length."""
    problem = _problem(_model(CONFIGS[name], torch.float32), break_it)
    assert problem is not None
    assert "states differ" in problem


@torch.inference_mode()
def test_the_probe_notices_a_past_without_effect() -> None:
    assert _problem(_model(CONFIGS["llama"], torch.float32), _deaf) is not None


def _problem(model: PreTrainedModel, change: Callable[[dict[str, Any]], None]) -> str | None:
    def run(forward: Forward) -> torch.Tensor:
        arguments = dict(forward.arguments)
        if "past_key_values" in arguments:
            change(arguments)
        return model(**arguments)[0]

    tokens, others = np.random.default_rng(1).integers(3, VOCABULARY, (2, 32))
    others[:16] = tokens[:16]
    return problem_with_pasts(run, Body.of(model, 0), tokens, others, 1e-4)


@torch.inference_mode()
def test_without_sharing_the_call_is_the_plain_one() -> None:
    """Models that keep no keys and values run so, and states are the same to the last bit."""
    model, ids = _model(CONFIGS["llama"], torch.float32), _examples()
    _, forwards = _states(model, ids, plan_recording(ids, 200, 10_000, share=False), masked=True)
    for forward in forwards:
        assert set(forward.arguments) == {"input_ids", "attention_mask", "use_cache", "return_dict"}
        assert forward.arguments["use_cache"] is False
        assert forward.kept() == []


@torch.inference_mode()
def test_no_more_states_are_kept_than_wanted() -> None:
    """Of a batch's rows those to keep, without padding; a batch that nothing comes after holds none at its end."""
    model = _model(CONFIGS["llama"], torch.float32)
    body = Body.of(model, 0)
    rows = [np.arange(3, 3 + length) for length in (5, 9, 7)]
    first = body.forward(rows, (), [2, 0])
    model(**first.arguments)
    past, other = first.kept()
    assert (past.length, other.length) == (7, 5)
    assert past.spans[0].states is other.spans[0].states
    assert [keys.shape for keys in past.spans[0].states.keys if keys is not None] == [(12, 2, 4)] * 2
    second = body.forward(rows, [past, NO_PAST, other])
    model(**second.arguments)
    assert [layer.keys for layer in second.arguments["past_key_values"].layers] == [None, None]
