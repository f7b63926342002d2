"""The gated delta rule (arXiv:2412.06464) over a tree of prompts: what they share is computed once, and each goes on from there.

A layer with it keeps no keys and values but a state S of D x D' values per head. Each token first fades it, then replaces what
the state holds under the token's key k, a share beta of it, by the token's value v, and reads it by the query q:

    S <- exp(g) S,    S <- S + k (beta (v - S' k))',    output S' q

A chunk of up to 64 tokens is done at once by products of matrices (section 3.3 there): only from chunk to chunk is one after the
other. Chunks are runs of tokens of a batch's list, and form a tree: each begins with the state at the end of the one before
it in its prompt, which several prompts may share. In the example of layout.py, tokens 0 to 3 are one chunk, which 4 5, 6 7 and
8 start from.

Shapes: T tokens of the list, N chunks, C tokens of a chunk, G heads of queries and keys, R heads of values for each of them.
"""
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from mcvqa.model.fast.delta_kernels import Part, convolve, faded_products, unit_inverse
from mcvqa.model.fast.layout import TokenLayout

CHUNK = 64  # tokens: more make the products inside a chunk dearer than those between chunks
SHORTEST_CHUNK = 16  # as kernels like it
HALO = 3  # tokens before a chunk that its convolution reaches


# %% the tree
@dataclass(frozen=True)
class ChunkTree:
    """Which tokens of the list follow each other.

    Attributes:
        tokens: (N, C) index in the list, T at padding on the right.
        at: (T,) index of each token in the flattened `tokens`, N * C for one that is in no chunk.
        halo: (N, 3) index in the list of the three tokens before each chunk, T where there is none.
        parents: for each level but the first, of each of its chunks the number in the level above of the one that it follows.
        sizes: chunks of each level, which stand side by side in `tokens`.
    """

    tokens: torch.Tensor
    at: torch.Tensor
    halo: torch.Tensor
    parents: tuple[torch.Tensor, ...]
    sizes: tuple[int, ...]

    def rounded(self, count: int) -> "ChunkTree":
        """With the levels filled up by empty chunks to numbers that come again, for a list of `count` tokens: these and more."""
        before, width = len(self.at), self.tokens.shape[1]
        more = [-size % max(1, 2 ** (size.bit_length() - 3)) for size in self.sizes]  # at most a quarter
        offsets = torch.repeat_interleave(
            torch.tensor([0, *itertools.accumulate(more[:-1])]), torch.tensor(self.sizes)).to(self.at.device)

        def filled(chunks: torch.Tensor) -> torch.Tensor:
            levels = chunks.masked_fill(chunks == before, count).split(self.sizes)
            return torch.cat([F.pad(level, (0, 0, 0, added), value=count) for level, added in zip(levels, more, strict=True)])

        tokens = filled(self.tokens)
        at = self.at + width * offsets[self.at // width]
        return ChunkTree(
            tokens, F.pad(at, (0, count - before), value=tokens.numel()), filled(self.halo),
            tuple(F.pad(parents, (0, added)) for parents, added in zip(self.parents, more[1:], strict=True)),
            tuple(map(sum, zip(self.sizes, more, strict=True))),
        )

    def tensors(self) -> list[torch.Tensor]:
        return [self.tokens, self.at, self.halo, *self.parents]

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "ChunkTree":
        """With every tensor changed so."""
        return ChunkTree(
            change(self.tokens), change(self.at), change(self.halo), tuple(map(change, self.parents)), self.sizes,
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
    table = _padded_table([chunks[n] for own in by_level for n in own], tokens)
    at = np.empty(tokens, np.int64)
    at[table[table < tokens]] = np.flatnonzero(table < tokens)
    return ChunkTree(
        torch.from_numpy(table), torch.from_numpy(at), torch.from_numpy(_tokens_before(follows, table[:, 0])),
        tuple(map(torch.tensor, parents)), tuple(map(len, by_level)),
    )


def token_parents(layout: TokenLayout) -> np.ndarray:
    """(T,) index in the list of the token before each token in its prompts, -1 for the first one of a prompt."""
    length = layout.prompt_tokens.shape[1]
    flat, used = layout.prompt_tokens.reshape(-1), layout.first_use
    return np.where(used % length > 0, flat[used - 1], -1)


def _padded_table(chunks: Sequence[range], padding: int) -> np.ndarray:
    """(N, C) the chunks, C a power of two."""
    longest = max(map(len, chunks))
    table = np.full((len(chunks), max(SHORTEST_CHUNK, 1 << (longest - 1).bit_length())), padding)
    for row, chunk in zip(table, chunks, strict=True):
        row[: len(chunk)] = chunk
    return table


def _tokens_before(follows: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """(N, 3) the tokens before each of `tokens` (N,), the last one at the end; T where there is none."""
    none = len(follows)
    before = np.append(np.where(follows < 0, none, follows), none)
    found = [before[tokens]]
    for _ in range(HALO - 1):
        found.append(before[found[-1]])
    return np.stack(found[::-1], 1)


# %% along the tree
def gated_delta_rule(
    joint: torch.Tensor, weight: torch.Tensor, fade: torch.Tensor, beta: torch.Tensor, heads: tuple[int, int],
    width: int, tree: ChunkTree,
) -> torch.Tensor:
    """(T, G * R, D') what the tokens read from their state, from what is projected. Products are in the precision of `joint`.

    Args:
        joint: (T, W) queries, keys and values, side by side, before their causal convolution.
        weight: (W, 4) of the convolution, the last one for the token itself.
        fade: (T, G * R) float32, logarithm of what is left of the state; beta: (T, G * R) float32, share that is replaced.
        heads: G and G * R. Head h of the values uses query and key h // R.
        width: D, of a query or key.
    """
    (groups, values), keys = heads, heads[0] * width
    parts = Part(groups, width, width**-0.5), Part(groups, width, 1.0), Part(values, (joint.shape[1] - 2 * keys) // values)
    q, k, v = convolve(joint, weight, parts, tree.tokens, tree.halo)
    return read_states(q, k, v, fade, beta, tree)


def read_states(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, fade: torch.Tensor, beta: torch.Tensor, tree: ChunkTree
) -> torch.Tensor:
    """(T, G * R, D') the rule itself.

    Args:
        q, k: (N, G, C, D), of length one, q times the scale; v: (N, G * R, C, D').
        fade, beta: (T, G * R) float32.
    """
    dtype, grouped = v.dtype, (q.shape[1], -1)
    v, g, b = v.unflatten(1, grouped), in_chunks(fade, tree).unflatten(1, grouped), in_chunks(beta, tree).unflatten(1, grouped)
    faded = g.cumsum(-1)  # (N, G, R, C) since the beginning of the chunk
    since, until, share = (x.to(dtype)[..., None] for x in (faded.exp(), (faded[..., -1:] - faded).exp(), b))  # (N, G, R, C, 1)
    below, met = faded_products(k @ k.mT, q @ k.mT, faded, b)  # (N, G, R, C, C)
    # what each token writes, given what the ones before it in the chunk have written: a triangular system
    solved = unit_inverse(below) * share.mT
    written = solved @ v  # (N, G, R, C, D')
    known = ((solved * since.mT).flatten(2, 3) @ k).view(*met.shape[:-1], -1)  # (N, G, R, C, D)
    left = faded[..., -1].exp()[..., None, None]  # of the state, at the end of the chunk
    q, k = q[:, :, None], k[:, :, None]  # (N, G, 1, C, D)
    by_level = (x.split(tree.sizes) for x in (written, known, met, q * since, k * until, left))
    made: list[torch.Tensor] = []
    state: torch.Tensor | None = None  # (chunks of the level, G, R, D, D') float32 at their beginning, None: all zero
    for new, old, met, read, write, remaining, children in zip(*by_level, (*tree.parents, None), strict=True):
        if state is None:
            made.append(met @ new)
        else:
            before = state.to(dtype)
            new = new - old @ before
            made.append(met @ new + read @ before)
        if children is not None:
            added = (write.mT @ new).float()
            state = (added if state is None else state * remaining + added).index_select(0, children)
    return from_chunks(torch.cat(made).flatten(1, 2), tree)


# %% from the list to the tree and back
class _Gathered(torch.autograd.Function):
    """Rows of x, or zeros behind its end. The gradient is a gather too, as each row is wanted once at most."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, wanted: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(inverse)
        return _rows(x, wanted)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return _rows(gradient, *ctx.saved_tensors), None, None


def _rows(x: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return F.pad(x, (0, 0, 0, 1)).index_select(0, wanted)


def in_chunks(x: torch.Tensor, tree: ChunkTree) -> torch.Tensor:
    """(N, heads, C) of (T, heads), zero at padding, where nothing fades and nothing is replaced."""
    return _Gathered.apply(x, tree.tokens.flatten(), tree.at).view(*tree.tokens.shape, -1).transpose(1, 2).contiguous()


def from_chunks(x: torch.Tensor, tree: ChunkTree) -> torch.Tensor:
    """(T, heads, D) of (N, heads, C, D)."""
    chunks = x.transpose(1, 2).flatten(0, 1)
    return _Gathered.apply(chunks.flatten(1), tree.at, tree.tokens.flatten()).view(-1, *chunks.shape[1:])
