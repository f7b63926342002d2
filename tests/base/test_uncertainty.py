"""Error bars."""
import numpy as np
import pytest

from mcvqa.base.uncertainty import Accuracy, accuracy_of, paired_gain


def test_accuracy_with_its_error():
    accuracy = Accuracy(93, 100)
    assert accuracy.value == 0.93
    assert accuracy.standard_error == pytest.approx(0.0255, abs=1e-4)
    assert accuracy.interval == pytest.approx((0.8625, 0.9657), abs=1e-3)  # Wilson, as in the tables
    assert Accuracy(472, 508).standard_error == pytest.approx(0.0113, abs=1e-3)
    assert "0.930 ± 0.026 (n=100)" in str(accuracy)
    assert str(Accuracy(0, 0)) == "no rows"


def test_an_interval_holds_its_value_whatever_the_rounding():
    """Matplotlib refuses error bars that are negative by 1e-17: figures of the data ended whole runs."""
    for n in range(1, 300):
        for right in {0, 1, n // 2, n - 1, n}:
            accuracy = Accuracy(right, n)
            low, high = accuracy.interval
            assert 0 <= low <= accuracy.value <= high <= 1


def test_rows_without_an_answer_do_not_count():
    assert accuracy_of(np.array([0, 1, 2]), np.array([0, 0, -1])) == Accuracy(1, 2)


def test_the_gain_of_nothing_is_nothing_and_a_large_one_is_seen():
    random = np.random.default_rng(0)
    before = random.random(1000) < 0.6
    assert paired_gain(before, before).value == 0
    assert paired_gain(before, before).standard_error == 0
    after = before | (random.random(1000) < 0.3)
    gain = paired_gain(after, before)
    assert gain.low > 0 and gain.low < gain.value < gain.high
    # the paired error follows from the share of rows that changed
    share = gain.value
    assert gain.standard_error == pytest.approx(np.sqrt(share * (1 - share) / 1000), rel=0.1)
