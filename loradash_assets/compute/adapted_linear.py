"""An adapted linear module, run so that A x is computed once for both uses: the recording and the module's output.

Three ways, by layer:

- folded: W + scaling * B A in place of a float32 W, where that is about as exact as PEFT's sum (`fold`); the module
  then costs what the base model's costs, once there are tokens enough to pay for it;
- fused: the base layer's output plus B times the recorded A x (`fuse`), everywhere else;
- PEFT's own forward, for whatever else PEFT adapts (embeddings, single parameters).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import Linear, ParamWrapper
from peft.utils.integrations import dequantize_module_weight

from loradash_assets.compute.features import ADAPTER_NAME

BLOCK = 256  # columns of a weight
# Of a folded layer's outputs, in units of PEFT's own error on the same inputs. The promise for a feature is 2.
MAX_FOLDED_ERROR = 1.1


def fold(layer: Any, x: torch.Tensor, tied: Collection[int], *, in_place: bool) -> bool:
    """Put the adapter into the layer's weight, if that is float32 and the outputs for `x` stay as exact.

    Unless `in_place` a copy replaces the weight in `layer`, and the tensor itself is left as it is. `tied` are the ids
    of tensors that others use too, which are left alone. Returns whether it was done.
    """
    linear = layer.get_base_layer()
    if type(layer) is not Linear or linear.weight.dtype != torch.float32 or id(linear.weight) in tied:
        return False
    before = dict(linear.named_parameters(recurse=False))
    if x.device.type == "mps" or (layer.lora_bias[ADAPTER_NAME] and "bias" not in before):  # mps has no float64
        return False
    tensors = {name: tensor.double() for name, tensor in layer.state_dict().items()}
    exact = torch.func.functional_call(layer, tensors, x.double())
    error = (layer(x) - exact).norm()
    copies = {name: parameter.detach().clone() for name, parameter in before.items()}
    if not in_place:
        for name, copy in copies.items():
            setattr(linear, name, torch.nn.Parameter(copy, requires_grad=False))
    layer.merge()
    if (layer(x) - exact).norm() <= MAX_FOLDED_ERROR * error:
        return True
    for name, parameter in before.items():
        if in_place:
            parameter.copy_(copies[name])
        else:
            setattr(linear, name, parameter)
    layer.merged_adapters.clear()
    return False


def can_be_fused(layer: Any) -> bool:
    """Whether `fuse` knows all that the layer does: a linear module, plain or DoRA."""
    linear = isinstance(layer, LoraLayer) and not isinstance(layer, ParamWrapper) and ADAPTER_NAME in layer.lora_A
    return linear and (ADAPTER_NAME not in layer.lora_variant or layer.use_dora[ADAPTER_NAME])


def fuse(layer: Any, activations: Callable[[], torch.Tensor]) -> None:
    """Have the layer compute its output from the base layer's and `activations`, A x of that input, (rank, rows)."""
    write = layer.lora_B[ADAPTER_NAME]
    B, scaling = write.weight.detach().float(), layer.scaling[ADAPTER_NAME]  # (out, rank)
    if layer.use_dora.get(ADAPTER_NAME):
        layer.forward = _Rescaled(layer.base_layer, activations, scaling * B, dora_scale(layer).to(B))
    else:
        bias = None if write.bias is None else scaling * write.bias.detach().float()
        layer.forward = _Summed(layer.base_layer, activations, B, scaling, bias)


