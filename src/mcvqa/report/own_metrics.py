"""Measures a user's own metrics: functions of answers and log-probabilities, with their errors, on out-of-fold rows."""
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mcvqa.config import ConfigError
from mcvqa.data.questions import Question

OwnMetric = Callable[[np.ndarray, np.ndarray, Sequence[Question]], float]
DRAWS = 100  # of image groups, for the standard error


def require_metrics(metrics: Mapping[str, Any]) -> None:
    """Check the user's metrics before a run begins.

    Args:
        metrics: name -> function of (N,) indices of the right choices, (N, C) log-probabilities and N questions.

    Raises:
        ConfigError: a metric is not a function, or has no name.
    """
    for name, metric in dict(metrics).items():
        if not isinstance(name, str) or not name.strip() or not callable(metric):
            raise ConfigError(f"metrics={{{name!r}: {metric!r}}}: give a name and a function of (truth, logprobs, questions).")


def measure_own(
    metrics: Mapping[str, OwnMetric], questions: Sequence[Question], logprobs: np.ndarray, groups: np.ndarray
) -> dict[str, tuple[float, float]]:
    """Compute the user's metrics. One that fails is reported with its file and line and left out; the run goes on.

    Args:
        metrics: name -> function.
        questions: N questions; those without a known answer do not count.
        logprobs: (N, C), -inf where a row has fewer choices.
        groups: (N,) image group of each row.

    Returns:
        Name -> value and standard error, by a bootstrap over image groups; NaN: no sample could be measured.
    """
    truth, figures = np.array([-1 if q.answer is None else q.answer for q in questions]), {}
    known = np.flatnonzero(truth >= 0)
    for name, metric in metrics.items():
        try:
            value = _figure_of(metric, truth, logprobs, questions, known)
        except Exception as error:
            raised = traceback.extract_tb(error.__traceback__)
            lines = [line for line in raised if line.filename != _figure_of.__code__.co_filename]
            where = f" ({lines[-1].filename}, line {lines[-1].lineno})" if lines else ""  # none: what it gave is no number
            print(f"  the metric {name!r} raised {type(error).__name__}: {error}{where}. It is left out; the run goes on.")
            continue
        figures[name] = value, _standard_error_of(metric, truth, logprobs, questions, groups, known)
    return figures


def _figure_of(
    metric: OwnMetric, truth: np.ndarray, logprobs: np.ndarray, questions: Sequence[Question], rows: np.ndarray
) -> float:
    """Compute the metric of some rows, passing copies, which it may change."""
    value = metric(truth[rows], logprobs[rows], [questions[i] for i in rows])
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"it gave {value!r}, which is no number")
    return number


def _standard_error_of(
    metric: OwnMetric, truth: np.ndarray, logprobs: np.ndarray, questions: Sequence[Question], groups: np.ndarray,
    known: np.ndarray,
) -> float:
    members = [known[groups[known] == group] for group in np.unique(groups[known])]
    random, values = np.random.default_rng(42), []
    for _ in range(DRAWS):
        drawn = np.concatenate([members[i] for i in random.integers(0, len(members), len(members))])
        try:
            values.append(_figure_of(metric, truth, logprobs, questions, drawn))
        except Exception:  # such as an area under a curve without a wrong answer
            continue
    return float(np.std(values)) if len(values) > DRAWS // 2 else math.nan
