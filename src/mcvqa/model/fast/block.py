"""The language model's layers, written for frozen weights with adapters: fewer kernels, less Python and less memory.

A decoder layer is twice the same thing, x + after(mix(before(norm(x)))): attention mixes queries, keys and values, the MLP
gate and up. A block runs as one step of autograd that keeps nothing but x (and, where memory allows, what `before` gave);
its backward pass computes the rest again, but for the products of `after`, which no gradient needs. The gradients of
frozen weights are never made, all masks of dropout are views of one, and 4-bit weights are unpacked when used.

Shapes: T distinct tokens of a batch (see model/layout.py), H hidden size, I inputs, O outputs and R rank of a projection.
"""
import copy
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mcvqa.model.fast.kernels import gate_up, gate_up_backward, norm_backward, turn
from mcvqa.model.fast.layout import Sight, attend
from mcvqa.model.memory import free_memory


@dataclass(frozen=True)
class Tables:
    """What all layers read beside the hidden states.

    Attributes:
        cos, sin: (T, 1, D), as in rotary_tables; D values per head.
    """

    cos: torch.Tensor
    sin: torch.Tensor
    sight: Sight


# %% frozen weights
def joint_tensor(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """All of them, one below the other; they become views of it, so that nothing is stored twice."""
    rows = [*map(len, tensors)]
    if all(_follows(*pair) for pair in itertools.pairwise(tensors)):  # joined before, for another fold
        first = tensors[0].data
        return first.as_strided((sum(rows), *first.shape[1:]), first.stride())
    together = torch.cat([tensor.data for tensor in tensors])
    for tensor, part in zip(tensors, together.split(rows), strict=True):
        tensor.data = part
    return together


def _follows(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether `other` stands right behind `one` in the same storage."""
    same = one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
    return same and other.storage_offset() == one.storage_offset() + one.numel()


Stored = tuple[torch.Tensor, Any]  # a weight, and bitsandbytes' state where it is packed into 4 bits


class FrozenWeight:
    """The weight (O, I) and bias (O,) of frozen linear layers with the same input: those of the layers, one below the other.

    The weights are stored together, so that all are unpacked at once. The layers have views of them, and go on working.
    """

    def __init__(self, bases: Sequence[Any]) -> None:
        self.bases = bases
        self.places: list[int] = []  # of the layers' weights in memory
        self.settle()

    def settle(self) -> None:
        """Join the weights; again when they have been moved since."""
        places = [base.weight.data_ptr() for base in self.bases]
        if places == self.places:
            return
        stored: list[Stored] = [(base.weight, getattr(base.weight, "quant_state", None)) for base in self.bases]
        self.stored = [_joint(stored)] if _can_be_joined(stored) else [(weight.data, state) for weight, state in stored]
        self.bias = None if self.bases[0].bias is None else torch.cat([base.bias.detach() for base in self.bases])
        self.places = [base.weight.data_ptr() for base in self.bases]
        if len(self.stored) < len(self.bases):
            free_memory()  # layer for layer, or torch would keep the room in which all the weights stood apart

    def unpacked(self, dtype: torch.dtype) -> torch.Tensor:
        """(O, I)"""
        each = [_unpacked(*stored).to(dtype) for stored in self.stored]
        return each[0] if len(each) == 1 else torch.cat(each)


def _can_be_joined(stored: Sequence[Stored]) -> bool:
    """Whether they are of one kind and, in 4 bits, no block of values with the same scale would reach over two weights."""
    kinds, whole = set(), True
    for weight, state in stored:
        kinds.add((weight.dtype, state and (state.quant_type, state.blocksize, state.dtype)))
        if state is not None:
            whole &= not state.nested and state.shape.numel() % state.blocksize == 0  # nested: scales packed in turn
    return len(stored) > 1 and len(kinds) == 1 and whole


def _joint(stored: Sequence[Stored]) -> Stored:
    weights, states = zip(*stored, strict=True)
    state = copy.copy(states[0])
    if state is not None:
        state.absmax = joint_tensor([own.absmax for own in states])
        state.shape = torch.Size((sum(own.shape[0] for own in states), state.shape[1]))
    return joint_tensor(weights), state


def _unpacked(weight: torch.Tensor, state: Any) -> torch.Tensor:
    if state is None:
        return weight
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(weight, state)


# %% projections
Packed = tuple[torch.Tensor, ...]  # the A of one Projections, (R, I) with all ranks together, and the B of each of its parts


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter (arXiv:2106.09685) of one linear layer.

    Attributes:
        down: A; up: B.
        part: number of the part of its Projections that it adds to.
        down_at, up_at: where its A and B stand among those of its Projections (n, R, I), and of its part (n, O, R), when n of
            a kind are stacked.
        rate: of dropout in front of it.
    """

    down: nn.Linear
    up: nn.Linear
    part: int
    down_at: tuple[slice, ...]
    up_at: tuple[slice, ...]
    scale: float
    rate: float

    def factor(self, training: bool) -> float:
        """Of what A gives: the adapter's scale, and what makes up for dropout."""
        return self.scale / (1 - self.rate * training)


EVERY = slice(None)


class Projections:
    """Frozen linear layers with the same input: each gives x W' + b + scale * drop(x) A' B'; one dropout mask serves all.

    Args:
        layers: linear layers, or PEFT's layers around them.
        apart: whether each layer's output is a part of its own, contiguous, or all are one part, side by side.
    """

    def __init__(self, layers: Sequence[Any], *, apart: bool = False) -> None:
        bases = [getattr(layer, "base_layer", layer) for layer in layers]
        self.weight, self.inputs = FrozenWeight(bases), bases[0].in_features
        outputs = [base.out_features for base in bases]
        self.sizes = outputs if apart else [sum(outputs)]
        self.ranks: dict[int, slice] = {}  # of the parts that have adapters, among all R
        self.adapters: list[Adapter] = []
        self.rank = row = 0
        for number, layer in enumerate(layers):
            part, row = (number, 0) if apart else (0, row)
            rows = slice(row, row := row + outputs[number])
            if hasattr(layer, "lora_A"):
                name = next(iter(layer.lora_A))
                down, up = layer.lora_A[name], layer.lora_B[name]
                start = self.ranks[part].start if part in self.ranks else self.rank
                ranks = slice(self.rank, self.rank + down.out_features)
                own = slice(ranks.start - start, ranks.stop - start)
                self.ranks[part], self.rank = slice(start, ranks.stop), ranks.stop
                rate = getattr(layer.lora_dropout[name], "p", 0.0)
                places = (EVERY, ranks), (EVERY, rows, own)
                self.adapters.append(Adapter(down, up, part, *places, layer.scaling[name], rate))
        adapters = [(one.part, one.down_at, one.up_at, one.scale, one.rate) for one in self.adapters]
        self.kind = repr((self.inputs, self.sizes, adapters))  # the same for like layers
        self.rate = self.adapters[0].rate if self.adapters else 0.0

    def forward(self, x: torch.Tensor, low: torch.Tensor | None, packed: Packed) -> list[torch.Tensor]:
        """(T, O) of each part from (T, I). Args: low: as in lowered."""
        bias = self.weight.bias
        weights = self.weight.unpacked(x.dtype).split_with_sizes(self.sizes)
        biases = [None] * len(weights) if bias is None else bias.to(x.dtype).split_with_sizes(self.sizes)
        ups, made = dict(zip(self.ranks, packed[1:], strict=True)), []
        for part, (weight, own) in enumerate(zip(weights, biases, strict=True)):
            if low is None or part not in ups:
                made.append(F.linear(x, weight, own))
            else:  # the small product first: the large one adds to it on its way, which costs less than the other way round
                made.append(F.linear(low[:, self.ranks[part]], ups[part], own).addmm_(x, weight.T))
        return made

    def adapters_backward(
        self, gradients: Sequence[torch.Tensor], dropped: torch.Tensor, low: torch.Tensor | None, packed: Packed
    ) -> tuple[torch.Tensor | None, Packed]:
        """Gradients of `low` and of the packed adapters.

        Args:
            gradients: (T, O) of each part.
            dropped: (T, I) input behind dropout.
        """
        if low is None:
            return None, ()
        of_low, of_ups = torch.empty_like(low), []
        for (part, ranks), up in zip(self.ranks.items(), packed[1:], strict=True):
            torch.mm(gradients[part], up, out=of_low[:, ranks])
            of_ups.append(gradients[part].T @ low[:, ranks])
        return of_low, (of_low.T @ dropped, *of_ups)

    def backward(
        self, gradients: Sequence[torch.Tensor], of_low: torch.Tensor | None, mask: torch.Tensor | None, packed: Packed
    ) -> torch.Tensor:
        """(T, I) gradient of the input. Args: gradients, of_low: as in adapters_backward."""
        of_x = None
        if of_low is not None:  # the small product first, as in forward
            of_x = of_low @ packed[0] if mask is None else (of_low @ packed[0]).mul_(mask)
        weights = self.weight.unpacked(gradients[0].dtype).split_with_sizes(self.sizes)
        for gradient, weight in zip(gradients, weights, strict=True):
            of_x = gradient @ weight if of_x is None else of_x.addmm_(gradient, weight)
        assert of_x is not None
        return of_x


def masked(x: torch.Tensor, mask: torch.Tensor | None, *, overwrite: bool = False) -> torch.Tensor:
    """Args: overwrite: whether x is not needed any more."""
    if mask is None:
        return x
    return x.mul_(mask) if overwrite else x * mask


def lowered(x: torch.Tensor, mask: torch.Tensor | None, packed: Packed) -> torch.Tensor | None:
    """(T, R) what A makes of the input (T, I), if there is an A. It is kept for the backward pass, as it is small."""
    return F.linear(masked(x, mask), packed[0]) if packed else None


# %% what is made for all of them at once, in each forward pass
SHIFT = 16 * 257  # places between the beginnings of two masks: a multiple of 16, as kernels like their addresses


def draw_masks(groups: Sequence[Projections], tokens: int, like: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    """(T, I) ones and zeros for the dropout in front of the adapters of each of `groups`, None where there is none.

    All are cut from one row of draws, each from a place of its own, so that no two have the same draw at the same place. One
    drawing serves all layers, and their masks need not be drawn again in the backward pass.
    """
    rate = max(group.rate for group in groups)
    if not rate:
        return (None,) * len(groups)
    length = tokens * max(group.inputs for group in groups) + SHIFT * len(groups)
    drawn = like.new_empty(length).bernoulli_(1 - rate)
    return tuple(
        drawn[n * SHIFT :][: tokens * group.inputs].view(tokens, group.inputs) if group.rate else None
        for n, group in enumerate(groups)
    )


def pack(groups: Sequence[Projections], dtype: torch.dtype, *, training: bool) -> tuple[Packed, ...]:
    """The adapters of all `groups`, cast at once and not each where it is used.

    The A of a group stand together, and so do the B of a part: one product serves them, with zeros between what does not
    belong together. A comes multiplied by the adapter's scale and, in training, by what makes up for dropout.
    """
    kinds: dict[str, list[int]] = {}  # places of groups that differ in nothing but their weights, as those of all layers do
    for n, group in enumerate(groups):
        if group.adapters:
            kinds.setdefault(group.kind, []).append(n)
    weights = []
    for places in kinds.values():
        for alike in zip(*(groups[n].adapters for n in places), strict=True):
            weights += [one.down.weight for one in alike] + [one.up.weight for one in alike]
    packed: list[Packed] = [()] * len(groups)
    stacks = [[groups[n] for n in places] for places in kinds.values()]
    made = iter(_Pack.apply(stacks, dtype, training, *weights) if weights else ())
    for places in kinds.values():
        parts = [[*itertools.islice(made, len(places))] for _ in range(1 + len(groups[places[0]].ranks))]
        for n, *own in zip(places, *parts, strict=True):
            packed[n] = tuple(own)
    return tuple(packed)


class _Pack(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, stacks: Sequence[Sequence[Projections]], dtype: torch.dtype, training: bool, *weights: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """For each of `stacks`: A (R, I) of all its groups, then for each part B (O, R) of all.

        Args:
            stacks: groups of one kind each.
            weights: for each of `stacks` and each adapter: A of all its groups, then B of all.
        """
        ctx.stacks, ctx.training, ctx.dtype = stacks, training, weights[0].dtype
        given = iter(weights)
        made: list[torch.Tensor] = []
        for stack in stacks:
            first, n = stack[0], len(stack)
            down = weights[0].new_empty((n, first.rank, first.inputs), dtype=dtype)
            ups = {part: down.new_zeros((n, first.sizes[part], at.stop - at.start)) for part, at in first.ranks.items()}
            for adapter in first.adapters:
                down[adapter.down_at] = _next(given, n).mul_(adapter.factor(training))
                ups[adapter.part][adapter.up_at] = _next(given, n)
            for together in (down, *ups.values()):
                made += together
        return tuple(made)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        given = iter(gradients)
        own: list[torch.Tensor] = []
        for stack in ctx.stacks:
            first, n = stack[0], len(stack)
            down, ups = _next(given, n), {part: _next(given, n) for part in first.ranks}
            for adapter in first.adapters:
                own += down[adapter.down_at].to(ctx.dtype).mul_(adapter.factor(ctx.training))
                own += ups[adapter.part][adapter.up_at].to(ctx.dtype)
        return None, None, None, *own


def _next(given: Iterator[torch.Tensor], n: int) -> torch.Tensor:
    """The next `n` tensors as one, (n, ...)."""
    return torch.stack([*itertools.islice(given, n)])


# %% blocks
Mixed = tuple[torch.Tensor, Callable[[torch.Tensor], Sequence[torch.Tensor]]]


class Block(nn.Module):
    """One half of a decoder layer: x + after(mix(before(norm(x)))).

    The modules it is made of belong to the model; here they are only read.

    Args:
        mix: from a batch's tables and what `before` gave, (T, O) of each part, to what `after` takes, and to a function from
            the gradient of that to the gradients of the parts; where grad mode is off, that is not called.
    """

    def __init__(self, norm: Any, before: Projections, mix: Callable[..., Mixed], after: Projections) -> None:
        super().__init__()
        self.norm = functools.partial(normed, norm)  # so that the module is not registered here as well
        self.norm_backward = functools.partial(norm_backward, norm)
        self.before, self.mix, self.after = before, mix, after
        self.keep = False  # what `before` gave, instead of computing it again

    def forward(
        self, x: torch.Tensor, tables: Tables, packed: tuple[Packed, ...], masks: tuple[torch.Tensor | None, ...]
    ) -> torch.Tensor:
        """(T, H) -> (T, H), all in the precision of x.

        Args:
            packed: adapters of `before` and of `after`; masks: of both, as in draw_masks.
        """
        self.before.weight.settle()
        self.after.weight.settle()
        before, after = packed
        return _BlockStep.apply(x, self, tables, masks, len(before), *before, *after)


class _BlockStep(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, block: Block, tables: Tables, masks: tuple[torch.Tensor | None, ...], n: int,
        *packed: torch.Tensor,
    ) -> torch.Tensor:
        before, after = packed[:n], packed[n:]
        made = torch.empty_like(x)  # first, right behind what is kept: it would leave gaps between what is given back
        h = block.norm(x)
        low = lowered(h, masks[0], before)
        parts = block.before.forward(h, low, before)
        mixed = block.mix(tables, *parts)[0]
        parts = parts if block.keep else []  # the largest tensors there are
        low_after = lowered(mixed, masks[1], after)
        torch.add(block.after.forward(mixed, low_after, after)[0], x, out=made)
        ctx.save_for_backward(x, low, low_after, *packed, *parts)
        ctx.block, ctx.tables, ctx.masks, ctx.ends = block, tables, masks, (n, len(packed))
        return made

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        (x, low, low_after, *saved), block, masks, (n, m) = ctx.saved_tensors, ctx.block, ctx.masks, ctx.ends
        before, after, parts = saved[:n], saved[n:m], saved[m:]
        h = block.norm(x)
        parts = parts or block.before.forward(h, low, before)
        with torch.enable_grad():
            mixed, of_mix = block.mix(ctx.tables, *parts)
        dropped = masked(mixed.detach(), masks[1], overwrite=not mixed.requires_grad)
        of_low, of_after = block.after.adapters_backward([gradient], dropped, low_after, after)
        del parts, mixed, dropped
        of_parts = of_mix(block.after.backward([gradient], of_low, masks[1], after))
        del of_mix
        of_low, of_before = block.before.adapters_backward(of_parts, masked(h, masks[0]), low, before)
        if not ctx.needs_input_grad[0]:
            return None, None, None, None, None, *of_before, *of_after
        of_x = block.norm_backward(x, block.before.backward(of_parts, of_low, masks[0], before), gradient)
        return of_x, None, None, None, None, *of_before, *of_after


# %% what a layer of Qwen's language models is made of
def blocks_suit(config: Any) -> bool:
    """Whether a language model's layers are what is written here. Args: config: of the language model."""
    turning = config.rope_parameters.get("rope_type", "default")
    plain = config.hidden_act == "silu" and not config.attention_dropout
    return plain and turning not in ("dynamic", "longrope")  # their angles depend on the length


def layer_blocks(layer: Any) -> tuple[Block, Block]:
    """The attention and the MLP of a decoder layer of Qwen2-VL, Qwen2.5-VL or Qwen3-VL, with or without adapters."""
    attention, mlp = layer.self_attn, layer.mlp
    size = attention.head_dim
    queries, keys = (part.out_features // size for part in (attention.q_proj, attention.k_proj))  # heads
    norms = hasattr(attention, "q_norm")

    def attended(tables: Tables, joint: torch.Tensor) -> Mixed:
        joint = joint.detach().requires_grad_(torch.is_grad_enabled())
        heads = joint.view(len(joint), -1, size)  # (T, heads, D) queries, keys, values
        if norms:
            q, k, v = heads.split([queries, keys, keys], 1)
            heads = torch.cat((normed(attention.q_norm, q), normed(attention.k_norm, k), v), 1)
        heads = turn(heads, tables.cos, tables.sin, queries + keys)
        made = attend(heads, queries, tables.sight, attention.scaling).flatten(1)
        return made, functools.partial(torch.autograd.grad, made, joint)

    return (
        Block(
            layer.input_layernorm, Projections((attention.q_proj, attention.k_proj, attention.v_proj)), attended,
            Projections([attention.o_proj]),
        ),
        Block(  # gate and up apart: side by side they save 3 kernels of 149, but the largest tensors are read with gaps
            layer.post_attention_layernorm, Projections((mlp.gate_proj, mlp.up_proj), apart=True), gated,
            Projections([mlp.down_proj]),
        ),
    )


def gated(tables: Tables, gate: torch.Tensor, up: torch.Tensor) -> Mixed:
    """SwiGLU. These are the largest tensors of a layer; only the two given are kept."""
    return gate_up(gate, up), lambda gradient: gate_up_backward(gradient, gate, up)


def normed(norm: Any, x: torch.Tensor) -> torch.Tensor:
    """RMSNorm (arXiv:1910.07467) by torch's own function, which newer versions run as one kernel."""
    return F.rms_norm(x, x.shape[-1:], norm.weight.to(x.dtype), norm.variance_epsilon)


def turning(angles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(..., D) cosines and sines of angles (..., D / 2), the sines of the first half with the sign they have in `turn`."""
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
