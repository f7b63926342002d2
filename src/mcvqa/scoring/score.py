"""Scores questions: letter log-probabilities, all option orders in one pass, in the original order of the choices."""
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import nn

from mcvqa.config import Config
from mcvqa.data.questions import Question
from mcvqa.model.load import BaseModel
from mcvqa.model.rows import KnownPasses, Maker, encode_rows, read_rows, without_empty
from mcvqa.scoring.orders import question_orders, tta_plan
from mcvqa.scoring.scores import Scores


def score_questions(
    model: nn.Module, base: BaseModel, maker: Maker, questions: Sequence[Question], config: Config,
    provenance: dict[str, Any], *, title: str = "scoring", passes: KnownPasses | None = None,
    share: Callable[[list[int]], list[int]] = list,
) -> Scores:
    """Score every question in all views of the TTA plan.

    Args:
        model: the base model with the adapters to score.
        base: the base model.
        maker: builds batches from questions.
        questions: the N questions.
        config: all settings.
        provenance: stored with the scores.
        title: title of the progress bar.
        passes: pass sizes found by earlier calls with this model; this call adds its own.
        share: selects the rows to score, see `read_rows`.

    Returns:
        Scores with K = orders x scales views, all orders of the first scale first.
    """
    if config.answer_by == "generate":
        from mcvqa.scoring.generated import generated_scores  # not needed for letters

        return generated_scores(model, base, maker, questions, config, provenance, title=title, share=share)
    n_orders, scales = tta_plan(config)
    answers = base.answers(model)
    widest = max(len(question.choices) for question in questions)
    logprobs = np.full((len(questions), len(scales) * n_orders, widest), np.nan, np.float32)
    orders = np.full(logprobs.shape, -1, np.int8)
    passes = passes or KnownPasses()
    orders_by_row = [question_orders(question.choices, n_orders) for question in questions]
    for s, scale in enumerate(scales):
        rows = encode_rows(maker, questions, orders_by_row, base.plan.workers, scale)
        size = passes.rows(answers, maker, rows, config, base.plan, scale)
        by_row = read_rows(answers, maker, rows, size, base.plan, scale=scale, title=f"{title}, scale {scale:g}", share=share)
        for i, row in enumerate(rows):
            _fill_views(logprobs[i], orders[i], row, without_empty(questions[i], by_row[i]), first=s * n_orders)
    ids = np.array([question.id for question in questions], dtype=np.str_)
    return Scores(ids, logprobs, orders, np.repeat(scales, n_orders).astype(np.float32), provenance)


def _fill_views(logprobs: np.ndarray, orders: np.ndarray, row: Any, values: np.ndarray, *, first: int) -> None:
    """Write one row's log-probabilities (K, C) to its views from `first` on; entries beyond its choices are -inf."""
    k, c = values.shape
    logprobs[first : first + k] = -np.inf
    logprobs[first : first + k, :c] = values
    orders[first : first + k, :c] = row.orders
