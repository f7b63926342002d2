"""Computes decoder layers for frozen weights with adapters, with fewer kernels, less Python and less memory.

Both halves of a decoder layer have the form x + after(mix(before(norm(x)))): attention mixes queries, keys and values, the MLP
mixes gate and up. A block is one autograd function that saves only x (and, if memory allows, the output of `before`); its
backward pass recomputes the rest, except the products of `after`, which no gradient needs. Gradients of frozen weights are never
computed; dropout masks are computed, and 4-bit weights dequantized, when used.

Shapes: T distinct tokens of a batch (see fast/layout.py), H hidden size, I inputs, O outputs and R rank of a projection.
"""
import copy
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mcvqa.model.fast.delta import ChunkTree
from mcvqa.model.fast.dropout import Dropout, dropped
from mcvqa.model.fast.kernels import gate_up, gate_up_backward, norm_backward, rotate
from mcvqa.model.fast.layout import Sight, attend
from mcvqa.model.memory import free_memory
from mcvqa.model.published import in_full


@dataclass(frozen=True)
class Tables:
    """Holds the inputs of all layers besides the hidden states.

    Attributes:
        cos, sin: (T, 1, D), see rotary_tables; D values per head.
        sight: the tokens each prompt attends to.
        chunks: chunks of tokens, for recurrent layers.
    """

    cos: torch.Tensor
    sin: torch.Tensor
    sight: Sight
    chunks: ChunkTree | None


