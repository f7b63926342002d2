"""Multiplies rows by matrices of their groups, all groups in one launch: tokens of a mixture of experts, sorted by expert.

Each group has few rows, so launching its kernels takes longer than running them. PyTorch's grouped_mm does it in one launch for
bfloat16 from Hopper on and loops elsewhere; there, kernels in Triton take its place, and a loop where these do not work either.

Shapes: S rows in the order of their groups, E groups, A and B columns.
"""
import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import functional as F

from mcvqa.model.fast.kernels import kernels_agree, tl, triton

ALIGNMENT = 16  # bytes of which grouped_mm wants the rows of a matrix to be a multiple
TILE = (64, 128, 32)  # rows, columns and terms of a sum in a program: small enough for the shared memory of consumer GPUs

Product = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def grouped_product(rows: torch.Tensor, matrices: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Compute (S, B), each row times the matrix of its group.

    Args:
        rows: (S, A).
        matrices: (E, A, B); they or their transposes are contiguous.
        ends: (E,) int32, on the same device: number of rows up to the end of each group.
    """
    return _way(rows.device, rows.dtype, _in_whole_lines(matrices))(rows, matrices, ends)


def _in_whole_lines(matrices: torch.Tensor) -> bool:
    return all(size * matrices.element_size() % ALIGNMENT == 0 for size in matrices.shape[1:])


@functools.cache
def _way(device: torch.device, dtype: torch.dtype, aligned: bool) -> Product:
    """Choose how to compute, by trying."""
    if aligned and one_launch_works(device, dtype):
        return grouped_by_torch
    works = dtype.itemsize == 2 and kernels_agree(device, functools.partial(_kernel_trials, device, dtype), 1e-3)
    return grouped_by_triton if works else grouped_by_loop


@functools.cache
def one_launch_works(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether grouped_mm works and, on a GPU, does not make the CPU wait, as its own loop does; tested once.

    Args:
        device, dtype: of rows and matrices.
    """
    inputs = _trial(device, dtype)
    expected = _with_gradients(grouped_by_loop, inputs)
    try:
        with _no_waiting() if device.type == "cuda" else contextlib.nullcontext():
            found = _with_gradients(grouped_by_torch, inputs)
    except torch.cuda.OutOfMemoryError:
        raise
    except (AttributeError, RuntimeError):  # PyTorch before 2.10 does not have it
        return False
    return all(torch.equal(*both) for both in zip(found, expected, strict=True))


@contextlib.contextmanager
def _no_waiting() -> Iterator[None]:
    """Within the block, an operation that makes the CPU wait for the GPU raises RuntimeError."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def _kernel_trials(device: torch.device, dtype: torch.dtype) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    inputs = _trial(device, dtype)
    yield from zip(_with_gradients(grouped_by_triton, inputs), _with_gradients(grouped_by_loop, inputs), strict=True)


def _trial(device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Make a few tiles of small whole numbers, whose sums are exact in each format; the second of three groups has no row."""
    rows = (torch.arange(3 * 64, device=device) % 7 % 2).view(3, 64).to(dtype)
    matrices = (torch.arange(3 * 128 * 64, device=device) % 5 % 3).view(3, 128, 64).to(dtype)
    return rows, matrices, torch.tensor([2, 2, 3], device=device, dtype=torch.int32)


def _with_gradients(product: Product, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(inputs[0].device.type, enabled=False):
        rows, matrices = (one.clone().requires_grad_() for one in inputs[:2])
        result = product(rows, matrices.mT, inputs[2])
        return result.detach(), *torch.autograd.grad(result, (rows, matrices), torch.ones_like(result))


# %% in torch
def grouped_by_torch(rows: torch.Tensor, matrices: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Like `grouped_product`."""
    return F.grouped_mm(rows, matrices, offs=ends)


def grouped_by_loop(rows: torch.Tensor, matrices: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Like `grouped_product`."""
    counts = ends.diff(prepend=ends.new_zeros(1)).tolist()
    return torch.cat([part @ matrix for part, matrix in zip(rows.split(counts), matrices, strict=True)])


# %% in Triton
if triton:

    @triton.jit
    def _multiply(  # type: ignore[no-untyped-def]
        rows, matrices, ends, out, groups, width, row_step, group_step, term_step, column_step, TERMS: tl.constexpr,
        GROUPS: tl.constexpr, R: tl.constexpr, C: tl.constexpr, T: tl.constexpr,
    ):
        """Compute a tile of R rows of one group and C columns. The rows of each group begin a new tile."""
        tile, every = tl.program_id(1), tl.arange(0, GROUPS)
        end = tl.load(ends + every, every < groups, 0)
        start = tl.load(ends + every - 1, (every > 0) & (every < groups), 0)
        tiles = tl.where(every < groups, (end - start + R - 1) // R, 0)
        after = tl.cumsum(tiles, 0)
        mine = (after > tile) & (after - tiles <= tile)  # the group of this tile; none for the last programs
        group = tl.sum(tl.where(mine, every, 0), 0).to(tl.int64)
        last = tl.sum(tl.where(mine, end, 0), 0)
        first = tl.sum(tl.where(mine, start + (tile - after + tiles) * R, 0), 0)
        if first < last:
            row, column = first + tl.arange(0, R), tl.program_id(0) * C + tl.arange(0, C)
            term = tl.arange(0, T)
            x = rows + tl.minimum(row, last - 1).to(tl.int64)[:, None] * row_step + term[None, :]
            w = matrices + group * group_step + term[:, None] * term_step + (column % width)[None, :] * column_step
            total = tl.zeros((R, C), tl.float32)
            for k in range(0, TERMS, T):
                if TERMS % T == 0:
                    a, b = tl.load(x), tl.load(w)
                else:
                    a = tl.load(x, (term < TERMS - k)[None, :], 0.0)
                    b = tl.load(w, (term < TERMS - k)[:, None], 0.0)
                total += tl.dot(a, b)
                x += T
                w += T * term_step
            place = row.to(tl.int64)[:, None] * width + column[None, :]
            tl.store(out + place, total.to(out.dtype.element_ty), (row < last)[:, None] & (column < width)[None, :])

    @triton.jit
    def _multiply_back(  # type: ignore[no-untyped-def]
        rows, gradient, ends, out, height, width, R: tl.constexpr, C: tl.constexpr, T: tl.constexpr
    ):
        """Sum the products of rows and gradients of one group, a tile (R, C) of it."""
        group = tl.program_id(2)
        last, first = tl.load(ends + group), tl.load(ends + group - 1, group > 0, 0)
        line, column = tl.program_id(1) * R + tl.arange(0, R), tl.program_id(0) * C + tl.arange(0, C)
        total = tl.zeros((R, C), tl.float32)
        for k in range(first, last, T):
            row = k + tl.arange(0, T)
            a = tl.load(
                rows + row.to(tl.int64)[None, :] * height + line[:, None], (row < last)[None, :] & (line < height)[:, None], 0.0)
            b = tl.load(
                gradient + row.to(tl.int64)[:, None] * width + column[None, :],
                (row < last)[:, None] & (column < width)[None, :], 0.0)
            total += tl.dot(a, b)
        place = (group.to(tl.int64) * height + line[:, None]) * width + column[None, :]
        tl.store(out + place, total.to(out.dtype.element_ty), (line < height)[:, None] & (column < width)[None, :])


def grouped_by_triton(rows: torch.Tensor, matrices: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Like `grouped_product`."""
    return _Grouped.apply(rows, matrices, ends)


class _Grouped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, matrices: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(rows, matrices, ends)
        return _product_by_triton(rows, matrices, ends)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        rows, matrices, ends = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_rows = _product_by_triton(gradient, matrices.mT, ends) if ctx.needs_input_grad[0] else None
        return of_rows, _sums_by_triton(rows.contiguous(), gradient, ends) if ctx.needs_input_grad[1] else None, None


def _product_by_triton(rows: torch.Tensor, matrices: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    rows, (groups, terms, width) = rows.contiguous(), matrices.shape
    out = rows.new_empty(len(rows), width)
    grid = triton.cdiv(width, _tile(width, 1)), triton.cdiv(len(rows), TILE[0]) + groups
    _multiply[grid](
        rows, matrices, ends, out, groups, width, terms, *matrices.stride(), terms, triton.next_power_of_2(groups), TILE[0],
        _tile(width, 1), _tile(terms, 2), num_warps=4, num_stages=4,
    )
    return out


def _sums_by_triton(rows: torch.Tensor, gradient: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Compute the gradients (E, A, B) of the matrices."""
    height, width = rows.shape[1], gradient.shape[1]
    lines, columns = _tile(height, 0), _tile(width, 1)
    out = rows.new_empty(len(ends), height, width)
    grid = triton.cdiv(width, columns), triton.cdiv(height, lines), len(ends)
    _multiply_back[grid](rows, gradient, ends, out, height, width, lines, columns, TILE[2], num_warps=4, num_stages=3)
    return out


def _tile(size: int, axis: int) -> int:
    return max(16, min(TILE[axis], triton.next_power_of_2(size)))  # a product needs at least 16
