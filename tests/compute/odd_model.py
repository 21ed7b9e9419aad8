"""A causal language model with what real ones seldom have: modules that an adapter has no plain A x on."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput


class OddConfig(PretrainedConfig):
    model_type = "odd"

    def __init__(self, vocab_size: int = 90, hidden_size: int = 16, num_hidden_layers: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.max_position_embeddings = 64


class OddLayer(nn.Module):
    """Looks back two tokens in each convolution, and at all of them in the attention."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(size, size, 3)
        self.grid = nn.Conv2d(1, 1, (3, 1))
        self.attention = nn.MultiheadAttention(size, 2, batch_first=True)
        self.up = nn.Linear(size, size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        back = nn.functional.pad(x, (0, 0, 2, 0))  # (batch, 2 + seq, size)
        x = x + self.conv(back.transpose(1, 2)).transpose(1, 2)
        x = x + self.grid(nn.functional.pad(x, (0, 0, 2, 0))[:, None])[:, 0]
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        x = x + self.attention(x, x, x, attn_mask=later, need_weights=False)[0]
        return x + self.up(x).tanh()


class OddModel(PreTrainedModel, GenerationMixin):
    config_class = OddConfig
    base_model_prefix = ""

    def __init__(self, config: OddConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(OddLayer(config.hidden_size) for _ in range(config.num_hidden_layers))
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_tokens

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def forward(self, input_ids: torch.Tensor, **_: Any) -> CausalLMOutput:
        x = self.embed_tokens(input_ids)
        for layer in self.layers:
            x = layer(x)
        return CausalLMOutput(logits=self.lm_head(x))


AutoConfig.register("odd", OddConfig)
AutoModelForCausalLM.register(OddConfig, OddModel)
