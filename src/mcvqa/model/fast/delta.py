"""The gated delta rule (arXiv:2412.06464) over a tree of prompts: what they share is computed once, and each goes on from there.

A layer with it keeps no keys and values but a state S of D x D' values per head. Each token first fades it, then replaces what
the state holds under the token's key k, a share beta of it, by the token's value v, and reads it by the query q:

    S <- exp(g) S,    S <- S + k (beta (v - S' k))',    output S' q

A chunk of up to 64 tokens is done at once by products of matrices (section 3.3 there): only from chunk to chunk is one after the
other. Chunks are runs of tokens of a batch's list, and form a tree: each begins with the state at the end of the one before
it in its prompt, which several prompts may share. In the example of layout.py, tokens 0 to 3 are one chunk, which 4 5, 6 7 and
8 start from.

Shapes: T tokens of the list, N chunks, C tokens of a chunk, G groups of heads with one key each, R heads of values per group.
"""
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from mcvqa.model.fast.kernels import unit_inverse
from mcvqa.model.fast.layout import TokenLayout

CHUNK = 64  # tokens: more make the products inside a chunk dearer than those between chunks
CONVOLVED = 4  # tokens that a layer's causal convolution mixes


# %% the tree
@dataclass(frozen=True)
class ChunkTree:
    """Which tokens of the list follow each other.

    Attributes:
        tokens: (N, C) index in the list, T at padding on the right.
        at: (T,) index of each token in the flattened `tokens`.
        before: (T, 3) index in the list of the third, the second and the last token before each token, T where there is none.
        parents: for each level but the first, of each of its chunks the number in the level above of the one that it follows.
        sizes: chunks of each level, which stand side by side in `tokens`.
    """

    tokens: torch.Tensor
    at: torch.Tensor
    before: torch.Tensor
    parents: tuple[torch.Tensor, ...]
    sizes: tuple[int, ...]

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "ChunkTree":
        """With every tensor changed so."""
        return ChunkTree(
            change(self.tokens), change(self.at), change(self.before), tuple(map(change, self.parents)), self.sizes,
        )


def chunk_tree(layout: TokenLayout, size: int = CHUNK) -> ChunkTree:
    """Args: size: most tokens of a chunk."""
    tokens = len(layout.input_ids)
    follows = token_parents(layout)
    starts = (follows < 0) | (follows != np.arange(-1, tokens - 1))  # not behind its neighbour in the list
    ends = np.zeros(tokens + 1, bool)  # where a chunk must end: others go on from there
    ends[follows[starts] + 1] = True
    cuts = np.flatnonzero(starts | ends[:-1])
    chunks = [range(at, min(at + size, end)) for begin, end in itertools.pairwise((*cuts.tolist(), tokens))
              for at in range(begin, end, size)]
    chunk_of: dict[int, int] = {}  # last token of a chunk -> its number; the list holds what is followed first
    levels: list[int] = []
    for number, chunk in enumerate(chunks):
        parent = follows[chunk[0]]
        levels.append(0 if parent < 0 else levels[chunk_of[parent]] + 1)
        chunk_of[chunk[-1]] = number
    by_level = [[n for n, level in enumerate(levels) if level == depth] for depth in range(max(levels) + 1)]
    number_in_level = {n: i for own in by_level for i, n in enumerate(own)}
    parents = [[number_in_level[chunk_of[follows[chunks[n][0]]]] for n in own] for own in by_level[1:]]
    order = [chunks[n] for own in by_level for n in own]
    width = max(map(len, order)) - 1
    table = np.full((len(order), max(16, 2 ** width.bit_length())), tokens)  # as kernels like it
    for row, chunk in zip(table, order, strict=True):
        row[: len(chunk)] = chunk
    at = np.empty(tokens, np.int64)
    at[table[table < tokens]] = np.flatnonzero(table < tokens)
    return ChunkTree(
        torch.from_numpy(table), torch.from_numpy(at), torch.from_numpy(_tokens_before(follows)),
        tuple(map(torch.tensor, parents)), tuple(map(len, by_level)),
    )


def token_parents(layout: TokenLayout) -> np.ndarray:
    """(T,) index in the list of the token before each token in its prompts, -1 for the first one of a prompt."""
    length = layout.prompt_tokens.shape[1]
    flat, used = layout.prompt_tokens.reshape(-1), layout.first_use
    return np.where(used % length > 0, flat[used - 1], -1)


def _tokens_before(follows: np.ndarray) -> np.ndarray:
    """(T, 3) the tokens before each token, T where there is none."""
    none = len(follows)
    table = np.append(np.where(follows < 0, none, follows), none)
    before = [table[:-1]]
    for _ in range(CONVOLVED - 2):
        before.append(table[before[-1]])
    return np.stack(before[::-1], 1)


