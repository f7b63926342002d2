"""Ranks labels by how suspicious they are and estimates the probability that each is wrong, from log-probabilities of models
that never saw it.

Rows are ranked by a margin: by how much the most probable other choice beats the label in the weighted geometric mean of members
and views. With one member this is the order of cleanlab's normalized margin. The probability below would rank look-alikes worse,
since it weighs the label's own probability, which they raise (benchmarks/RESULTS.md).

The probability comes from a model of how labels arise. The true answer is drawn from the models' beliefs; then it is kept or, at
a low rate, replaced by another choice: half of the time by one that the models also find likely (a look-alike), else by any (a
slip). Beliefs are a softmax of the members' mean log-probabilities, each with a separate weight (a temperature). A few of the
photographs that several rows share are misread: half of each belief about them is then an even guess. Several disagreements about
one photograph thus speak against the models, not against its labels, which are wrong independently of each other. Weights and
rate maximise the likelihood of the given labels, with priors around usual values, and Bayes' rule gives the probability that a
label was replaced. It is made to decrease along the order of the rows (isotonic regression). Beyond that, a confident mistake
looks like a wrong label and counts as one.

Confident learning (Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70)
counts disagreements by class instead. Choices have no classes: letter a means something else in every row.
"""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from mcvqa.ensemble.calibrate import FEWEST_ROWS, RULED_OUT
from mcvqa.scoring.scores import Scores, log_softmax

USUAL_RATE, RATE_ROWS = 0.03, 20.0  # prior of the rate, and the number of rows that it counts as
LOWER_WIDTH, UPPER_WIDTH = 0.25, 1.0  # prior of the log weights: standard deviations; low weights explain wrong labels away
LOOK_ALIKES = 0.5  # share of the wrong labels that are look-alikes; labels alone do not tell
MISREAD = 0.01  # share of the photographs that the models misread
GUESSED_SHARE = 0.5  # share of even guesses in the beliefs about a misread photograph: some questions about it are still answered


@dataclass(frozen=True)
class LabelNoise:
    """Holds the estimates for N labels.

    Attributes:
        suspicion: (N,) ranks the rows, the highest first: the margin, -1 to 1; NaN without a label.
        wrong: (N,) probability that the label is wrong, never higher for a row of less suspicion; NaN without a label.
        proposed: (N,) the most probable true answer if the label is wrong.
        rate: share of the labels that were replaced.
        weights: (M,) factor of each member's log-probabilities; below 1 for an overconfident member.
    """

    suspicion: np.ndarray
    wrong: np.ndarray
    proposed: np.ndarray
    rate: float
    weights: np.ndarray


