"""Dropout: each layer and projection drops its share, and what it drops says nothing about what any other drops."""
import itertools
import math

import pytest
import torch

from mcvqa.model.fast import kernels
from mcvqa.model.fast.dropout import draw_dropout, dropped
from tests.model.small import ROWS, answering, batch_of, small_model, small_pictures
from tests.model.test_block import adapted, outcome

TOKENS = 257
EVERY_PROJECTION = "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"


def masks_of(rate: float) -> list[torch.Tensor]:
    """(T, I) of one pass: of the inputs of q, k and v, of o, of gate and up, and of down, layer after layer."""
    torch.manual_seed(4)
    answers = answering(adapted(small_model("qwen2_5_vl").requires_grad_(False), EVERY_PROJECTION, rate))
    projections = [one for block in answers.blocks for one in (block.before, block.after)]
    drawn = draw_dropout(projections, TOKENS, torch.device("cpu"))
    return [dropped(torch.ones(TOKENS, one.inputs), mask) for one, mask in zip(projections, drawn, strict=True)]


def largest_correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    """Between two masks read as one long row each, at any shift of one against the other, in standard errors."""
    length = max(one.numel(), other.numel())
    centred = [torch.fft.rfft(mask.flatten() - mask.mean(), 2 * length) for mask in (one, other)]
    products = torch.fft.irfft(centred[0] * centred[1].conj(), 2 * length)
    return float(products.abs().max() / math.sqrt(min(one.numel(), other.numel()) * float(one.var() * other.var())))


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_masks_of_layers_and_projections_have_nothing_in_common_at_any_shift(rate):
    """Of 66 pairs at some 40,000 shifts each the largest is about five standard errors by chance alone; of masks that are
    windows on one row, as they were once, it is 130."""
    masks = masks_of(rate)
    assert len(masks) == 12
    for one, other in itertools.combinations(masks, 2):
        assert largest_correlation(one, other) < 7
    assert largest_correlation(masks[0], masks[0].roll(3)) > 100, "or nothing would be seen"


def test_the_values_of_a_mask_have_nothing_in_common():
    """Neither tokens nor inputs, alone, in pairs, nor in the rectangles that two tokens and two inputs make, as a hash of sums
    might have it."""
    (mask,) = (mask.double() for mask in masks_of(0.5)[3:4])  # (T, 96)
    signs = 2 * mask - 1
    for each in (signs, signs.T):
        products = each @ each.T / math.sqrt(each.shape[1])  # of every pair, in standard errors
        apart = products[~torch.eye(len(each), dtype=torch.bool)]
        assert apart.abs().max() < 6 and apart.var() == pytest.approx(1, abs=0.1)
    tokens = signs[:-1] * signs[1:]  # of neighbours
    rectangles = (tokens[:, :, None] * tokens[:, None, :]).sum(0) / math.sqrt(len(tokens))
    assert rectangles[~torch.eye(96, dtype=torch.bool)].abs().max() < 6


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.25, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_the_share_that_is_kept_is_right_in_every_precision(rate, dtype):
    class Input:
        inputs = 1001  # an odd number

    Input.rate = rate
    torch.manual_seed(0)
    (mask,) = draw_dropout([Input()], 2000, torch.device("cpu"))
    x = torch.full((2000, 1001), 3.0, dtype=dtype)
    result = dropped(x, mask)
    assert result.dtype == dtype and set(result.unique().tolist()) == {0.0, 3.0} and (x == 3).all()
    share = float((result == 3).double().mean())
    assert share == pytest.approx(1 - rate, abs=5 * math.sqrt(rate * (1 - rate) / x.numel()) + 2**-17)
    assert torch.equal(dropped(x, mask, overwrite=True), result)


def test_tokens_keep_their_masks_when_some_are_taken():
    class Input:
        inputs, rate = 40, 0.3

    mask, none = draw_dropout([Input()], 50, torch.device("cpu"))[0], None
    x, some = torch.randn(50, 40), torch.tensor([7, 3, 3, 49])
    assert torch.equal(dropped(x[some], mask.of_tokens(some)), dropped(x, mask)[some])
    assert dropped(x, none) is x


def test_every_pass_draws_anew_and_the_same_state_draws_the_same():
    answers = answering(adapted(small_model("qwen2_5_vl").requires_grad_(False), EVERY_PROJECTION, 0.3)).train()
    batch = batch_of(ROWS, small_pictures(answers.model))
    (loss, gradients), (again, same) = outcome(answers, batch), outcome(answers, batch)  # each from one seed
    assert torch.equal(loss, again) and all(torch.equal(gradients[name], same[name]) for name in gradients)
    torch.manual_seed(2)
    first, second = (answers(batch).detach() for _ in range(2))
    assert not torch.equal(first, second)


def test_without_dropout_nothing_is_drawn():
    answers = answering(adapted(small_model("qwen2_5_vl").requires_grad_(False), "q_proj")).train()
    before = torch.get_rng_state()
    answers(batch_of(ROWS, small_pictures(answers.model)))
    assert torch.equal(torch.get_rng_state(), before)


def test_keys_alone_say_what_is_dropped():
    """Every half of every hash is one value's: written out with Python's integers."""
    torch.manual_seed(1)
    token_keys, input_keys = (torch.randint(-(2**31), 2**31, (n,), dtype=torch.int32) for n in (5, 4))

    def signed(value: int, bits: int) -> int:
        return (value + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)

    wanted = torch.zeros(5, 7)
    for t, i in itertools.product(range(5), range(7)):
        hashed = signed(int(token_keys[t]) + int(input_keys[i // 2]), 32)
        hashed = signed((hashed ^ (hashed >> 16)) * 0x21F0AAAD, 32)
        hashed = signed((hashed ^ (hashed >> 15)) * 0x735A2D97, 32)
        wanted[t, i] = signed(hashed >> (16 * (i % 2)), 16) >= round(0.4 * 2**16) - 2**15
    assert torch.equal(kernels.drop(torch.ones(5, 7), token_keys, input_keys, 0.4), wanted) and 0 < wanted.mean() < 1
