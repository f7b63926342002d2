import numpy as np
import pytest

from mcvqa.ensemble.calibrate import fit_temperature
from mcvqa.scoring.scores import log_softmax


def sampled(temperature, n=4000, n_choices=4, seed=0):
    """Log-probabilities whose true temperature is known: answers are drawn from them."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(n, n_choices)) * 2
    answers = (log_softmax(logits) + random.gumbel(size=logits.shape)).argmax(-1)
    return log_softmax(logits * temperature), answers


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_finds_the_temperature_answers_were_drawn_with(temperature):
    assert fit_temperature(*sampled(temperature)) == pytest.approx(temperature, rel=0.1)


def test_missing_choices_and_unknown_answers_do_not_count():
    logprobs, answers = sampled(2.0)
    wide = np.pad(logprobs, ((0, 500), (0, 3)), constant_values=-np.inf)
    wide[len(logprobs) :, :2] = np.log([0.99, 0.01])
    padded = np.concatenate([answers, np.full(500, -1)])
    assert fit_temperature(wide, padded) == pytest.approx(fit_temperature(logprobs, answers))


def test_an_answer_without_any_probability_counts_as_very_wrong():
    logprobs, answers = sampled(1.0, n=200)
    logprobs[0, answers[0]] = -np.inf
    fitted = fit_temperature(logprobs, answers)
    assert np.isfinite(fitted) and fitted > fit_temperature(*sampled(1.0, n=200))


def test_few_rows_say_nothing():
    logprobs, answers = sampled(3.0, n=19)
    assert fit_temperature(logprobs, answers) == 1.0


def test_stays_within_its_bounds():
    sure = np.log(np.tile([0.7, 0.1, 0.1, 0.1], (50, 1)))
    assert 0.05 <= fit_temperature(sure, np.zeros(50, int)) < 0.06
    assert 19 < fit_temperature(sure, np.arange(50) % 4) <= 20
