"""Finds the experts of mixture-of-experts models, which the library stacks into two tensors (E, rows, columns) per layer."""
from typing import Any

from torch import nn

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


def count_experts(model: Any, prefix: str) -> tuple[int, float]:
    """Return the weights of an empty model's experts, and the share of them that each token is sent to.

    Args:
        model: the model.
        prefix: beginning of the paths.
    """
    found = [*stacked_experts(model, prefix).values()]
    if not found:
        return 0, 0.0
    text = model.config.get_text_config()
    routed = getattr(text, "num_experts_per_tok", None) or getattr(text, "top_k_experts", 1)  # Gemma's name
    return sum(getattr(one, name).numel() for one in found for name in STACKS), routed / found[0].num_experts
