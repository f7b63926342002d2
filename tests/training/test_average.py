"""EMA and SWA."""
import pytest
import torch
from torch import nn

from mcvqa.training.average import WeightAverage, warm_decay


def weights(value):
    return {"w": nn.Parameter(torch.full((3,), float(value)))}


def test_an_ema_of_300_steps_has_forgotten_the_untrained_weights():
    """Decay 0.999 without a warm-up would still hold 74 % of them."""
    average = WeightAverage(weights(0), 0.999)
    for _ in range(300):
        average.update(weights(1))
    assert average.values["w"][0].item() > 0.99
    assert 0.999**300 == pytest.approx(0.74, abs=0.01)


def test_the_decay_warms_up_to_its_value():
    assert warm_decay(0.999, 1) == pytest.approx(2 / 11)
    assert warm_decay(0.999, 10**6) == 0.999
    assert warm_decay(0.5, 100) == 0.5


def test_swa_is_the_plain_mean():
    average = WeightAverage(weights(100), None)
    for value in (1, 2, 6):
        average.update(weights(value))
    torch.testing.assert_close(average.values["w"], torch.full((3,), 3.0))


def test_applied_weights_are_given_back_even_after_an_error():
    average, live = WeightAverage(weights(1), None), weights(5)
    with pytest.raises(RuntimeError), average.applied(live):
        assert live["w"][0].item() == 1
        raise RuntimeError
    assert live["w"][0].item() == 5


def test_half_precision_weights_are_averaged_in_float32():
    live = {"w": nn.Parameter(torch.ones(2, dtype=torch.float16))}
    average = WeightAverage(live, 0.999)
    assert average.values["w"].dtype == torch.float32
    with average.applied(live):
        assert live["w"].dtype == torch.float16
