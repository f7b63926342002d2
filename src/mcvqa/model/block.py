"""The language model's layers, written for frozen weights with adapters: fewer kernels, less Python and less memory.

A decoder layer is twice the same thing, x + after(mix(before(norm(x)))): attention mixes queries, keys and values, the MLP
gate and up. A block runs as one step of autograd that keeps nothing but x (and, where memory allows, what `before` gave);
its backward pass computes the rest again, but for the products of `after`, which no gradient needs. The gradients of
frozen weights are never made, dropout's masks are drawn again from their seed, and 4-bit weights are unpacked when used.

Shapes: T distinct tokens of a batch (see model/layout.py), H hidden size, I inputs, O outputs and R rank of a projection.
"""
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mcvqa.model.layout import attend


@dataclass(frozen=True)
class Tables:
    """What all layers read beside the hidden states.

    Attributes:
        cos, sin: (T, 1, D), as in rotary_tables; D values per head.
        seen: (E, L) and home: (T,), as in TokenLayout.
    """

    cos: torch.Tensor
    sin: torch.Tensor
    seen: torch.Tensor
    home: torch.Tensor


# %% projections
def frozen_weight(base: Any, dtype: torch.dtype) -> torch.Tensor:
    """(O, I) weight of a frozen linear layer, unpacked where it is stored in 4 bits."""
    state = getattr(base.weight, "quant_state", None)
    if state is None:
        return base.weight.to(dtype)
    from bitsandbytes.functional import dequantize_4bit

    if getattr(state, "packing_format_for_cpu", False):  # some CPUs get another packing when nothing is trained
        base.state_dict()  # undoes it
    return dequantize_4bit(base.weight, base.weight.quant_state).to(dtype)


Packed = tuple[torch.Tensor, ...]  # the A of one Projections, (R, I) with all ranks together, and each B; or nothing


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter (arXiv:2106.09685) of one linear layer.

    Attributes:
        number: of its layer among those of its Projections.
        down: A; up: B.
        ranks: where its A stands among those of its Projections.
        rate: of dropout in front of it.
    """

    number: int
    down: nn.Linear
    up: nn.Linear
    ranks: slice
    scale: float
    rate: float


class Projections:
    """Frozen linear layers with the same input: each gives x W' + b + scale * drop(x) A' B'; one dropout mask serves all.

    Args:
        layers: linear layers, or PEFT's layers around them.
    """

    def __init__(self, layers: Sequence[Any]) -> None:
        self.bases = [getattr(layer, "base_layer", layer) for layer in layers]
        self.adapters: list[Adapter] = []
        rank = 0
        for number, layer in enumerate(layers):
            if hasattr(layer, "lora_A"):
                name = next(iter(layer.lora_A))
                down, up = layer.lora_A[name], layer.lora_B[name]
                ranks = slice(rank, rank := rank + down.out_features)
                rate = getattr(layer.lora_dropout[name], "p", 0.0)
                self.adapters.append(Adapter(number, down, up, ranks, layer.scaling[name], rate))
        self.rank = rank
        self.rate = self.adapters[0].rate if self.adapters else 0.0
        self.draws: torch.Generator | None = None

    def drop(self, x: torch.Tensor, seed: int | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What the adapters read, and the mask of ones and zeros with which it was made; no mask without dropout."""
        if seed is None or not self.rate:
            return x, None
        if self.draws is None or self.draws.device != x.device:
            self.draws = torch.Generator(x.device)
        mask = torch.empty_like(x).bernoulli_(1 - self.rate, generator=self.draws.manual_seed(seed))
        return x * mask, mask

    def forward(self, x: torch.Tensor, dropped: torch.Tensor, packed: Packed) -> list[torch.Tensor]:
        """(T, O) of each layer from (T, I)."""
        made = []
        for base in self.bases:
            weight = frozen_weight(base, x.dtype).T
            made.append(x @ weight if base.bias is None else torch.addmm(base.bias.to(x.dtype), x, weight))
        if packed:
            down, *ups = (part.to(x.dtype) for part in packed)
            low = dropped @ down.T  # (T, R)
            for adapter, up in zip(self.adapters, ups, strict=True):
                made[adapter.number].addmm_(low[:, adapter.ranks], up.T)
        return made

    def backward(
        self, gradients: Sequence[torch.Tensor], dropped: torch.Tensor, mask: torch.Tensor | None, packed: Packed, *,
        of_input: bool,
    ) -> tuple[torch.Tensor | None, Packed]:
        """Gradients of x, unless `of_input` is off, and of the packed adapters.

        Args:
            gradients: (T, O) of each layer's output.
        """
        of_x = None
        if of_input:
            for base, gradient in zip(self.bases, gradients, strict=True):
                weight = frozen_weight(base, gradient.dtype)
                of_x = gradient @ weight if of_x is None else of_x.addmm_(gradient, weight)
        if not packed:
            return of_x, ()
        down, *ups = (part.to(dropped.dtype) for part in packed)
        low, through = dropped @ down.T, dropped.new_empty(len(dropped), self.rank)  # (T, R) each
        of_ups = []
        for adapter, up in zip(self.adapters, ups, strict=True):
            gradient = gradients[adapter.number]
            torch.mm(gradient, up, out=through[:, adapter.ranks])
            of_ups.append(gradient.T @ low[:, adapter.ranks])
        if of_x is not None:
            of_dropped = through @ down
            of_x = of_x.add_(of_dropped) if mask is None else of_x.addcmul_(of_dropped, mask)
        return of_x, (through.T @ dropped, *of_ups)


