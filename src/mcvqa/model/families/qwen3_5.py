"""Qwen3.5 and Qwen3.6: three of four layers keep a state instead of keys and values (gated DeltaNet, arXiv:2412.06464); the
others have gates after their attention (arXiv:2505.06708) and rotate only a quarter of each query and key. The tower is
Qwen3-VL's, without deepstack."""
import functools
from typing import Any

import torch
from torch.nn import functional as F

from mcvqa.model.families.family import QWEN_LINEARS, Family
from mcvqa.model.families.qwen3_vl import interleaved_axes
from mcvqa.model.fast.block import Block, Mixed, Projections, Tables, gated_mlp, normed
from mcvqa.model.fast.delta import ChunkTree, gated_delta_rule
from mcvqa.model.fast.kernels import rotate
from mcvqa.model.fast.layout import attend


class OffsetNorm:
    """Adapts an RMSNorm of these models, which stores weights minus one, to the interface that blocks expect."""

    def __init__(self, norm: Any) -> None:
        self.norm, self.variance_epsilon = norm, norm.eps

    @property
    def weight(self) -> torch.Tensor:
        """The weight, computed at each use, as the model may be moved to another device."""
        return 1 + self.norm.weight


def hybrid_blocks(layer: Any) -> dict[str, Block]:
    """Make the blocks of a decoder layer: the token mixer, by its name in the layer, and the MLP."""
    norm, mlp = OffsetNorm(layer.input_layernorm), gated_mlp(layer.mlp, OffsetNorm(layer.post_attention_layernorm))
    if hasattr(layer, "linear_attn"):
        return dict(linear_attn=_delta_block(layer.linear_attn, norm), mlp=mlp)
    return dict(self_attn=_attention_block(layer.self_attn, norm), mlp=mlp)


def _attention_block(attention: Any, norm: OffsetNorm) -> Block:
    size = attention.head_dim
    queries, keys = attention.q_proj.out_features // (2 * size), attention.k_proj.out_features // size  # heads; q has the gate
    q_norm, k_norm = OffsetNorm(attention.q_norm), OffsetNorm(attention.k_norm)

    def mix(tables: Tables, joint: torch.Tensor) -> Mixed:
        joint = joint.detach().requires_grad_(torch.is_grad_enabled())
        q_and_gate, k, v = joint.split([2 * queries * size, keys * size, keys * size], 1)
        q, gate = q_and_gate.unflatten(1, (queries, 2, size)).unbind(2)  # (T, queries, D) each
        normalized = torch.cat((normed(q_norm, q), normed(k_norm, k.unflatten(1, (keys, size)))), 1)
        width = tables.cos.shape[-1]  # rotated values per head
        rotated = rotate(normalized[..., :width].contiguous(), tables.cos, tables.sin, queries + keys)
        heads = torch.cat((torch.cat((rotated, normalized[..., width:]), -1), v.unflatten(1, (keys, size))), 1)
        mixed = (attend(heads, queries, tables.sight, attention.scaling) * gate.sigmoid()).flatten(1)
        return mixed, functools.partial(torch.autograd.grad, mixed, joint)

    before = Projections(dict(q=attention.q_proj, k=attention.k_proj, v=attention.v_proj))
    return Block(norm, before, mix, Projections(dict(o=attention.o_proj)))


def _delta_block(delta: Any, norm: OffsetNorm) -> Block:
    sizes = [delta.conv_dim, delta.value_dim, delta.num_v_heads, delta.num_v_heads]

    def mix(tables: Tables, joint: torch.Tensor) -> Mixed:
        assert tables.chunks is not None  # see collate()
        joint = joint.detach().requires_grad_(torch.is_grad_enabled())
        mixed = delta_values(delta, tables.chunks, *joint.split(sizes, 1))
        return mixed, functools.partial(torch.autograd.grad, mixed, joint)

    before = Projections(dict(qkv=delta.in_proj_qkv, z=delta.in_proj_z, b=delta.in_proj_b, a=delta.in_proj_a))
    return Block(norm, before, mix, Projections(dict(out=delta.out_proj)))


def delta_values(delta: Any, chunks: ChunkTree, *projected: torch.Tensor) -> torch.Tensor:
    """Compute what a delta layer's last projection gets, (T, W), from what the four others give."""
    (qkv, z, b, a), values = projected, delta.num_v_heads
    fade = -delta.A_log.float().exp() * F.softplus(a.float() + delta.dt_bias.float())
    weight = delta.conv1d.weight[:, 0].to(qkv.dtype)
    read = gated_delta_rule(qkv, weight, fade, b.float().sigmoid(), (delta.num_k_heads, values), delta.head_k_dim, chunks)
    return (normed(delta.norm, read) * F.silu(z.unflatten(1, (values, -1)))).flatten(1)


DELTA_LINEARS = tuple(f"linear_attn.{linear}" for linear in ("in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a", "out_proj"))
QWEN3_5 = Family(
    "qwen3_5", blocks=hybrid_blocks, recurrent=True, rotary_axes=interleaved_axes,
    language_linears=(*QWEN_LINEARS, *DELTA_LINEARS),
    vision_linears=("qkv", "proj", "linear_fc1", "linear_fc2"),
)
