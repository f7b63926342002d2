"""Checkpoints whose weights are published in fewer bits: what is trained as it is, what is unpacked first, what is refused.

4-bit weights of bitsandbytes stay as they are in the language model's layers, whichever of these the publisher packed, and are
unpacked elsewhere. 8-bit weights of bitsandbytes and FP8 are unpacked everywhere: they are for inference.
"""
import copy
import math
from typing import Any

import torch
from torch import nn

from mcvqa.model.content import ModelError

FOUR_BIT, EIGHT_BIT, FP8 = "4-bit", "8-bit", "FP8"
# what stands beside a packed weight in a file
COMPANIONS = ("absmax", "quant_map", "nested_absmax", "nested_quant_map", "SCB", "weight_format", "weight_scale_inv",
              "activation_scale", "quant_state.bitsandbytes__nf4", "quant_state.bitsandbytes__fp4")


def published_bits(model_config: Any) -> str:
    """How a checkpoint's weights are packed, by its config.json: 4-bit, 8-bit or FP8; empty: they are in full.

    Raises:
        ModelError: in a way that cannot be trained here.
    """
    packing = packing_settings(model_config)
    method = packing.get("quant_method", "")
    if method == "bitsandbytes" or packing.get("load_in_4bit") or packing.get("load_in_8bit"):
        return FOUR_BIT if packing.get("load_in_4bit") else EIGHT_BIT
    if packing and method != "fp8":
        raise ModelError(
            f"The weights of {model_config.name_or_path!r} are packed by {method or 'an unknown method'} (quantization_config in "
            "config.json), which is for inference. Set model_id to the original model, with quantization=4bit, or to a folder in "
            "4 bits of bitsandbytes (-bnb-4bit)."
        )
    return FP8 if packing else ""


def packing_settings(model_config: Any) -> dict[str, Any]:
    """quantization_config of a config.json; empty where there is none."""
    found = getattr(model_config, "quantization_config", None) or getattr(
        model_config.get_text_config(), "quantization_config", None
    ) or {}
    return found if isinstance(found, dict) else found.to_dict()


def as_loaded(model_config: Any, dtype: torch.dtype) -> Any:
    """The configuration with which packed weights are loaded: 4-bit ones compute in `dtype`, FP8 is unpacked on the way."""
    made = copy.deepcopy(model_config)
    packing = packing_settings(model_config)
    if published_bits(model_config) == FOUR_BIT:
        made.quantization_config = packing | {"bnb_4bit_compute_dtype": str(dtype).removeprefix("torch.")}
    elif packing:
        made.quantization_config = packing | ({"dequantize": True} if published_bits(model_config) == FP8 else {})
    return made


def drop_packing(model_config: Any) -> None:
    """Make it the configuration of the same model in full."""
    for part in (model_config, model_config.get_text_config()):
        part.__dict__.pop("quantization_config", None)


# %% in files
def without_companions(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a file without what belongs to packed ones, such as their scales."""
    return {name: tensor for name, tensor in stored.items() if not name.endswith(tuple(f".{end}" for end in COMPANIONS))}


def truly_mismatched(report: dict[str, Any]) -> dict[str, Any]:
    """A loading report without the shapes that 4-bit weights have in a file: (n, 1), with several values in one number."""
    def packed(stored: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
        return len(stored) == 2 and stored[1] == 1 and math.prod(wanted) in (2 * stored[0], 4 * stored[0], 8 * stored[0])

    return report | {"mismatched_keys": [key for key in report["mismatched_keys"] if not packed(*map(tuple, key[1:]))]}


# %% in memory
def unpack_linears(model: nn.Module, dtype: torch.dtype, keep: str | None) -> None:
    """Put plain linear layers where bitsandbytes has packed ones.

    Args:
        keep: where a path begins so, 4-bit layers stay; None: none do.
    """
    for name, module in [*model.named_modules()]:
        kind = type(module).__name__
        if kind == "Linear8bitLt" or (kind == "Linear4bit" and not (keep and name.startswith(keep))):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, _plain_linear(module, dtype))


def _plain_linear(packed: Any, dtype: torch.dtype) -> nn.Linear:
    from bitsandbytes import functional

    weight = packed.weight
    if hasattr(weight, "quant_state"):
        full = functional.dequantize_4bit(weight.data, weight.quant_state)
    else:
        full = functional.int8_vectorwise_dequant(weight.data, weight.SCB)
    with torch.device("meta"):
        made = nn.Linear(packed.in_features, packed.out_features, bias=packed.bias is not None)
    made.weight = nn.Parameter(full.to(dtype), requires_grad=False)
    if packed.bias is not None:
        made.bias = nn.Parameter(packed.bias.data.to(dtype), requires_grad=False)
    return made