class _Summed:
    """base(x) + scaling * B a, and a bias; B (out, rank), a (rank, rows). It is added into the base layer's output.

    In 16 bits a and B are sums of two numbers each, so that the product is exact to the output's rounding; B's columns
    are made 1 long and a as much longer, so that neither is too large for float16 where their product is not.
    """

    def __init__(
        self,
        base: torch.nn.Module,
        activations: Callable[[], torch.Tensor],
        B: torch.Tensor,
        scaling: float,
        bias: torch.Tensor | None,
    ) -> None:
        self._base = base
        self._activations = activations
        self._B = B
        self._scaling = scaling
        self._bias = bias
        self._halves: tuple[torch.Tensor, torch.Tensor] | None = None

    def __call__(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        output = self._base(x, *args, **kwargs)
        rows = output.reshape(-1, output.shape[-1])
        if output.dtype.itemsize > 2:
            a, write, scaling = self._activations().to(output.dtype), self._B.T.to(output.dtype), self._scaling
        else:
            (lengths, write), scaling = self._in_halves(output.dtype), 1.0
            high, low = _halves(self._activations() * lengths[:, None], output.dtype)
            a = torch.cat([high, low, high])
        sums = _add_product(rows, a.T, write, scaling).view(output.shape)
        return sums if self._bias is None else (sums + self._bias).to(output.dtype)

    def _in_halves(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Factors for a, (rank,), and what their product is multiplied by, (3 * rank, out)."""
        if self._halves is None:  # made with the first output: a quantised layer's weight does not tell its dtype
            lengths = self._B.norm(dim=0).clamp(min=torch.finfo(torch.float32).tiny)
            high, low = _halves((self._B / lengths).T, dtype)
            self._halves = lengths * self._scaling, torch.cat([high, high, low])
        return self._halves


def _halves(values: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Two tensors of a 16-bit `dtype` whose sum is as near to float32 values as twice its bits allow."""
    high = values.to(dtype)
    return high, (values - high.float()).to(dtype)


class _Rescaled:
    """DoRA: g ⊙ (W x + B a) and the base layer's bias, which is not rescaled; B (out, rank), g (out,)."""

    def __init__(self, base: Any, activations: Callable[[], torch.Tensor], B: torch.Tensor, g: torch.Tensor) -> None:
        self._base = base
        self._activations = activations
        self._write = (g[:, None] * B).T.contiguous()  # (rank, out)
        self._scale = g
        bias = getattr(base, "bias", None)
        self._kept = torch.zeros_like(g) if bias is None else bias.detach().to(g) * (1 - g)

    def __call__(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        output = self._base(x, *args, **kwargs)
        rows = torch.addcmul(self._kept, output.reshape(-1, output.shape[-1]).float(), self._scale)
        return _add_product(rows, self._activations().T, self._write).to(output.dtype).view(output.shape)


def _add_product(rows: torch.Tensor, a: torch.Tensor, write: torch.Tensor, scaling: float = 1.0) -> torch.Tensor:
    """Add scaling * a write to rows (n, out), in place; a (n, rank), write (rank, out)."""
    if len(write) == 1:  # as a product of matrices it takes libraries up to twice as long
        return rows.addcmul_(a, write, value=scaling)
    return rows.addmm_(a, write, alpha=scaling)


@torch.no_grad()
def dora_scale(layer: Any) -> torch.Tensor:
    """Return g = m / ‖W + scaling * B A‖, what DoRA multiplies a module's outputs by, (out,) float64 on the CPU."""
    W = dequantize_module_weight(layer.get_base_layer())  # (out, in), or (in, out)
    if ADAPTER_NAME in layer.lora_embedding_A:
        W, A, B = W.T, layer.lora_embedding_A[ADAPTER_NAME], layer.lora_embedding_B[ADAPTER_NAME]
    else:
        W = W.T if layer.fan_in_fan_out else W
        A, B = layer.lora_A[ADAPTER_NAME].weight, layer.lora_B[ADAPTER_NAME].weight
    scaling, A, B = layer.scaling[ADAPTER_NAME], A.cpu().double(), B.cpu().double()  # not every device has float64
    squares = torch.zeros(len(B), dtype=torch.float64)
    for w, a in zip(W.split(BLOCK, dim=1), A.split(BLOCK, dim=1), strict=True):  # W in float64 can be too large
        squares += (w.cpu().double() + scaling * B @ a).square().sum(dim=1)
    return layer.lora_magnitude_vector[ADAPTER_NAME].weight.cpu().double().flatten() / squares.sqrt()


def dora_write_norms(layer: Any) -> list[float]:
    """Return ‖g ⊙ B[:, component]‖ of every component of a DoRA module."""
    embedded = ADAPTER_NAME in layer.lora_embedding_A
    B = layer.lora_embedding_B[ADAPTER_NAME] if embedded else layer.lora_B[ADAPTER_NAME].weight
    return (dora_scale(layer)[:, None] * B.cpu().double()).norm(dim=0).tolist()
