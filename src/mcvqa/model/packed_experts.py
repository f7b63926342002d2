"""Stores experts in 4 bits. bitsandbytes itself quantizes linear layers only, and experts are stacked into tensors of a layer.

They are quantized while they are loaded, one stack after the other, so that the 16-bit weights are never all in memory; each
expert's matrix becomes what bitsandbytes makes of it alone. The forward and the backward pass dequantize only the experts that
tokens are sent to, a few at a time.

Shapes: T tokens, k experts per token, E experts, H hidden size.
"""
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from peft.tuners.lora.layer import ParamWrapper
from torch import nn
from torch.nn import functional as F
from transformers import BitsAndBytesConfig
from transformers.integrations.bitsandbytes import Bnb4bitQuantize
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer

from mcvqa.model.experts import BLOCK, STACKS, Factors, factors_of, is_packed, named_stacks, stacked_experts
from mcvqa.model.published import in_full

WITH_EXPERTS = "bitsandbytes_with_experts"  # name in the library's registries of quantizers and of experts' functions
AT_ONCE = 16  # experts dequantized together: 100 MiB of 16-bit weights in Qwen3-VL-30B-A3B


# %% loading
@register_quantization_config(WITH_EXPERTS)
class WithExperts(BitsAndBytesConfig):
    """Extends the settings of bitsandbytes to experts."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.quant_method: Any = WITH_EXPERTS


@register_quantizer(WITH_EXPERTS)
class WithExpertsQuantizer(Bnb4BitHfQuantizer):
    """Quantizes linear layers as the library does, and stacked experts."""

    def param_needs_quantization(self, model: Any, param_name: str, **others: Any) -> bool:
        return super().param_needs_quantization(model, param_name, **others) or _is_stack(model, param_name)

    def get_quantize_ops(self) -> Bnb4bitQuantize:
        return PackStacks(self)

    def _process_model_after_weight_loading(self, model: Any, **others: Any) -> Any:
        model = super()._process_model_after_weight_loading(model, **others)
        model.config._experts_implementation = WITH_EXPERTS  # the public setter of 5.5 refuses registered names
        return model


class PackStacks(Bnb4bitQuantize):
    """Quantizes what the library has just read: stacks of experts here, linear layers as the library does."""

    def convert(  # type: ignore[override]  # as in the class above, whose own base names other arguments
        self, input_dict: dict[str, Any], full_layer_name: str | None = None, model: Any = None, **others: Any
    ) -> dict[str, Any]:
        stacks = {name: value for name, value in input_dict.items() if _is_stack(model, name)}
        rest = {name: value for name, value in input_dict.items() if name not in stacks}
        packed = {name: packed_stack(value[0] if isinstance(value, list) else value) for name, value in stacks.items()}
        return packed | (super().convert(rest, full_layer_name, model, **others) if rest else {})


def _is_stack(model: Any, name: str) -> bool:
    path, _, stack = name.rpartition(".")
    return stack in STACKS and bool(stacked_experts(model.get_submodule(path)))


def packed_stack(weights: torch.Tensor) -> nn.Parameter:
    """Quantize a stack (E, rows, columns) to NF4, on its device. Each block belongs to one expert."""
    from bitsandbytes.nn import Params4bit

    stack: Any = Params4bit(weights, requires_grad=False, blocksize=BLOCK, compress_statistics=False, quant_type="nf4")
    return stack.to(weights.device)  # which quantizes


# %% computing
def dequantized(stack: Any, experts: torch.Tensor) -> torch.Tensor:
    """Return the matrices (n, rows, columns) of some experts.

    Args:
        stack: from packed_stack.
        experts: (n,) their numbers.
    """
    from bitsandbytes.functional import QuantState

    state, (count, rows, columns) = stack.quant_state, stack.quant_state.shape
    scales, packed = (values.view(count, -1)[experts].flatten() for values in (state.absmax, stack.data))
    shape = torch.Size((len(experts) * rows, columns))
    chosen = QuantState(scales, shape, state.code, BLOCK, state.quant_type, state.dtype)
    return in_full(packed[:, None], chosen).view(-1, rows, columns)


class ExpertsProduct(torch.autograd.Function):
    """Multiplies tokens by the frozen matrices of their experts, which are dequantized again in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, inputs: torch.Tensor, stack: nn.Parameter, experts: torch.Tensor, counts: Sequence[int]
    ) -> torch.Tensor:
        """Compute (S, rows).

        Args:
            inputs: (S, columns) in the order of the experts.
            stack: from packed_stack.
            experts: (n,) their numbers.
            counts: inputs of each.
        """
        ctx.stack, ctx.experts, ctx.counts = stack, experts, counts
        matrices = dequantized(stack, experts).to(inputs.dtype)
        return torch.cat([F.linear(part, matrix) for part, matrix in zip(inputs.split(counts), matrices, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        matrices = dequantized(ctx.stack, ctx.experts).to(gradient.dtype)
        parts = zip(gradient.split(ctx.counts), matrices, strict=True)
        return torch.cat([part @ matrix for part, matrix in parts]), None, None, None


def low_rank(inputs: torch.Tensor, factors: Factors, experts: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
    """Multiply tokens by the adapters of their experts; arguments and result as in ExpertsProduct.

    Two products for all n experts: each token is multiplied by the A of all, of which those of others become zero. That is less
    work than launching two small products for each expert.
    """
    down, up = (factor[experts].to(inputs.dtype) for factor in factors[:2])
    owners = torch.arange(len(experts), device=inputs.device).repeat_interleave(
        torch.tensor(counts, device=inputs.device), output_size=len(inputs))
    inner = F.linear(inputs, down.flatten(0, 1)).unflatten(1, down.shape[:2])  # (S, n, r)
    own = inner * F.one_hot(owners, len(experts))[..., None].to(inner.dtype)
    return factors[2] * F.linear(own.flatten(1), up.transpose(0, 1).flatten(1))


def packed_experts_forward(
    module: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor,
    adapters: Mapping[str, Factors] | None = None,
) -> torch.Tensor:
    """Compute the weighted outputs (T, H) of each token's experts, as the library's own functions do.

    Args:
        module: the experts of a layer.
        hidden_states: (T, H).
        top_k_index, top_k_weights: (T, k) numbers and weights of each token's experts.
        adapters: of the stacks that have them, by name; None: there are none.
    """
    adapters = adapters or {}

    def product(name: str, inputs: torch.Tensor, some: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        result = ExpertsProduct.apply(inputs, getattr(module, name), some, counts)
        return result + low_rank(inputs, adapters[name], some, counts) if name in adapters else result

    chosen = top_k_index.flatten()  # pairs of token and expert
    order = chosen.argsort(stable=True)
    inputs = hidden_states[order // top_k_index.shape[1]]
    if torch.is_autocast_enabled(inputs.device.type):  # else in the precision of the hidden states (see fast/overflow.py)
        inputs = inputs.to(module.gate_up_proj.quant_state.dtype)
    experts, counts = torch.unique_consecutive(chosen[order], return_counts=True)
    sizes, outputs = counts.tolist(), []
    for some in experts.split(AT_ONCE):
        now, sizes = sizes[: len(some)], sizes[len(some) :]
        part, inputs = inputs.split([sum(now), sum(sizes)])
        outputs.append(product("down_proj", module._apply_gate(product("gate_up_proj", part, some, now)), some, now))
    mixed = torch.cat(outputs)[order.argsort()].view(*top_k_index.shape, -1) * top_k_weights[..., None]
    return mixed.sum(1).to(hidden_states.dtype)


ALL_EXPERTS_FUNCTIONS.register(WITH_EXPERTS, packed_experts_forward)


# %% adapters
class PackedExpertsAdapter(ParamWrapper):
    """Computes with experts in 4 bits and their adapters; PEFT's own class adds adapters to the whole stack, in 16 bits."""

    def forward(self, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor) -> torch.Tensor:
        """See packed_experts_forward. PEFT nests one adapter for each stack around the experts."""
        layer: Any = self
        adapters = {}
        while isinstance(layer, ParamWrapper):
            if not layer.disable_adapters:
                adapters[layer.parameter_name] = factors_of(layer)
            layer = layer.base_layer
        return packed_experts_forward(layer, hidden_states, top_k_index, top_k_weights, adapters)


@contextlib.contextmanager
def adapting_packed_experts(model: nn.Module) -> Iterator[None]:
    """While PEFT adds adapters, state the shapes of the experts in 4 bits; then make these adapters compute with them.

    Args:
        model: the base model.
    """
    stacks = [stack for stack in named_stacks(model).values() if is_packed(stack)]
    for stack in stacks:
        stack.ds_shape = stack.quant_state.shape  # where PEFT looks for the shape of parameters stored in another one
    try:
        yield
    finally:
        for stack in stacks:
            del stack.ds_shape
    for module in model.modules():
        if isinstance(module, ParamWrapper) and is_packed(module.get_param()):
            module.__class__ = PackedExpertsAdapter
