"""Scores generated answers (answer_by=generate): generates a text, then parses the answer in it."""
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from mcvqa.config import Config
from mcvqa.data.questions import Question
from mcvqa.model.distributed import divided, progress
from mcvqa.model.load import BaseModel
from mcvqa.model.rows import Maker
from mcvqa.scoring.parse import parse_answer
from mcvqa.scoring.scores import Scores

GENERATED_SHARE = 0.9  # probability of the parsed choice; the rest is spread over the others


@torch.no_grad()
def generated_scores(
    model: nn.Module, base: BaseModel, maker: Maker, questions: Sequence[Question], config: Config,
    provenance: dict[str, Any], *, title: str, share: Callable[[list[int]], list[int]] = list,
) -> Scores:
    """Score answers generated as text and parsed; see `score_questions` for the arguments.

    Returns:
        Scores with K = 1; an answer that cannot be parsed gets equal probabilities.
    """
    widest = max(len(question.choices) for question in questions)
    logprobs = np.full((len(questions), 1, widest), -np.inf, np.float32)
    orders = np.full(logprobs.shape, -1, np.int8)
    unread, asked = 0, share([*range(len(questions))])
    texts = divided(asked, lambda numbers: [
        generate_answer(model, base, maker, questions[i], config)
        for i in progress(numbers, desc=f"{title}, generating", unit="row")
    ])
    for i, question in enumerate(questions):
        n = len(question.choices)
        logprobs[i, 0, :n], orders[i, 0, :n] = np.nan, np.arange(n)
    for i, text in zip(asked, texts, strict=True):
        choice = parse_answer(text, questions[i].choices)
        unread += choice is None
        logprobs[i, 0, : len(questions[i].choices)] = _parsed_logprobs(questions[i], choice)
    if unread:
        print(f"  {unread} of {len(asked)} generated answers could not be parsed and count as undecided")
    ids = np.array([question.id for question in questions], dtype=np.str_)
    return Scores(ids, logprobs, orders, np.ones(1, np.float32), provenance | {"unread": unread})


def _parsed_logprobs(question: Question, choice: int | None) -> np.ndarray:
    """Make log-probabilities (C,) of a parsed answer; None: undecided."""
    n = len(question.choices)
    if choice is None:
        logprobs = np.full(n, np.log(1 / n))
        logprobs[zlib.crc32(question.id.encode()) % n] += 1e-4  # ties are broken by a hash of the id, never by the first letter
        return logprobs
    logprobs = np.full(n, np.log((1 - GENERATED_SHARE) / (n - 1)))
    logprobs[choice] = np.log(GENERATED_SHARE)
    return logprobs


def generate_answer(model: Any, base: BaseModel, maker: Maker, question: Question, config: Config) -> str:
    """Generate an answer greedily, with at most max_new_tokens tokens; see `score_questions` for the arguments."""
    device, dtype = next(model.parameters()).device, base.model.dtype
    inputs = {
        name: value.to(device, dtype if value.is_floating_point() else None)
        for name, value in maker.prompt_inputs(maker.row(question)).items()
    }
    output = model.generate(**inputs, max_new_tokens=config.max_new_tokens, do_sample=False)
    return base.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
