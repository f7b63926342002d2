"""Collects the evidence per row: what was measured on each question, and a tag with its probable problem, if any.

There is one record per row, labelled rows first, then test rows; `experiments/<run>/evidence.csv` is the same as a table.
"""
import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcvqa.base.files import as_spreadsheet_cell, atomic_path
from mcvqa.data.answers import LETTERS
from mcvqa.data.explore import bare_text
from mcvqa.data.kinds import question_kind
from mcvqa.data.questions import Question
from mcvqa.ensemble.predictions import most_probable
from mcvqa.insight.label_noise import LabelNoise
from mcvqa.scoring.scores import Scores, log_softmax

EVIDENCE = "evidence.csv"
NEIGHBOURS = 5  # at most so many look-alikes, and rows with the same question, are named


# %% the record
@dataclass(frozen=True)
class Neighbour:
    """Describes another labelled row: its id, its answer's text, and whether it asks the same question."""

    id: str
    answer: str
    same_question: bool


@dataclass(frozen=True)
class RowEvidence:
    """Holds the evidence about one row. Fields that do not apply are None, or empty.

    Attributes:
        question: the row as it was read; its answer is the label, or None.
        split: "train" or "test".
        fold: the fold that judged the row; None for test rows, and for training rows that no fold validates.
        kind: kind of the question, one of KINDS.
        probabilities: calibrated probability of each choice; empty if the row was not scored. A training row is judged by the
            fold that was not trained on it, a test row by the mean of all folds.
        said: the most probable choice.
        margin: probability of `said`, less that of the next choice.
        rank_of_truth: 1 if the label is the most probable choice.
        entropy: entropy of the probabilities, relative to that of equal ones. 0: certain; 1: no idea.
        order_agreement: share of the option orders, at the scale nearest to 1, that agree with `said`; None for one order.
        scale_agreement: share of the image scales, each averaged over its orders, that agree; None for one scale.
        member_agreement: share of the ensemble's members that agree; None for one member.
        fold_agreement: of a test row, share of the folds that agree; None for one fold.
        prior: probability of each choice by the texts alone, out of fold.
        learned: probability of each choice by the models trained on the label, if these were scored (evidence=full).
        label_wrong: probability that the label is wrong (`insight/label_noise.py`).
        proposed: the proposed label in that case.
        photograph_problem: why the photograph cannot be read; empty if it can.
        look_alikes: labelled rows with the same or a near-duplicate photograph, those with the same question first.
        same_question: labelled rows with the same question about other photographs.
        look_alikes_count, same_question_count: their total numbers; `look_alikes` and `same_question` hold the first NEIGHBOURS.
        tag, reason, reason_in_korean: the probable problem, by the first matching rule of `insight/tags.py`; empty if none
            matches.
    """

    question: Question
    split: str
    fold: int | None
    kind: str
    probabilities: tuple[float, ...] = ()
    said: int | None = None
    margin: float | None = None
    rank_of_truth: int | None = None
    entropy: float | None = None
    order_agreement: float | None = None
    scale_agreement: float | None = None
    member_agreement: float | None = None
    fold_agreement: float | None = None
    prior: tuple[float, ...] = ()
    learned: tuple[float, ...] = ()
    label_wrong: float | None = None
    proposed: int | None = None
    photograph_problem: str = ""
    look_alikes: tuple[Neighbour, ...] = ()
    same_question: tuple[Neighbour, ...] = ()
    look_alikes_count: int = 0
    same_question_count: int = 0
    tag: str = ""
    reason: str = ""
    reason_in_korean: str = ""

    @property
    def truth(self) -> int | None:
        """The label."""
        return self.question.answer

    @property
    def is_right(self) -> bool | None:
        """Whether the label is the most probable choice; None without a label or an answer."""
        return None if self.truth is None or self.said is None else self.said == self.truth


# %% what the scores say
@dataclass(frozen=True)
class Judged:
    """Holds the scores of N rows that the evidence needs.

    Attributes:
        models: the run's models that scored each row: one out of fold, all folds on test rows.
        members: (M, N, C) log-probabilities of the ensemble's members, including the run itself.
        temperature: calibration temperature of the run.
    """

    models: tuple[Scores, ...]
    members: np.ndarray
    temperature: float

    def probabilities(self) -> np.ndarray:
        """Compute calibrated probabilities (N, C), averaging first each model's views, then the models."""
        return np.mean([np.exp(log_softmax(scores.mean() / self.temperature)) for scores in self.models], axis=0)


