"""Finds the experts of mixture-of-experts models, which the library stacks into two tensors (E, rows, columns) per layer."""
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mcvqa.config import EXPERTS, Config
from mcvqa.model.content import ModelError
from mcvqa.model.families.family import Family, FamilyError

Factors = tuple[torch.Tensor, torch.Tensor, float]  # A (E, r, columns), B (E, rows, r), and the scale of B A

STACKS = ("gate_up_proj", "down_proj")
BLOCK = 64  # weights per scale of 4-bit weights


def is_packed(stack: Any) -> bool:
    return getattr(stack, "quant_state", None) is not None


def stacked_experts(model: nn.Module, prefix: str = "") -> dict[str, Any]:
    """Return the modules whose experts can be stored in 4 bits, by path.

    Left out are experts with biases, norms or transposed matrices, matrices that are not made of whole blocks, and classes that
    cannot be given another implementation.

    Args:
        model: the model, empty or loaded.
        prefix: beginning of the paths.
    """
    def can_be_packed(module: Any) -> bool:
        if not getattr(module, "has_gate", False) or module.has_bias or module.is_transposed:
            return False
        stacks = [getattr(module, name, None) for name in STACKS]
        return not getattr(module, "has_post_expert_norm", False) and all(
            isinstance(stack, nn.Parameter) and (is_packed(stack) or (stack.ndim == 3 and stack[0].numel() % BLOCK == 0))
            for stack in stacks
        )

    return {name: module for name, module in model.named_modules() if name.startswith(prefix) and can_be_packed(module)}


def named_stacks(model: nn.Module, prefix: str = "") -> dict[str, Any]:
    """Return the stacks of `stacked_experts`, by path."""
    return {f"{path}.{name}": getattr(one, name) for path, one in stacked_experts(model, prefix).items() for name in STACKS}


def paths_of_stacks(model: nn.Module, prefix: str) -> tuple[str, ...]:
    """Return the paths in a decoder layer of all `named_stacks`: 'mlp.experts.down_proj'.

    Args:
        model: the model.
        prefix: of the paths of all decoder layers.
    """
    return tuple(dict.fromkeys(name.removeprefix(prefix).partition(".")[2] for name in named_stacks(model, prefix)))


def adapted_experts(config: Config, family: Family) -> tuple[tuple[str, ...], list[str]]:
    """Divide target_modules, which contains experts, into the names of linear layers and the paths of stacks.

    Raises:
        FamilyError: there are no experts that can get adapters, the other settings do not suit them, or PEFT is too old.
    """
    if not family.experts:
        raise FamilyError(
            f"target_modules: {family.model_type} has no experts that can get adapters. Leave experts out of target_modules."
        )
    if config.lora_dropout or config.use_dora:
        raise FamilyError(
            "target_modules contains experts, whose adapters have neither dropout nor DoRA: set lora_dropout=0 and "
            "use_dora=false."
        )
    if [int(part) for part in version("peft").split(".")[:2]] < [0, 21]:
        raise FamilyError(
            f"target_modules: adapters on experts need peft 0.21 or newer; {version('peft')} is installed. Fix: "
            "pip install -U peft."
        )
    return tuple(name for name in config.target_modules if name != EXPERTS), list(family.experts)


def factors_of(adapter: Any) -> Factors:
    """Take the factors of each expert out of PEFT's two matrices, (E * r, columns) and (rows, r * E).

    Args:
        adapter: PEFT's wrapper of a stack.
    """
    name, count = adapter.active_adapters[0], adapter.num_experts
    down, up = adapter.lora_A[name].weight, adapter.lora_B[name].weight
    return down.unflatten(0, (count, -1)), up.unflatten(1, (-1, count)).permute(2, 0, 1), adapter.scaling[name]


def count_experts(model: Any, prefix: str) -> tuple[int, float]:
    """Return the weights of an empty model's experts, and the share of them that each token is sent to.

    Args:
        model: the model, which has experts.
        prefix: beginning of the paths.
    """
    text = model.config.get_text_config()
    routed = getattr(text, "num_experts_per_tok", None) or getattr(text, "top_k_experts", 1)  # Gemma's name
    first = next(iter(stacked_experts(model, prefix).values()))
    return sum(stack.numel() for stack in named_stacks(model, prefix).values()), routed / first.num_experts


def require_experts_in_full(stored: Iterable[str], model: nn.Module, folder: Path | None) -> None:
    """Check that no experts that the library stacks are stored in 4 bits, which it cannot read.

    Args:
        stored: names of the tensors in the folder.
        model: an empty model.
        folder: the folder, for the message.

    Raises:
        ModelError: they are.
    """
    packed = [name.removesuffix(".absmax") for name in stored if ".experts." in name and name.endswith(".absmax")]
    if packed and stacked_experts(model):
        raise ModelError(
            f"{folder} has experts in 4 bits, first {min(packed)}, which the library cannot read. Set model_id to the original "
            "model, with quantization=4bit: its experts are then quantized while it is loaded."
        )
