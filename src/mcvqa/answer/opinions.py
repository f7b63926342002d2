"""Asks one question in several option orders: the answer, and the answer in each order."""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcvqa.answer.answerer import Answer, Answerer, answers_from
from mcvqa.config import Config
from mcvqa.ensemble.predictions import mean_probabilities
from mcvqa.scoring.orders import tta_plan
from mcvqa.scoring.scores import Scores


@dataclass(frozen=True)
class OrderOpinion:
    """Holds the model's answer when the choices are shown in one order.

    Attributes:
        order: the original choice shown in each slot.
        choice: index of the most probable choice.
        probabilities: probability of each choice, in the original order.
    """

    order: tuple[int, ...]
    choice: int
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class OrderedAnswer:
    """Holds an answer with the opinions of the option orders.

    Attributes:
        answer: the answer of `mcvqa answer`.
        choices: texts of the choices.
        opinions: one for each order, the original order first.
        averaged: whether the answer is the average over the orders; otherwise it is that of the first one.
    """

    answer: Answer
    choices: tuple[str, ...]
    opinions: tuple[OrderOpinion, ...]
    averaged: bool


def asks_with_orders(config: Config) -> dict[str, Any]:
    """Return changes to the settings of a run that make it use several option orders, if it does not already."""
    return {} if config.use_tta else {"use_tta": True, "tta_scales": (1.0,)}


def answer_in_orders(
    answerer: Answerer, image: Any, question: str, choices: Sequence[str], *, averaged: bool
) -> OrderedAnswer:
    """Answer one question in all option orders of the settings.

    Args:
        answerer: made with the changes of `asks_with_orders`.
        image: path of a photograph, the content of its file, or a PIL image.
        question: text of the question.
        choices: 2 to 26 texts.
        averaged: whether the run's own settings average over option orders.

    Returns:
        The answer by the run's own settings, and each order's opinion.

    Raises:
        ImageError: the photograph cannot be read.
        DataError: there are too few or too many choices, or one is empty.
    """
    asked = answerer.asked([(image, question, choices)])
    folds = answerer.scores(asked)
    first = [scores.views(np.arange(len(scores.scales)) == 0) for scores in folds]
    (answer,) = answers_from(asked, folds if averaged else first)
    several = tta_plan(answerer.trained.project.config)[0] > 1
    return OrderedAnswer(answer, asked.questions[0].choices, opinions_by_order(folds), averaged and several)


def opinions_by_order(folds: Sequence[Scores]) -> tuple[OrderOpinion, ...]:
    """Compute the opinion of each option order, averaged over folds and image scales.

    Args:
        folds: scores of one row by each fold, in the same views.
    """
    orders = folds[0].orders[0]  # (K, C)
    distinct = dict.fromkeys(tuple(order[order >= 0].tolist()) for order in orders if (order >= 0).any())
    return tuple(_opinion(folds, order) for order in distinct)


def _opinion(folds: Sequence[Scores], order: tuple[int, ...]) -> OrderOpinion:
    in_order = (folds[0].orders[0, :, : len(order)] == order).all(-1)  # (K,), one view for each image scale
    shares = mean_probabilities([scores.views(in_order) for scores in folds])[0, : len(order)]
    return OrderOpinion(order, int(shares.argmax()), tuple(shares.tolist()))
