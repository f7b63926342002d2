"""Computes the gated delta rule (arXiv:2412.06464) over a tree of prompts: shared tokens are computed once.

Such a layer keeps a state S of D x D' values per head instead of keys and values. Each token decays the state, replaces a share
beta of the value stored under the token's key k by the token's value v, and reads the state with the query q:

    S <- exp(g) S,    S <- S + k (beta (v - S' k))',    output S' q

A chunk of up to 64 tokens is computed with matrix products (section 3.3 there); only chunks are sequential. Chunks are runs of
tokens in a batch's list and form a tree: each starts from the state at the end of its prompt's previous chunk, which several
prompts may share. In the example of layout.py, tokens 0 to 3 are one chunk, from which 4 5, 6 7 and 8 start.

Shapes: T tokens of the list, N chunks, C tokens of a chunk, G heads of queries and keys, R value heads for each of them.
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

CHUNK = 64  # tokens; with more, products inside a chunk would cost more than those between chunks
SHORTEST_CHUNK = 16  # smallest size of the kernels
HALO = 3  # tokens before a chunk in its convolution's window


# %% the tree
@dataclass(frozen=True)
class ChunkTree:
    """Divides the tokens of the list into chunks.

    Attributes:
        tokens: (N, C) index in the list, T at padding on the right.
        at: (T,) index of each token in the flattened `tokens`, N * C for tokens in no chunk.
        halo: (N, 3) index in the list of the three tokens before each chunk, T for missing ones.
        parents: per level except the first: the number of each chunk's parent within the level above.
        sizes: number of chunks per level; those of a level are adjacent in `tokens`.
    """

    tokens: torch.Tensor
    at: torch.Tensor
    halo: torch.Tensor
    parents: tuple[torch.Tensor, ...]
    sizes: tuple[int, ...]

    def rounded(self, count: int) -> "ChunkTree":
        """Pad the levels with empty chunks to rounded numbers.

        Args:
            count: tokens of the padded list.
        """
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
        """Apply a function to every tensor."""
        return ChunkTree(
            change(self.tokens), change(self.at), change(self.halo), tuple(map(change, self.parents)), self.sizes,
        )


def chunk_tree(layout: TokenLayout, size: int = CHUNK) -> ChunkTree:
    """Divide the list into chunks.

    Args:
        layout: the list.
        size: most tokens of a chunk.
    """
    tokens = len(layout.input_ids)
    follows = token_parents(layout)
    starts = (follows < 0) | (follows != np.arange(-1, tokens - 1))  # whether a token does not follow its neighbor in the list
    ends = np.zeros(tokens + 1, bool)  # tokens at which a chunk must end, because others start there
    ends[follows[starts] + 1] = True
    cuts = np.flatnonzero(starts | ends[:-1])
    chunks = [range(at, min(at + size, end)) for begin, end in itertools.pairwise((*cuts.tolist(), tokens))
              for at in range(begin, end, size)]
    chunk_of: dict[int, int] = {}  # last token of a chunk -> its number; parents come first
    levels: list[int] = []
    for number, chunk in enumerate(chunks):
        parent = follows[chunk[0]]
        levels.append(0 if parent < 0 else levels[chunk_of[parent]] + 1)
        chunk_of[chunk[-1]] = number
    by_level = [[n for n, level in enumerate(levels) if level == depth] for depth in range(max(levels) + 1)]
    number_in_level = {n: i for level_chunks in by_level for i, n in enumerate(level_chunks)}
    parents = [[number_in_level[chunk_of[follows[chunks[n][0]]]] for n in level_chunks] for level_chunks in by_level[1:]]
    table = _padded_table([chunks[n] for level_chunks in by_level for n in level_chunks], tokens)
    at = np.empty(tokens, np.int64)
    at[table[table < tokens]] = np.flatnonzero(table < tokens)
    return ChunkTree(
        torch.from_numpy(table), torch.from_numpy(at), torch.from_numpy(_tokens_before(follows, table[:, 0])),
        tuple(map(torch.tensor, parents)), tuple(map(len, by_level)),
    )


def token_parents(layout: TokenLayout) -> np.ndarray:
    """Return the index (T,) in the list of each token's predecessor in its prompts, -1 for the first token of a prompt."""
    length = layout.prompt_tokens.shape[1]
    flat, used = layout.prompt_tokens.reshape(-1), layout.first_use
    return np.where(used % length > 0, flat[used - 1], -1)


def _padded_table(chunks: Sequence[range], padding: int) -> np.ndarray:
    """Pad the chunks to a power of two C, (N, C)."""
    longest = max(map(len, chunks))
    table = np.full((len(chunks), max(SHORTEST_CHUNK, 1 << (longest - 1).bit_length())), padding)
    for row, chunk in zip(table, chunks, strict=True):
        row[: len(chunk)] = chunk
    return table


