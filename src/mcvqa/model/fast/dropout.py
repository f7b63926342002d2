"""Applies dropout before LoRA adapters: masks are computed when used, from random keys drawn for each of them.

Stored masks would have to be kept from the forward to the backward pass: 3.7 GB for 3,000 tokens of a 3B model. So a mask is a
function of two short vectors of random keys, for its tokens and its inputs, and is recomputed in the backward pass. Keys are
drawn from torch's generator once per pass, also when a CUDA graph is replayed: every pass, layer and projection has different
masks, and a resumed training run has the same ones as an uninterrupted run.

Shapes: T tokens, I inputs of a projection.
"""
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from mcvqa.model.fast.kernels import drop


class HasDropout(Protocol):
    """Describes an input of `inputs` values per token, of which the share `rate` is dropped."""

    @property
    def inputs(self) -> int: ...

    @property
    def rate(self) -> float: ...


@dataclass(frozen=True)
class Dropout:
    """Holds the mask of one input (T, I).

    Attributes:
        token_keys: (T,) int32.
        input_keys: (I / 2, rounded up) int32, one per two adjacent inputs.
        rate: share of dropped values.
    """

    token_keys: torch.Tensor
    input_keys: torch.Tensor
    rate: float

    def of_tokens(self, tokens: torch.Tensor) -> "Dropout":
        """Select the mask of some of the tokens.

        Args:
            tokens: (n,) indices.
        """
        return replace(self, token_keys=self.token_keys[tokens])


def dropped(x: torch.Tensor, dropout: Dropout | None, *, overwrite: bool = False) -> torch.Tensor:
    """Set the dropped values of `x` to zero; the adapter scales the others (see AdapterSpec.factor).

    Args:
        x: (T, I).
        dropout: the mask; None: nothing is dropped.
        overwrite: whether the result may overwrite x.
    """
    return x if dropout is None else drop(x, dropout.token_keys, dropout.input_keys, dropout.rate, overwrite=overwrite)


def joined_keys(masks: Sequence[Dropout | None]) -> torch.Tensor | None:
    """Concatenate the keys of all masks; None: there are none."""
    keys = [key for mask in masks if mask for key in (mask.token_keys, mask.input_keys)]
    return torch.cat(keys) if keys else None


def with_keys(masks: Sequence[Dropout | None], joined: torch.Tensor) -> list[Dropout | None]:
    """Make masks of the same sizes from other keys, in the order of `joined_keys`."""
    keys = iter(joined.split([len(key) for mask in masks if mask for key in (mask.token_keys, mask.input_keys)]))
    return [mask and replace(mask, token_keys=next(keys), input_keys=next(keys)) for mask in masks]


def draw_dropout(projections: Sequence[HasDropout], tokens: int, device: torch.device) -> tuple[Dropout | None, ...]:
    """Draw the masks of one pass: one per projection; None: no dropout.

    Args:
        projections: the projections.
        tokens: number of tokens T.
        device: device of the keys.
    """
    active = [number for number, one in enumerate(projections) if one.rate]
    drawn: list[Dropout | None] = [None] * len(projections)
    if active:
        counts = [count for number in active for count in (tokens, -(-projections[number].inputs // 2))]
        keys = torch.randint(-(2**31), 2**31, (sum(counts),), dtype=torch.int32, device=device).split(counts)
        for number, token_keys, input_keys in zip(active, keys[::2], keys[1::2], strict=True):
            drawn[number] = Dropout(token_keys, input_keys, projections[number].rate)
    return tuple(drawn)
