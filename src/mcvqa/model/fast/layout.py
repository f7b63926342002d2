"""Lays out a batch as one list of distinct tokens, so that only attention treats the prompts separately.

Prompts share their common prefixes: the system message of all rows, the picture of all questions about it, the question of all
its option orders. In a causal model the vectors of a token depend only on the tokens before it, so those of shared tokens are
computed once, and there is no padding except in attention.

Shapes: B rows, K option orders, E prompts (one per order of each row), L tokens of the longest prompt, T distinct tokens, D
values per head.

An example: two questions (14 and 15) about one picture of two image tokens (##), the first one in two option orders.

    prompt 0, row 0, order 0:  1 # # 14 30 31       tokens       0 1 2 3 4 5
    prompt 1, row 0, order 1:  1 # # 14 31 30       tokens       0 1 2 3 6 7     6 and 7 are new, the others are prompt 0's
    prompt 2, row 1:           1 # # 15             tokens       0 1 2 8         8 is new

    input_ids       1 # # 14 30 31 31 30 15         the list, T = 9
    position (time) 0 1 1  3  4  5  4  5  3         the two image tokens share a time step, the text continues after two columns
    prompt_tokens   0 1 2 3 4 5 | 0 1 2 3 6 7 | 0 1 2 8 0 0     (E, L), the last two are padding
    first_use       0 1 2 3 4 5 10 11 15            in the flattened (E * L): 10 is the fifth token of prompt 1
    answer_at       5 7 | 8 -1                      (B, K): the last token of each prompt; row 1 has one order
    image_rows      0                               the picture is used once, from row 0
"""
import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from mcvqa.model.fast.kernels import sum_rows
from mcvqa.model.text.encode import Row

FIRST_PICTURE = 2**32  # above all tokens: image tokens are identified by the number of their picture


@dataclass(frozen=True)
class TokenLayout:
    """Holds the list of distinct tokens and those of each prompt; see the example above.

    Attributes:
        input_ids: (T,) the list.
        position_ids: (3, T).
        prompt_tokens: (E, L) index in the list of each token of each prompt, 0 at padding on the right.
        first_use: (T,) index into the flattened (E * L) of the first use of each token.
        answer_at: (B, K) index in the list of the last token of each prompt, -1 for orders that a row does not have.
        image_rows: rows from which the images of the list are taken, in its order.
    """

    input_ids: np.ndarray
    position_ids: np.ndarray
    prompt_tokens: np.ndarray
    first_use: np.ndarray
    answer_at: np.ndarray
    image_rows: tuple[int, ...]


@dataclass(frozen=True)
class Prompt:
    """Holds one order of one row.

    Attributes:
        names: (tokens,) identifies tokens across prompts: the token, or FIRST_PICTURE + number of the picture.
        source: (tokens,) indices of its tokens in the concatenated tokens of all rows.
    """

    row: int
    order: int
    names: np.ndarray
    source: np.ndarray


def read_prompts(rows: Sequence[Row], image_token_id: int) -> list[Prompt]:
    """Read the prompts of all rows, order by order.

    Args:
        rows: encoded rows.
        image_token_id: token of image placeholders.
    """
    picture_numbers: dict[Any, int] = {}  # images with the same path and size have the same tokens
    prompts, row_start = [], 0
    for i, row in enumerate(rows):
        picture = FIRST_PICTURE + picture_numbers.setdefault((row.image, row.grid), len(picture_numbers))
        names = np.where(row.input_ids == image_token_id, picture, row.input_ids)
        for k in range(len(row.answer_at)):
            in_prompt = np.flatnonzero((row.segment == 0) | (row.segment == k + 1))
            prompts.append(Prompt(i, k, names[in_prompt], row_start + in_prompt))
        row_start += len(row)
    return prompts


