"""Every token once: a batch is one list of distinct tokens, and only the attention sees the prompts apart.

Prompts that begin alike (the system message of all rows, the picture of the questions about it, the question of its option
orders) share the tokens up to where they part. In a causal model a token's vectors depend on nothing but what stands before
it, so they are computed once, and nothing is padded but inside the attention.

Shapes: B rows, K option orders, E prompts (one for each order of each row), L tokens of the longest prompt, T distinct tokens,
D values per head.
"""
import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from mcvqa.model.text.encode import Row

FIRST_PICTURE = 2**32  # above all tokens: image tokens are compared by the number of their picture


@dataclass(frozen=True)
class TokenLayout:
    """Where the tokens of each prompt stand in the list.

    Attributes:
        input_ids: (T,) the list; position_ids: (3, T).
        seen: (E, L) place in the list of each token of each prompt, 0 at padding on the right.
        home: (T,) where each token of the list is first seen, in the flattened (E * L).
        answer_at: (B, K) place of the last token of each prompt, -1 where a row has fewer orders.
        pictures: rows whose images stand in the list, in its order.
    """

    input_ids: np.ndarray
    position_ids: np.ndarray
    seen: np.ndarray
    home: np.ndarray
    answer_at: np.ndarray
    pictures: tuple[int, ...]


def lay_out(rows: Sequence[Row], image_token_id: int, *, sharing: bool = True) -> TokenLayout:
    """The prompts in the order of their tokens, so that what any two share is shared by all between them.

    Args:
        sharing: between rows; without it only the orders of a row share.
    """
    numbers: dict[Any, int] = {}  # of the pictures; the same path at the same size has the same tokens
    names, prompts, start = [], [], 0
    for i, row in enumerate(rows):
        picture = FIRST_PICTURE + numbers.setdefault((row.image, row.grid), len(numbers))
        names.append(np.where(row.input_ids == image_token_id, picture, row.input_ids))
        for k in range(len(row.answer_at)):
            own = np.flatnonzero((row.segment == 0) | (row.segment == k + 1))
            prompts.append((names[-1][own].astype(">i8").tobytes(), i, k, start + own))  # these bytes sort as the numbers do
        start += len(row)
    prompts.sort(key=lambda prompt: (0 if sharing else prompt[1], prompt[0]))

    source = np.full((len(prompts), max(len(own) for *_, own in prompts)), -1)  # (E, L) among the tokens of all rows
    for e, (*_, own) in enumerate(prompts):
        source[e, : len(own)] = own
    real = source >= 0
    name = np.where(real, np.concatenate(names)[source], -1)
    new = real.copy()  # (E, L) whether a token differs from the prompt before, or follows one that does
    parted = name[1:] != name[:-1]
    if not sharing:
        parted[:, 0] |= np.diff([i for _, i, *_ in prompts]) > 0  # from the first token of each row
    new[1:] &= np.logical_or.accumulate(parted, axis=1)

    listed = source[new]  # (T,)
    seen = np.zeros(new.shape, np.int64)
    seen[new] = np.arange(len(listed))
    seen = np.maximum.accumulate(seen, axis=0) * real  # what is not new stands where the prompt before has it
    answer_at = np.full((len(rows), max(len(row.answer_at) for row in rows)), -1, np.int64)
    for e, (_, i, k, own) in enumerate(prompts):
        answer_at[i, k] = seen[e, len(own) - 1]
    return TokenLayout(
        np.concatenate([row.input_ids for row in rows])[listed],
        np.concatenate([row.position_ids for row in rows], axis=1)[:, listed], seen, np.flatnonzero(new), answer_at,
        tuple(prompts[e][1] for e in np.flatnonzero((new & (name >= FIRST_PICTURE)).any(1))),
    )


# %% attention
EVERY_TOKEN_ONCE = "every_token_once"  # the name under which transformers finds `attend_apart`


