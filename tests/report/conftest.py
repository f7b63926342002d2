"""A made-up run, from scores to metrics, shared by the tests of the report."""
from collections.abc import Callable

import numpy as np
import pytest

from mcvqa.data.questions import Question
from mcvqa.report.metrics import Metrics, measure
from mcvqa.scoring.scores import Scores


def made_up_run(n: int = 120, seed: int = 0, mark: str = "") -> tuple[list[Question], Scores, np.ndarray]:
    """N questions with two to four choices, asked in two rotations by a model that is mostly right.

    Args:
        mark: text put into every place that is read from files.
    """
    rng = np.random.default_rng(seed)
    logprobs, orders = np.full((n, 2, 4), -np.inf, np.float32), np.full((n, 2, 4), -1, np.int8)
    questions = []
    for row in range(n):
        size = 2 + row % 3
        choices = tuple(f"선택 {i} {mark}" for i in range(size))
        answer = int(rng.integers(size))
        text = f"이것은 무엇인가요 {row}? {mark}"
        questions.append(Question(f"행{row}{mark}", f"그림/{row}{mark}.jpg", text, choices, answer))
        for way in range(2):
            orders[row, way, :size] = np.roll(np.arange(size), way)
            logits = rng.normal(0, 1, size) + 2.0 * (np.arange(size) == answer)
            logprobs[row, way, :size] = logits - np.log(np.exp(logits).sum())
    scores = Scores(np.array([q.id for q in questions]), logprobs, orders, np.ones(2, np.float32))
    return questions, scores, np.arange(n) % 3


def made_up_metrics(mark: str = "") -> Metrics:
    questions, scores, folds = made_up_run(mark=mark)
    right = scores.predictions() == [q.answer for q in questions]
    prior = np.where(scores.orders[:, 0] >= 0, np.zeros(4), -np.inf)
    variants = {f"EMA {mark}": (right, np.roll(right, 1)), "nothing": (right, right)}
    return measure(questions, scores, folds, prior=prior, temperature=1.5, variants=variants, test_size=500)


@pytest.fixture(scope="session")
def make_run() -> Callable[..., tuple[list[Question], Scores, np.ndarray]]:
    return made_up_run


@pytest.fixture(scope="session")
def make_metrics() -> Callable[..., Metrics]:
    return made_up_metrics


@pytest.fixture(scope="session")
def metrics() -> Metrics:
    return made_up_metrics()