def agreements(judged: Judged, said: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the shares of orders, scales, members and folds that agree with the answer.

    Args:
        judged: scores of N rows.
        said: (N,) choice indices.

    Returns:
        Name in `RowEvidence` -> (N,) shares; NaN if there is only one.
    """
    by_fold = np.stack([scores.predictions() for scores in judged.models])
    return {
        "order_agreement": np.mean([_orders_that_agree(scores, said) for scores in judged.models], axis=0),
        "scale_agreement": np.mean([_scales_that_agree(scores, said) for scores in judged.models], axis=0),
        "member_agreement": _share_of_several(judged.members.argmax(-1), said),
        "fold_agreement": _share_of_several(by_fold, said),
    }


def _share_of_several(choices: np.ndarray, said: np.ndarray) -> np.ndarray:
    """Compute the share (N,) of voters that agree with the answer; NaN for a single voter.

    Args:
        choices: (V, N); -1: no vote.
    """
    voices = (choices >= 0).sum(0)
    return np.where(voices > 1, (choices == said).sum(0) / np.maximum(voices, 1), np.nan)


def _orders_that_agree(scores: Scores, said: np.ndarray) -> np.ndarray:
    nearest = scores.scales[np.abs(scores.scales - 1).argmin()]
    has_view = ~np.isnan(scores.logprobs[:, :, 0]) & (scores.scales == nearest)
    chosen = np.nan_to_num(scores.per_view(), nan=-np.inf).argmax(-1)
    return _share_of_several(np.where(has_view, chosen, -1).T, said)


def _scales_that_agree(scores: Scores, said: np.ndarray) -> np.ndarray:
    has_view = ~np.isnan(scores.logprobs[:, :, 0])  # (N, K)
    views = np.where(has_view[:, :, None], scores.per_view(), 0.0)
    chosen = []
    for scale in np.unique(scores.scales):
        at_scale = scores.scales == scale
        chosen.append(np.where(has_view[:, at_scale].any(1), views[:, at_scale].sum(1).argmax(-1), -1))
    return _share_of_several(np.stack(chosen), said)


# %% neighbours
class Neighbours:
    """Finds labelled rows that share a near-duplicate photograph or a question.

    Args:
        labelled: all labelled rows.
        image_groups: path of a photograph -> its group, the same for near-duplicates.
    """

    def __init__(self, labelled: Sequence[Question], image_groups: Mapping[str, int]) -> None:
        self.image_groups = image_groups
        self.by_photograph: dict[int | str, list[Question]] = defaultdict(list)
        self.by_text: dict[str, list[Question]] = defaultdict(list)
        for question in labelled:
            if question.answer is not None:
                self.by_photograph[self._group_of(question)].append(question)
                self.by_text[bare_text(question.text)].append(question)

    def _group_of(self, question: Question) -> int | str:
        return self.image_groups.get(question.image, question.image)

    def of(self, question: Question) -> tuple[list[Neighbour], list[Neighbour]]:
        """Return the rows with a near-duplicate photograph, and the rows with the same question about other photographs."""
        group, text = self._group_of(question), bare_text(question.text)
        alike = [_neighbour(q, bare_text(q.text) == text) for q in self.by_photograph.get(group, ()) if q.id != question.id]
        elsewhere = [_neighbour(q, True) for q in self.by_text.get(text, ()) if self._group_of(q) != group]
        return sorted(alike, key=lambda one: not one.same_question), elsewhere


def _neighbour(question: Question, same_question: bool) -> Neighbour:
    assert question.answer is not None
    return Neighbour(question.id, question.choices[question.answer], same_question)


# %% the table
COLUMNS = (
    "id", "split", "source", "fold", "kind", "tag", "reason", "truth", "said", "truth_text", "said_text", "probability_of_truth",
    "probability_of_said", "margin", "rank_of_truth", "entropy", "label_wrong", "proposed", "order_agreement", "scale_agreement",
    "member_agreement", "fold_agreement", "prior_said", "prior_of_truth", "learned_said", "learned_of_truth", "votes",
    "look_alikes", "look_alikes_count", "same_question", "same_question_count", "image", "question", "choices",
)


def write_evidence(path: Path, rows: Sequence[RowEvidence]) -> None:
    """Write one line per row."""
    with atomic_path(path) as part, open(part, "w", newline="", encoding="utf-8-sig") as handle:  # the mark is for Excel
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(COLUMNS)
        for cells in map(_cells_of, rows):
            writer.writerow([as_spreadsheet_cell(cells[name]) for name in COLUMNS])


def _cells_of(row: RowEvidence) -> dict[str, str]:
    question, shares = row.question, row.probabilities
    best_of_prior = int(np.argmax(row.prior)) if row.prior else None
    best_of_learned = int(np.argmax(row.learned)) if row.learned else None
    return {
        "id": question.id, "split": row.split, "source": question.source, "fold": "" if row.fold is None else str(row.fold),
        "kind": row.kind, "tag": row.tag, "reason": row.reason,
        "truth": _letter(row.truth), "said": _letter(row.said), "proposed": _letter(row.proposed),
        "truth_text": _text(question, row.truth), "said_text": _text(question, row.said),
        "probability_of_truth": _cell_of_number(shares[row.truth] if shares and row.truth is not None else None),
        "probability_of_said": _cell_of_number(shares[row.said] if shares and row.said is not None else None),
        "margin": _cell_of_number(row.margin), "rank_of_truth": "" if row.rank_of_truth is None else str(row.rank_of_truth),
        "entropy": _cell_of_number(row.entropy), "label_wrong": _cell_of_number(row.label_wrong),
        **{name: _cell_of_number(getattr(row, name)) for name in (
            "order_agreement", "scale_agreement", "member_agreement", "fold_agreement")},
        "prior_said": _letter(best_of_prior),
        "prior_of_truth": _cell_of_number(row.prior[row.truth] if row.prior and row.truth is not None else None),
        "learned_said": _letter(best_of_learned),
        "learned_of_truth": _cell_of_number(row.learned[row.truth] if row.learned and row.truth is not None else None),
        "votes": " ".join(map(str, question.votes or ())),
        "look_alikes": _named(row.look_alikes), "look_alikes_count": str(row.look_alikes_count),
        "same_question": _named(row.same_question), "same_question_count": str(row.same_question_count),
        "image": question.image, "question": question.text, "choices": " | ".join(question.choices),
    }


def _letter(index: int | None) -> str:
    return "" if index is None else LETTERS[index]


def _text(question: Question, index: int | None) -> str:
    return "" if index is None else question.choices[index]


def _cell_of_number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _named(neighbours: Sequence[Neighbour]) -> str:
    return "; ".join(f"{one.id}: {one.answer}" for one in neighbours)


# %% from scores to records
def gather_evidence(
    questions: Sequence[Question], split: str, folds: Sequence[int | None], prior: np.ndarray, neighbours: Neighbours,
    problems: Mapping[str, str], judged: Judged | None = None, noise: LabelNoise | None = None,
    learned: Mapping[str, np.ndarray] | None = None,
) -> list[RowEvidence]:
    """Make one record for each row.

    Args:
        questions: N rows.
        split: "train" or "test".
        folds: the fold of each row.
        prior: (N, C) log-probabilities by the texts alone.
        neighbours: neighbours among all labelled rows.
        problems: path of a photograph -> why it cannot be read.
        judged: scores of the same rows, in their order; None: they were not scored.
        noise: estimated label noise of the rows; None: unknown.
        learned: id -> (C,) probabilities by the models trained on the label.
    """
    measured = _measured(judged, noise, questions) if judged else [{}] * len(questions)
    rows = []
    for question, fold, shares, more in zip(questions, folds, np.exp(prior), measured, strict=True):
        alike, elsewhere = neighbours.of(question)
        rows.append(RowEvidence(
            question, split, fold, question_kind(question), prior=tuple(shares[: len(question.choices)].tolist()),
            learned=tuple((learned or {}).get(question.id, np.empty(0))[: len(question.choices)].tolist()),
            photograph_problem=problems.get(question.image, ""),
            look_alikes=tuple(alike[:NEIGHBOURS]), same_question=tuple(elsewhere[:NEIGHBOURS]),
            look_alikes_count=len(alike), same_question_count=len(elsewhere), **more,
        ))
    return rows


def _measured(judged: Judged, noise: LabelNoise | None, questions: Sequence[Question]) -> list[dict[str, Any]]:
    """Return the fields of each row that depend on its scores."""
    shares = judged.probabilities()
    said = most_probable(shares, [question.id for question in questions])
    columns = agreements(judged, said)
    if noise is not None:
        columns["label_wrong"] = noise.wrong
    rows = []
    for i, question in enumerate(questions):
        of_row = shares[i, : len(question.choices)]
        cells = {name: None if np.isnan(values[i]) else float(values[i]) for name, values in columns.items()}
        proposed = None if cells.get("label_wrong") is None or noise is None else int(noise.proposed[i])
        rows.append({
            "probabilities": tuple(of_row.tolist()), "said": int(said[i]), "proposed": proposed,
            **cells, **_spread_of_shares(of_row, question.answer),
        })
    return rows


def _spread_of_shares(shares: np.ndarray, truth: int | None) -> dict[str, Any]:
    """Compute margin, rank of the truth and entropy.

    Args:
        shares: (C,) probabilities of the row's choices.
    """
    first, second = np.sort(shares)[::-1][:2].tolist()
    some = shares[shares > 0]
    return {
        "margin": first - second, "entropy": float(-(some * np.log(some)).sum() / np.log(len(shares))),
        "rank_of_truth": None if truth is None else 1 + int((shares > shares[truth]).sum()),
    }