# %% adapters in the precision of the forward pass
def pack(groups: Sequence[Projections], dtype: torch.dtype, *, training: bool) -> list[Packed]:
    """The adapters of all `groups`, cast at once and not each where it is used; the A of each group stand together.

    A comes multiplied by the adapter's scale and, in training, by what makes up for dropout.
    """
    every = [adapter for group in groups for adapter in group.adapters]
    if not every:
        return [()] * len(groups)
    factors = [adapter.scale / (1 - adapter.rate * training) for adapter in every]
    downs, ups = ([part.weight for part in parts] for parts in zip(*((one.down, one.up) for one in every), strict=True))
    made = iter(_Pack.apply(groups, dtype, factors, *downs, *ups))
    together = [next(made) if group.adapters else None for group in groups]
    return [
        () if down is None else (down, *(next(made) for _ in group.adapters))
        for group, down in zip(groups, together, strict=True)
    ]


class _Pack(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, groups: Sequence[Projections], dtype: torch.dtype, factors: Sequence[float], *weights: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Args: weights: all A (R, I), then all B (O, R)."""
        downs, ups = weights[: len(factors)], weights[len(factors) :]
        own = [group for group in groups if group.adapters]
        together = [downs[0].new_empty((group.rank, group.adapters[0].down.in_features), dtype=dtype) for group in own]
        made = [torch.empty_like(up, dtype=dtype) for up in ups]
        places = _slots(own, together)
        torch._foreach_copy_([*places, *made], list(weights))
        torch._foreach_mul_(places, factors)
        ctx.groups, ctx.factors, ctx.weights = own, factors, weights
        return (*together, *made)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        n = len(ctx.groups)
        own = [torch.empty_like(weight) for weight in ctx.weights]
        torch._foreach_copy_(own, [*_slots(ctx.groups, gradients[:n]), *gradients[n:]])
        torch._foreach_mul_(own[: len(ctx.factors)], ctx.factors)
        return None, None, None, *own


def _slots(groups: Sequence[Projections], together: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Where the A of each adapter stands among those of its group."""
    return [down[adapter.ranks] for group, down in zip(groups, together, strict=True) for adapter in group.adapters]


# %% blocks
class Block(nn.Module):
    """One half of a decoder layer: x + after(mix(before(norm(x)))).

    The modules it is made of belong to the model; here they are only read.

    Args:
        mix: from a batch's tables and what `before` gave, (T, O) each, to what `after` takes.
    """

    def __init__(self, norm: Any, before: Sequence[Any], mix: Callable[..., torch.Tensor], after: Any) -> None:
        super().__init__()
        self.norm = functools.partial(normed, norm)  # so that the module is not registered here as well
        self.before, self.mix, self.after = Projections(before), mix, Projections([after])
        self.keep = False  # what `before` gave, instead of computing it again

    def forward(self, x: torch.Tensor, tables: Tables, before: Packed, after: Packed) -> torch.Tensor:
        """(T, H) -> (T, H), all in the precision of x.

        Args:
            before, after: packed adapters.
        """
        seed = int(torch.randint(2**62, ())) if self.training else None
        with torch.autocast(x.device.type, enabled=False):
            return _BlockStep.apply(x, self, tables, seed, len(before), *before, *after)


class _BlockStep(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, block: Block, tables: Tables, seed: int | None, n: int, *packed: torch.Tensor
    ) -> torch.Tensor:
        before, after = packed[:n], packed[n:]
        h = block.norm(x)
        parts = block.before.forward(h, block.before.drop(h, seed)[0], before)
        mixed = block.mix(tables, *parts)
        (made,) = block.after.forward(mixed, block.after.drop(mixed, _other(seed))[0], after)
        ctx.save_for_backward(x, *packed, *(parts if block.keep else ()))
        ctx.block, ctx.tables, ctx.seed, ctx.ends = block, tables, seed, (n, len(packed))
        return made.add_(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        (x, *saved), block, seed, (n, m) = ctx.saved_tensors, ctx.block, ctx.seed, ctx.ends
        before, after, parts = saved[:n], saved[n:m], saved[m:]
        with torch.enable_grad():
            x = x.detach().requires_grad_(ctx.needs_input_grad[0])
            h = block.norm(x)
        dropped, mask = block.before.drop(h.detach(), seed)
        parts = [part.detach().requires_grad_() for part in parts or block.before.forward(h.detach(), dropped, before)]
        with torch.enable_grad():
            mixed = block.mix(ctx.tables, *parts)
        of_mixed, of_after = block.after.backward(
            [gradient], *block.after.drop(mixed.detach(), _other(seed)), after, of_input=True
        )
        of_parts = torch.autograd.grad(mixed, parts, of_mixed)
        del parts, mixed, of_mixed  # the largest tensors there are
        of_h, of_before = block.before.backward(of_parts, dropped, mask, before, of_input=x.requires_grad)
        of_x = torch.autograd.grad(h, x, of_h)[0].add_(gradient) if x.requires_grad else None
        return of_x, None, None, None, None, *of_before, *of_after


def _other(seed: int | None) -> int | None:
    """A seed for the block's second mask."""
    return None if seed is None else seed + 1


# %% what a layer of Qwen's language models is made of
def blocks_suit(config: Any) -> bool:
    """Whether a language model's layers are what is written here. Args: config: of the language model."""
    turning = config.rope_parameters.get("rope_type", "default")
    return config.hidden_act == "silu" and turning not in ("dynamic", "longrope")  # their angles depend on the length


def layer_blocks(layer: Any) -> tuple[Block, Block]:
    """The attention and the MLP of a decoder layer of Qwen2-VL, Qwen2.5-VL or Qwen3-VL, with or without adapters."""
    attention, mlp = layer.self_attn, layer.mlp
    size = attention.head_dim

    def attended(tables: Tables, *parts: torch.Tensor) -> torch.Tensor:
        q, k, v = (part.view(len(part), -1, size) for part in parts)  # (T, heads, D)
        if hasattr(attention, "q_norm"):
            q, k = normed(attention.q_norm, q), normed(attention.k_norm, k)
        heads = torch.cat((turned(torch.cat((q, k), 1), tables.cos, tables.sin), v), 1)
        return attend(heads, q.shape[1], tables.seen, tables.home, attention.scaling).flatten(1)

    return (
        Block(layer.input_layernorm, (attention.q_proj, attention.k_proj, attention.v_proj), attended, attention.o_proj),
        Block(layer.post_attention_layernorm, (mlp.gate_proj, mlp.up_proj), gated, mlp.down_proj),
    )


def gated(tables: Tables, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return _Gated.apply(gate, up)


class _Gated(torch.autograd.Function):
    """SwiGLU (arXiv:2002.05202): silu(gate) * up. These are the largest tensors of a layer; only the two given are kept."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(gradient * up, gate), F.silu(gate).mul_(gradient)


def normed(norm: Any, x: torch.Tensor) -> torch.Tensor:
    """RMSNorm (arXiv:1910.07467) by torch's own function, which newer versions run as one kernel."""
    return F.rms_norm(x, x.shape[-1:], norm.weight.to(x.dtype), norm.variance_epsilon)


def turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """`x` (..., D) rotated by position: value i of a head together with value i + D / 2 (arXiv:2104.09864). With tables in
    float32 it is computed there.

    Args:
        cos, sin: as in `turning`.
    """
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin).to(x.dtype)


def turning(angles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(..., D) cosines and sines of angles (..., D / 2), the sines of the first half with the sign they have in `turned`."""
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)


def rotary_tables(
    language: Any, axes: torch.Tensor, positions: torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """(T, 1, D) cosines and sines of the rotary angles, as in `turning`.

    Args:
        axes: (D / 2,) which of the three positions each frequency turns by.
        positions: (3, T).
    """
    rotary = language.rotary_emb
    cos, sin = turning((positions[axes].T * rotary.inv_freq.float())[:, None])
    return (cos * rotary.attention_scaling).to(dtype), (sin * rotary.attention_scaling).to(dtype)
