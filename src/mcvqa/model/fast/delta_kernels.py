"""Three steps of layers with a gated delta rule as kernels of their own: the causal convolution of what is projected, straight
into chunks, the products inside a chunk as they fade, and the inverse of small triangular matrices. By Triton as in kernels.py,
elsewhere by torch's functions.

Shapes as in delta.py; W channels.
"""
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

from mcvqa.model.fast.kernels import kernels_agree, tl, triton


class Part(NamedTuple):
    """Queries, keys or values among the channels.

    Attributes:
        width: channels of a head.
        length: what the vector of a head is brought to; 0: it stays as it is.
    """

    heads: int
    width: int
    length: float = 0.0


Parts = Sequence[Part]


def unit(x: torch.Tensor) -> torch.Tensor:
    """Vectors (..., D) of length one, in the precision of x."""
    wide = x.float()
    return (wide * (wide.square().sum(-1, keepdim=True) + 1e-6).rsqrt()).to(x.dtype)


# %% the causal convolution
def convolve(
    x: torch.Tensor, weight: torch.Tensor, parts: Parts, tokens: torch.Tensor, halo: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """(N, heads, C, D) of each part: each channel mixed with its values at the three tokens before, SiLU, and then the vectors of
    the heads brought to the part's length.

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
    made = F.silu(mixed).split([part.heads * part.width for part in parts], -1)
    heads = (x.view(chunks, count, part.heads, part.width) for x, part in zip(made, parts, strict=True))
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
    def _token_value(x, at, count, row, channel, there):  # type: ignore[no-untyped-def]
        """Of the token whose index in the list is at `at`; zero for one behind its end."""
        token = tl.load(at)
        return tl.load(x + token * row + channel, there & (token < count), 0.0).to(tl.float32)

    @triton.jit
    def _tap(weight, channel, there, i: tl.constexpr):  # type: ignore[no-untyped-def]
        return tl.load(weight + 4 * channel + i, there, 0.0).to(tl.float32)

    @triton.jit
    def _convolve(  # type: ignore[no-untyped-def]
        x, weight, tokens, halo, made, first, count, width, row, length, C: tl.constexpr, SIZE: tl.constexpr, UNIT: tl.constexpr
    ):
        """One head of one chunk. first: its part's first channel; row: from token to token; count: tokens of the list; UNIT:
        whether vectors are brought to `length`."""
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
            done = mixed * tl.sigmoid(mixed)
            if UNIT:
                done *= length * tl.rsqrt(tl.sum(done * done, 0) + 1e-6)
            tl.store(made + ((chunk * heads + head) * C + i) * width + value, done.to(made.dtype.element_ty), there)
            a, b, c = b, c, d

    @triton.jit
    def _convolve_back(  # type: ignore[no-untyped-def]
        gradient, x, weight, tokens, halo, made, of_halo, first, count, width, row, made_row, length, C: tl.constexpr,
        SIZE: tl.constexpr, UNIT: tl.constexpr,
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
            if UNIT:
                done = mixed * share
                shrink = tl.rsqrt(tl.sum(done * done, 0) + 1e-6)
                given = length * shrink * (given - done * (shrink * shrink * tl.sum(given * done, 0)))
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
    for heads, width, length in parts:
        made.append(x.new_empty(chunks, heads, count, width))
        _convolve[(chunks, heads)](
            x, weight, tokens, halo, made[-1], first, len(x), width, x.stride(0), length, count, triton.next_power_of_2(width),
            length > 0, num_warps=1,
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
    for (heads, width, length), gradient in zip(parts, gradients, strict=True):
        _convolve_back[(chunks, heads)](
            gradient.contiguous(), x, weight, tokens, halo, made, of_halo, first, len(x), width, x.stride(0), x.shape[1], length,
            count, triton.next_power_of_2(width), length > 0, num_warps=1,
        )
        first += heads * width
    made.index_put_((halo.flatten(),), of_halo, accumulate=True)  # several chunks may follow a token; sorted, so in one order
    return made[:-1]


# %% products inside a chunk
def faded_products(
    kk: torch.Tensor, qk: torch.Tensor, faded: torch.Tensor, beta: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, G, R, C, C) each: beta_i exp(f_i - f_j) kk_ij and exp(f_i - f_j) qk_ij where j is not later than i, zero elsewhere.

    Args:
        kk, qk: (N, G, C, C).
        faded, beta: (N, G, R, C) float32, f and the share that is replaced.
    """
    if _works_on(kk.device, kk.dtype):
        return _FadedProducts.apply(kk, qk, faded, beta)
    return faded_products_by_torch(kk, qk, faded, beta)


def faded_products_by_torch(
    kk: torch.Tensor, qk: torch.Tensor, faded: torch.Tensor, beta: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `faded_products`."""
    later = torch.ones(2 * faded.shape[-1:], dtype=torch.bool, device=kk.device).triu(1)
    between = (faded[..., :, None] - faded[..., None, :]).masked_fill(later, float("-inf")).exp()
    return (kk[:, :, None] * (between * beta[..., None])).to(kk.dtype), (qk[:, :, None] * between).to(qk.dtype)


class _FadedProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(*given)
        return _fade_by_triton(*given)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return _fade_back_by_triton(gradients, *ctx.saved_tensors)


if triton:

    @triton.jit
    def _fade(kk, qk, faded, beta, below, met, C: tl.constexpr):  # type: ignore[no-untyped-def]
        """One head of values of one chunk."""
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
        """All heads of values that share one head of keys, of one chunk."""
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
    """As `faded_products`."""
    (chunks, groups, heads, count), shape = faded.shape, (*faded.shape, faded.shape[-1])
    below, met = kk.new_empty(shape), qk.new_empty(shape)
    _fade[(chunks * groups, heads)](kk.contiguous(), qk.contiguous(), faded.contiguous(), beta.contiguous(), below, met, count)
    return below, met


def _fade_back_by_triton(
    gradients: Sequence[torch.Tensor], kk: torch.Tensor, qk: torch.Tensor, faded: torch.Tensor, beta: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Gradients of what `faded_products` takes."""
    chunks, groups, heads, count = faded.shape
    given = [x.contiguous() for x in (*gradients, kk, qk, faded, beta)]
    made = tuple(torch.empty_like(x) for x in given[2:])
    _fade_back[(chunks * groups,)](*given, *made, heads, count)
    return made


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
    return kernels_agree(device, functools.partial(compared, device, dtype), 2e-2)


def compared(device: torch.device, dtype: torch.dtype) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What each kernel gives for small inputs, and what torch's functions give: widths that are no powers of two, padding, and
    two chunks that follow the same tokens."""
    random = torch.Generator().manual_seed(0)  # of the CPU: the same values everywhere

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
    with torch.enable_grad():  # the first pass may be one without
        mixed = convolve_by_torch(leaves[0], weight, parts, tokens, halo)
        faded_ones = faded_products_by_torch(*leaves[1:])
    ups = [normal(*one.shape) for one in faded_ones]
    mixed_ups = [normal(*one.shape) * used for one in mixed]  # nobody uses what is at padding
    (of_mixed,) = torch.autograd.grad(mixed, leaves[0], mixed_ups)
    of_faded = torch.autograd.grad(faded_ones, leaves[1:], ups)
    pairs = [*zip(_convolve_by_triton(x, weight, parts, tokens, halo), mixed, strict=True)]
    pairs += [(_convolve_back_by_triton(mixed_ups, x, weight, parts, tokens, halo), of_mixed)]
    pairs += zip(_fade_by_triton(*products), faded_ones, strict=True)
    pairs += zip(_fade_back_by_triton(ups, *products), of_faded, strict=True)
    return [*pairs, (_invert_by_triton(below), invert_by_torch(below))]