def lay_out(rows: Sequence[Row], image_token_id: int) -> TokenLayout:
    """Make the list of distinct tokens of all prompts.

    Prompts are sorted by their tokens, so that a prefix shared by two is shared by all between them, and each needs to be
    compared only with the one before it.

    Args:
        rows: encoded rows.
        image_token_id: token of image placeholders.
    """
    prompts = read_prompts(rows, image_token_id)
    prompts.sort(key=lambda prompt: prompt.names.astype(">i8").tobytes())  # numeric order
    names, source = (_padded([getattr(prompt, name) for prompt in prompts]) for name in ("names", "source"))  # (E, L)
    real = source >= 0
    differs = names[1:] != names[:-1]
    new = real.copy()  # (E, L) whether the prompt before has another token here or earlier
    new[1:] &= np.logical_or.accumulate(differs, axis=1)

    listed = source[new]  # (T,)
    prompt_tokens = np.zeros(new.shape, np.int64)
    prompt_tokens[new] = np.arange(len(listed))
    prompt_tokens = np.maximum.accumulate(prompt_tokens, axis=0) * real  # shared tokens: as in the prompt before
    answer_at = np.full((len(rows), max(len(row.answer_at) for row in rows)), -1, np.int64)
    for e, prompt in enumerate(prompts):
        answer_at[prompt.row, prompt.order] = prompt_tokens[e, len(prompt.source) - 1]
    with_new_picture = np.flatnonzero((new & (names >= FIRST_PICTURE)).any(1))
    return TokenLayout(
        np.concatenate([row.input_ids for row in rows])[listed],
        np.concatenate([row.position_ids for row in rows], axis=1)[:, listed], prompt_tokens, np.flatnonzero(new), answer_at,
        tuple(prompts[e].row for e in with_new_picture),
    )


