"""Computes gated delta layers of models without a fast path in chunks, as models with one do (see fast/delta.py).

Without flash-linear-attention the library computes them in float32; 5.17 loops over the tokens of each chunk.
"""
import functools
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from mcvqa.model.families.qwen3_5 import delta_values
from mcvqa.model.fast.delta import CHUNK, HALO, SHORTEST_CHUNK, ChunkTree

PARTS = ("in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a", "conv1d", "A_log", "dt_bias", "norm", "out_proj")


def compute_in_chunks(model: nn.Module) -> None:
    """Replace the forward pass of each gated delta layer, unless the library has the kernels of flash-linear-attention.

    Args:
        model: the loaded model.
    """
    for module in model.modules() if not find_spec("fla") else ():
        layer: Any = module
        if all(hasattr(layer, part) for part in PARTS) and layer.conv_kernel_size == HALO + 1 and layer.activation == "silu":
            layer.forward = functools.partial(_forward, layer, layer.forward)


def _forward(
    layer: Any, library_s: Callable[..., torch.Tensor], hidden_states: torch.Tensor, cache_params: Any = None,
    attention_mask: torch.Tensor | None = None, **others: Any,
) -> torch.Tensor:
    """Compute a layer. Prompts are padded on the right, so that no token reads what padding leaves in the state.

    Args:
        layer: the layer.
        library_s: its own forward pass, for generation, which keeps states.
        hidden_states: (B, L, H).
        cache_params: kept states.
        attention_mask: (B, L) marks padding.
        others: further arguments.
    """
    if cache_params is not None:
        return library_s(hidden_states, cache_params=cache_params, attention_mask=attention_mask, **others)
    tokens = hidden_states.flatten(0, 1)
    projected = (project(tokens) for project in (layer.in_proj_qkv, layer.in_proj_z, layer.in_proj_b, layer.in_proj_a))
    mixed = delta_values(layer, chunks_of_rows(*hidden_states.shape[:2], hidden_states.device), *projected)
    return layer.out_proj(mixed).view(hidden_states.shape)


@functools.lru_cache(maxsize=8)
def chunks_of_rows(rows: int, length: int, device: torch.device) -> ChunkTree:
    """Divide rows of equal length, which follow each other in the list, into chunks: a level holds one of each row.

    Args:
        rows: number of rows.
        length: tokens of each.
        device: where to keep the tree.
    """
    size = min(CHUNK, max(SHORTEST_CHUNK, 1 << (length - 1).bit_length()))
    starts = torch.arange(0, length, size, device=device)[:, None]  # (levels, 1) of the chunks in their row
    first = length * torch.arange(rows, device=device)  # (rows,) of the rows in the list

    def listed(places: torch.Tensor) -> torch.Tensor:  # (levels, n) in a row -> (levels * rows, n) in the list
        inside = ((places >= 0) & (places < length))[:, None]
        return torch.where(inside, first[:, None] + places[:, None], rows * length).flatten(0, 1)

    tokens = listed(starts + torch.arange(size, device=device))
    at = tokens.flatten().argsort(stable=True)[: rows * length]
    return ChunkTree(
        tokens, at, listed(starts + torch.arange(-HALO, 0, device=device)),
        (torch.arange(rows, device=device),) * (len(starts) - 1), (rows,) * len(starts),
    )
