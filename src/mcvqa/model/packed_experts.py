"""Stores experts in 4 bits. bitsandbytes itself quantizes linear layers only, and experts are stacked into tensors of a layer.

They are quantized while they are loaded, one stack after the other, so that the 16-bit weights are never all in memory; each
expert's matrix becomes what bitsandbytes makes of it alone. The forward and the backward pass dequantize the experts of a layer
in one launch and multiply by them in another: one after the other, thousands of small kernels take longer to launch than to run.

Shapes: T tokens, k experts per token, S = T k pairs of both in the order of the experts, E experts, H hidden size, r rank.
"""
import contextlib
from collections.abc import Iterator, Mapping
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
from mcvqa.model.grouped import ALIGNMENT, grouped_product
from mcvqa.model.published import in_full

WITH_EXPERTS = "bitsandbytes_with_experts"  # name in the library's registries of quantizers and of experts' functions
BYTES_AT_ONCE = 2**30  # bytes of experts dequantized together: all of a layer of Qwen3-VL-30B-A3B or Qwen3.5-35B-A3B in 16 bits
SHARE_AT_ONCE = 0.25  # at most, of the memory that is left beside the weights; the rest takes more rows in a pass


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
def limit_products(model: nn.Module, memory: int) -> None:
    """Let fewer experts be dequantized together where little memory is left beside the weights.

    Args:
        model: a model with experts in 4 bits, on a GPU.
        memory: bytes of GPU memory that may be used.
    """
    left = max(0, memory - torch.cuda.memory_allocated())
    for stack in named_stacks(model).values():
        stack.bytes_at_once = min(BYTES_AT_ONCE, max(1, round(SHARE_AT_ONCE * left)))


def dequantized(stack: Any, first: int = 0, last: int | None = None) -> torch.Tensor:
    """Return the matrices (n, rows, columns) of experts that follow each other.

    Args:
        stack: from packed_stack.
        first, last: the first of them, and the one after the last; by default all.
    """
    from bitsandbytes.functional import QuantState

    state, (count, rows, columns) = stack.quant_state, stack.quant_state.shape
    scales, packed = (values.view(count, -1)[first:last] for values in (state.absmax, stack.data))
    shape = torch.Size((len(packed) * rows, columns))
    chosen = QuantState(scales.flatten(), shape, state.code, BLOCK, state.quant_type, state.dtype)
    return in_full(packed.view(-1, 1), chosen).view(-1, rows, columns)


class ExpertsProduct(torch.autograd.Function):
    """Multiplies inputs by the frozen matrices of their experts, which are dequantized again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, stack: nn.Parameter, ends: torch.Tensor) -> torch.Tensor:
        """Compute (S, rows).

        Args:
            inputs: (S, columns) in the order of the experts.
            stack: from packed_stack.
            ends: see grouped_product.
        """
        ctx.stack, ctx.ends = stack, ends
        return _by_parts(inputs, stack, ends, transposed=True)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return _by_parts(gradient.contiguous(), ctx.stack, ctx.ends, transposed=False), None, None


def _by_parts(inputs: torch.Tensor, stack: Any, ends: torch.Tensor, *, transposed: bool) -> torch.Tensor:
    """Multiply by as many experts at once as `limit_products` permits. The CPU waits for the GPU only if these are not all."""
    def part(inputs: torch.Tensor, ends: torch.Tensor, first: int) -> torch.Tensor:
        matrices = dequantized(stack, first, first + len(ends)).to(inputs.dtype)
        return grouped_product(inputs, matrices.mT if transposed else matrices, ends)

    count, rows, columns = stack.quant_state.shape
    parts = min(count, -(-count * rows * columns * inputs.element_size() // getattr(stack, "bytes_at_once", BYTES_AT_ONCE)))
    if parts == 1:
        return part(inputs, ends, 0)
    split, results, first = ends.tensor_split(parts), [], 0
    borders = [0, *torch.stack([some[-1] for some in split]).tolist()]
    for some, start, end in zip(split, borders, borders[1:], strict=False):
        results.append(part(inputs[start:end], some - start, first))
        first += len(some)
    return torch.cat(results)


def low_rank(inputs: torch.Tensor, factors: Factors, ends: torch.Tensor) -> torch.Tensor:
    """Multiply inputs by the adapters of their experts; arguments and result as in ExpertsProduct."""
    down, up, scale = factors
    missing = -down.shape[1] % (ALIGNMENT // inputs.element_size())  # zeros up to a rank that grouped_mm takes
    down, up = F.pad(down.to(inputs.dtype), (0, 0, 0, missing)), F.pad(up.to(inputs.dtype), (0, missing))
    inner = grouped_product(inputs, down.contiguous().mT, ends)  # (S, r)
    return grouped_product(scale * inner, up.contiguous().mT, ends)


class Arranged(torch.autograd.Function):
    """Arranges rows by expert and back. Its gradient is read from the other order, where PyTorch's own sorts and adds."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, order: torch.Tensor, inverse: torch.Tensor, copies: int) -> torch.Tensor:
        """Compute (S, C).

        Args:
            values: (S / copies, C).
            order: (S,) which of the copies stands where.
            inverse: (S,) where each stands.
            copies: of each row; those of the same follow each other.
        """
        ctx.inverse, ctx.copies = inverse, copies
        return values[order // copies]

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        return gradient[ctx.inverse].unflatten(0, (-1, ctx.copies)).sum(1), None, None, None


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

    def product(name: str, inputs: torch.Tensor) -> torch.Tensor:
        result = ExpertsProduct.apply(inputs, getattr(module, name), ends)
        return result + low_rank(inputs, adapters[name], ends) if name in adapters else result

    chosen, order = top_k_index.flatten().sort(stable=True)  # pairs of token and expert
    inverse = order.argsort()
    experts = torch.arange(module.num_experts, device=chosen.device, dtype=chosen.dtype)
    ends = torch.searchsorted(chosen, experts, right=True, out_int32=True)
    if torch.is_autocast_enabled(hidden_states.device.type):  # else in their own precision (see fast/overflow.py)
        inputs = hidden_states.to(module.gate_up_proj.quant_state.dtype)
    else:
        inputs = hidden_states
    inputs = Arranged.apply(inputs, order, inverse, top_k_index.shape[1])
    outputs = product("down_proj", module._apply_gate(product("gate_up_proj", inputs)))
    mixed = Arranged.apply(outputs, inverse, order, 1).view(*top_k_index.shape, -1) * top_k_weights[..., None]
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
