"""Handles overflow of float16: the module where it occurs is switched to float32, the rest stays in float16.

The largest float16 value is 65,504. The product inside an MLP can exceed it even if the output is small; one infinity there makes
the answer NaN. bfloat16 does not overflow, but a T4 does not have it.
"""
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from mcvqa.config import McvqaError

OWN_FLOAT32 = "_runs_in_float32"  # attribute of a module that computes in float32


class OverflowInModel(McvqaError, FloatingPointError):
    """Raised if a log-probability or an image feature is infinite or NaN."""


def layer_parts(language: nn.Module, layers: str = "layers") -> dict[str, nn.Module]:
    """List the modules of a language model that may overflow: its layers, each after its parts.

    Args:
        language: the language model.
        layers: path of the layers in it.
    """
    parts: dict[str, nn.Module] = {}
    for n, layer in language.get_submodule(layers).named_children():
        parts |= {f"{layers}.{n}.{name}": part for name, part in layer.named_children()} | {f"{layers}.{n}": layer}
    return parts


@torch.no_grad()
def mend_overflow(parts: dict[str, nn.Module], run: Callable[[], torch.Tensor]) -> list[str]:
    """Switch modules to float32 until the output is finite.

    Args:
        parts: modules that may be switched, in the order of computation.
        run: runs a forward pass and returns its output.

    Returns:
        Names of the switched modules.

    Raises:
        OverflowInModel: the output is not finite, but no module in half precision is left to switch.
    """
    moved: list[str] = []
    while True:
        origins: list[str] = []
        hooks = [part.register_forward_hook(_watch(name, origins), with_kwargs=True) for name, part in parts.items()]
        try:
            finite = bool(torch.isfinite(run()).all())
        finally:
            for hook in hooks:
                hook.remove()
        if finite:
            return moved
        if not origins or hasattr(parts[origins[0]], OWN_FLOAT32):
            raise OverflowInModel("values are not finite in float32 either (are the weights damaged?)")
        run_in_float32(parts[origins[0]])
        moved.append(origins[0])


def _watch(name: str, origins: list[str]) -> Callable:
    """Make a hook that records a module whose output is not finite although its input is; parts run before their layer."""

    def hook(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        inputs = [t for t in (*args, *kwargs.values()) if isinstance(t, torch.Tensor) and t.is_floating_point() and t.ndim < 4]
        result = output[0] if isinstance(output, tuple) else output
        if all(torch.isfinite(t).all() for t in inputs) and not torch.isfinite(result).all():
            origins.append(name)

    return hook


def run_in_float32(module: nn.Module) -> None:
    """Make a module compute in float32, even under autocast; its output is clamped and cast to the dtype of the input."""
    if hasattr(module, OWN_FLOAT32):
        return
    parts: list[Any] = list(module.modules())
    for part in parts:
        if hasattr(part, "compute_dtype"):  # 4-bit layer of bitsandbytes: the weights stay packed, products are float32
            part.compute_dtype = torch.float32
    cast_weights(module, torch.float32)
    plain = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        first_input = next(t for t in (*args, *kwargs.values()) if isinstance(t, torch.Tensor) and t.is_floating_point())
        with torch.autocast(first_input.device.type, enabled=False):
            result = plain(*_as(args, torch.float32), **{name: _as(value, torch.float32) for name, value in kwargs.items()})
        return _as(result, first_input.dtype)

    module.forward = forward
    setattr(module, OWN_FLOAT32, True)


def cast_weights(module: nn.Module, dtype: torch.dtype) -> None:
    """Cast the weights, but not buffers: rotary frequencies must stay in float32. Packed 4-bit weights are not changed."""
    for weight in module.parameters():
        if weight.is_floating_point():
            weight.data = weight.data.to(dtype)


def _as(value: Any, dtype: torch.dtype) -> Any:
    """Cast floating-point tensors, also inside tuples, clamped to the range of `dtype`."""
    if isinstance(value, tuple):
        return tuple(_as(item, dtype) for item in value)
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return value
    limit = torch.finfo(dtype).max
    return value.clamp(-limit, limit).to(dtype) if value.dtype == torch.float32 and dtype != torch.float32 else value.to(dtype)
