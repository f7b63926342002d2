"""Values too large for float16: the module they arise in is found and goes on in float32, the rest stays as it is.

float16 ends at 65,504. The product inside an MLP can pass it where the sum behind it is small again; one infinity there
makes an answer that is no number. bfloat16 does not overflow, but a T4 has none.
"""
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from mcvqa.config import McvqaError

OWN_FLOAT32 = "_runs_in_float32"  # mark of a module that has been moved


class OverflowInModel(McvqaError, FloatingPointError):
    """Values that are no numbers, where an answer or a feature should be."""


def layer_parts(language: nn.Module, layers: str = "layers") -> dict[str, nn.Module]:
    """What may overflow in a language model: its layers, each behind its parts. Args: layers: their path in it."""
    parts: dict[str, nn.Module] = {}
    for n, layer in language.get_submodule(layers).named_children():
        parts |= {f"{layers}.{n}.{name}": part for name, part in layer.named_children()} | {f"{layers}.{n}": layer}
    return parts


@torch.no_grad()
def mend_overflow(parts: dict[str, nn.Module], run: Callable[[], torch.Tensor]) -> list[str]:
    """Move modules to float32 until what `run` returns is finite; returns their names.

    Args:
        parts: modules that may be moved, in the order in which they compute.
        run: a forward pass through them.

    Raises:
        OverflowInModel: it stays infinite though nothing in half precision is left to move.
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
            raise OverflowInModel("values that are no numbers stay so in float32 (are the weights damaged?)")
        run_in_float32(parts[origins[0]])
        moved.append(origins[0])


def _watch(name: str, origins: list[str]) -> Callable:
    """A hook that notes a module whose output is not finite though its input is; parts are seen before their layer."""

    def hook(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        given = [t for t in (*args, *kwargs.values()) if isinstance(t, torch.Tensor) and t.is_floating_point() and t.ndim < 4]
        made = output[0] if isinstance(output, tuple) else output
        if all(torch.isfinite(t).all() for t in given) and not torch.isfinite(made).all():
            origins.append(name)

    return hook


def run_in_float32(module: nn.Module) -> None:
    """From now on `module` computes in float32, autocast or not, and gives back its input's type, clamped to its range.
    One that does so already stays as it is."""
    if hasattr(module, OWN_FLOAT32):
        return
    parts: list[Any] = list(module.modules())
    for part in parts:
        if hasattr(part, "compute_dtype"):  # bitsandbytes' 4-bit layer: the weights stay, the products are float32
            part.compute_dtype = torch.float32
    cast_weights(module, torch.float32)
    plain = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        given = next(t for t in (*args, *kwargs.values()) if isinstance(t, torch.Tensor) and t.is_floating_point())
        with torch.autocast(given.device.type, enabled=False):
            made = plain(*_as(args, torch.float32), **{name: _as(value, torch.float32) for name, value in kwargs.items()})
        return _as(made, given.dtype)

    module.forward = forward
    setattr(module, OWN_FLOAT32, True)


def cast_weights(module: nn.Module, dtype: torch.dtype) -> None:
    """Weights only: the rotary frequencies are buffers in float32, and would not come back from half precision the same;
    weights packed into 4 bits stay as they are."""
    for weight in module.parameters():
        if weight.is_floating_point():
            weight.data = weight.data.to(dtype)


def _as(value: Any, dtype: torch.dtype) -> Any:
    """Floating-point tensors in `dtype`, also inside tuples; what would be infinite there becomes its largest number."""
    if isinstance(value, tuple):
        return tuple(_as(item, dtype) for item in value)
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return value
    limit = torch.finfo(dtype).max
    return value.clamp(-limit, limit).to(dtype) if value.dtype == torch.float32 and dtype != torch.float32 else value.to(dtype)