def _tokens_before(follows: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Find the three tokens (N, 3) before each of `tokens` (N,), in their order; T for missing ones."""
    none = len(follows)
    before = np.append(np.where(follows < 0, none, follows), none)
    columns = [before[tokens]]
    for _ in range(HALO - 1):
        columns.append(before[columns[-1]])
    return np.stack(columns[::-1], 1)


# %% the rule
def gated_delta_rule(
    joint: torch.Tensor, weight: torch.Tensor, fade: torch.Tensor, beta: torch.Tensor, heads: tuple[int, int],
    width: int, tree: ChunkTree,
) -> torch.Tensor:
    """Compute the values (T, G * R, D') that each token reads from the state, with products in the precision of `joint`.

    Args:
        joint: (T, W) projected queries, keys and values, concatenated, before their causal convolution.
        weight: (W, 4) weight of the convolution, the last one for the token itself.
        fade: (T, G * R) float32, logarithm of the state's decay factor.
        beta: (T, G * R) float32, share that is replaced.
        heads: G and G * R; value head h uses query and key h // R.
        width: D, width of a query or key.
        tree: the chunks.
    """
    (groups, values), keys = heads, heads[0] * width
    parts = Part(groups, width, width**-0.5), Part(groups, width, 1.0), Part(values, (joint.shape[1] - 2 * keys) // values)
    q, k, v = convolve(joint, weight, parts, tree.tokens, tree.halo)
    return read_states(q, k, v, fade, beta, tree)


def read_states(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, fade: torch.Tensor, beta: torch.Tensor, tree: ChunkTree
) -> torch.Tensor:
    """Compute the rule (T, G * R, D'), after the convolution.

    Args:
        q, k: (N, G, C, D), normalized to length one, q times the scale.
        v: (N, G * R, C, D').
        fade, beta: (T, G * R) float32, see gated_delta_rule.
        tree: the chunks.
    """
    dtype, grouped = v.dtype, (q.shape[1], -1)
    v, g, b = v.unflatten(1, grouped), in_chunks(fade, tree).unflatten(1, grouped), in_chunks(beta, tree).unflatten(1, grouped)
    faded = g.cumsum(-1)  # (N, G, R, C) from the start of the chunk
    since, until, share = (x.to(dtype)[..., None] for x in (faded.exp(), (faded[..., -1:] - faded).exp(), b))  # (N, G, R, C, 1)
    below, met = faded_products(k @ k.mT, q @ k.mT, faded, b)  # (N, G, R, C, C)
    # what each token writes depends on what earlier tokens of the chunk have written: a triangular system
    solved = unit_inverse(below) * share.mT
    written = solved @ v  # (N, G, R, C, D')
    known = ((solved * since.mT).flatten(2, 3) @ k).view(*met.shape[:-1], -1)  # (N, G, R, C, D)
    left = faded[..., -1].exp()[..., None, None]  # share of the initial state left at the end of the chunk
    q, k = q[:, :, None], k[:, :, None]  # (N, G, 1, C, D)
    by_level = (x.split(tree.sizes) for x in (written, known, met, q * since, k * until, left))
    outputs: list[torch.Tensor] = []
    state: torch.Tensor | None = None  # (chunks of the level, G, R, D, D') float32 at their start; None: zero
    for new, old, met, read, write, remaining, children in zip(*by_level, (*tree.parents, None), strict=True):
        if state is None:
            outputs.append(met @ new)
        else:
            before = state.to(dtype)
            new = new - old @ before
            outputs.append(met @ new + read @ before)
        if children is not None:
            added = (write.mT @ new).float()
            state = (added if state is None else state * remaining + added).index_select(0, children)
    return from_chunks(torch.cat(outputs).flatten(1, 2), tree)


# %% list to chunks and back
class _Gathered(torch.autograd.Function):
    """Gathers rows of x, or zeros for the index after its end. Its gradient is a gather too, as each row is used at most once."""

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
    """Arrange (T, heads) as (N, heads, C), zero at padding, so that nothing decays or is replaced there."""
    return _Gathered.apply(x, tree.tokens.flatten(), tree.at).view(*tree.tokens.shape, -1).transpose(1, 2).contiguous()


def from_chunks(x: torch.Tensor, tree: ChunkTree) -> torch.Tensor:
    """Arrange (N, heads, C, D) as (T, heads, D)."""
    chunks = x.transpose(1, 2).flatten(0, 1)
    return _Gathered.apply(chunks.flatten(1), tree.at, tree.tokens.flatten()).view(-1, *chunks.shape[1:])
