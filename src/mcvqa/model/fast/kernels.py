"""Four steps of a layer as one kernel each, where torch runs two to nine through the memory: rotary positions, SwiGLU and its
gradients, the gradient of RMSNorm, dropout.

They are written in Triton, which comes with torch for NVIDIA GPUs on Linux; there values are computed in float32 and rounded
once. Elsewhere, and on a GPU where they give something else than torch's functions in a first try, those do the same.

Shapes: T tokens, H hidden size, D values per head.
"""
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.nn import functional as F

VALUES = 1024  # that a program of `_gate` and `_gate_back` takes at once


# %% by torch
def turn_by_torch(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, n: int, way: int) -> torch.Tensor:
    """As `turn`. Args: way: 1, or -1 to turn back."""
    turned = heads[:, :n]
    rolled = turned.roll(turned.shape[-1] // 2, -1)
    return torch.cat((torch.addcmul(turned * cos, rolled, sin, value=way).to(heads.dtype), heads[:, n:]), 1)


def gate_by_torch(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """As `gate_up`."""
    return F.silu(gate).mul_(up)


def gate_back_by_torch(gradient: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `gate_up_backward`."""
    of_gate = torch.ops.aten.silu_backward(gradient * up, gate)
    return of_gate, torch.mul(F.silu(gate), gradient, out=up)


def norm_back_by_torch(
    x: torch.Tensor, weight: torch.Tensor, eps: float, of_normed: torch.Tensor, gradient: torch.Tensor
) -> torch.Tensor:
    """As `norm_backward`."""
    wide, given = x.float(), of_normed.float() * weight.float()
    scale = (wide.square().mean(-1, keepdim=True) + eps).rsqrt()
    along = (given * wide).mean(-1, keepdim=True) * scale.square()
    return ((given - wide * along) * scale + gradient).to(x.dtype)


# The mask of dropout is a hash of a token's key plus that of two neighbouring inputs; each gets 16 of its 32 bits. Its constants
# are those of least bias that Wellons' search has found for two rounds ("hash-prospector", github.com/skeeto).
SHIFT_1, FACTOR_1, SHIFT_2, FACTOR_2 = 16, 0x21F0AAAD, 15, 0x735A2D97


def drop_threshold(rate: float) -> int:
    """The least of the 2**16 signed 16-bit values that is kept."""
    return round(rate * 2**16) - 2**15


def drop_by_torch(
    x: torch.Tensor, token_keys: torch.Tensor, input_keys: torch.Tensor, rate: float, overwrite: bool
) -> torch.Tensor:
    """As `drop`. In integers of 32 bits, in place, as memory is what takes the time."""
    hashed = token_keys[:, None] + input_keys  # (T, I / 2)
    shifted = hashed >> SHIFT_1
    hashed.bitwise_xor_(shifted).mul_(FACTOR_1)
    torch.bitwise_right_shift(hashed, SHIFT_2, out=shifted)
    hashed.bitwise_xor_(shifted).mul_(FACTOR_2)
    halves = hashed.view(torch.int16)[:, : x.shape[1]]  # (T, I)
    kept = torch.empty_like(x)
    torch.ge(halves, drop_threshold(rate), out=kept)  # into x's own type: a product with booleans takes three times as long
    return x.mul_(kept) if overwrite else kept.mul_(x)


# %% by Triton
try:
    import triton
    from triton import language as tl
except ImportError:
    triton = tl = None

if triton:

    @triton.jit
    def _turn(  # type: ignore[no-untyped-def]
        heads, cos, sin, made, row, n, way, COUNT: tl.constexpr, HALF: tl.constexpr, H: tl.constexpr, D: tl.constexpr
    ):
        """One token: its first `n` of COUNT heads with 2 * HALF values turned, the others copied. `row`: from token to token."""
        token = tl.program_id(0).to(tl.int64)
        head, value = tl.arange(0, H)[:, None], tl.arange(0, D)[None, :]
        there = (head < COUNT) & (value < HALF)
        at = head * 2 * HALF + value
        first = tl.load(heads + token * row + at, there)
        second = tl.load(heads + token * row + at + HALF, there)
        table = token * 2 * HALF + value
        cos_1, cos_2 = tl.load(cos + table, value < HALF), tl.load(cos + table + HALF, value < HALF)
        sin_1, sin_2 = tl.load(sin + table, value < HALF), tl.load(sin + table + HALF, value < HALF)
        x, y = first.to(tl.float32), second.to(tl.float32)
        turned_1 = x * cos_1.to(tl.float32) + y * sin_1.to(tl.float32) * way
        turned_2 = y * cos_2.to(tl.float32) + x * sin_2.to(tl.float32) * way
        place = made + token * COUNT * 2 * HALF + at
        tl.store(place, tl.where(head < n, turned_1.to(first.dtype), first), there)
        tl.store(place + HALF, tl.where(head < n, turned_2.to(first.dtype), second), there)

    @triton.jit
    def _gate(gate, up, made, count, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]
        at = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
        x = tl.load(gate + at, at < count).to(tl.float32)
        y = tl.load(up + at, at < count)
        tl.store(made + at, (x * tl.sigmoid(x) * y.to(tl.float32)).to(y.dtype), at < count)

    @triton.jit
    def _gate_back(gradient, gate, up, count, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]
        at = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
        given = tl.load(gradient + at, at < count)
        g, x = given.to(tl.float32), tl.load(gate + at, at < count).to(tl.float32)
        share = tl.sigmoid(x)
        y = tl.load(up + at, at < count).to(tl.float32)
        tl.store(gate + at, (g * y * share * (1 + x * (1 - share))).to(given.dtype), at < count)
        tl.store(up + at, (g * x * share).to(given.dtype), at < count)

    @triton.jit
    def _norm_back(x, weight, of_normed, gradient, made, size, eps, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]
        """One token of `size` values."""
        value = tl.arange(0, SIZE)
        at = tl.program_id(0).to(tl.int64) * size + value
        token = tl.load(x + at, value < size, 0)
        wide = token.to(tl.float32)
        given = tl.load(of_normed + at, value < size, 0).to(tl.float32) * tl.load(weight + value, value < size, 0).to(tl.float32)
        scale = tl.rsqrt(tl.sum(wide * wide, 0) / size + eps)
        along = tl.sum(given * wide, 0) / size * scale * scale
        own = (given - wide * along) * scale + tl.load(gradient + at, value < size, 0).to(tl.float32)
        tl.store(made + at, own.to(token.dtype), value < size)

    @triton.jit
    def _drop(  # type: ignore[no-untyped-def]
        x, token_keys, input_keys, made, size, threshold, SHIFT_A: tl.constexpr, FACTOR_A: tl.constexpr, SHIFT_B: tl.constexpr,
        FACTOR_B: tl.constexpr, SIZE: tl.constexpr,
    ):
        """SIZE of the `size` values of one token."""
        token = tl.program_id(0).to(tl.int64)
        value = tl.program_id(1) * SIZE + tl.arange(0, SIZE)
        hashed = tl.load(token_keys + token) + tl.load(input_keys + value // 2, value < size, 0)
        hashed = (hashed ^ (hashed >> SHIFT_A)) * FACTOR_A
        hashed = (hashed ^ (hashed >> SHIFT_B)) * FACTOR_B
        half = (hashed << (16 - 16 * (value % 2))) >> 16  # of the first of two values the lower half, with its sign
        given = tl.load(x + token * size + value, value < size, 0)
        tl.store(made + token * size + value, tl.where(half >= threshold, given, 0).to(given.dtype), value < size)


def turn_by_triton(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, n: int, way: int) -> torch.Tensor:
    """As `turn`. Args: way: 1, or -1 to turn back."""
    tokens, count, size = heads.shape
    heads = heads if heads.stride()[1:] == (size, 1) else heads.contiguous()
    made = torch.empty(heads.shape, dtype=heads.dtype, device=heads.device)
    _turn[(tokens,)](
        heads, cos.contiguous(), sin.contiguous(), made, heads.stride(0), n, way, count, size // 2, triton.next_power_of_2(count),
        triton.next_power_of_2(size // 2),
    )
    return made


def gate_by_triton(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """As `gate_up`."""
    assert gate.is_contiguous() and up.is_contiguous()
    made = torch.empty_like(gate)
    _gate[(triton.cdiv(gate.numel(), VALUES),)](gate, up, made, gate.numel(), VALUES)
    return made


def gate_back_by_triton(gradient: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `gate_up_backward`."""
    assert gate.is_contiguous() and up.is_contiguous() and gradient.is_contiguous()
    _gate_back[(triton.cdiv(gate.numel(), VALUES),)](gradient, gate, up, gate.numel(), VALUES)
    return gate, up


def norm_back_by_triton(
    x: torch.Tensor, weight: torch.Tensor, eps: float, of_normed: torch.Tensor, gradient: torch.Tensor
) -> torch.Tensor:
    """As `norm_backward`."""
    x, (tokens, size) = x.contiguous(), x.shape
    made = torch.empty_like(x)
    _norm_back[(tokens,)](
        x, weight, of_normed.contiguous(), gradient.contiguous(), made, size, eps, triton.next_power_of_2(size)
    )
    return made


def drop_by_triton(
    x: torch.Tensor, token_keys: torch.Tensor, input_keys: torch.Tensor, rate: float, overwrite: bool
) -> torch.Tensor:
    """As `drop`."""
    x, (tokens, size) = x.contiguous(), x.shape
    made = x if overwrite else torch.empty_like(x)
    _drop[(tokens, triton.cdiv(size, VALUES))](
        x, token_keys, input_keys, made, size, drop_threshold(rate), SHIFT_1, FACTOR_1, SHIFT_2, FACTOR_2, VALUES
    )
    return made


# %% whichever works
def turn(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, n: int) -> torch.Tensor:
    """(T, heads, D) the first `n` heads rotated by position: value i of a head together with value i + D / 2
    (arXiv:2104.09864); the others as they are.

    Args:
        cos, sin: (T, 1, D), as `turning` in model/block.py gives them.
    """
    return _Turned.apply(heads, cos, sin, n)


class _Turned(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, n: int) -> torch.Tensor:
        ctx.given = cos, sin, n
        ctx.by = turn_by_triton if fused_on(heads.device, heads.dtype) else turn_by_torch
        return ctx.by(heads, cos, sin, n, 1)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        return ctx.by(gradient, *ctx.given, -1), None, None, None


def gate_up(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """SwiGLU (arXiv:2002.05202): silu(gate) * up. Both contiguous and of one shape."""
    return gate_by_triton(gate, up) if fused_on(gate.device, gate.dtype) else gate_by_torch(gate, up)


def gate_up_backward(gradient: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of gate and up, from that of what `gate_up` made; all contiguous. They take the place of gate and up, which are
    the largest tensors of a layer."""
    by = gate_back_by_triton if fused_on(gate.device, gate.dtype) else gate_back_by_torch
    return by(gradient, gate, up)


def drop(
    x: torch.Tensor, token_keys: torch.Tensor, input_keys: torch.Tensor, rate: float, *, overwrite: bool = False
) -> torch.Tensor:
    """(T, I) `x` with about the share `rate` of its values set to zero: those whose 16 bits of a hash of their two keys are low.

    The same keys drop the same values, on every device. Gradients do not pass through it.

    Args:
        token_keys: (T,) int32; input_keys: (I / 2, rounded up) int32, one for two neighbouring inputs; both contiguous.
        overwrite: whether the result may take the memory of x.
    """
    by = drop_by_triton if fused_on(x.device, x.dtype) else drop_by_torch
    return by(x, token_keys, input_keys, rate, overwrite)


def norm_backward(norm: Any, x: torch.Tensor, of_normed: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """(T, H) gradient of x where both x and RMSNorm(x) (arXiv:1910.07467) are used.

    Args:
        norm: RMSNorm of transformers' Qwen models, frozen; x: (T, H).
        of_normed, gradient: (T, H) gradients of RMSNorm(x) and of x itself.
    """
    by = norm_back_by_triton if fused_on(x.device, x.dtype) else norm_back_by_torch
    return by(x, norm.weight, norm.variance_epsilon, of_normed, gradient)


@functools.cache
def fused_on(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether these kernels work on this GPU in this precision, tried once. Raises OutOfMemoryError as kernels_agree."""
    return kernels_agree(device, functools.partial(_trials, device, dtype), 1e-2)


Pairs = Iterable[tuple[torch.Tensor, torch.Tensor]]


def kernels_agree(device: torch.device, trials: Callable[[], Pairs], tolerance: float) -> bool:
    """Whether Triton is there and its kernels give what torch's functions do: an old GPU or driver, or a machine without a C
    compiler, is no reason to end a run.

    Args:
        trials: runs both; pairs of their results.

    Raises:
        OutOfMemoryError: it cannot be tried.
    """
    if device.type != "cuda" or not triton:
        return False
    try:
        return all(torch.allclose(ours, theirs, rtol=1e-2, atol=tolerance) for ours, theirs in trials())
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception:  # whatever a compiler may raise
        return False


def _trials(device: torch.device, dtype: torch.dtype) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator(device).manual_seed(0)
    x, y, z = torch.randn(3, 4, 6, 80, device=device, generator=generator).to(dtype)
    angles = torch.randn(4, 1, 80, device=device, generator=generator)
    keys = torch.randint(-(2**31), 2**31, (6 + 40,), dtype=torch.int32, device=device, generator=generator)
    tries: list[tuple[Any, Any, tuple[Any, ...]]] = [
        (turn_by_triton, turn_by_torch, (x, angles, angles, 5, -1)), (gate_by_triton, gate_by_torch, (x, y)),
        (gate_back_by_triton, gate_back_by_torch, (x, y, z)),
        (norm_back_by_triton, norm_back_by_torch, (x[0], angles[0, 0], 1e-6, y[0], z[0])),
        (drop_by_triton, drop_by_torch, (x[0], keys[:6], keys[6:], 0.5, False)),
    ]
    for one, other, given in tries:
        yield from zip(one(*_clones(given)), other(*_clones(given)), strict=True)


def _clones(given: tuple[Any, ...]) -> Iterator[Any]:
    """As what is given may be overwritten."""
    return (value.clone() if isinstance(value, torch.Tensor) else value for value in given)
