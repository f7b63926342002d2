"""Judges a trial by its log-loss on rows that it was not trained on, compared with others row by row."""
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mcvqa.base.uncertainty import Accuracy, accuracy_of_right
from mcvqa.scoring.scores import Scores

TIE = 2.0  # standard errors of the difference within which two trials are called a tie


@dataclass(frozen=True, eq=False)
class Judgement:
    """Holds a trial's results on N rows with a known answer.

    Attributes:
        ids: (N,) ids of the rows.
        losses: (N,) negative log-probability of the answer among the row's choices, in nats.
        right: (N,) whether the most probable choice is the answer.
        groups: (N,) image group of each row.
    """

    ids: np.ndarray
    losses: np.ndarray
    right: np.ndarray
    groups: np.ndarray

    @property
    def log_loss(self) -> float:
        return float(self.losses.mean())

    @cached_property
    def standard_error(self) -> float:
        """Standard error of the log-loss, clustered by image group."""
        return clustered_error(self.losses, self.groups)

    @property
    def accuracy(self) -> Accuracy:
        return accuracy_of_right(self.right, self.groups)

    def above(self, other: "Judgement") -> tuple[float, float]:
        """Return how much higher this log-loss is than another one on the same rows, and the standard error of the difference."""
        assert self.ids.tolist() == other.ids.tolist(), "judged on other rows"
        difference = self.losses - other.losses
        return float(difference.mean()), clustered_error(difference, self.groups)

    def ties_with(self, better: "Judgement") -> bool:
        """Return whether the difference is at most TIE standard errors."""
        difference, error = self.above(better)
        return difference <= TIE * error


def judged(scores: Scores, answers: Mapping[str, int], groups: Mapping[str, int]) -> Judgement:
    """Judge scores on their rows with a known answer, in the order of the ids.

    Args:
        scores: out-of-fold scores.
        answers: id -> index of the answer.
        groups: id -> image group.
    """
    ids = np.array(sorted(name for name in scores.ids.tolist() if name in answers))
    logprobs = scores.of_ids(ids).mean()
    truth = np.array([answers[name] for name in ids.tolist()])
    losses = -logprobs[np.arange(len(ids)), truth]
    return Judgement(ids, losses, logprobs.argmax(-1) == truth, np.array([groups[name] for name in ids.tolist()]))


def clustered_error(values: np.ndarray, groups: np.ndarray) -> float:
    """Compute the standard error of the mean if rows of one group are not independent; infinite for one group.

    Args:
        values: (N,) values.
        groups: (N,) group of each row.
    """
    names, index = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        return float("inf")
    sums = np.bincount(index, values - values.mean())
    return float(np.sqrt((sums**2).sum() * len(names) / (len(names) - 1)) / len(values))
