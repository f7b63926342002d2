"""Provides fused kernels, one each where torch runs two to nine.

They compute rotary embedding, SwiGLU and its gradients, the gradient of RMSNorm, dropout, and sums of rows. They are written in
Triton, which comes with torch for NVIDIA GPUs on Linux, and compute in float32 with one rounding at the end. Elsewhere, and on a
GPU where their results differ from torch's in a first test, torch's functions are used.

Shapes: T tokens, H hidden size, D values per head.
"""
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.nn import functional as F

VALUES = 1024  # per program of `_gate` and `_gate_back`


# %% in torch
def rotate_by_torch(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, n: int, direction: int) -> torch.Tensor:
    """Like `rotate`; `direction` is 1, or -1 for the inverse rotation."""
    rotated = heads[:, :n]
    rolled = rotated.roll(rotated.shape[-1] // 2, -1)
    return torch.cat((torch.addcmul(rotated * cos, rolled, sin, value=direction).to(heads.dtype), heads[:, n:]), 1)


def gate_by_torch(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Like `gate_up`."""
    return F.silu(gate).mul_(up)


def gate_back_by_torch(gradient: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Like `gate_up_backward`."""
    gate_gradient = torch.ops.aten.silu_backward(gradient * up, gate)
    return gate_gradient, torch.mul(F.silu(gate), gradient, out=up)


def norm_back_by_torch(
    x: torch.Tensor, weight: torch.Tensor, eps: float, of_normed: torch.Tensor, gradient: torch.Tensor
) -> torch.Tensor:
    """Like `norm_backward`."""
    x32, weighted = x.float(), of_normed.float() * weight.float()
    scale = (x32.square().mean(-1, keepdim=True) + eps).rsqrt()
    projection = (weighted * x32).mean(-1, keepdim=True) * scale.square()
    return ((weighted - x32 * projection) * scale + gradient).to(x.dtype)


# The dropout mask is a hash of the sum of a token's key and the key of two adjacent inputs, 16 of 32 bits for each. Its
# constants have the least bias for two rounds in Wellons' search ("hash-prospector", github.com/skeeto).
SHIFT_1, FACTOR_1, SHIFT_2, FACTOR_2 = 16, 0x21F0AAAD, 15, 0x735A2D97


def drop_threshold(rate: float) -> int:
    """Return the smallest signed 16-bit value that is kept."""
    return round(rate * 2**16) - 2**15


def drop_by_torch(
    x: torch.Tensor, token_keys: torch.Tensor, input_keys: torch.Tensor, rate: float, overwrite: bool
) -> torch.Tensor:
    """Like `drop`; in place with 32-bit integers, because memory access dominates the time."""
    hashed = token_keys[:, None] + input_keys  # (T, I / 2)
    shifted = hashed >> SHIFT_1
    hashed.bitwise_xor_(shifted).mul_(FACTOR_1)
    torch.bitwise_right_shift(hashed, SHIFT_2, out=shifted)
    hashed.bitwise_xor_(shifted).mul_(FACTOR_2)
    halves = hashed.view(torch.int16)[:, : x.shape[1]]  # (T, I)
    kept = torch.empty_like(x)
    torch.ge(halves, drop_threshold(rate), out=kept)  # in the dtype of x: multiplying by booleans takes three times as long
    return x.mul_(kept) if overwrite else kept.mul_(x)


def sum_rows_by_torch(values: torch.Tensor, order: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    """Like `sum_rows`."""
    added = torch.segment_reduce(values[order].float(), "sum", offsets=starts, unsafe=True)  # unsafe: offsets are not checked
    return added.to(values.dtype)


# %% in Triton
try:
    import triton
    from triton import language as tl
except ImportError:
    triton = tl = None

if triton:

    @triton.jit
    def _rotate(  # type: ignore[no-untyped-def]
        heads, cos, sin, out, row, n, direction, COUNT: tl.constexpr, HALF: tl.constexpr, H: tl.constexpr, D: tl.constexpr
    ):
        """Rotate the first `n` of COUNT heads of one token with 2 * HALF values, copy the others. `row`: stride of tokens."""
        token = tl.program_id(0).to(tl.int64)
        head, value = tl.arange(0, H)[:, None], tl.arange(0, D)[None, :]
        mask = (head < COUNT) & (value < HALF)
        offset = head * 2 * HALF + value
        first = tl.load(heads + token * row + offset, mask)
        second = tl.load(heads + token * row + offset + HALF, mask)
        table_offset = token * 2 * HALF + value
        cos_1, cos_2 = tl.load(cos + table_offset, value < HALF), tl.load(cos + table_offset + HALF, value < HALF)
        sin_1, sin_2 = tl.load(sin + table_offset, value < HALF), tl.load(sin + table_offset + HALF, value < HALF)
        x, y = first.to(tl.float32), second.to(tl.float32)
        rotated_1 = x * cos_1.to(tl.float32) + y * sin_1.to(tl.float32) * direction
        rotated_2 = y * cos_2.to(tl.float32) + x * sin_2.to(tl.float32) * direction
        target = out + token * COUNT * 2 * HALF + offset
        tl.store(target, tl.where(head < n, rotated_1.to(first.dtype), first), mask)
        tl.store(target + HALF, tl.where(head < n, rotated_2.to(first.dtype), second), mask)

    @triton.jit
    def _gate(gate, up, out, count, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]
        offset = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
        x = tl.load(gate + offset, offset < count).to(tl.float32)
        y = tl.load(up + offset, offset < count)
        tl.store(out + offset, (x * tl.sigmoid(x) * y.to(tl.float32)).to(y.dtype), offset < count)

    @triton.jit
    def _gate_back(gradient, gate, up, count, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]
        offset = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
        upstream = tl.load(gradient + offset, offset < count)
        g, x = upstream.to(tl.float32), tl.load(gate + offset, offset < count).to(tl.float32)
        share = tl.sigmoid(x)
        y = tl.load(up + offset, offset < count).to(tl.float32)
        tl.store(gate + offset, (g * y * share * (1 + x * (1 - share))).to(upstream.dtype), offset < count)
        tl.store(up + offset, (g * x * share).to(upstream.dtype), offset < count)

    @triton.jit
    def _norm_back(x, weight, of_normed, gradient, out, size, eps, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]
        """Process one token of `size` values."""
        value = tl.arange(0, SIZE)
        offset = tl.program_id(0).to(tl.int64) * size + value
        token = tl.load(x + offset, value < size, 0)
        x32 = token.to(tl.float32)
        weighted = tl.load(of_normed + offset, value < size, 0).to(tl.float32) * tl.load(
            weight + value, value < size, 0).to(tl.float32)
        scale = tl.rsqrt(tl.sum(x32 * x32, 0) / size + eps)
        projection = tl.sum(weighted * x32, 0) / size * scale * scale
        x_gradient = (weighted - x32 * projection) * scale + tl.load(gradient + offset, value < size, 0).to(tl.float32)
        tl.store(out + offset, x_gradient.to(token.dtype), value < size)

    @triton.jit
    def _drop(  # type: ignore[no-untyped-def]
        x, token_keys, input_keys, out, size, threshold, SHIFT_A: tl.constexpr, FACTOR_A: tl.constexpr, SHIFT_B: tl.constexpr,
        FACTOR_B: tl.constexpr, SIZE: tl.constexpr,
    ):
        """SIZE of the `size` values of one token."""
        token = tl.program_id(0).to(tl.int64)
        value = tl.program_id(1) * SIZE + tl.arange(0, SIZE)
        hashed = tl.load(token_keys + token) + tl.load(input_keys + value // 2, value < size, 0)
        hashed = (hashed ^ (hashed >> SHIFT_A)) * FACTOR_A
        hashed = (hashed ^ (hashed >> SHIFT_B)) * FACTOR_B
        half = (hashed << (16 - 16 * (value % 2))) >> 16  # the lower half for the first of two values, sign-extended
        values = tl.load(x + token * size + value, value < size, 0)
        tl.store(out + token * size + value, tl.where(half >= threshold, values, 0).to(values.dtype), value < size)


    @triton.jit
    def _sum_rows(values, order, starts, out, width, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]
        """SIZE of the `width` values of one sum."""
        row = tl.program_id(0).to(tl.int64)
        value = tl.program_id(1) * SIZE + tl.arange(0, SIZE)
        total = tl.zeros((SIZE,), tl.float32)
        for n in range(tl.load(starts + row), tl.load(starts + row + 1)):
            total += tl.load(values + tl.load(order + n) * width + value, value < width, 0).to(tl.float32)
        tl.store(out + row * width + value, total.to(out.dtype.element_ty), value < width)


def rotate_by_triton(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, n: int, direction: int) -> torch.Tensor:
    """Like `rotate`; `direction` is 1, or -1 for the inverse rotation."""
    tokens, count, size = heads.shape
    heads = heads if heads.stride()[1:] == (size, 1) else heads.contiguous()
    out = torch.empty(heads.shape, dtype=heads.dtype, device=heads.device)
    _rotate[(tokens,)](
        heads, cos.contiguous(), sin.contiguous(), out, heads.stride(0), n, direction, count, size // 2,
        triton.next_power_of_2(count), triton.next_power_of_2(size // 2),
    )
    return out


def gate_by_triton(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Like `gate_up`."""
    assert gate.is_contiguous() and up.is_contiguous()
    out = torch.empty_like(gate)
    _gate[(triton.cdiv(gate.numel(), VALUES),)](gate, up, out, gate.numel(), VALUES)
    return out


def gate_back_by_triton(gradient: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Like `gate_up_backward`."""
    assert gate.is_contiguous() and up.is_contiguous() and gradient.is_contiguous()
    _gate_back[(triton.cdiv(gate.numel(), VALUES),)](gradient, gate, up, gate.numel(), VALUES)
    return gate, up


def norm_back_by_triton(
    x: torch.Tensor, weight: torch.Tensor, eps: float, of_normed: torch.Tensor, gradient: torch.Tensor
) -> torch.Tensor:
    """Like `norm_backward`."""
    x, (tokens, size) = x.contiguous(), x.shape
    out = torch.empty_like(x)
    _norm_back[(tokens,)](
        x, weight, of_normed.contiguous(), gradient.contiguous(), out, size, eps, triton.next_power_of_2(size)
    )
    return out


def drop_by_triton(
    x: torch.Tensor, token_keys: torch.Tensor, input_keys: torch.Tensor, rate: float, overwrite: bool
) -> torch.Tensor:
    """Like `drop`."""
    x, (tokens, size) = x.contiguous(), x.shape
    out = x if overwrite else torch.empty_like(x)
    _drop[(tokens, triton.cdiv(size, VALUES))](
        x, token_keys, input_keys, out, size, drop_threshold(rate), SHIFT_1, FACTOR_1, SHIFT_2, FACTOR_2, VALUES
    )
    return out


def sum_rows_by_triton(values: torch.Tensor, order: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    """Like `sum_rows`."""
    values, width, rows = values.contiguous(), values.shape[1], len(starts) - 1
    out = torch.empty((rows, width), dtype=values.dtype, device=values.device)
    _sum_rows[(rows, triton.cdiv(width, VALUES))](values, order, starts, out, width, VALUES)
    return out


# %% with either
def rotate(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, n: int) -> torch.Tensor:
    """Apply rotary embedding (arXiv:2104.09864) to the first `n` heads, pairing value i with value i + D / 2.

    Args:
        heads: (T, heads, D); the others are copied.
        cos, sin: (T, 1, D), from `cos_and_sin` in fast/block.py.
        n: number of heads to rotate.

    Returns:
        (T, heads, D).
    """
    return _Rotated.apply(heads, cos, sin, n)


class _Rotated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, n: int) -> torch.Tensor:
        ctx.tables = cos, sin, n
        ctx.by = rotate_by_triton if fused_on(heads.device, heads.dtype) else rotate_by_torch
        return ctx.by(heads, cos, sin, n, 1)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        return ctx.by(gradient, *ctx.tables, -1), None, None, None


def gate_up(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Compute SwiGLU (arXiv:2002.05202): silu(gate) * up, both contiguous and of the same shape."""
    return gate_by_triton(gate, up) if fused_on(gate.device, gate.dtype) else gate_by_torch(gate, up)


def gate_up_backward(gradient: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the gradients of gate and up from that of `gate_up`; all are contiguous.

    They overwrite gate and up, the largest tensors of a layer.
    """
    by = gate_back_by_triton if fused_on(gate.device, gate.dtype) else gate_back_by_torch
    return by(gradient, gate, up)


def drop(
    x: torch.Tensor, token_keys: torch.Tensor, input_keys: torch.Tensor, rate: float, *, overwrite: bool = False
) -> torch.Tensor:
    """Set a share of about `rate` of the values of `x` to zero, chosen by a 16-bit hash of their two keys.

    The same keys drop the same values on every device. Gradients do not pass through it.

    Args:
        x: (T, I).
        token_keys: (T,) int32, contiguous.
        input_keys: (I / 2, rounded up) int32, contiguous, one per two adjacent inputs.
        rate: share of values to drop.
        overwrite: whether the result may overwrite x.
    """
    by = drop_by_triton if fused_on(x.device, x.dtype) else drop_by_torch
    return by(x, token_keys, input_keys, rate, overwrite)


def norm_backward(norm: Any, x: torch.Tensor, of_normed: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Compute the gradient (T, H) of x if both x and RMSNorm(x) (arXiv:1910.07467) are used.

    Args:
        norm: frozen RMSNorm of transformers' Qwen models.
        x: (T, H).
        of_normed, gradient: (T, H) gradients of RMSNorm(x) and of the other use of x.
    """
    by = norm_back_by_triton if fused_on(x.device, x.dtype) else norm_back_by_torch
    return by(x, norm.weight, norm.variance_epsilon, of_normed, gradient)


def sum_rows(values: torch.Tensor, order: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    """Sum rows of `values` in float32 and in the given order, (R, W).

    Args:
        values: (N, W).
        order: row numbers, grouped by sum; those beyond the last group are not added.
        starts: (R + 1,) offsets of the groups.
    """
    return (sum_rows_by_triton if fused_on(values.device, values.dtype) else sum_rows_by_torch)(values, order, starts)


@functools.cache
def fused_on(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether these kernels work on this GPU in this precision, tested once.

    Raises:
        OutOfMemoryError: there is no memory to test them.
    """
    return kernels_agree(device, functools.partial(_trials, device, dtype), 1e-2)


Pairs = Iterable[tuple[torch.Tensor, torch.Tensor]]


def kernels_agree(device: torch.device, trials: Callable[[], Pairs], tolerance: float) -> bool:
    """Return whether Triton is installed and its kernels agree with torch's functions.

    An old GPU or driver, or a machine without a C compiler, must not stop a run.

    Args:
        device: the GPU.
        trials: runs both and returns pairs of their results.
        tolerance: largest absolute difference.

    Raises:
        OutOfMemoryError: there is no memory to test them.
    """
    if device.type != "cuda" or not triton:
        return False
    try:
        return all(torch.allclose(ours, theirs, rtol=1e-2, atol=tolerance) for ours, theirs in trials())
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception:  # compilers raise many types
        return False


def _trials(device: torch.device, dtype: torch.dtype) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator(device).manual_seed(0)
    x, y, z = torch.randn(3, 4, 6, 80, device=device, generator=generator).to(dtype)
    angles = torch.randn(4, 1, 80, device=device, generator=generator)
    keys = torch.randint(-(2**31), 2**31, (6 + 40,), dtype=torch.int32, device=device, generator=generator)
    tries: list[tuple[Any, Any, tuple[Any, ...]]] = [
        (rotate_by_triton, rotate_by_torch, (x, angles, angles, 5, -1)), (gate_by_triton, gate_by_torch, (x, y)),
        (gate_back_by_triton, gate_back_by_torch, (x, y, z)),
        (norm_back_by_triton, norm_back_by_torch, (x[0], angles[0, 0], 1e-6, y[0], z[0])),
        (drop_by_triton, drop_by_torch, (x[0], keys[:6], keys[6:], 0.5, False)),
        (sum_rows_by_triton, sum_rows_by_torch, (x[0], keys[:6].argsort(), torch.tensor([0, 2, 2, 5], device=device))),
    ]
    for ours, theirs, inputs in tries:
        yield from zip(ours(*_clones(inputs)), theirs(*_clones(inputs)), strict=True)


def _clones(inputs: tuple[Any, ...]) -> Iterator[Any]:
    """Yield copies of the arguments, which a function may overwrite."""
    return (value.clone() if isinstance(value, torch.Tensor) else value for value in inputs)
