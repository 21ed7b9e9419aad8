"""Which modules a forward pass calls at all, found without memory for weights and without arithmetic.

Some models read a module's weight and never call the module (Mamba's `dt_proj`), or call it for images only: PEFT
adapts it, and on text nothing happens.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

NEVER_CALLED = "a forward pass on text never calls it, so the adapter has no effect there"
TOKENS = 4
SKIP_EXPERTS = "loradash_skip"


def called_modules(model: PreTrainedModel) -> set[str] | None:
    """Return the names of the modules of a model on the meta device that a forward pass calls.

    Experts are skipped: which of them run is the router's choice, which takes numbers. Where the pass cannot be traced
    (a model that decides by numbers elsewhere) nothing is known: None. Attention is left with the plain form of it,
    whose masks are made without a look at numbers; where they are looked at all the same, fake tensors, which pass for
    traced ones but take three times as long, may get through.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    called: set[str] = set()
    watches = [
        module.register_forward_pre_hook(lambda *_, name=name: called.add(name))
        for name, module in model.named_modules()
    ]
    ids = torch.zeros((1, TOKENS), dtype=torch.long, device="meta")
    tries = (
        (nullcontext(), {"attention_mask": torch.ones_like(ids)}),
        (FakeTensorMode(allow_non_fake_inputs=True), {}),
    )
    try:
        _skip_experts(model)
        model.set_attn_implementation("eager")
        for mode, masks in tries:
            called.clear()
            with suppress(Exception), mode, torch.inference_mode():
                model(input_ids=ids, use_cache=False, **masks)
                return called
    finally:
        for watch in watches:
            watch.remove()
    return None


def _skip_experts(model: PreTrainedModel) -> None:
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    def skipped(_: Any, states: torch.Tensor, *__: Any, **___: Any) -> torch.Tensor:
        return states.clone()

    ALL_EXPERTS_FUNCTIONS.register(SKIP_EXPERTS, skipped)
    model.set_experts_implementation(SKIP_EXPERTS)
