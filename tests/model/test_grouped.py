"""Products of rows with the matrices of their groups: all ways of computing them give the same; one that does not is not used."""

import pytest
import torch

from mcvqa.model import grouped
from tests.conftest import needs_gpu
from tests.model.triton_interpreter import needs_triton, run_interpreted

CPU, GPU = torch.device("cpu"), torch.device("cuda")
GROUPS = [[3, 0, 66, 1], [0, 0, 5], [70], [1]]  # rows of each; tiles of Triton's kernels have 64


def compare(product: grouped.Product, device: torch.device, dtype: torch.dtype, close: float) -> None:
    """Compare products and gradients with those of the groups one by one, in float64."""
    random = torch.Generator().manual_seed(0)
    for counts in GROUPS:
        for terms, width in ((72, 136), (16, 8), (8, 16)):  # widths beside the tiles' sizes; ranks of adapters
            rows, matrices, gradient = (torch.randn(shape, generator=random).to(device, dtype) for shape in (
                (sum(counts), terms), (len(counts), width, terms), (sum(counts), width)))
            rows, matrices = rows.requires_grad_(), matrices.requires_grad_()
            ends = torch.tensor(counts, device=device).cumsum(0, dtype=torch.int32)
            found = product(rows, matrices.mT, ends)
            exact = torch.cat([part @ one.T for part, one in zip(rows.double().split(counts), matrices.double(), strict=True)])
            wanted = exact, *torch.autograd.grad(exact, (rows, matrices), gradient.double())
            for mine, theirs in zip((found, *torch.autograd.grad(found, (rows, matrices), gradient)), wanted, strict=True):
                torch.testing.assert_close(mine.double(), theirs.double(), atol=close * 10, rtol=close)
            torch.testing.assert_close(  # the order of the backward pass of frozen matrices
                product(gradient, matrices.detach(), ends).double(), wanted[1].double(), atol=close * 10, rtol=close)


@pytest.mark.parametrize("way", ["grouped_by_loop", "grouped_product"])
def test_each_row_is_multiplied_by_the_matrix_of_its_group(way):
    compare(getattr(grouped, way), CPU, torch.float32, 1e-5)


def test_rows_that_grouped_mm_does_not_take_are_multiplied_too():
    rows, matrices = torch.randn(5, 3), torch.randn(2, 3, 7)
    found = grouped.grouped_product(rows, matrices, torch.tensor([2, 5], dtype=torch.int32))
    torch.testing.assert_close(found, torch.cat((rows[:2] @ matrices[0], rows[2:] @ matrices[1])))


@pytest.mark.parametrize("broken", [lambda rows, matrices, offs: rows @ matrices[0], lambda *given, **named: 1 / 0])
def test_a_grouped_mm_that_does_not_work_is_not_used(monkeypatch, broken):
    def failing(*given, **named):
        try:
            return broken(*given, **named)
        except ZeroDivisionError as error:
            raise NotImplementedError("not for this dtype") from error

    monkeypatch.setattr(torch.nn.functional, "grouped_mm", failing, raising=False)
    assert not grouped.one_launch_works.__wrapped__(CPU, torch.float32)
    assert grouped._way.__wrapped__(CPU, torch.float32, False) is grouped.grouped_by_loop


def test_without_grouped_mm_rows_are_multiplied_in_a_loop(monkeypatch):
    monkeypatch.delattr(torch.nn.functional, "grouped_mm", raising=False)
    assert not grouped.one_launch_works.__wrapped__(CPU, torch.float32)


@needs_triton
def test_triton_s_kernels_give_the_same_in_its_interpreter():
    program = (
        "import torch; from tests.model import test_grouped as tests; "
        "tests.compare(tests.grouped.grouped_by_triton, tests.CPU, torch.float16, 2e-3)")
    run_interpreted(program)


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_this_gpu_s_ways_give_the_same(dtype):
    device = torch.zeros(1, device=GPU).device
    assert grouped._way(device, dtype, True) is not grouped.grouped_by_loop or dtype is torch.float32
    torch.backends.cuda.matmul.allow_tf32 = False
    compare(grouped.grouped_product, device, dtype, {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype])
