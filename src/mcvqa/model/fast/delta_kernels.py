"""Provides kernels for layers with a gated delta rule.

These are the causal convolution into chunks, the decayed products inside a chunk, and the inverse of small triangular matrices,
in Triton as in kernels.py, elsewhere with torch's functions.

Shapes as in delta.py; W channels.
"""
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

from mcvqa.model.fast.kernels import kernels_agree, tl, triton


class Part(NamedTuple):
    """Describes queries, keys or values among the channels.

    Attributes:
        heads: number of heads.
        width: channels per head.
        length: length to which the vector of a head is normalized; 0: not normalized.
    """

    heads: int
    width: int
    length: float = 0.0


Parts = Sequence[Part]


def unit(x: torch.Tensor) -> torch.Tensor:
    """Normalize vectors (..., D) to length one, in the precision of x."""
    wide = x.float()
    return (wide * (wide.square().sum(-1, keepdim=True) + 1e-6).rsqrt()).to(x.dtype)


# %% the causal convolution
def convolve(
    x: torch.Tensor, weight: torch.Tensor, parts: Parts, tokens: torch.Tensor, halo: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Compute the causal convolution of each part, (N, heads, C, D).

    It is a depthwise convolution over four tokens, SiLU, and normalization of each head to the part's length.

    Args:
        x: (T, W), the parts concatenated.
        weight: (W, 4), frozen, the last one for the token itself.
        parts: queries, keys and values.
        tokens, halo: see ChunkTree.
    """
    if _works_on(x.device, x.dtype):
        return _Convolved.apply(x, weight, parts, tokens, halo)
    return convolve_by_torch(x, weight, parts, tokens, halo)


def convolve_by_torch(
    x: torch.Tensor, weight: torch.Tensor, parts: Parts, tokens: torch.Tensor, halo: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Like `convolve`."""
    (chunks, count), reach = tokens.shape, halo.shape[1]
    around = F.pad(x, (0, 0, 0, 1))[torch.cat((halo, tokens), 1)]  # (N, 3 + C, W)
    mixed = sum((around[:, i : i + count] * weight[:, i] for i in range(reach)), around[:, reach:] * weight[:, reach])
    activated = F.silu(mixed).split([part.heads * part.width for part in parts], -1)
    heads = (x.view(chunks, count, part.heads, part.width) for x, part in zip(activated, parts, strict=True))
    return tuple(
        (unit(x) * part.length if part.length else x).transpose(1, 2).contiguous() for x, part in zip(heads, parts, strict=True)
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
    def _token_value(x, address, count, row, channel, mask):  # type: ignore[no-untyped-def]
        """Value of the token whose index in the list is stored at `address`; zero for padding."""
        token = tl.load(address)
        return tl.load(x + token * row + channel, mask & (token < count), 0.0).to(tl.float32)

    @triton.jit
    def _tap(weight, channel, mask, i: tl.constexpr):  # type: ignore[no-untyped-def]
        return tl.load(weight + 4 * channel + i, mask, 0.0).to(tl.float32)

    @triton.jit
    def _convolve(  # type: ignore[no-untyped-def]
        x, weight, tokens, halo, out, first, count, width, row, length, C: tl.constexpr, SIZE: tl.constexpr, UNIT: tl.constexpr
    ):
        """Process one head of one chunk. first: first channel of its part; row: stride of tokens; count: tokens of the list;
        UNIT: whether vectors are normalized to `length`."""
        chunk, head, heads = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
        value = tl.arange(0, SIZE)
        mask, channel = value < width, first + head * width + value
        w0, w1 = _tap(weight, channel, mask, 0), _tap(weight, channel, mask, 1)
        w2, w3 = _tap(weight, channel, mask, 2), _tap(weight, channel, mask, 3)
        a = _token_value(x, halo + 3 * chunk, count, row, channel, mask)
        b = _token_value(x, halo + 3 * chunk + 1, count, row, channel, mask)
        c = _token_value(x, halo + 3 * chunk + 2, count, row, channel, mask)
        for i in range(C):
            d = _token_value(x, tokens + chunk * C + i, count, row, channel, mask)
            mixed = a * w0 + b * w1 + c * w2 + d * w3
            done = mixed * tl.sigmoid(mixed)
            if UNIT:
                done *= length * tl.rsqrt(tl.sum(done * done, 0) + 1e-6)
            tl.store(out + ((chunk * heads + head) * C + i) * width + value, done.to(out.dtype.element_ty), mask)
            a, b, c = b, c, d

    @triton.jit
    def _convolve_back(  # type: ignore[no-untyped-def]
        gradient, x, weight, tokens, halo, out, of_halo, first, count, width, row, out_row, length, C: tl.constexpr,
        SIZE: tl.constexpr, UNIT: tl.constexpr,
    ):
        """Like `_convolve`: gradients of the chunk's tokens in `out`, those of the three before it in `of_halo` (N, 3, W)."""
        chunk, head, heads = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
        value = tl.arange(0, SIZE)
        mask, channel = value < width, first + head * width + value
        w0, w1 = _tap(weight, channel, mask, 0), _tap(weight, channel, mask, 1)
        w2, w3 = _tap(weight, channel, mask, 2), _tap(weight, channel, mask, 3)
        a = _token_value(x, halo + 3 * chunk, count, row, channel, mask)
        b = _token_value(x, halo + 3 * chunk + 1, count, row, channel, mask)
        c = _token_value(x, halo + 3 * chunk + 2, count, row, channel, mask)
        p = tl.zeros((SIZE,), tl.float32)  # gradients of the convolution at the last three tokens
        q = tl.zeros((SIZE,), tl.float32)
        r = tl.zeros((SIZE,), tl.float32)
        for i in range(C + 3):
            inside = i < C
            token = tl.load(tokens + chunk * C + i, inside, count)
            d = tl.load(x + token * row + channel, mask & (token < count), 0.0).to(tl.float32)
            mixed = a * w0 + b * w1 + c * w2 + d * w3
            share = tl.sigmoid(mixed)
            upstream = tl.load(gradient + ((chunk * heads + head) * C + i) * width + value, mask & inside, 0.0).to(tl.float32)
            if UNIT:
                done = mixed * share
                shrink = tl.rsqrt(tl.sum(done * done, 0) + 1e-6)
                upstream = length * shrink * (upstream - done * (shrink * shrink * tl.sum(upstream * done, 0)))
            s = upstream * share * (1 + mixed * (1 - share))
            done = p * w3 + q * w2 + r * w1 + s * w0  # gradient of the token three before
            if i < 3:
                tl.store(of_halo + (chunk * 3 + i) * out_row + channel, done.to(out.dtype.element_ty), mask)
            else:
                before = tl.load(tokens + chunk * C + i - 3)
                tl.store(out + before * out_row + channel, done.to(out.dtype.element_ty), mask & (before < count))
            a, b, c = b, c, d
            p, q, r = q, r, s

    @triton.jit
    def _invert(below, out, C: tl.constexpr, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
        """Some columns of the inverse of one matrix (C, C), row by row from those above."""
        start = tl.program_id(0).to(tl.int64) * C * C
        every = tl.arange(0, C)
        row, column = every[:, None], (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
        solved = tl.where(row == column, 1.0, 0.0)
        for i in range(1, C):
            known = tl.load(below + start + i * C + every, every < i, 0.0).to(tl.float32)
            solved -= tl.where(row == i, tl.sum(known[:, None] * solved, 0)[None, :], 0.0)
        tl.store(out + start + row * C + column, solved.to(out.dtype.element_ty))


def _convolve_by_triton(
    x: torch.Tensor, weight: torch.Tensor, parts: Parts, tokens: torch.Tensor, halo: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Like `convolve`."""
    (chunks, count), weight, first, outputs = tokens.shape, weight.contiguous(), 0, []
    for heads, width, length in parts:
        outputs.append(x.new_empty(chunks, heads, count, width))
        _convolve[(chunks, heads)](
            x, weight, tokens, halo, outputs[-1], first, len(x), width, x.stride(0), length, count, triton.next_power_of_2(width),
            length > 0, num_warps=1,
        )
        first += heads * width
    return tuple(outputs)


def _convolve_back_by_triton(
    gradients: Sequence[torch.Tensor], x: torch.Tensor, weight: torch.Tensor, parts: Parts, tokens: torch.Tensor,
    halo: torch.Tensor,
) -> torch.Tensor:
    """Compute the gradient (T, W) of x."""
    (chunks, count), weight, first = tokens.shape, weight.contiguous(), 0
    out = x.new_zeros(len(x) + 1, x.shape[1])  # zeros, because a padded list has tokens in no chunk
    of_halo = x.new_empty(chunks * halo.shape[1], x.shape[1])
    for (heads, width, length), gradient in zip(parts, gradients, strict=True):
        _convolve_back[(chunks, heads)](
            gradient.contiguous(), x, weight, tokens, halo, out, of_halo, first, len(x), width, x.stride(0), x.shape[1], length,
            count, triton.next_power_of_2(width), length > 0, num_warps=1,
        )
        first += heads * width
    out.index_put_((halo.flatten(),), of_halo, accumulate=True)  # several chunks may follow a token; sorted, so deterministic
    return out[:-1]


# %% decayed products inside a chunk
def faded_products(
    kk: torch.Tensor, qk: torch.Tensor, faded: torch.Tensor, beta: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute (N, G, R, C, C) each: beta_i exp(f_i - f_j) kk_ij and exp(f_i - f_j) qk_ij for j <= i, zero elsewhere.

    Args:
        kk, qk: (N, G, C, C).
        faded: (N, G, R, C) float32, f.
        beta: (N, G, R, C) float32, share that is replaced.
    """
    if _works_on(kk.device, kk.dtype):
        return _FadedProducts.apply(kk, qk, faded, beta)
    return faded_products_by_torch(kk, qk, faded, beta)


def faded_products_by_torch(
    kk: torch.Tensor, qk: torch.Tensor, faded: torch.Tensor, beta: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Like `faded_products`."""
    later = torch.ones(2 * faded.shape[-1:], dtype=torch.bool, device=kk.device).triu(1)
    between = (faded[..., :, None] - faded[..., None, :]).masked_fill(later, float("-inf")).exp()
    return (kk[:, :, None] * (between * beta[..., None])).to(kk.dtype), (qk[:, :, None] * between).to(qk.dtype)


class _FadedProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(*inputs)
        return _fade_by_triton(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return _fade_back_by_triton(gradients, *ctx.saved_tensors)


if triton:

    @triton.jit
    def _fade(kk, qk, faded, beta, below, met, C: tl.constexpr):  # type: ignore[no-untyped-def]
        """Process one value head of one chunk."""
        group, head = tl.program_id(0).to(tl.int64), tl.program_id(0).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
        every = tl.arange(0, C)
        i, j = every[:, None], every[None, :]
        tile, f, b = i * C + j, tl.load(faded + head * C + every), tl.load(beta + head * C + every)
        between = tl.where(j <= i, tl.exp(tl.minimum(f[:, None] - f[None, :], 0.0)), 0.0)
        k = tl.load(kk + group * C * C + tile).to(tl.float32) * (between * b[:, None])
        q = tl.load(qk + group * C * C + tile).to(tl.float32) * between
        tl.store(below + head * C * C + tile, k.to(below.dtype.element_ty))
        tl.store(met + head * C * C + tile, q.to(met.dtype.element_ty))

    @triton.jit
    def _fade_back(  # type: ignore[no-untyped-def]
        of_below, of_met, kk, qk, faded, beta, of_kk, of_qk, of_faded, of_beta, R: tl.constexpr, C: tl.constexpr
    ):
        """Process all value heads of one chunk that share a key head."""
        group = tl.program_id(0).to(tl.int64)
        every = tl.arange(0, C)
        i, j = every[:, None], every[None, :]
        tile = i * C + j
        k, q = tl.load(kk + group * C * C + tile).to(tl.float32), tl.load(qk + group * C * C + tile).to(tl.float32)
        k_sum, q_sum = tl.zeros((C, C), tl.float32), tl.zeros((C, C), tl.float32)
        for r in range(R):
            head = group * R + r
            f, b = tl.load(faded + head * C + every), tl.load(beta + head * C + every)
            between = tl.where(j <= i, tl.exp(tl.minimum(f[:, None] - f[None, :], 0.0)), 0.0)
            one = tl.load(of_below + head * C * C + tile).to(tl.float32) * between
            other = tl.load(of_met + head * C * C + tile).to(tl.float32) * between
            k_sum += one * b[:, None]
            q_sum += other
            tl.store(of_beta + head * C + every, tl.sum(one * k, 1))
            both = one * b[:, None] * k + other * q
            tl.store(of_faded + head * C + every, tl.sum(both, 1) - tl.sum(both, 0))
        tl.store(of_kk + group * C * C + tile, k_sum.to(of_kk.dtype.element_ty))
        tl.store(of_qk + group * C * C + tile, q_sum.to(of_qk.dtype.element_ty))


def _fade_by_triton(
    kk: torch.Tensor, qk: torch.Tensor, faded: torch.Tensor, beta: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Like `faded_products`."""
    (chunks, groups, heads, count), shape = faded.shape, (*faded.shape, faded.shape[-1])
    below, met = kk.new_empty(shape), qk.new_empty(shape)
    _fade[(chunks * groups, heads)](kk.contiguous(), qk.contiguous(), faded.contiguous(), beta.contiguous(), below, met, count)
    return below, met


def _fade_back_by_triton(
    gradients: Sequence[torch.Tensor], kk: torch.Tensor, qk: torch.Tensor, faded: torch.Tensor, beta: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Compute the gradients of the inputs of `faded_products`."""
    chunks, groups, heads, count = faded.shape
    inputs = [x.contiguous() for x in (*gradients, kk, qk, faded, beta)]
    outputs = tuple(torch.empty_like(x) for x in inputs[2:])
    _fade_back[(chunks * groups,)](*inputs, *outputs, heads, count)
    return outputs


# %% small triangular matrices
def unit_inverse(below: torch.Tensor) -> torch.Tensor:
    """Invert lower triangular matrices (..., C, C) with ones on the diagonal, by forward substitution in float32.

    Args:
        below: (..., C, C), read only below the diagonal; C is a power of two, 16 or more.
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
        transposed = ctx.saved_tensors[0].mT
        return -(transposed @ gradient @ transposed).tril(-1)


def invert_by_torch(below: torch.Tensor) -> torch.Tensor:
    """Like `unit_inverse`."""
    one = torch.eye(below.shape[-1], device=below.device).expand(below.shape)
    return torch.linalg.solve_triangular(below.float(), one, upper=False, unitriangular=True).to(below.dtype)


def _invert_by_triton(below: torch.Tensor) -> torch.Tensor:
    """Like `unit_inverse`."""
    below, size = below.contiguous(), below.shape[-1]
    out = torch.empty_like(below)
    _invert[(below.numel() // size**2, size // 16)](below, out, size, 16, num_warps=1)
    return out


# %% testing the kernels
@functools.cache
def _works_on(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether these kernels work on this GPU in this precision, tested once.

    Raises:
        OutOfMemoryError: there is no memory to test them.
    """
    return kernels_agree(device, functools.partial(compared, device, dtype), 2e-2)


def compared(device: torch.device, dtype: torch.dtype) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Compute pairs of results of each kernel and of torch's functions for small inputs.

    The inputs have widths that are not powers of two, padding, and two chunks that follow the same tokens.

    Args:
        device: the GPU.
        dtype: precision of the inputs.
    """
    random = torch.Generator().manual_seed(0)  # on the CPU: the same values everywhere

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random).to(device, dtype)

    x, weight, parts = normal(23, 72), normal(72, 4), (Part(2, 12, 0.25), Part(2, 12, 1.0), Part(2, 12))
    tokens = torch.full((3, 16), 23)
    tokens[0], tokens[1, :4], tokens[2, :3] = torch.arange(16), torch.arange(16, 20), torch.arange(20, 23)
    halo = torch.tensor([[23, 23, 23], [13, 14, 15], [13, 14, 15]]).to(device)
    used, tokens = (tokens < 23)[:, None, :, None].to(device, dtype), tokens.to(device)
    kk, qk, below = normal(3, 2, 16, 16), normal(3, 2, 16, 16), normal(2, 32, 32) / 8
    faded, beta = -torch.rand(3, 2, 2, 16, generator=random).cumsum(-1), torch.rand(3, 2, 2, 16, generator=random)
    products = kk, qk, faded.to(device), beta.to(device)

    leaves = [one.clone().requires_grad_() for one in (x, *products)]
    with torch.enable_grad():  # the first pass may run without gradients
        mixed = convolve_by_torch(leaves[0], weight, parts, tokens, halo)
        faded_ones = faded_products_by_torch(*leaves[1:])
    ups = [normal(*one.shape) for one in faded_ones]
    mixed_ups = [normal(*one.shape) * used for one in mixed]  # values at padding are not used
    (of_mixed,) = torch.autograd.grad(mixed, leaves[0], mixed_ups)
    of_faded = torch.autograd.grad(faded_ones, leaves[1:], ups)
    pairs = [*zip(_convolve_by_triton(x, weight, parts, tokens, halo), mixed, strict=True)]
    pairs += [(_convolve_back_by_triton(mixed_ups, x, weight, parts, tokens, halo), of_mixed)]
    pairs += zip(_fade_by_triton(*products), faded_ones, strict=True)
    pairs += zip(_fade_back_by_triton(ups, *products), of_faded, strict=True)
    return [*pairs, (_invert_by_triton(below), invert_by_torch(below))]
