"""Which modules a forward pass calls at all, found without memory for weights and without arithmetic.

Some models read a module's weight and never call the module (Mamba's `dt_proj`), or call it for images only: PEFT
adapts it, and on text nothing happens.
"""

from __future__ import annotations

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
    (a model that decides by numbers elsewhere) nothing is known: None.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    called: set[str] = set()
    watches = [
        module.register_forward_pre_hook(lambda *_, name=name: called.add(name))
        for name, module in model.named_modules()
    ]
    try:
        _skip_experts(model)
        with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
            model(input_ids=torch.zeros((1, TOKENS), dtype=torch.long, device="meta"), use_cache=False)
    except Exception:
        return None
    finally:
        for watch in watches:
            watch.remove()
    return called


def _skip_experts(model: PreTrainedModel) -> None:
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    def skipped(_: Any, states: torch.Tensor, *__: Any, **___: Any) -> torch.Tensor:
        return states.clone()

    ALL_EXPERTS_FUNCTIONS.register(SKIP_EXPERTS, skipped)
    model.set_experts_implementation(SKIP_EXPERTS)
