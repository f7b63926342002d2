"""Estimates the probability that each label is wrong, from log-probabilities of models that never saw it, in several option
orders.

A label is modelled in two steps. The true answer is drawn from the models' beliefs; then it is kept or, at a low rate, replaced
by another choice: usually one that the models also find likely (a look-alike), sometimes any other (a slip). Beliefs are a
softmax of the members' mean log-probabilities, each with a separate weight (a temperature), and are flattened where the option
orders of a row contradict each other: a model that answers by position is no evidence against a label. Weights, flattening, rate
and the share of look-alikes maximise the likelihood of the given labels, with priors around usual values; Bayes' rule then gives
the probability that a label was replaced. A model's confident mistakes look just like wrong labels and count as such.

Labels determine the rate well and the share of look-alikes badly, but the order of the rows depends on that share: it uses
SUSPECTED_SHARE, which finds slips equally well and look-alikes better. The probabilities are made to decrease along that order
(isotonic regression).

Confident learning (Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70)
counts disagreements by class instead. Choices have no classes: letter a means something else in every row.
"""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from mcvqa.ensemble.calibrate import FEWEST_ROWS, RULED_OUT
from mcvqa.scoring.scores import Scores, log_softmax

USUAL_RATE, RATE_ROWS = 0.05, 20.0  # prior of the rate, and the number of rows that it counts as
USUAL_SHARE, SHARE_ROWS = 0.7, 10.0  # the same of the share of look-alikes
SUSPECTED_SHARE = 0.9  # share of look-alikes by which rows are ranked
WEIGHT_WIDTH, FLATTENING_WIDTH = 1.0, 3.0  # standard deviations of the log weights, and of the flattening


@dataclass(frozen=True)
class LabelNoise:
    """Holds the estimates for N labels.

    Attributes:
        suspicion: (N,) ranks the rows, the highest first; NaN without a label.
        wrong: (N,) probability that the label is wrong, never higher for a row of less suspicion; NaN without a label.
        proposed: (N,) the most probable true answer if the label is wrong.
        rate: share of the labels that were replaced.
        look_alikes: share of those that were replaced by a choice that the models find likely.
        weights: (M,) factor of each member's log-probabilities; below 1 for an overconfident member.
        flattening: how much a contradiction between option orders weakens a belief.
    """

    suspicion: np.ndarray
    wrong: np.ndarray
    proposed: np.ndarray
    rate: float
    look_alikes: float
    weights: np.ndarray
    flattening: float


