"""Runs the vision towers of Qwen2-VL, Qwen2.5-VL and Qwen3-VL, with windows (or whole images) of equal size batched.

The library's own forward pass attends to each window of each image in a Python loop, 16 windows x 28 layers for one photograph of
364 x 364 pixels; here all windows of the same size share one call. Weights and results are the same.

Shapes: P patches, T = P / merge**2 tokens, D width of the tower, H heads.
"""
import contextlib
import functools
import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mcvqa.model.families.family import Grid
from mcvqa.model.fast.block import cos_and_sin, normed
from mcvqa.model.fast.kernels import rotate

ROTARY_BASE = 10_000.0


# %% which patches attend to each other
@dataclass(frozen=True)
class TowerPlan:
    """Holds the order in which patches pass through the tower.

    Attributes:
        order: (T,) index of the token at each position, window by window.
        positions: (P, 2) row and column of each patch, in that order.
        relative: (P, 2) float32, row and column scaled from 0 at the first to 1 at the last one of the image.
        windows, images: per length, (n, length) indices of the patches that attend to each other.
    """

    order: torch.Tensor
    positions: torch.Tensor
    relative: torch.Tensor
    windows: tuple[torch.Tensor, ...]
    images: tuple[torch.Tensor, ...]

    def to(self, device: torch.device) -> "TowerPlan":
        windows, images = (tuple(group.to(device) for group in groups) for groups in (self.windows, self.images))
        return TowerPlan(self.order.to(device), self.positions.to(device), self.relative.to(device), windows, images)