def _padded(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Pad the rows with -1, (E, L)."""
    table = np.full((len(rows), max(map(len, rows))), -1)
    for e, row in enumerate(rows):
        table[e, : len(row)] = row
    return table


# %% attention
EVERY_TOKEN_ONCE = "every_token_once"  # name of `attend_apart` in transformers' registry


@dataclass(frozen=True)
class Sight:
    """Records which tokens of the list each prompt attends to, for all layers.

    Attributes:
        prompt_tokens: (E, L), see TokenLayout.
        first_use: (T,), see TokenLayout.
        learning: whether gradients are computed. Random training rows share little, so whole prompts are faster then.
    """

    prompt_tokens: torch.Tensor
    first_use: torch.Tensor
    learning: bool

    @functools.cached_property
    def new_tokens(self) -> "NewTokens | None":
        """Groups of new tokens; None: attention runs over whole prompts."""
        if self.learning or mostly_new(len(self.first_use), self.prompt_tokens.numel()):
            return None
        return group_prompts(self.prompt_tokens, self.first_use)

    @functools.cached_property
    def uses(self) -> "Uses":
        """Uses of each token in `prompt_tokens`, without padding."""
        tokens, table = len(self.first_use), self.prompt_tokens
        columns = torch.arange(table.shape[1], device=table.device)
        padding = (table == 0) & (columns > 0)  # the first token of the list occurs only in the first column
        return uses_of(table.masked_fill(padding, tokens), tokens)

    @functools.cached_property
    def first_uses(self) -> "Uses":
        """Tokens of the list that are first used at each index of the flattened (E * L)."""
        return uses_of(self.first_use, self.prompt_tokens.numel())


Uses = tuple[torch.Tensor, torch.Tensor]  # (N,) positions in an index, sorted by their row, and (rows + 1,) offsets


def uses_of(index: torch.Tensor, rows: int) -> Uses:
    """Find where each of `rows` rows is used.

    Args:
        index: rows of any shape, of N entries in all; those from `rows` on are ignored.
        rows: number of rows.
    """
    ordered, order = index.flatten().sort(stable=True)
    return order, torch.searchsorted(ordered, torch.arange(rows + 1, device=ordered.device))


class _SharedRows(torch.autograd.Function):
    """Implements `gathered` for GPUs."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, index: torch.Tensor, uses: Callable[[], Uses]) -> torch.Tensor:
        ctx.uses = uses
        return F.embedding(index, values)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Sum the gradients of each row, in float32 and in a fixed order that is sorted once for all layers: torch's functions
        would sort in every layer, or add in any order."""
        return sum_rows(gradient.flatten(0, -2), *ctx.uses()), None, None


def gathered(values: torch.Tensor, index: torch.Tensor, uses: Callable[[], Uses]) -> torch.Tensor:
    """Gather rows of `values` at an index, (..., W).

    Args:
        values: (T, W).
        index: (...).
        uses: returns where each row is used.
    """
    return _SharedRows.apply(values, index, uses) if values.is_cuda else F.embedding(index, values)


def attend(heads: torch.Tensor, queries: int, sight: Sight, scale: float | None, dropout: float = 0.0) -> torch.Tensor:
    """Compute causal attention (T, queries, D) of the listed tokens, each within its prompt.

    Args:
        heads: (T, heads, D), first the queries, then the keys, then as many values.
        queries: number of query heads.
        sight: the tokens each prompt attends to.
        scale: factor of the scores; None: 1 / sqrt(D).
        dropout: dropout rate of the attention weights.
    """
    new = sight.new_tokens
    if new is not None:
        return _attend_by_groups(heads, queries, new, scale)
    if len(sight.prompt_tokens) == 1:  # a single prompt is the list itself
        return _attend_whole(heads[None], queries, scale, dropout)[0]
    apart = gathered(heads.flatten(1), sight.prompt_tokens, lambda: sight.uses).unflatten(-1, heads.shape[1:])
    mixed = _attend_whole(apart, queries, scale, dropout).flatten(2).flatten(0, 1)  # (E * L, queries * D)
    return gathered(mixed, sight.first_use, lambda: sight.first_uses).unflatten(-1, (queries, -1))


def _attend_whole(apart: torch.Tensor, queries: int, scale: float | None, dropout: float = 0.0) -> torch.Tensor:
    """Compute attention of whole prompts (E, L, heads, D). Padding is on the right, so no token attends to it."""
    keys = (apart.shape[2] - queries) // 2
    q, both = apart.split([queries, 2 * keys], 2)
    k, v = both.chunk(2, 2)
    fewer = keys < queries and flash_attends(q, k, v, dropout)
    if keys < queries and not fewer:
        k, v = both.repeat_interleave(queries // keys, 2).chunk(2, 2)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (E, heads, L, D)
    return F.scaled_dot_product_attention(
        q, k, v, is_causal=True, dropout_p=dropout, scale=scale, enable_gqa=fewer
    ).transpose(1, 2)


def flash_attends(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, dropout: float) -> bool:
    """Return whether FlashAttention takes these (E, L, heads, D).

    Only FlashAttention reads fewer keys than queries without copying them. A T4 does not have it.

    Args:
        q, k, v: queries, keys and values.
        dropout: dropout rate of the attention weights.
    """
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    asked = torch.backends.cuda.SDPAParams(q, k, v, None, dropout, True, True)
    return q.is_cuda and torch.backends.cuda.can_use_flash_attention(asked)


# %% much sharing: attention for new tokens only
def mostly_new(new: int, total: int) -> bool:
    """Return whether attention over whole prompts costs no more than over new tokens.

    Args:
        new, total: number of tokens in some prompts that no earlier prompt has, and of all, padding included.
    """
    return 3 * new > 2 * total


@dataclass(frozen=True)
class Group:
    """Holds G prompts with at most N new tokens, which attend to at most S tokens.

    Attributes:
        new: (G, N) indices in the list of each prompt's new tokens, followed by arbitrary ones if it has fewer.
        seen: (G, S) index in the list of each token of each prompt.
        visible: (G, 1, 1, N, S) which of these each new token attends to.
    """

    new: torch.Tensor
    seen: torch.Tensor
    visible: torch.Tensor


@dataclass(frozen=True)
class NewTokens:
    """Groups the tokens of every prompt that no earlier prompt has.

    In the example at the top of this file prompt 0 has six new tokens of six, prompt 1 two of six, prompt 2 one of four. These
    numbers differ too much to share a group: prompt 0 is a bare [[0 1 2 3 4 5]]; prompt 1 has new = [[6 7]] and seen = [[0 1 2 3
    6 7]], and token 6 attends to the first five of these; prompt 2 has new = [[8]] and seen = [[0 1 2 8]]. The groups give 6 + 2
    + 1 rows of results, and results_at is 0 1 2 3 4 5 6 7 8.

    Attributes:
        groups: one entry per group; a bare `seen` tensor (G, S) means full causal attention, for prompts that are mostly new.
        results_at: (T,) index of each token of the list in the concatenated results of all groups: G * N rows for a Group, G * S
            for a bare tensor.
    """

    groups: tuple[Group | torch.Tensor, ...]
    results_at: torch.Tensor


def group_prompts(prompt_tokens: torch.Tensor, first_use: torch.Tensor) -> NewTokens:
    """Group prompts with similar numbers of new tokens.

    Within a group these differ by less than a factor of two.

    Args:
        prompt_tokens, first_use: as in TokenLayout.
    """
    (prompts, length), device, tokens = prompt_tokens.shape, prompt_tokens.device, len(first_use)
    # each prompt's new tokens are contiguous in the list, and are the last ones of the prompt
    edges = torch.searchsorted(first_use, length * torch.arange(prompts + 1, device=device))
    first_new, new_count = edges[:-1], edges.diff()  # (E,) in the list
    first_column = first_use[first_new.clamp(max=tokens - 1)] % length  # (E,) of the first new token in its prompt
    counts, lengths = torch.stack((new_count, first_column + new_count)).tolist()
    result_start = torch.zeros_like(first_new)  # (E,) index of a prompt's first new token among the results
    results = 0  # rows of the groups so far
    groups: list[Group | torch.Tensor] = []
    most_first = sorted(filter(counts.__getitem__, range(prompts)), key=counts.__getitem__, reverse=True)
    for _, alike in itertools.groupby(most_first, key=lambda e: counts[e].bit_length()):  # less than twice as many
        numbers = [*alike]
        members = first_new.new_tensor(numbers)
        seen = prompt_tokens[members, : max(lengths[e] for e in numbers)]  # (G, S)
        columns = torch.arange(seen.shape[1], device=device)
        if mostly_new(sum(counts[e] for e in numbers), seen.numel()):
            rows, offset = len(columns), first_column[members]
            groups.append(seen)
        else:
            rows, offset = counts[numbers[0]], torch.zeros_like(members)
            steps = columns[:rows]  # (N,)
            visible = columns <= (first_column[members, None] + steps)[..., None]  # (G, N, S)
            new = (first_new[members, None] + steps).clamp(max=tokens - 1)
            groups.append(Group(new, seen, visible[:, None, None]))
        result_start[members] = results + rows * torch.arange(len(members), device=device) + offset
        results += rows * len(members)
    of_prompt = functools.partial(torch.repeat_interleave, repeats=new_count, output_size=tokens)  # (E,) -> (T,)
    return NewTokens(tuple(groups), of_prompt(result_start) + torch.arange(tokens, device=device) - of_prompt(first_new))


def _attend_by_groups(heads: torch.Tensor, queries: int, new: NewTokens, scale: float | None) -> torch.Tensor:
    """Compute attention (T, queries, D) of all groups."""
    listed, results = heads.flatten(1), []
    for group in new.groups:
        if isinstance(group, torch.Tensor):
            mixed = _attend_whole(F.embedding(group, listed).unflatten(-1, heads.shape[1:]), queries, scale)
        else:
            mixed = _attend_new(heads, queries, group, scale)
        results.append(mixed.flatten(0, 1))
    return torch.cat(results).index_select(0, new.results_at)


def _attend_new(heads: torch.Tensor, queries: int, group: Group, scale: float | None) -> torch.Tensor:
    """Compute attention (G, N, queries, D) of new tokens.

    Query heads that share a key head are stacked along the token axis, so that no keys are repeated.
    """
    size, keys = heads.shape[2], (heads.shape[1] - queries) // 2
    sharing = queries // keys  # query heads per key head
    query_values, key_values = heads.flatten(1).split([queries * size, 2 * keys * size], 1)
    q = F.embedding(group.new, query_values).unflatten(-1, (keys, sharing, -1)).permute(0, 2, 3, 1, 4)  # (G, keys, sharing, N, D)
    k, v = F.embedding(group.seen, key_values).unflatten(-1, (2, keys, -1)).permute(2, 0, 3, 1, 4)  # (G, keys, S, D)
    visible = group.visible.expand(-1, -1, sharing, -1, -1).flatten(2, 3)  # (G, 1, sharing * N, S)
    mixed = F.scaled_dot_product_attention(q.flatten(2, 3), k, v, attn_mask=visible, scale=scale)
    return mixed.unflatten(2, q.shape[2:4]).permute(0, 3, 1, 2, 4).flatten(2, 3)


# %% for transformers' own layers
def attend_apart(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor | None,
    *, sight: Sight | None = None, dropout: float = 0.0, scaling: float | None = None, **others: Any,
) -> tuple[torch.Tensor, None]:
    """Compute attention for transformers' layers: attend(), or the same as "sdpa" without a layout.

    Args:
        query: (1, heads, T, D).
        key, value: (1, fewer heads, T, D).
        sight: the tokens each prompt attends to; None: no layout.
        module, attention_mask, dropout, scaling, others: as transformers passes them.
    """
    if sight is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others)
    heads = torch.cat((query, key, value), 1)[0].transpose(0, 1)
    return attend(heads, query.shape[1], sight, scaling, dropout)[None], None


AttentionInterface.register(EVERY_TOKEN_ONCE, attend_apart)
AttentionMaskInterface.register(EVERY_TOKEN_ONCE, sdpa_mask)
