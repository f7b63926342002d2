"""Rotary positions, SwiGLU and RMSNorm's gradient: what autograd gives, and by Triton the same as by torch's functions."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from mcvqa.model.fast import kernels
from mcvqa.model.fast.block import cos_and_sin
from mcvqa.model.fast.kernels import gate_up, gate_up_backward, norm_backward, rotate
from tests.conftest import needs_gpu
from tests.model.triton_interpreter import needs_triton, run_interpreted

GPU = torch.device("cuda")
sizes = st.tuples(st.integers(1, 9), st.integers(1, 7), st.sampled_from([2, 16, 80]))


def heads_and_angles(tokens, heads, size):
    generator = torch.Generator().manual_seed(tokens * heads * size)
    heads = torch.randn(tokens, heads, size, generator=generator, dtype=torch.float64)
    return heads, *cos_and_sin(torch.randn(tokens, 1, size // 2, generator=generator, dtype=torch.float64))


@settings(max_examples=60, deadline=None)
@given(sizes, st.data())
def test_pairs_of_values_are_rotated_and_gradients_rotated_back(shape, data):
    heads, cos, sin = heads_and_angles(*shape)
    n = data.draw(st.integers(0, shape[1]))
    made = rotate(heads.requires_grad_(), cos, sin, n)
    pairs, angles = (torch.complex(*x.detach().chunk(2, -1)) for x in (heads[:, :n], torch.cat((cos[..., : shape[2] // 2],
                                                                                            sin[..., shape[2] // 2 :]), -1)))
    wanted = pairs * angles
    torch.testing.assert_close(made[:, :n], torch.cat((wanted.real, wanted.imag), -1))
    assert torch.equal(made[:, n:], heads[:, n:])
    gradient = torch.randn(heads.shape, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    (found,) = torch.autograd.grad(made, heads, gradient)
    back = torch.complex(*gradient[:, :n].chunk(2, -1)) * angles.conj()
    torch.testing.assert_close(found[:, :n], torch.cat((back.real, back.imag), -1))
    assert torch.equal(found[:, n:], gradient[:, n:])
    if heads.numel() <= 300:  # numerically: two passes a value
        assert torch.autograd.gradcheck(lambda x: rotate(x, cos, sin, n), heads)


def test_swiglu_has_the_gradients_that_autograd_finds():
    gate, up, gradient = torch.randn(3, 5, 37, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = F.silu(gate.requires_grad_()) * up.requires_grad_()
    torch.testing.assert_close(gate_up(gate.detach(), up.detach()), wanted)
    for ours, theirs in zip(
        gate_up_backward(gradient, gate.detach().clone(), up.detach().clone()),
        torch.autograd.grad(wanted, (gate, up), gradient), strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_a_norm_beside_its_input_has_the_gradient_that_autograd_finds():
    x, of_normed, gradient = torch.randn(3, 5, 37, generator=torch.Generator().manual_seed(0))
    norm = Qwen2RMSNorm(37, eps=1e-3)
    norm.weight.data = torch.rand(37, generator=torch.Generator().manual_seed(1))
    (wanted,) = torch.autograd.grad(norm(x.requires_grad_()), x, of_normed)
    torch.testing.assert_close(norm_backward(norm, x.detach(), of_normed, gradient), wanted + gradient)


# %% by Triton
def compare_with_torch(device):
    """The kernels, at sizes that are no powers of two and, for heads, with gaps between the tokens."""
    generator = torch.Generator().manual_seed(0)
    for dtype, close in ((torch.float16, 4e-3), (torch.float32, 1e-5)):
        for tokens, count, size, n in ((7, 20, 128, 18), (5, 48, 80, 32), (1, 3, 16, 3)):
            heads, cos, sin = (x.float().to(device) for x in heads_and_angles(tokens, count, size))
            cos = torch.stack((cos, cos), -1)[..., 0]  # with gaps between the values
            for x in (heads.to(dtype), torch.cat((heads, heads), 1).to(dtype)[:, :count]):
                for way in (1, -1):
                    ours, theirs = (by(x, cos, sin, n, way) for by in (kernels.rotate_by_triton, kernels.rotate_by_torch))
                    torch.testing.assert_close(ours, theirs, atol=close, rtol=close)
        three = torch.randn(3, 11, 501, generator=generator).to(device, dtype)
        torch.testing.assert_close(
            kernels.gate_by_triton(*three[:2]), kernels.gate_by_torch(*three[:2]), atol=close, rtol=close
        )
        made = (by(*three.clone()) for by in (kernels.gate_back_by_triton, kernels.gate_back_by_torch))
        for ours, theirs in zip(*made, strict=True):
            torch.testing.assert_close(ours, theirs, atol=close, rtol=close)
        x, of_normed, gradient = three
        both = (kernels.norm_back_by_triton, kernels.norm_back_by_torch)
        ours, theirs = (by(x, x[0].abs(), 1e-6, of_normed, gradient) for by in both)
        torch.testing.assert_close(ours, theirs, atol=2 * close, rtol=close)
        order, starts = torch.tensor([3, 0, 7, 2, 9, 5], device=device), torch.tensor([0, 1, 1, 5], device=device)
        rows = torch.randn(10, 1030, generator=generator).to(device, dtype)
        ours, theirs = (by(rows, order, starts) for by in (kernels.sum_rows_by_triton, kernels.sum_rows_by_torch))
        torch.testing.assert_close(ours, theirs, atol=close, rtol=close)
        assert not ours[1].any(), "nothing is added there"
    for tokens, size in ((11, 501), (3, 2050), (1, 1)):
        x = torch.randn(tokens, size, generator=generator).to(device)
        keys = torch.randint(-(2**31), 2**31, (tokens + (size + 1) // 2,), dtype=torch.int32, generator=generator).to(device)
        for rate in (0.05, 0.9):
            given = keys[:tokens], keys[tokens:], rate
            wanted = kernels.drop_by_torch(x, *given, False)
            assert torch.equal(kernels.drop_by_triton(x, *given, False), wanted), "bit for bit"
            assert torch.equal(kernels.drop_by_triton(x.clone(), *given, True), wanted)


@needs_gpu
def test_triton_s_kernels_give_the_same_on_this_gpu():
    assert all(kernels.fused_on(torch.zeros(1, device=GPU).device, dtype) for dtype in (torch.float16, torch.float32))
    compare_with_torch(GPU)


@needs_triton
def test_triton_s_kernels_give_the_same_in_its_interpreter():
    program = "import torch; from tests.model.test_kernels import compare_with_torch; compare_with_torch(torch.device('cpu'))"
    run_interpreted(program)


@needs_gpu
def test_kernels_that_do_not_work_are_not_used(monkeypatch):
    monkeypatch.setattr(kernels, "gate_by_triton", lambda gate, up: gate)
    assert not kernels.fused_on.__wrapped__(torch.zeros(1, device=GPU).device, torch.float16)
    monkeypatch.setattr(kernels, "rotate_by_triton", lambda *given: 1 / 0)
    assert not kernels.fused_on.__wrapped__(torch.zeros(1, device=GPU).device, torch.float16)