@functools.lru_cache(maxsize=4096)
def _one_image(grid: Grid, merge: int, side: int) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Return token order (T,), patch positions (P, 2) and patches per window of one image.

    Args:
        side: side of a window, in tokens.
    """
    if grid[0] != 1:
        raise ValueError(f"A still image has one step in time, not {grid[0]}.")
    rows, columns = grid[1] // merge, grid[2] // merge
    row, column = np.divmod(np.arange(rows * columns), columns)
    window = (row // side) * -(-columns // side) + column // side
    order = np.argsort(window, kind="stable")
    inner = np.stack(np.divmod(np.arange(merge**2), merge), -1)  # (merge**2, 2)
    corner = np.stack([row, column], -1)[order] * merge
    positions = (corner[:, None] + inner).reshape(-1, 2)
    return order, positions, tuple((np.bincount(window) * merge**2).tolist())


def plan_tower(grids: Sequence[Grid], *, merge: int, window_side: int | None) -> TowerPlan:
    """Plan the order of the patches.

    Args:
        grids: patches (1, rows, columns) of each image.
        merge: side of the square of patches that is merged into one token.
        window_side: side of a window, in tokens; None: every layer attends to the whole image.
    """
    orders, positions, relative = [], [], []
    windows: dict[int, list[int]] = defaultdict(list)  # length -> first patches
    images: dict[int, list[int]] = defaultdict(list)
    token, patch = 0, 0
    for grid in grids:
        order, image_positions, lengths = _one_image(grid, merge, window_side or max(grid))
        orders.append(order + token)
        positions.append(image_positions)
        relative.append(image_positions / (np.array(grid[1:]) - 1))  # no division by zero: a side has at least `merge` patches
        images[len(image_positions)].append(patch)
        for length in lengths:
            windows[length].append(patch)
            patch += length
        token += len(order)
    return TowerPlan(
        torch.from_numpy(np.concatenate(orders)), torch.from_numpy(np.concatenate(positions)),
        torch.from_numpy(np.concatenate(relative).astype(np.float32)), _spread(windows), _spread(images),
    )


def _spread(starts: dict[int, list[int]]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor(first)[:, None] + torch.arange(length) for length, first in sorted(starts.items()))


# %% the forward pass
NEEDED_UNIT, BEST_UNIT = 8, 64  # multiples of the MLP width that matrix units need and prefer in half precision


@contextlib.contextmanager
def aligned(tower: Any) -> Iterator[None]:
    """Within the block, pad the MLPs of Qwen2.5-VL with zeros in their inner dimension, which changes only the speed.

    It is 3,420, which is not a multiple of 8; for such sizes matrix units have no kernel in half precision, or a slow one
    (NVIDIA, Matrix Multiplication Background User's Guide, section 4.1).
    """
    narrow = [b.mlp for b in tower.blocks if hasattr(b.mlp, "gate_proj") and b.mlp.gate_proj.out_features % NEEDED_UNIT]
    saved = [(layer, dict(layer.named_parameters())) for mlp in narrow for layer in (mlp.gate_proj, mlp.up_proj, mlp.down_proj)]
    for mlp in narrow:
        more = -mlp.gate_proj.out_features % BEST_UNIT
        for layer in (mlp.gate_proj, mlp.up_proj):
            layer.weight, layer.bias = _frozen(F.pad(layer.weight, (0, 0, 0, more))), _frozen(F.pad(layer.bias, (0, more)))
        mlp.down_proj.weight = _frozen(F.pad(mlp.down_proj.weight, (0, more)))
    try:
        yield
    finally:
        for layer, parameters in saved:
            for name, parameter in parameters.items():
                setattr(layer, name, parameter)


def _frozen(weight: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(weight.detach(), requires_grad=False)


def tower_features(tower: Any, patches: torch.Tensor, grids: Sequence[Grid]) -> torch.Tensor:
    """Compute image features of the tower.

    Args:
        tower: `model.visual` of a model of one of these families, with or without adapters.
        patches: (P, values) on the tower's device, in the order of the image processor.
        grids: patches (1, rows, columns) of each image.

    Returns:
        (T, hidden), the images concatenated; for Qwen3-VL (T, (1 + levels) * hidden), with those of its deepstack levels.
    """
    merge, every = tower.spatial_merge_size, range(len(tower.blocks))
    whole = set(getattr(tower, "fullatt_block_indexes", every))  # only Qwen2.5-VL has windows
    levels = list(getattr(tower, "deepstack_visual_indexes", ()))  # only Qwen3-VL has them
    side = tower.window_size // merge // tower.patch_size if len(whole) < len(every) else None
    plan = _plan_on(patches.device, tuple(grids), merge, side)

    x = _embedded(tower.patch_embed, patches)  # (P, D)
    x = x.view(-1, merge**2, x.shape[-1])[plan.order].flatten(0, 1)
    if hasattr(tower, "pos_embed"):
        x = x + _learned_positions(tower.pos_embed.weight, plan.relative).to(x.dtype)
    deeper = []
    rotary = _rotary(plan.positions, x.shape[-1] // tower.blocks[0].attn.num_heads)
    for number, block in enumerate(tower.blocks):
        groups = plan.images if number in whole else plan.windows
        x = x + _attend(block.attn, _norm(block.norm1, x), rotary, groups)
        x = x + block.mlp(_norm(block.norm2, x))
        if number in levels:
            deeper.append(tower.deepstack_merger_list[levels.index(number)](x))  # (T, hidden)
    merged = torch.cat([tower.merger(x), *deeper], -1)
    return torch.empty_like(merged).index_copy(0, plan.order, merged)


def _embedded(embed: Any, patches: torch.Tensor) -> torch.Tensor:
    """Embed patches (P, D) by a matrix product: each patch is convolved alone, and GPU convolutions are not exact in float32."""
    if type(embed.proj) is not nn.Conv3d:  # with an adapter
        return embed(patches)
    return F.linear(patches, embed.proj.weight.flatten(1), embed.proj.bias)


@functools.lru_cache(maxsize=16)
def _plan_on(device: torch.device, grids: tuple[Grid, ...], merge: int, side: int | None) -> TowerPlan:
    """Make the plan on the device, cached because batches of equal grids are frequent."""
    return plan_tower(grids, merge=merge, window_side=side).to(device)


def _learned_positions(table: torch.Tensor, relative: torch.Tensor) -> torch.Tensor:
    """Stretch the square table of learned positions over each image, with bilinear interpolation in float32, (P, D).

    Args:
        table: (side * side, D), row by row; its corners are at the corners of every image.
    """
    side = round(len(table) ** 0.5)
    scaled = relative * (side - 1)
    first = scaled.floor().clamp(max=side - 2)
    fraction = scaled - first  # (P, 2) distance to the row and column before
    mixed = torch.zeros((), device=table.device)
    for down, right in itertools.product((0, 1), repeat=2):
        weight = (fraction[:, 0] if down else 1 - fraction[:, 0]) * (fraction[:, 1] if right else 1 - fraction[:, 1])
        index = ((first[:, 0] + down) * side + first[:, 1] + right).long()
        mixed = mixed + table[index] * weight[:, None]
    return mixed


def _norm(norm: Any, x: torch.Tensor) -> torch.Tensor:
    """Normalize with torch's fused function: RMSNorm for Qwen2.5-VL, the module's own LayerNorm for the others."""
    return normed(norm, x) if hasattr(norm, "variance_epsilon") else norm(x)


def _rotary(positions: torch.Tensor, head: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute cosine and sine (P, 1, head) in float32, because half precision would lose small angles.

    Half of the frequencies rotate by row, half by column.
    """
    frequencies = ROTARY_BASE ** -(torch.arange(0, head // 2, 2, device=positions.device) / (head // 2))
    return cos_and_sin((positions[..., None] * frequencies).flatten(1)[:, None])


def _attend(
    attention: Any, x: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor], groups: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Compute self-attention (P, D) within each of `groups`, (n, length) patch indices each."""
    joined = attention.qkv(x).view(len(x), 3 * attention.num_heads, -1)  # (P, heads, D / H) queries, keys, values
    q, k, v = rotate(joined, *rotary, 2 * attention.num_heads).chunk(3, 1)
    if len(groups) == 1:  # all windows have the same size
        shape = groups[0].shape
        mixed = _within(*(t.unflatten(0, shape) for t in (q, k, v))).flatten(0, 1)
    else:
        mixed = torch.empty_like(q, memory_format=torch.contiguous_format)
        for group in groups:
            mixed = mixed.index_put((group,), _within(q[group], k[group], v[group]))
    return attention.proj(mixed.flatten(1))


def _within(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Compute attention (n, length, H, D / H) of each of n windows."""
    return F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)
