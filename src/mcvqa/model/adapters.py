"""LoRA layers that run as one step of autograd: the same numbers as PEFT's, fewer kernels and less memory.

PEFT casts, multiplies, scales and adds one after the other and keeps what each step needs for the backward pass; here the
frozen weight's product and the adapter's are added in place, 4-bit weights are unpacked once per pass, and only the input
and its low-rank image are kept.

Shapes: N tokens, I inputs, O outputs, R rank.
"""
import functools
from typing import Any

import torch
from torch import nn


def fuse_adapters(model: nn.Module) -> int:
    """Let every LoRA layer of `model` (a PeftModel with one adapter) run fused; returns how many there are."""
    every: list[Any] = list(model.modules())
    layers = [m for m in every if hasattr(m, "lora_A") and hasattr(m, "base_layer") and not m.lora_variant]
    for layer in layers:
        layer.forward = functools.partial(_adapted, layer, next(iter(layer.lora_A)))
    return len(layers)


def _adapted(layer: Any, adapter: str, x: torch.Tensor) -> torch.Tensor:
    """(..., I) -> (..., O), in the precision of the frozen weight."""
    base = layer.base_layer
    dtype = getattr(base, "compute_dtype", None) or (base.weight.dtype if base.weight.is_floating_point() else x.dtype)
    rate = layer.lora_dropout[adapter].p if layer.training and hasattr(layer.lora_dropout[adapter], "p") else 0.0
    flat = x.reshape(-1, x.shape[-1]).to(dtype)  # (N, I)
    with torch.autocast(x.device.type, enabled=False):
        y = _AdaptedLinear.apply(
            flat, layer.lora_A[adapter].weight, layer.lora_B[adapter].weight, base, layer.scaling[adapter], rate
        )
    return y.view(*x.shape[:-1], -1)


def _frozen_weight(base: Any, dtype: torch.dtype) -> torch.Tensor:
    """(O, I) weight of a frozen layer, unpacked where it is stored in 4 bits."""
    state = getattr(base.weight, "quant_state", None)
    if state is None:
        return base.weight
    from bitsandbytes.functional import dequantize_4bit

    if getattr(state, "packing_format_for_cpu", False):  # some CPUs get another packing when nothing is trained
        base.state_dict()  # undoes it
    return dequantize_4bit(base.weight, base.weight.quant_state).to(dtype)


class _AdaptedLinear(torch.autograd.Function):
    """y = x W' + b + scale * drop(x) A' B', with gradients for x, A and B."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, down: torch.Tensor, up: torch.Tensor, base: Any, scale: float, rate: float
    ) -> torch.Tensor:
        """Args: x (N, I); down (R, I), up (O, R) of the adapter; rate: of dropout in front of the adapter."""
        dropped, mask = torch.native_dropout(x, rate, True) if rate else (x, None)
        low = dropped @ down.to(x.dtype).T  # (N, R)
        weight = _frozen_weight(base, x.dtype)
        y = x @ weight.T if base.bias is None else torch.addmm(base.bias.to(x.dtype), x, weight.T)
        y.addmm_(low, up.to(x.dtype).T, alpha=scale)
        ctx.save_for_backward(x, low, down, up, mask)
        ctx.base, ctx.scale, ctx.rate = base, scale, rate
        return y

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Args: gradient (N, O)."""
        x, low, down, up, mask = ctx.saved_tensors
        through = (gradient @ up.to(x.dtype)).mul_(ctx.scale)  # (N, R)
        dropped = x if mask is None else x * mask / (1 - ctx.rate)
        of_down, of_up = through.T @ dropped, (gradient.T @ low).mul_(ctx.scale)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = gradient @ _frozen_weight(ctx.base, x.dtype)
            if mask is None:
                of_x.addmm_(through, down.to(x.dtype))
            else:
                of_x += (through @ down.to(x.dtype)) * mask / (1 - ctx.rate)
        return of_x, of_down.to(down.dtype), of_up.to(up.dtype), None, None, None