@dataclass(frozen=True)
class Sight:
    """Which tokens of the list each prompt sees, for all layers.

    Attributes:
        seen: (E, L) and home: (T,), as in TokenLayout.
        learning: whether gradients are wanted. Rows drawn at random share little, so that whole prompts cost less then.
    """

    seen: torch.Tensor
    home: torch.Tensor
    learning: bool

    @functools.cached_property
    def new_tokens(self) -> "NewTokens | None":
        """None where attention takes whole prompts."""
        if self.learning or mostly_new(len(self.home), self.seen.numel()):
            return None
        return group_prompts(self.seen, self.home)

    @functools.cached_property
    def places(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(E * L,) places in the flattened `seen`, those of the list's first token before those of the second and so on, padding
        behind them all; and (T + 1,) where among these each token's begin, and where the last one's end."""
        columns = torch.arange(self.seen.shape[1], device=self.seen.device)
        padding = (self.seen == 0) & (columns > 0)  # the list's first token stands in the first column only
        ordered, order = self.seen.masked_fill(padding, len(self.home)).flatten().sort(stable=True)
        return order, torch.searchsorted(ordered, torch.arange(len(self.home) + 1, device=ordered.device))


class _Apart(torch.autograd.Function):
    """`prompts_apart` for GPUs."""

    @staticmethod
    def forward(ctx: Any, listed: torch.Tensor, sight: Sight) -> torch.Tensor:
        ctx.sight = sight
        return F.embedding(sight.seen, listed)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """The gradients of a token from all prompts, added up in float32 and in one order, by what is sorted once for all layers:
        torch's embedding() would sort in each of them."""
        order, starts = ctx.sight.places
        every = gradient.flatten(0, 1)[order].float()
        added = torch.segment_reduce(every, "sum", offsets=starts, unsafe=True)  # unsafe: no look at the offsets
        return added.to(gradient.dtype), None


def prompts_apart(listed: torch.Tensor, sight: Sight) -> torch.Tensor:
    """(E, L, W) of each prompt from (T, W) of the list."""
    return _Apart.apply(listed, sight) if listed.is_cuda else F.embedding(sight.seen, listed)


def attend(heads: torch.Tensor, queries: int, sight: Sight, scale: float | None, dropout: float = 0.0) -> torch.Tensor:
    """(T, queries, D) causal attention of the listed tokens, each within its prompt.

    Args:
        heads: (T, heads, D), first the queries, then the keys, then as many values.
    """
    new = sight.new_tokens
    if new is not None:
        return _attend_by_groups(heads, queries, new, scale)
    if len(sight.seen) == 1:  # a prompt alone is the list itself
        return _attend_whole(heads[None], queries, scale, dropout)[0]
    apart = prompts_apart(heads.flatten(1), sight).unflatten(-1, heads.shape[1:])
    return _attend_whole(apart, queries, scale, dropout).flatten(0, 1).index_select(0, sight.home)


def _attend_whole(apart: torch.Tensor, queries: int, scale: float | None, dropout: float = 0.0) -> torch.Tensor:
    """(E, L, queries, D) of whole prompts (E, L, heads, D). Padding stands on the right, where no token looks."""
    keys = (apart.shape[2] - queries) // 2
    q, both = apart.split([queries, 2 * keys], 2)
    if keys < queries:
        both = both.repeat_interleave(queries // keys, 2)  # only FlashAttention takes fewer heads, and a T4 has none
    k, v = both.chunk(2, 2)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (E, queries, L, D)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout, scale=scale).transpose(1, 2)


# %% where much is shared: attention for a prompt's new tokens only
def mostly_new(tokens: int, places: int) -> bool:
    """Whether attention to whole prompts costs no more. Args: tokens: that are new; places: of all tokens in these prompts."""
    return 3 * tokens > 2 * places


@dataclass(frozen=True)
class Group:
    """G prompts with N new tokens at most, which see S tokens at most.

    Attributes:
        new: (G, N) places in the list of each prompt's new tokens, and of any others where it has fewer.
        seen: (G, S) place in the list of each token of each prompt.
        visible: (G, 1, 1, N, S) which of these a new token sees.
    """

    new: torch.Tensor
    seen: torch.Tensor
    visible: torch.Tensor


@dataclass(frozen=True)
class NewTokens:
    """Of every prompt the tokens that none before it has.

    Attributes:
        groups: of the prompts that have some; only `seen` (G, S) of those that are mostly new, which attention takes as a whole.
        among: (T,) where each token of the list stands in the groups' flattened `new`, or `seen`, one behind the other.
    """

    groups: tuple[Group | torch.Tensor, ...]
    among: torch.Tensor


def group_prompts(seen: torch.Tensor, home: torch.Tensor) -> NewTokens:
    """Groups of prompts with about as many new tokens. Args: as in TokenLayout."""
    (prompts, length), device = seen.shape, seen.device
    edges = torch.searchsorted(home, length * torch.arange(prompts + 1, device=device))  # new tokens stand side by side
    first, count = edges[:-1], edges.diff()  # (E,) in the list
    column = home[first.clamp(max=len(home) - 1)] % length  # (E,) in the prompt
    counts, ends = torch.stack((count, column + count)).tolist()
    start, total = torch.zeros_like(first), 0  # start: (E,) of its new tokens among those of all groups
    groups: list[Group | torch.Tensor] = []
    most_first = sorted(filter(counts.__getitem__, range(prompts)), key=counts.__getitem__, reverse=True)
    for _, alike in itertools.groupby(most_first, key=lambda e: counts[e].bit_length()):  # less than twice as many
        numbers = [*alike]
        own = first.new_tensor(numbers)
        own_seen = seen[own, : max(ends[e] for e in numbers)]
        tokens = torch.arange(own_seen.shape[1], device=device)
        if mostly_new(sum(counts[e] for e in numbers), own_seen.numel()):
            asked, start[own] = len(tokens), column[own]
            groups.append(own_seen)
        else:
            asked = counts[numbers[0]]
            step = tokens[:asked]
            visible = tokens <= (column[own, None] + step)[..., None]  # (G, N, S)
            groups.append(Group((first[own, None] + step).clamp(max=len(home) - 1), own_seen, visible[:, None, None]))
        start[own] += total + asked * torch.arange(len(own), device=device)
        total += asked * len(own)
    within = torch.arange(len(home), device=device) - first.repeat_interleave(count, output_size=len(home))
    return NewTokens(tuple(groups), start.repeat_interleave(count, output_size=len(home)) + within)


def _attend_by_groups(heads: torch.Tensor, queries: int, new: NewTokens, scale: float | None) -> torch.Tensor:
    """(T, queries, D)"""
    listed, made = heads.flatten(1), []
    for group in new.groups:
        if isinstance(group, torch.Tensor):
            mixed = _attend_whole(F.embedding(group, listed).unflatten(-1, heads.shape[1:]), queries, scale)
        else:
            mixed = _attend_new(heads, queries, group, scale)
        made.append(mixed.flatten(0, 1))
    return torch.cat(made).index_select(0, new.among)


def _attend_new(heads: torch.Tensor, queries: int, group: Group, scale: float | None) -> torch.Tensor:
    """(G, N, queries, D). The queries that share a key head stand one behind the other as if they were tokens, so that no key is
    repeated."""
    size, keys = heads.shape[2], (heads.shape[1] - queries) // 2
    sharing = queries // keys  # heads of queries for each of keys
    asking, asked = heads.flatten(1).split([queries * size, 2 * keys * size], 1)
    q = F.embedding(group.new, asking).unflatten(-1, (keys, sharing, -1)).permute(0, 2, 3, 1, 4)  # (G, keys, sharing, N, D)
    k, v = F.embedding(group.seen, asked).unflatten(-1, (2, keys, -1)).permute(2, 0, 3, 1, 4)  # (G, keys, S, D)
    visible = group.visible.expand(-1, -1, sharing, -1, -1).flatten(2, 3)  # (G, 1, sharing * N, S)
    mixed = F.scaled_dot_product_attention(q.flatten(2, 3), k, v, attn_mask=visible, scale=scale)
    return mixed.unflatten(2, q.shape[2:4]).permute(0, 3, 1, 2, 4).flatten(2, 3)


# %% for transformers' own layers
def attend_apart(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor | None,
    *, sight: Sight | None = None, dropout: float = 0.0, scaling: float | None = None, **others: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers' layers call: attend(), or without a layout just what "sdpa" does.

    Args:
        query: (1, heads, T, D); key, value: (1, fewer heads, T, D).
    """
    if sight is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others)
    heads = torch.cat((query, key, value), 1)[0].transpose(0, 1)
    return attend(heads, query.shape[1], sight, scaling, dropout)[None], None


AttentionInterface.register(EVERY_TOKEN_ONCE, attend_apart)
AttentionMaskInterface.register(EVERY_TOKEN_ONCE, sdpa_mask)
