"""Decides how models published with quantized weights are used: trained as they are, dequantized first, or refused.

bitsandbytes 4-bit weights stay quantized in the language model's layers, whichever of these the publisher quantized, and are
dequantized elsewhere. bitsandbytes 8-bit and FP8 weights are dequantized everywhere: they are for inference.
"""
import copy
import math
from typing import Any

import torch
from torch import nn

from mcvqa.model.content import ModelError

FOUR_BIT, EIGHT_BIT, FP8 = "4-bit", "8-bit", "FP8"
# suffixes of the tensors stored with a packed weight
COMPANIONS = ("absmax", "quant_map", "nested_absmax", "nested_quant_map", "SCB", "weight_format", "weight_scale_inv",
              "activation_scale", "quant_state.bitsandbytes__nf4", "quant_state.bitsandbytes__fp4")


def published_bits(model_config: Any) -> str:
    """Determine how the published weights are quantized, according to config.json.

    Returns:
        "4-bit", "8-bit" or "FP8"; empty: not quantized.

    Raises:
        ModelError: they are quantized in a way that cannot be trained here.
    """
    packing = packing_settings(model_config)
    method = packing.get("quant_method", "")
    if method == "bitsandbytes" or packing.get("load_in_4bit") or packing.get("load_in_8bit"):
        return FOUR_BIT if packing.get("load_in_4bit") else EIGHT_BIT
    if packing and method != "fp8":
        raise ModelError(
            f"The weights of {model_config.name_or_path!r} are quantized by {method or 'an unknown method'} "
            "(quantization_config in config.json), which is for inference only. Set model_id to the original model, with "
            "quantization=4bit, or to a model in bitsandbytes 4-bit (-bnb-4bit)."
        )
    return FP8 if packing else ""


def packing_settings(model_config: Any) -> dict[str, Any]:
    """Return the quantization_config of a config.json; empty if there is none."""
    settings = getattr(model_config, "quantization_config", None) or getattr(
        model_config.get_text_config(), "quantization_config", None
    ) or {}
    return settings if isinstance(settings, dict) else settings.to_dict()


def as_loaded(model_config: Any, dtype: torch.dtype) -> Any:
    """Return the configuration for loading quantized weights: 4-bit weights compute in `dtype`, FP8 weights are dequantized.

    Args:
        model_config: configuration of the model.
        dtype: precision of the computation.
    """
    loading_config = copy.deepcopy(model_config)
    packing = packing_settings(model_config)
    if published_bits(model_config) == FOUR_BIT:
        loading_config.quantization_config = packing | {"bnb_4bit_compute_dtype": str(dtype).removeprefix("torch.")}
    elif packing:
        loading_config.quantization_config = packing | ({"dequantize": True} if published_bits(model_config) == FP8 else {})
    return loading_config


def drop_packing(model_config: Any) -> None:
    """Change the configuration to that of the same model with dequantized weights."""
    for part in (model_config, model_config.get_text_config()):
        part.__dict__.pop("quantization_config", None)


# %% in files
def without_companions(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Remove tensors of a file that accompany quantized weights, such as scales."""
    return {name: tensor for name, tensor in stored.items() if not name.endswith(tuple(f".{end}" for end in COMPANIONS))}


def truly_mismatched(report: dict[str, Any]) -> dict[str, Any]:
    """Remove mismatches that come from packing from a loading report: 4-bit weights are stored as (n, 1), several values each."""
    def packed(stored: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
        sizes = (2 * stored[0], 4 * stored[0], 8 * stored[0])
        return len(stored) == len(wanted) == 2 and stored[1] == 1 and math.prod(wanted) in sizes

    return report | {"mismatched_keys": [key for key in report["mismatched_keys"] if not packed(*map(tuple, key[1:]))]}


# %% in memory
def unpack_linears(model: nn.Module, dtype: torch.dtype, keep: str | None) -> None:
    """Replace quantized layers of bitsandbytes by plain linear layers.

    Args:
        model: the loaded model.
        dtype: precision of the new layers.
        keep: prefix of the paths at which 4-bit layers stay; None: all are replaced.
    """
    for name, module in [*model.named_modules()]:
        kind = type(module).__name__
        if kind == "Linear8bitLt" or (kind == "Linear4bit" and not (keep and name.startswith(keep))):
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, _plain_linear(module, dtype))


def in_full(weight: torch.Tensor, state: Any) -> torch.Tensor:
    """Return a 4-bit weight in full, on CPUs with a row per block: bitsandbytes misreads rows that are not whole blocks there."""
    from bitsandbytes.functional import dequantize_4bit

    shape, size = state.shape, state.blocksize
    if not weight.is_cuda and shape.numel() % size == 0:
        state = copy.copy(state)
        state.shape = torch.Size((shape.numel() // size, size))
    return dequantize_4bit(weight, state).view(shape)


def layer_on_cpu(layer: Any, inputs: torch.Tensor) -> torch.Tensor:
    """Compute what a 4-bit layer would, if bitsandbytes read its rows right (see in_full)."""
    weight = in_full(layer.weight, layer.weight.quant_state).to(inputs.dtype)
    return nn.functional.linear(inputs, weight, layer.bias)


def _plain_linear(packed: Any, dtype: torch.dtype) -> nn.Linear:
    from bitsandbytes import functional

    weight = packed.weight
    if hasattr(weight, "quant_state"):
        full = in_full(weight.data, weight.quant_state)
    else:
        full = functional.int8_vectorwise_dequant(weight.data, weight.SCB)
    with torch.device("meta"):
        linear = nn.Linear(packed.in_features, packed.out_features, bias=packed.bias is not None)
    linear.weight = nn.Parameter(full.to(dtype), requires_grad=False)
    if packed.bias is not None:
        linear.bias = nn.Parameter(packed.bias.data.to(dtype), requires_grad=False)
    return linear
