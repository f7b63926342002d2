"""The gated delta rule over a tree of prompts: token by token it is what the definition says, whatever the chunks are."""
import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mcvqa.model.fast import delta_kernels
from mcvqa.model.fast.delta import chunk_tree, gated_delta_rule, token_parents
from mcvqa.model.fast.delta_kernels import unit
from mcvqa.model.fast.layout import lay_out
from tests.model.small import IMAGE, ROWS
from tests.model.triton_interpreter import needs_triton, run_interpreted

LAYOUT = lay_out(ROWS, IMAGE)
GROUPS, VALUES, WIDTH, VALUE_WIDTH = 2, 4, 8, 6  # heads of keys and of values, and their widths
CHANNELS = 2 * GROUPS * WIDTH + VALUES * VALUE_WIDTH
GPU = torch.device("cuda")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def given_tensors():
    """What is projected, the convolution's weight, and how much each token fades and replaces."""
    random = torch.Generator().manual_seed(0)
    tokens = len(LAYOUT.input_ids)
    joint, weight = torch.randn(tokens, CHANNELS, generator=random), torch.randn(CHANNELS, 4, generator=random)
    fade, beta = -torch.rand(tokens, VALUES, generator=random), torch.rand(tokens, VALUES, generator=random)
    return [x.requires_grad_() for x in (joint, fade, beta)], weight


def by_definition(joint, weight, fade, beta):
    """Each token from the one before it in its prompt."""
    follows = token_parents(LAYOUT)
    read, states = [], []
    for t, parent in enumerate(follows):
        window, before = [joint[t]], parent
        while len(window) < 4:
            window.insert(0, joint[before] if before >= 0 else torch.zeros(CHANNELS))
            before = follows[before] if before >= 0 else -1
        mixed = F.silu((torch.stack(window, 1) * weight).sum(1))
        q, k, v = mixed.split([GROUPS * WIDTH, GROUPS * WIDTH, VALUES * VALUE_WIDTH])
        q, k = (unit(x.view(GROUPS, WIDTH)).repeat_interleave(VALUES // GROUPS, 0) for x in (q, k))
        state = states[parent] if parent >= 0 else torch.zeros(VALUES, WIDTH, VALUE_WIDTH)
        state = state * fade[t].exp()[:, None, None]
        known = (state * k[..., None]).sum(1)
        state = state + k[..., None] * ((v.view(VALUES, VALUE_WIDTH) - known) * beta[t][:, None])[:, None]
        states.append(state)
        read.append((state * q[..., None]).sum(1) * WIDTH**-0.5)
    return torch.stack(read)


@pytest.mark.parametrize("size", [64, 5, 1])
def test_values_and_gradients_are_those_of_the_definition(size):
    (joint, fade, beta), weight = given_tensors()
    tree = chunk_tree(LAYOUT, size)
    ours = gated_delta_rule(joint, weight, fade, beta, (GROUPS, VALUES), WIDTH, tree)
    theirs = by_definition(joint, weight, fade, beta)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    up = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    found, wanted = (torch.autograd.grad(read, (joint, fade, beta), up) for read in (ours, theirs))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [64, 5, 1])
def test_each_token_is_in_one_chunk_behind_the_chunk_that_it_follows(size):
    tree, follows, count = chunk_tree(LAYOUT, size), token_parents(LAYOUT), len(LAYOUT.input_ids)
    assert sorted(t for t in tree.tokens.flatten().tolist() if t < count) == [*range(count)]
    assert torch.equal(tree.tokens.flatten()[tree.at], torch.arange(count)) and len(tree.tokens) == sum(tree.sizes)
    assert (tree.tokens < count).sum(1).max() <= size
    levels, last = tree.tokens.split(tree.sizes), [-1]
    for chunks, parents in zip(levels, (None, *tree.parents), strict=True):
        before = [-1] * len(chunks) if parents is None else [last[parent] for parent in parents]
        rows = [[t for t in row if t < count] for row in chunks.tolist()]
        assert [follows[row[0]] for row in rows] == before
        assert all(follows[b] == a for row in rows for a, b in itertools.pairwise(row))
        last = [row[-1] for row in rows]


def test_half_precision_is_near_float32():
    """Keys that are all alike, as of a plain picture, hardly faded: what would be worst for an inverse by powers."""
    (joint, fade, beta), weight = given_tensors()
    joint, fade, beta = torch.ones_like(joint) + 0.01 * joint, 0.01 * fade, 0.9 + 0.1 * beta
    tree = chunk_tree(LAYOUT)
    read = [gated_delta_rule(x, weight.to(x.dtype), fade, beta, (GROUPS, VALUES), WIDTH, tree).float()
            for x in (joint, joint.half())]
    assert ((read[0] - read[1]).norm() / read[0].norm()) < 5e-3


def compare_kernels(device):
    for ours, theirs in delta_kernels.compared(device, torch.float32):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_triton_s_kernels_work_on_this_gpu(dtype):
    assert delta_kernels._works_on(torch.zeros(1, device=GPU).device, dtype)


@needs_triton
def test_triton_s_kernels_give_the_same_in_its_interpreter():
    program = "import torch; from tests.model.test_delta import compare_kernels; compare_kernels(torch.device('cpu'))"
    run_interpreted(program)


def test_inverses_are_right_and_have_the_gradients_that_autograd_finds():
    below = (torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(0)) / 3).requires_grad_()
    found = delta_kernels.unit_inverse(below)
    whole = below.tril(-1) + torch.eye(16)
    torch.testing.assert_close(found @ whole, torch.eye(16).expand(2, 16, 16), atol=1e-5, rtol=1e-5)
    up = torch.tensor(np.random.default_rng(0).normal(size=found.shape), dtype=torch.float32).tril()
    one, other = (torch.autograd.grad(x, below, up)[0] for x in (found, torch.linalg.inv(whole)))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
