"""How trials are judged: log-loss row by row, errors by image group, and ties."""
import numpy as np
import pytest

from mcvqa.scoring.scores import plain_scores
from mcvqa.search.judge import Judgement, clustered_error, judged


def test_log_loss_is_that_of_the_answers_among_the_rows_own_choices():
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.2, 0.8, 1.0], [0.1, 0.1, 0.8]]))
    scores = plain_scores(np.array(["b", "a", "unknown"]), logits, np.array([3, 2, 3]), {})
    found = judged(scores, {"a": 0, "b": 0, "elsewhere": 1}, {"a": 7, "b": 8, "unknown": 9})
    assert found.ids.tolist() == ["a", "b"] and found.groups.tolist() == [7, 8]
    assert found.losses == pytest.approx([-np.log(0.2), -np.log(0.5)]), "the third choice of row a does not exist"
    assert found.right.tolist() == [False, True] and found.accuracy.right == 1
    assert found.log_loss == pytest.approx((np.log(5) + np.log(2)) / 2)


def test_the_error_counts_groups_not_rows():
    random = np.random.default_rng(0)
    values = random.normal(size=200)
    assert clustered_error(values, np.arange(200)) == pytest.approx(values.std(ddof=1) / np.sqrt(200))
    copied = np.repeat(values, 5)
    assert clustered_error(copied, np.repeat(np.arange(200), 5)) == pytest.approx(clustered_error(values, np.arange(200)))
    assert clustered_error(values, np.zeros(200)) == np.inf


def test_a_tie_is_a_difference_within_two_standard_errors_row_by_row():
    random = np.random.default_rng(1)
    ids, hard = np.array([f"{i:03}" for i in range(400)]), random.exponential(size=400)

    def trial(losses: np.ndarray) -> Judgement:
        return Judgement(ids, losses, losses < 0.5, np.arange(400))

    best = trial(hard)
    slightly_worse, as_good = trial(hard + 0.05 + random.normal(scale=0.1, size=400)), trial(hard + random.normal(size=400))
    assert slightly_worse.above(best)[0] < best.standard_error, "the errors of both alone would hide it"
    assert not slightly_worse.ties_with(best) and as_good.ties_with(best) and best.ties_with(best)