def estimate_label_noise(members: Sequence[Scores], labels: np.ndarray, photographs: np.ndarray | None = None) -> LabelNoise:
    """Estimate the probability that each label is wrong.

    Args:
        members: at least one; out-of-fold scores of the same N rows, so that no model was trained on the label it judges.
        labels: (N,) index of the given answer; below 0: none.
        photographs: (N,) number of each row's photograph, from 0; None: each row has its own.

    Returns:
        Probabilities and fitted parameters; with fewer than 20 labels nothing is fitted.
    """
    means = stacked_means(members)  # (M, N, C)
    n_choices, known = members[0].n_choices, labels >= 0
    exists = np.arange(means.shape[2]) < n_choices[:, None]
    evidence = np.where(exists, np.maximum(means, RULED_OUT), 0.0)
    even = (exists / n_choices[:, None])[known]
    photograph = np.unique(np.arange(len(labels)) if photographs is None else photographs, return_inverse=True)[1][known]
    misread = np.where(np.bincount(photograph) > 1, MISREAD, 0.0)  # of a single row, nothing tells it from a confident mistake
    with np.errstate(divide="ignore"):
        prior = np.log([1 - misread, misread])  # (2, P) read, misread
    start = np.append(np.full(len(means), -np.log(len(means))), np.log(USUAL_RATE))

    def beliefs_of(weights: np.ndarray) -> np.ndarray:
        return np.exp(log_softmax(np.where(exists, np.tensordot(weights, evidence, 1), -np.inf)))[known]

    def likelihoods(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute those of the rows' true answers (2, N, C), and of the photographs (2, P) in logarithms: read, misread."""
        read, rate = beliefs_of(np.exp(values[:-1])), float(np.exp(values[-1]))
        both = (read, (1 - GUESSED_SHARE) * read + GUESSED_SHARE * even)
        answers = np.stack([label_likelihoods(one, labels[known], n_choices[known], rate, LOOK_ALIKES) for one in both])
        rows = np.log(np.maximum(answers.sum(-1), 1e-300))
        return answers, prior + [np.bincount(photograph, one, misread.size) for one in rows]

    def loss(values: np.ndarray) -> float:
        likelihood = np.logaddexp(*likelihoods(values)[1]).sum()
        shift = (values - start)[:-1]
        pull = (np.where(shift < 0, shift / LOWER_WIDTH, shift / UPPER_WIDTH) ** 2).sum() / 2
        usual = RATE_ROWS * (USUAL_RATE * values[-1] + (1 - USUAL_RATE) * np.log(1 - np.exp(values[-1])))
        return float(pull - likelihood - usual)

    fitted = start
    if known.sum() >= FEWEST_ROWS:
        fitted = minimize(loss, start, method="L-BFGS-B", bounds=[*[(-4.0, 3.0)] * len(means), (np.log(1e-4), np.log(0.9))]).x
    weights, (answers, of_photographs) = np.exp(fitted[:-1]), likelihoods(fitted)
    posterior = np.exp(of_photographs - np.logaddexp(*of_photographs))[:, photograph]  # (2, N)
    truth = (posterior[..., None] * answers / np.maximum(answers.sum(-1, keepdims=True), 1e-300)).sum(0)  # (N, C)
    truth[np.arange(len(truth)), labels[known]] = 0.0
    suspicion, wrong, proposed = np.full(len(labels), np.nan), np.full(len(labels), np.nan), means.mean(0).argmax(-1)
    suspicion[known], proposed[known] = margins(beliefs_of(weights / weights.sum()), labels[known]), truth.argmax(-1)
    wrong[known] = _falling_along(suspicion[known], truth.sum(-1))
    return LabelNoise(suspicion, wrong, proposed, float(np.exp(fitted[-1])), weights)


def margins(beliefs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute by how much (N,) the most probable other choice beats the label, -1 to 1."""
    is_label = np.arange(beliefs.shape[1]) == labels[:, None]
    return np.where(is_label, -1.0, beliefs).max(-1) - beliefs[is_label]


def _falling_along(suspicion: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Average the probabilities where they would rise from a row to one of less suspicion."""
    from sklearn.isotonic import isotonic_regression

    order = np.argsort(-suspicion, kind="stable")
    fallen = np.empty(len(wrong))
    fallen[order] = isotonic_regression(wrong[order], increasing=False) if len(wrong) else []
    return fallen


def label_likelihoods(
    beliefs: np.ndarray, labels: np.ndarray, n_choices: np.ndarray, rate: float, look_alikes: float
) -> np.ndarray:
    """Compute the likelihoods (N, C) of the given labels with each choice as the true one: kept, or replaced by the label.

    Args:
        beliefs: (N, C) probability of each choice to be true, before the label is seen.
        labels: (N,) choice indices.
        n_choices: (N,) number of choices of each row.
        rate: share of the labels that are replaced.
        look_alikes: share of those replaced by a likely choice; the others are replaced by any.
    """
    rows = np.arange(len(labels))
    of_label = beliefs[rows, labels]
    look_alike = np.minimum(of_label[:, None] / np.maximum(1 - beliefs, 1e-12), 1.0)  # (N, C) label's share of the others
    slip = 1 / (n_choices - 1)[:, None]
    likelihoods = rate * beliefs * (look_alikes * look_alike + (1 - look_alikes) * slip)
    likelihoods[rows, labels] = (1 - rate) * of_label
    return likelihoods


def stacked_means(members: Sequence[Scores]) -> np.ndarray:
    """Stack the log-probabilities (M, N, C) of the same N rows, averaging each member's views."""
    width = max(scores.logprobs.shape[2] for scores in members)
    pads = [((0, 0), (0, width - scores.logprobs.shape[2])) for scores in members]
    return np.stack([np.pad(scores.mean(), pad, constant_values=-np.inf) for scores, pad in zip(members, pads, strict=True)])