# %% along the tree
def convolved(x: torch.Tensor, weight: torch.Tensor, tree: ChunkTree) -> torch.Tensor:
    """(T, W) causal convolution of each channel by itself, and SiLU.

    Args:
        x: (T, W).
        weight: (W, 4), the last one for the token itself.
    """
    padded = F.pad(x, (0, 0, 0, 1))
    made = x * weight[:, -1]
    for number, tokens in enumerate(tree.before.unbind(1)):
        made = torch.addcmul(made, padded.index_select(0, tokens), weight[:, number])
    return F.silu(made)


def gated_delta_rule(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, fade: torch.Tensor, beta: torch.Tensor, tree: ChunkTree
) -> torch.Tensor:
    """(T, heads, D') what the tokens read from their state. Products are taken in the precision of the values.

    Args:
        query, key: (T, G, D), of length one; value: (T, heads, D'). Head h uses query and key h // R.
        fade: (T, heads) float32, logarithm of what is left of the state; beta: (T, heads) float32, share that is replaced.
    """
    dtype, repeats = value.dtype, value.shape[1] // key.shape[1]
    q, k, v, g, b = (in_chunks(x, tree) for x in ((query * query.shape[-1] ** -0.5).to(dtype), key.to(dtype), value, fade, beta))
    faded = g.cumsum(-1)  # (N, heads, C) since the beginning of the chunk
    later = torch.ones(2 * faded.shape[-1:], dtype=torch.bool, device=q.device).triu(1)
    between = (faded[..., :, None] - faded[..., None, :]).masked_fill(later, float("-inf")).exp()  # (N, heads, C, C)
    keys_met, queries_met = (torch.repeat_interleave(x @ k.transpose(-1, -2), repeats, 1) * between for x in (k, q))
    since, until = faded.exp()[..., None], (faded[..., -1:] - faded).exp()[..., None]
    q, k = (torch.repeat_interleave(x, repeats, 1) for x in (q, k))  # (N, heads, C, D)
    # what each token writes, given what the ones before it in the chunk have written: a triangular system
    solved = unit_inverse(keys_met * b[..., None]).to(dtype)
    written = solved @ (v * b[..., None]).to(dtype)  # (N, heads, C, D')
    known = solved @ (k * (since * b[..., None])).to(dtype)  # (N, heads, C, D)
    reading, writing = (q * since).to(dtype), (k * until).to(dtype).transpose(-1, -2)
    by_level = (x.split(tree.sizes) for x in (written, known, queries_met.to(dtype), reading, writing, since[..., -1:, :]))
    made: list[torch.Tensor] = []
    state: torch.Tensor | None = None  # (chunks of the level, heads, D, D') float32 at their beginning, None: all zero
    for new, old, met, read, write, left, children in zip(*by_level, (*tree.parents, None), strict=True):
        if state is None:
            made.append(met @ new)
        else:
            before = state.to(dtype)
            new = new - old @ before
            made.append(met @ new + read @ before)
        if children is not None:
            added = (write @ new).float()
            state = (added if state is None else state * left + added).index_select(0, children)
    return from_chunks(torch.cat(made), tree)


# %% from the list to the tree and back
class _InChunks(torch.autograd.Function):
    """A gather whose gradient is one too, as each token is in one chunk only."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, tokens: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(at)
        return F.pad(x, (0, 0, 0, 1)).index_select(0, tokens)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradient.index_select(0, *ctx.saved_tensors), None, None


class _FromChunks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, tokens: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(tokens)
        return x.index_select(0, at)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return F.pad(gradient, (0, 0, 0, 1)).index_select(0, *ctx.saved_tensors), None, None


def in_chunks(x: torch.Tensor, tree: ChunkTree) -> torch.Tensor:
    """(N, heads, C, ...) of (T, heads, ...), zero at padding, where nothing fades and nothing is replaced."""
    chunks = _InChunks.apply(x.flatten(1), tree.tokens.flatten(), tree.at)
    return chunks.view(*tree.tokens.shape, *x.shape[1:]).transpose(1, 2).contiguous()


def from_chunks(x: torch.Tensor, tree: ChunkTree) -> torch.Tensor:
    """(T, heads, ...) of (N, heads, C, ...)."""
    chunks = x.transpose(1, 2).flatten(0, 1)
    return _FromChunks.apply(chunks.flatten(1), tree.tokens.flatten(), tree.at).view(-1, *chunks.shape[1:])
