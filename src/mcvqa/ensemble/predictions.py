"""Writes a run's predictions for stacking elsewhere and for `members`.

Each row has one line, with the probability of each choice.
"""
import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mcvqa.base.files import as_spreadsheet_cell, atomic_path
from mcvqa.data.answers import LETTERS, AnswerConvention, written_answer
from mcvqa.data.questions import Question
from mcvqa.ensemble.blend import EQUAL, Member, read_predictions, untied
from mcvqa.scoring.scores import Scores

OOF_PREDICTIONS, TEST_PREDICTIONS = "oof_predictions.csv", "test_predictions.csv"


# %% probabilities
def mean_probabilities(folds: Sequence[Scores]) -> np.ndarray:
    """Average the probabilities of the folds, each averaged over its views; (N, C), 0 where there is no such choice."""
    return np.mean([np.exp(scores.mean()) for scores in folds], axis=0)


def most_probable(probabilities: np.ndarray, ids: Sequence[str]) -> np.ndarray:
    """Return the most probable choices (N,); ties go by a hash of the id.

    Args:
        probabilities: (N, C).
        ids: (N,) ids.
    """
    return untied(probabilities >= probabilities.max(-1, keepdims=True) - EQUAL, ids)


# %% files
def write_run_predictions(
    folder: Path, member: Member, train: Sequence[Question], folds: np.ndarray, test: Sequence[Question], style: str
) -> None:
    """Write oof_predictions.csv and, if there are test rows, test_predictions.csv.

    Args:
        folder: folder of the run.
        member: the run's scores.
        train: N training rows.
        folds: (N,) the fold of each.
        test: test rows.
        style: notation of answers, one of SUBMISSION_STYLES.
    """
    assert member.oof is not None
    index = {question.id: i for i, question in enumerate(train)}
    at = [index[name] for name in member.oof.ids.tolist()]
    rows = [train[i] for i in at]
    truth = ["" if q.answer is None else as_spreadsheet_cell(written_answer(q.answer, q.choices, style)) for q in rows]
    shares = mean_probabilities([member.oof])
    write_predictions(folder / OOF_PREDICTIONS, rows, shares, style, fold=folds[at].tolist(), truth=truth)
    if test:
        write_predictions(folder / TEST_PREDICTIONS, test, mean_probabilities(member.test), style)


def write_predictions(
    path: Path, questions: Sequence[Question], probabilities: np.ndarray, style: str, **more: Sequence[Any]
) -> None:
    """Write id, answer, and prob_a, prob_b, ... in the original order of the choices.

    Args:
        path: the file.
        questions: N rows.
        probabilities: (N, C).
        style: notation of answers, one of SUBMISSION_STYLES.
        more: cells of further columns, by their names.
    """
    answers = most_probable(probabilities, [question.id for question in questions])
    with atomic_path(path) as part, open(part, "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["id", "answer", *(f"prob_{letter}" for letter in LETTERS[: probabilities.shape[1]]), *more])
        for i, question in enumerate(questions):
            answer = written_answer(int(answers[i]), question.choices, style)
            shares = [f"{share:.7g}" if j < len(question.choices) else "" for j, share in enumerate(probabilities[i])]
            cells = (as_spreadsheet_cell(question.id), as_spreadsheet_cell(answer), *shares)
            writer.writerow([*cells, *(column[i] for column in more.values())])


def is_of_run(path: Path) -> bool:
    """Return whether a prediction file is where a run has left it, next to the out-of-fold predictions."""
    return path.name == TEST_PREDICTIONS and path.with_name(OOF_PREDICTIONS).exists()


def stored_member(path: Path, test: Sequence[Question], train: Sequence[Question], known: AnswerConvention | None) -> Member:
    """Make a member of a run's test_predictions.csv and the out-of-fold predictions next to it.

    Args:
        path: test_predictions.csv.
        test: the test rows, all of which it must contain.
        train: training rows; those in the other file join the member, whose folds may differ.
        known: how the competition writes answers.

    Raises:
        BlendError, DataError: a file cannot be used; see `read_predictions`.
    """
    beside = path.with_name(OOF_PREDICTIONS)
    with open(beside, newline="", encoding="utf-8") as handle:
        ids = {row.get("id", "") for row in csv.DictReader(handle)}
    rows = [q for q in train if q.id in ids or as_spreadsheet_cell(q.id) in ids]
    oof = read_predictions(beside, rows, known).test[0] if rows else None
    return replace(read_predictions(path, test, known), name=path.absolute().parent.name, oof=oof)
