"""Two steps of layers with a gated delta rule as kernels of their own: the causal convolution of what is projected, straight into
chunks, and the inverse of small triangular matrices. By Triton as in kernels.py, elsewhere by torch's functions.

Shapes as in delta.py; W channels.
"""
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from mcvqa.model.fast.kernels import kernels_agree, tl, triton

Parts = Sequence[tuple[int, int]]  # (heads, width of a head) of queries, keys and values


# %% the causal convolution
def convolve(
    x: torch.Tensor, weight: torch.Tensor, parts: Parts, tokens: torch.Tensor, halo: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """(N, heads, C, D) of each part: each channel mixed with its values at the three tokens before, and SiLU.

    Args:
        x: (T, W), the parts side by side; weight: (W, 4), frozen, the last one for the token itself.
        tokens, halo: as in ChunkTree.
    """
    if _works_on(x.device, x.dtype):
        return _Convolved.apply(x, weight, parts, tokens, halo)
    return convolve_by_torch(x, weight, parts, tokens, halo)


def convolve_by_torch(
    x: torch.Tensor, weight: torch.Tensor, parts: Parts, tokens: torch.Tensor, halo: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """As `convolve`."""
    (chunks, count), reach = tokens.shape, halo.shape[1]
    around = F.pad(x, (0, 0, 0, 1))[torch.cat((halo, tokens), 1)]  # (N, 3 + C, W)
    mixed = sum((around[:, i : i + count] * weight[:, i] for i in range(reach)), around[:, reach:] * weight[:, reach])
    made = F.silu(mixed).split([heads * width for heads, width in parts], -1)
    return tuple(
        part.view(chunks, count, *shape).transpose(1, 2).contiguous() for part, shape in zip(made, parts, strict=True)
    )


class _Convolved(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, parts: Parts, tokens: torch.Tensor, halo: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        ctx.parts = parts
        ctx.save_for_backward(x, weight, tokens, halo)
        return _convolve_by_triton(x, weight, parts, tokens, halo)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        x, weight, tokens, halo = ctx.saved_tensors
        return _convolve_back_by_triton(gradients, x, weight, ctx.parts, tokens, halo), None, None, None, None


if triton:

    @triton.jit
    def _token_value(x, at, count, row, channel, there):  # type: ignore[no-untyped-def]
        """Of the token whose index in the list is at `at`; zero for one behind its end."""
        token = tl.load(at)
        return tl.load(x + token * row + channel, there & (token < count), 0.0).to(tl.float32)

    @triton.jit
    def _tap(weight, channel, there, i: tl.constexpr):  # type: ignore[no-untyped-def]
        return tl.load(weight + 4 * channel + i, there, 0.0).to(tl.float32)

    @triton.jit
    def _convolve(  # type: ignore[no-untyped-def]
        x, weight, tokens, halo, made, first, count, width, row, C: tl.constexpr, SIZE: tl.constexpr
    ):
        """One head of one chunk. first: its part's first channel; row: from token to token; count: tokens of the list."""
        chunk, head, heads = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
        value = tl.arange(0, SIZE)
        there, channel = value < width, first + head * width + value
        w0, w1 = _tap(weight, channel, there, 0), _tap(weight, channel, there, 1)
        w2, w3 = _tap(weight, channel, there, 2), _tap(weight, channel, there, 3)
        a = _token_value(x, halo + 3 * chunk, count, row, channel, there)
        b = _token_value(x, halo + 3 * chunk + 1, count, row, channel, there)
        c = _token_value(x, halo + 3 * chunk + 2, count, row, channel, there)
        for i in range(C):
            d = _token_value(x, tokens + chunk * C + i, count, row, channel, there)
            mixed = a * w0 + b * w1 + c * w2 + d * w3
            done = (mixed * tl.sigmoid(mixed)).to(made.dtype.element_ty)
            tl.store(made + ((chunk * heads + head) * C + i) * width + value, done, there)
            a, b, c = b, c, d

    @triton.jit
    def _convolve_back(  # type: ignore[no-untyped-def]
        gradient, x, weight, tokens, halo, made, of_halo, first, count, width, row, made_row, C: tl.constexpr, SIZE: tl.constexpr
    ):
        """As `_convolve`: gradients of the chunk's own tokens in `made`, those of the three before it in `of_halo` (N, 3, W)."""
        chunk, head, heads = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
        value = tl.arange(0, SIZE)
        there, channel = value < width, first + head * width + value
        w0, w1 = _tap(weight, channel, there, 0), _tap(weight, channel, there, 1)
        w2, w3 = _tap(weight, channel, there, 2), _tap(weight, channel, there, 3)
        a = _token_value(x, halo + 3 * chunk, count, row, channel, there)
        b = _token_value(x, halo + 3 * chunk + 1, count, row, channel, there)
        c = _token_value(x, halo + 3 * chunk + 2, count, row, channel, there)
        p = tl.zeros((SIZE,), tl.float32)  # gradients of what was mixed for the last three tokens
        q = tl.zeros((SIZE,), tl.float32)
        r = tl.zeros((SIZE,), tl.float32)
        for i in range(C + 3):
            inside = i < C
            token = tl.load(tokens + chunk * C + i, inside, count)
            d = tl.load(x + token * row + channel, there & (token < count), 0.0).to(tl.float32)
            mixed = a * w0 + b * w1 + c * w2 + d * w3
            share = tl.sigmoid(mixed)
            given = tl.load(gradient + ((chunk * heads + head) * C + i) * width + value, there & inside, 0.0).to(tl.float32)
            s = given * share * (1 + mixed * (1 - share))
            done = p * w3 + q * w2 + r * w1 + s * w0  # of the token three before
            if i < 3:
                tl.store(of_halo + (chunk * 3 + i) * made_row + channel, done.to(made.dtype.element_ty), there)
            else:
                before = tl.load(tokens + chunk * C + i - 3)
                tl.store(made + before * made_row + channel, done.to(made.dtype.element_ty), there & (before < count))
            a, b, c = b, c, d
            p, q, r = q, r, s

    @triton.jit
    def _invert(below, made, C: tl.constexpr, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
        """Some columns of the inverse of one matrix (C, C), row after row by those above it."""
        place = tl.program_id(0).to(tl.int64) * C * C
        every = tl.arange(0, C)
        row, column = every[:, None], (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
        solved = tl.where(row == column, 1.0, 0.0)
        for i in range(1, C):
            known = tl.load(below + place + i * C + every, every < i, 0.0).to(tl.float32)
            solved -= tl.where(row == i, tl.sum(known[:, None] * solved, 0)[None, :], 0.0)
        tl.store(made + place + row * C + column, solved.to(made.dtype.element_ty))


def _convolve_by_triton(
    x: torch.Tensor, weight: torch.Tensor, parts: Parts, tokens: torch.Tensor, halo: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """As `convolve`."""
    (chunks, count), weight, first, made = tokens.shape, weight.contiguous(), 0, []
    for heads, width in parts:
        made.append(x.new_empty(chunks, heads, count, width))
        _convolve[(chunks, heads)](
            x, weight, tokens, halo, made[-1], first, len(x), width, x.stride(0), count, triton.next_power_of_2(width),
            num_warps=1,
        )
        first += heads * width
    return tuple(made)


def _convolve_back_by_triton(
    gradients: Sequence[torch.Tensor], x: torch.Tensor, weight: torch.Tensor, parts: Parts, tokens: torch.Tensor,
    halo: torch.Tensor,
) -> torch.Tensor:
    """(T, W) gradient of x."""
    (chunks, count), weight, first = tokens.shape, weight.contiguous(), 0
    made = x.new_zeros(len(x) + 1, x.shape[1])  # a rounded list has tokens that are in no chunk
    of_halo = x.new_empty(chunks * halo.shape[1], x.shape[1])
    for (heads, width), gradient in zip(parts, gradients, strict=True):
        _convolve_back[(chunks, heads)](
            gradient.contiguous(), x, weight, tokens, halo, made, of_halo, first, len(x), width, x.stride(0), x.shape[1], count,
            triton.next_power_of_2(width), num_warps=1,
        )
        first += heads * width
    made.index_put_((halo.flatten(),), of_halo, accumulate=True)  # several chunks may follow a token; sorted, so in one order
    return made[:-1]


# %% small triangular matrices
def unit_inverse(below: torch.Tensor) -> torch.Tensor:
    """(..., C, C) inverses of lower triangular matrices with ones on the diagonal, by forward substitution in float32.

    Args:
        below: (..., C, C), of which only what is below the diagonal is read; C: a power of two, 16 or more.
    """
    return _UnitInverse.apply(below)


class _UnitInverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, below: torch.Tensor) -> torch.Tensor:
        by = _invert_by_triton if _works_on(below.device, below.dtype) else invert_by_torch
        inverse = by(below)
        ctx.save_for_backward(inverse)
        return inverse

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        turned = ctx.saved_tensors[0].mT
        return -(turned @ gradient @ turned).tril(-1)


def invert_by_torch(below: torch.Tensor) -> torch.Tensor:
    """As `unit_inverse`."""
    one = torch.eye(below.shape[-1], device=below.device).expand(below.shape)
    return torch.linalg.solve_triangular(below.float(), one, upper=False, unitriangular=True).to(below.dtype)


def _invert_by_triton(below: torch.Tensor) -> torch.Tensor:
    """As `unit_inverse`."""
    below, size = below.contiguous(), below.shape[-1]
    made = torch.empty_like(below)
    _invert[(below.numel() // size**2, size // 16)](below, made, size, 16, num_warps=1)
    return made


# %% whichever works
@functools.cache
def _works_on(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether these kernels work on this GPU in this precision, tried once. Raises OutOfMemoryError as kernels_agree."""
    return kernels_agree(device, functools.partial(_delta_trials, device, dtype), 2e-2)


def _delta_trials(device: torch.device, dtype: torch.dtype) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator(device).manual_seed(0)
    x = torch.randn(20, 3 * 2 * 16, device=device, generator=generator).to(dtype)
    weight = torch.randn(3 * 2 * 16, 4, device=device, generator=generator).to(dtype)
    tokens = torch.full((2, 16), 20, device=device)
    tokens[0], tokens[1, :4] = torch.arange(16, device=device), torch.arange(16, 20, device=device)
    halo = torch.tensor([[20, 20, 20], [13, 14, 15]], device=device)
    below = torch.randn(2, 16, 16, device=device, generator=generator).to(dtype) / 4
    parts = ((2, 16),) * 3
    given = x.clone().requires_grad_()
    with torch.enable_grad():  # the first pass may be one without
        wanted = convolve_by_torch(given, weight, parts, tokens, halo)
    yield from zip(_convolve_by_triton(x, weight, parts, tokens, halo), wanted, strict=True)
    (theirs,) = torch.autograd.grad(wanted, given, wanted)
    yield _convolve_back_by_triton(wanted, x, weight, parts, tokens, halo), theirs
    yield _invert_by_triton(below), invert_by_torch(below)
