"""A user's own metrics: their figures and errors, and whose fault an error is."""
import math
import re

import numpy as np
import pytest

from mcvqa.config import ConfigError
from mcvqa.data.questions import Question
from mcvqa.report.own_metrics import measure_own, require_metrics

QUESTIONS = [Question(f"q{i}", "a.jpg", "?", ("x", "y"), i % 2 if i < 40 else None) for i in range(44)]
RIGHT = np.array([i % 4 != 0 for i in range(44)])
LOGPROBS = np.log([[0.9, 0.1] if (i % 2 == 0) == RIGHT[i] else [0.1, 0.9] for i in range(44)])
GROUPS = np.arange(44) // 2


def accuracy(truth, logprobs, questions):
    assert len(truth) == len(logprobs) == len(questions) and all(q.answer == t for q, t in zip(questions, truth, strict=True))
    logprobs += 1  # a copy
    return (logprobs.argmax(-1) == truth).mean()


def test_a_metric_gets_answered_rows_and_has_an_error_clustered_by_image():
    found = measure_own({"share": accuracy}, QUESTIONS, LOGPROBS, GROUPS)
    value, error = found["share"]
    assert value == pytest.approx(RIGHT[:40].mean())
    pairs = RIGHT[:40].reshape(20, 2).mean(1)
    assert error == pytest.approx(pairs.std() / math.sqrt(20), rel=0.25)
    assert LOGPROBS.max() <= 0, "metrics get copies"


def failing(truth, logprobs, questions):
    return 1 / 0


@pytest.mark.parametrize(("metric", "message"), [
    (failing, r"the metric 'mine' raised ZeroDivisionError: division by zero \(.*test_own_metrics\.py, line \d+\)\. It is left"),
    (lambda *_: "much", r"could not convert string to float: 'much'\. It is left"),  # with no line of ours
    (lambda *_: math.nan, r"it gave nan, which is no number\. It is left"),
])
def test_a_metric_that_fails_is_named_and_left_out(capsys, metric, message):
    found = measure_own({"mine": metric, "share": accuracy}, QUESTIONS, LOGPROBS, GROUPS)
    assert list(found) == ["share"]
    assert re.search(message, capsys.readouterr().out)


@pytest.mark.parametrize("given", [{"f1": 0.5}, {"": accuracy}, {1: accuracy}])
def test_what_is_no_metric_is_refused_before_the_run(given):
    with pytest.raises(ConfigError, match="give a name and a function of"):
        require_metrics(given)