# %% frozen weights
def joint_tensor(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Concatenate tensors along the first dimension; they become views of the result, so that nothing is stored twice."""
    rows = [*map(len, tensors)]
    if all(_follows(*pair) for pair in itertools.pairwise(tensors)):  # joined already, for another fold
        first = tensors[0].data
        return first.as_strided((sum(rows), *first.shape[1:]), first.stride())
    together = torch.cat([tensor.data for tensor in tensors])
    for tensor, part in zip(tensors, together.split(rows), strict=True):
        tensor.data = part
    return together


def _follows(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether `other` directly follows `one` in the same storage."""
    same = one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
    return same and other.storage_offset() == one.storage_offset() + one.numel()


Stored = tuple[torch.Tensor, Any]  # a weight, and bitsandbytes' state if it is packed in 4 bits


class FrozenWeight:
    """Joins the weights (O, I) and biases (O,) of frozen linear layers along O.

    The layers have the same input. Their weights are stored together, so that all are dequantized at once. The layers hold views
    of them and still work.
    """

    def __init__(self, bases: Sequence[Any]) -> None:
        self.bases = bases
        self.addresses: list[int] = []  # of the layers' weights in memory
        self.settle()

    def settle(self) -> None:
        """Join the weights, again if they have been moved since."""
        addresses = [base.weight.data_ptr() for base in self.bases]
        if addresses == self.addresses:
            return
        stored: list[Stored] = [(base.weight, getattr(base.weight, "quant_state", None)) for base in self.bases]
        self.stored = [_joint(stored)] if _can_be_joined(stored) else [(weight.data, state) for weight, state in stored]
        self.bias = None if self.bases[0].bias is None else torch.cat([base.bias.detach() for base in self.bases])
        self.addresses = [base.weight.data_ptr() for base in self.bases]
        if len(self.stored) < len(self.bases):
            free_memory()  # layer by layer, or torch would keep the memory of all the separate weights

    def unpacked(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the weight (O, I), dequantized."""
        each = [(weight if state is None else in_full(weight, state)).to(dtype) for weight, state in self.stored]
        return each[0] if len(each) == 1 else torch.cat(each)


def _can_be_joined(stored: Sequence[Stored]) -> bool:
    """Return whether the weights have the same format and, in 4 bits, no block with a common scale would span two weights."""
    kinds, whole = set(), True
    for weight, state in stored:
        kinds.add((weight.dtype, state and (state.quant_type, state.blocksize, state.dtype)))
        if state is not None:
            whole &= not state.nested and state.shape.numel() % state.blocksize == 0  # nested: the scales are quantized too
    return len(stored) > 1 and len(kinds) == 1 and whole


def _joint(stored: Sequence[Stored]) -> Stored:
    weights, states = zip(*stored, strict=True)
    state = copy.copy(states[0])
    if state is not None:
        state.absmax = joint_tensor([one.absmax for one in states])
        state.shape = torch.Size((sum(one.shape[0] for one in states), state.shape[1]))
    return joint_tensor(weights), state


# %% projections
Packed = tuple[torch.Tensor, ...]  # the joint A (R, I) of one Projections, and the B of each of its parts


@dataclass(frozen=True)
class AdapterSpec:
    """Describes a LoRA adapter (arXiv:2106.09685) without its weights.

    Attributes:
        layer: name of the adapted layer: q, up, ...
        part: number of the output part that it adds to.
        outputs: (first, end) of its outputs within that part.
        ranks: (first, end) of its ranks among those of all adapters of the projections.
        scale: LoRA scale.
        rate: dropout rate before it.
    """

    layer: str
    part: int
    outputs: tuple[int, int]
    ranks: tuple[int, int]
    scale: float
    rate: float

    def factor(self, training: bool) -> float:
        """Return the multiplier for A's output: LoRA scale x 1/(1-p)."""
        return self.scale / (1 - self.rate * training)


@dataclass(frozen=True)
class ProjectionSpec:
    """Describes projections without their weights; those with equal specs are packed together.

    Attributes:
        inputs: number of inputs I.
        sizes: outputs O of each part.
        adapters: in the order of the layers, so that those of a part are adjacent.
    """

    inputs: int
    sizes: tuple[int, ...]
    adapters: tuple[AdapterSpec, ...]

    def part_adapters(self) -> dict[int, list[AdapterSpec]]:
        """Return the adapters by part, for parts that have any."""
        return {part: [*group] for part, group in itertools.groupby(self.adapters, lambda adapter: adapter.part)}

    def part_ranks(self) -> dict[int, slice]:
        """Return the ranks of each part that has adapters, among all R."""
        return {part: slice(adapters[0].ranks[0], adapters[-1].ranks[1]) for part, adapters in self.part_adapters().items()}


def projection_spec(layers: Mapping[str, Any], *, apart: bool) -> ProjectionSpec:
    """Describe Projections.

    Args:
        layers, apart: see `Projections`.
    """
    outputs = {name: getattr(layer, "base_layer", layer).out_features for name, layer in layers.items()}
    adapters: list[AdapterSpec] = []
    rank = row = 0
    for number, (name, layer) in enumerate(layers.items()):
        part, first = (number, 0) if apart else (0, row)
        if hasattr(layer, "lora_A"):
            adapter = next(iter(layer.lora_A))
            ranks = rank, rank + layer.lora_A[adapter].out_features
            rate = getattr(layer.lora_dropout[adapter], "p", 0.0)
            adapters.append(AdapterSpec(name, part, (first, first + outputs[name]), ranks, layer.scaling[adapter], rate))
            rank = ranks[1]
        row += outputs[name]
    inputs = getattr(layer, "base_layer", layer).in_features
    return ProjectionSpec(inputs, tuple(outputs.values()) if apart else (row,), tuple(adapters))


class Projections:
    """Computes frozen linear layers with the same input, each x W' + b + scale * drop(x) A' B', with one dropout mask for all.

    Args:
        layers: linear layers, or PEFT's layers around them, by name.
        apart: whether each layer's output is a separate, contiguous part; otherwise all are concatenated in one part.
    """

    def __init__(self, layers: Mapping[str, Any], *, apart: bool = False) -> None:
        self.weight = FrozenWeight([getattr(layer, "base_layer", layer) for layer in layers.values()])
        self.spec = projection_spec(layers, apart=apart)
        self.part_ranks = self.spec.part_ranks()
        self.inputs = self.spec.inputs
        self.rate = self.spec.adapters[0].rate if self.spec.adapters else 0.0
        adapted = {name: layer for name, layer in layers.items() if hasattr(layer, "lora_A")}
        self.downs = {name: layer.lora_A[next(iter(layer.lora_A))] for name, layer in adapted.items()}  # A of each layer
        self.ups = {name: layer.lora_B[next(iter(layer.lora_B))] for name, layer in adapted.items()}  # B of each layer

    def forward(self, x: torch.Tensor, low: torch.Tensor | None, packed: Packed) -> list[torch.Tensor]:
        """Compute the outputs (T, O) of each part.

        Args:
            x: (T, I).
            low: (T, R), from `lowered`.
            packed: the packed adapters.
        """
        bias, sizes = self.weight.bias, [*self.spec.sizes]
        weights = self.weight.unpacked(x.dtype).split_with_sizes(sizes)
        biases = [None] * len(weights) if bias is None else bias.to(x.dtype).split_with_sizes(sizes)
        ups, outputs = dict(zip(self.part_ranks, packed[1:], strict=True)), []
        for part, (weight, part_bias) in enumerate(zip(weights, biases, strict=True)):
            if low is None or part not in ups:
                outputs.append(F.linear(x, weight, part_bias))
            else:  # the small product first, to which the large one adds at little cost
                outputs.append(F.linear(low[:, self.part_ranks[part]], ups[part], part_bias).addmm_(x, weight.T))
        return outputs

    def adapters_backward(
        self, gradients: Sequence[torch.Tensor], x_dropped: torch.Tensor, low: torch.Tensor | None, packed: Packed
    ) -> tuple[torch.Tensor | None, Packed]:
        """Compute the gradients of `low` and of the packed adapters.

        Args:
            gradients: (T, O) of each part.
            x_dropped: (T, I) input after dropout.
            low: (T, R), from `lowered`.
            packed: the packed adapters.
        """
        if low is None:
            return None, ()
        of_low, of_ups = torch.empty_like(low), []
        for (part, ranks), up in zip(self.part_ranks.items(), packed[1:], strict=True):
            torch.mm(gradients[part], up, out=of_low[:, ranks])
            of_ups.append(gradients[part].T @ low[:, ranks])
        return of_low, (of_low.T @ x_dropped, *of_ups)

    def backward(
        self, gradients: Sequence[torch.Tensor], of_low: torch.Tensor | None, dropout: Dropout | None, packed: Packed
    ) -> torch.Tensor:
        """Compute the gradient (T, I) of the input.

        Args:
            gradients: (T, O) of each part.
            of_low: (T, R) gradient of `low`.
            dropout: mask of the input.
            packed: the packed adapters.
        """
        of_x = None
        if of_low is not None:  # the small product first, as in forward
            of_x = dropped(of_low @ packed[0], dropout, overwrite=True)
        weights = self.weight.unpacked(gradients[0].dtype).split_with_sizes([*self.spec.sizes])
        for gradient, weight in zip(gradients, weights, strict=True):
            of_x = gradient @ weight if of_x is None else of_x.addmm_(gradient, weight)
        assert of_x is not None
        return of_x


def lowered(x: torch.Tensor, dropout: Dropout | None, packed: Packed) -> torch.Tensor | None:
    """Multiply the input by A; the result (T, R) is small, so it is saved for the backward pass. None: no adapters.

    Args:
        x: (T, I).
        dropout: mask of the input.
        packed: the packed adapters.
    """
    return F.linear(dropped(x, dropout), packed[0]) if packed else None


# %% the adapters of all layers, packed at once in each forward pass
def pack(projections: Sequence[Projections], dtype: torch.dtype, *, training: bool) -> tuple[Packed, ...]:
    """Pack the adapters of all `projections`, cast to `dtype` at once instead of at each use.

    All A of one Projections form one matrix, and so do all B of a part (block-diagonal, with zeros): each takes one product. A is
    multiplied by the adapter's scale and, in training, by 1 / (1 - dropout rate).

    Args:
        projections: the projections.
        dtype: precision of the packed adapters.
        training: whether dropout is active.

    Returns:
        Packed adapters of each Projections.
    """
    stacks: dict[ProjectionSpec, list[int]] = {}  # numbers of the projections with equal specs
    for number, one in enumerate(projections):
        if one.spec.adapters:
            stacks.setdefault(one.spec, []).append(number)
    packed: list[Packed] = [()] * len(projections)
    for spec, numbers in stacks.items():
        alike = [projections[number] for number in numbers]
        down, *ups = packed_downs(spec, alike, dtype, training), *packed_ups(spec, alike, dtype)
        for number, *matrices in zip(numbers, down, *ups, strict=True):
            packed[number] = tuple(matrices)
    return tuple(packed)


def packed_downs(spec: ProjectionSpec, alike: Sequence[Projections], dtype: torch.dtype, training: bool) -> torch.Tensor:
    """Concatenate the scaled A of n Projections with the same spec along R, (n, R, I)."""
    downs = [
        torch.stack([one.downs[adapter.layer].weight for one in alike]) * adapter.factor(training) for adapter in spec.adapters
    ]
    return (downs[0] if len(downs) == 1 else torch.cat(downs, 1)).to(dtype)


def packed_ups(spec: ProjectionSpec, alike: Sequence[Projections], dtype: torch.dtype) -> list[torch.Tensor]:
    """Pack B of n Projections for each part with adapters, (n, O, R of the part), zero where an adapter adds nothing."""
    parts = []
    for part, adapters in spec.part_adapters().items():
        ups = []
        for adapter in adapters:
            up = torch.stack([one.ups[adapter.layer].weight for one in alike])  # (n, outputs of the layer, its ranks)
            above, below = adapter.outputs[0], spec.sizes[part] - adapter.outputs[1]
            ups.append(F.pad(up, (0, 0, above, below)) if above or below else up)
        parts.append((ups[0] if len(ups) == 1 else torch.cat(ups, 2)).to(dtype))
    return parts


# %% blocks
Mixed = tuple[torch.Tensor, Callable[[torch.Tensor], Sequence[torch.Tensor]]]


class Block(nn.Module):
    """Computes one half of a decoder layer: x + after(mix(before(norm(x)))).

    Its modules belong to the model and are only read here.

    Args:
        norm: RMSNorm before the half.
        before, after: the projections.
        mix: takes a batch's tables and the outputs of `before`, (T, O) of each part; returns the input of `after`, and a function
            from its gradient to those of the parts, which is not called if grad mode is off.
    """

    def __init__(self, norm: Any, before: Projections, mix: Callable[..., Mixed], after: Projections) -> None:
        super().__init__()
        self.norm = functools.partial(normed, norm)  # not a submodule, to be registered only in the model
        self.norm_backward = functools.partial(norm_backward, norm)
        self.before, self.mix, self.after = before, mix, after
        self.keep = False  # save the outputs of `before` instead of recomputing them

    def forward(
        self, x: torch.Tensor, tables: Tables, packed: tuple[Packed, ...], dropouts: tuple[Dropout | None, ...]
    ) -> torch.Tensor:
        """Map (T, H) to (T, H), in the precision of x.

        Args:
            x: (T, H).
            tables: inputs of all layers.
            packed: packed adapters of `before` and `after`.
            dropouts: masks of both, from draw_dropout.
        """
        self.before.weight.settle()
        self.after.weight.settle()
        before, after = packed
        return _BlockStep.apply(x, self, tables, dropouts, len(before), *before, *after)


class _BlockStep(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, block: Block, tables: Tables, dropouts: tuple[Dropout | None, ...], n: int,
        *packed: torch.Tensor,
    ) -> torch.Tensor:
        before, after = packed[:n], packed[n:]
        out = torch.empty_like(x)  # allocated first, next to saved tensors, to avoid fragmentation
        h = block.norm(x)
        low = lowered(h, dropouts[0], before)
        parts = block.before.forward(h, low, before)
        mixed = block.mix(tables, *parts)[0]
        parts = parts if block.keep else []  # the largest tensors
        low_after = lowered(mixed, dropouts[1], after)
        torch.add(block.after.forward(mixed, low_after, after)[0], x, out=out)
        ctx.save_for_backward(x, low, low_after, *packed, *parts)
        ctx.block, ctx.tables, ctx.dropouts, ctx.ends = block, tables, dropouts, (n, len(packed))
        return out

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        (x, low, low_after, *saved), block, (n, m) = ctx.saved_tensors, ctx.block, ctx.ends
        of_before_input, of_after_input = ctx.dropouts
        before, after, parts = saved[:n], saved[n:m], saved[m:]
        h = block.norm(x)
        parts = parts or block.before.forward(h, low, before)
        with torch.enable_grad():
            mixed, of_mix = block.mix(ctx.tables, *parts)
        mixed_dropped = dropped(mixed.detach(), of_after_input, overwrite=not mixed.requires_grad)
        of_low, of_after = block.after.adapters_backward([gradient], mixed_dropped, low_after, after)
        del parts, mixed, mixed_dropped
        of_parts = of_mix(block.after.backward([gradient], of_low, of_after_input, after))
        del of_mix
        of_low, of_before = block.before.adapters_backward(of_parts, dropped(h, of_before_input), low, before)
        if not ctx.needs_input_grad[0]:
            return None, None, None, None, None, *of_before, *of_after
        of_x = block.norm_backward(x, block.before.backward(of_parts, of_low, of_before_input, before), gradient)
        return of_x, None, None, None, None, *of_before, *of_after


# %% decoder layers of Qwen's language models
def blocks_suit(config: Any) -> bool:
    """Return whether blocks implement the layers of a language model.

    Args:
        config: configuration of the language model.
    """
    rope_type = config.rope_parameters.get("rope_type", "default")
    plain = config.hidden_act == "silu" and not config.attention_dropout
    return plain and rope_type not in ("dynamic", "longrope")  # there, angles depend on the length


def layer_blocks(layer: Any) -> dict[str, Block]:
    """Make the attention and MLP blocks of a layer of Qwen2-VL, Qwen2.5-VL or Qwen3-VL, with or without adapters."""
    attention = layer.self_attn
    size = attention.head_dim
    queries, keys = (part.out_features // size for part in (attention.q_proj, attention.k_proj))  # heads
    norms = hasattr(attention, "q_norm")

    def attended(tables: Tables, joint: torch.Tensor) -> Mixed:
        joint = joint.detach().requires_grad_(torch.is_grad_enabled())
        heads = joint.view(len(joint), -1, size)  # (T, heads, D) queries, keys, values
        if norms:
            q, k, v = heads.split([queries, keys, keys], 1)
            heads = torch.cat((normed(attention.q_norm, q), normed(attention.k_norm, k), v), 1)
        heads = rotate(heads, tables.cos, tables.sin, queries + keys)
        mixed = attend(heads, queries, tables.sight, attention.scaling).flatten(1)
        return mixed, functools.partial(torch.autograd.grad, mixed, joint)

    before = Projections(dict(q=attention.q_proj, k=attention.k_proj, v=attention.v_proj))
    return dict(
        self_attn=Block(layer.input_layernorm, before, attended, Projections(dict(o=attention.o_proj))),
        mlp=gated_mlp(layer.mlp, layer.post_attention_layernorm),
    )


def gated_mlp(mlp: Any, norm: Any) -> Block:
    """Make the block of an MLP. gate and up are separate parts: concatenated they save 3 kernels of 149, but are read with
    strides."""
    return Block(
        norm, Projections(dict(gate=mlp.gate_proj, up=mlp.up_proj), apart=True), gated, Projections(dict(down=mlp.down_proj)),
    )


def gated(tables: Tables, gate: torch.Tensor, up: torch.Tensor) -> Mixed:
    """Compute SwiGLU. These are the largest tensors of a layer, of which only the two inputs are kept."""
    return gate_up(gate, up), lambda gradient: gate_up_backward(gradient, gate, up)


def normed(norm: Any, x: torch.Tensor) -> torch.Tensor:
    """Compute RMSNorm (arXiv:1910.07467) with torch's function, a single kernel in newer versions."""
    return F.rms_norm(x, x.shape[-1:], norm.weight.to(x.dtype), norm.variance_epsilon)


def cos_and_sin(angles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute cosines and sines (..., D) of angles (..., D / 2), the first half of the sines negated, as `rotate` expects."""
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)


def rotary_tables(
    language: Any, axes: torch.Tensor, positions: torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute cosines and sines (T, 1, D) of the rotary angles; see `cos_and_sin`.

    Args:
        language: the language model.
        axes: (D / 2,) position axis of each frequency.
        positions: (3, T).
        dtype: precision of the result.
    """
    rotary = language.rotary_emb
    cos, sin = cos_and_sin((positions[axes].T * rotary.inv_freq.float())[:, None])
    return (cos * rotary.attention_scaling).to(dtype), (sin * rotary.attention_scaling).to(dtype)