def estimate_label_noise(members: Sequence[Scores], labels: np.ndarray) -> LabelNoise:
    """Estimate the probability that each label is wrong.

    Args:
        members: at least one; out-of-fold scores of the same N rows, so that no model was trained on the label it judges.
        labels: (N,) index of the given answer; below 0: none.

    Returns:
        Probabilities and fitted parameters; with fewer than 20 labels nothing is fitted.
    """
    means = stacked_means(members)  # (M, N, C)
    n_choices = members[0].n_choices
    exists = np.arange(means.shape[2]) < n_choices[:, None]
    evidence = np.where(exists, np.maximum(means, RULED_OUT), 0.0)
    contradictions = np.mean([order_divergence(scores) for scores in members], axis=0)  # (N,)
    known = labels >= 0
    start = np.concatenate([np.full(len(means), -np.log(len(means))), [0.0, np.log(USUAL_RATE), USUAL_SHARE]])

    def beliefs_with(values: np.ndarray) -> np.ndarray:
        logits = np.tensordot(np.exp(values[:-3]), evidence, 1) / (1 + values[-3] * contradictions)[:, None]
        return np.exp(log_softmax(np.where(exists, logits, -np.inf)))

    def likelihoods(values: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
        of_known = beliefs_with(values)[known], labels[known], n_choices[known]
        return label_likelihoods(*of_known, float(np.exp(values[-2])), share)

    def loss(values: np.ndarray) -> float:
        kept, replaced = likelihoods(values, float(values[-1]))
        likelihood = np.log(np.maximum(kept + replaced.sum(-1), 1e-300)).sum()
        pull = ((values[:-3] - start[:-3]) ** 2).sum() / WEIGHT_WIDTH**2 + (values[-3] / FLATTENING_WIDTH) ** 2
        usual = RATE_ROWS * _usual(USUAL_RATE, np.exp(values[-2])) + SHARE_ROWS * _usual(USUAL_SHARE, values[-1])
        return float(pull / 2 - likelihood - usual)

    fitted = start
    if known.sum() >= FEWEST_ROWS:
        bounds = [*[(-4.0, 3.0)] * len(means), (0.0, 20.0), (np.log(1e-4), np.log(0.9)), (0.01, 0.99)]
        fitted = minimize(loss, start, method="L-BFGS-B", bounds=bounds).x
    suspicion, wrong, proposed = np.full(len(labels), np.nan), np.full(len(labels), np.nan), means.mean(0).argmax(-1)
    kept, replaced = likelihoods(fitted, SUSPECTED_SHARE)
    suspicion[known], proposed[known] = _share_replaced(kept, replaced), replaced.argmax(-1)
    wrong[known] = _falling_along(suspicion[known], _share_replaced(*likelihoods(fitted, float(fitted[-1]))))
    return LabelNoise(
        suspicion, wrong, proposed, float(np.exp(fitted[-2])), float(fitted[-1]), np.exp(fitted[:-3]), float(fitted[-3]))


def _share_replaced(kept: np.ndarray, replaced: np.ndarray) -> np.ndarray:
    return replaced.sum(-1) / np.maximum(kept + replaced.sum(-1), 1e-300)


def _falling_along(suspicion: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Average the probabilities where they would rise from a row to one of less suspicion."""
    from sklearn.isotonic import isotonic_regression

    order = np.argsort(-suspicion, kind="stable")
    fallen = np.empty(len(wrong))
    fallen[order] = isotonic_regression(wrong[order], increasing=False) if len(wrong) else []
    return fallen


def _usual(usual: float, share: float) -> float:
    """Return the log-density, up to a constant, of a share with a prior near the usual one, weighted as a number of rows."""
    return float(usual * np.log(share) + (1 - usual) * np.log(1 - share))


def label_likelihoods(
    beliefs: np.ndarray, labels: np.ndarray, n_choices: np.ndarray, rate: float, look_alikes: float
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the likelihoods of the given labels: kept, or replaced.

    Args:
        beliefs: (N, C) probability of each choice to be true, before the label is seen.
        labels: (N,) choice indices.
        n_choices: (N,) number of choices of each row.
        rate: share of the labels that are replaced.
        look_alikes: share of those replaced by a likely choice; the others are replaced by any.

    Returns:
        (N,) the label is true and was kept; (N, C) each other choice is true and was replaced by the label.
    """
    rows = np.arange(len(labels))
    of_label = beliefs[rows, labels]
    look_alike = np.minimum(of_label[:, None] / np.maximum(1 - beliefs, 1e-12), 1.0)  # (N, C) label's share of the others
    slip = 1 / (n_choices - 1)[:, None]
    replaced = rate * beliefs * (look_alikes * look_alike + (1 - look_alikes) * slip)
    replaced[rows, labels] = 0.0
    return (1 - rate) * of_label, replaced


def stacked_means(members: Sequence[Scores]) -> np.ndarray:
    """Stack the log-probabilities (M, N, C) of the same N rows, averaging each member's views."""
    width = max(scores.logprobs.shape[2] for scores in members)
    pads = [((0, 0), (0, width - scores.logprobs.shape[2])) for scores in members]
    return np.stack([np.pad(scores.mean(), pad, constant_values=-np.inf) for scores, pad in zip(members, pads, strict=True)])


def order_divergence(scores: Scores) -> np.ndarray:
    """Compute the Jensen-Shannon divergence (N,) between the views of each row in bits; 0 for one view."""
    views = np.exp(np.nan_to_num(scores.per_view(), nan=-np.inf))  # (N, K, C); all 0 if a row has no such view
    count = (~np.isnan(scores.logprobs[:, :, 0])).sum(1)
    mean = views.sum(1) / count[:, None]
    return np.maximum(_bits(mean) - _bits(views).sum(1) / count, 0.0)


def _bits(shares: np.ndarray) -> np.ndarray:
    """Compute the entropy over the last axis, in bits."""
    return -(shares * np.log2(np.where(shares > 0, shares, 1.0))).sum(-1)
