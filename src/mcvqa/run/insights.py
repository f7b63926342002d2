"""Computes the evidence per row and the label audit of a run from its scores, data and ensemble."""
from collections.abc import Collection, Mapping

import numpy as np

from mcvqa.base.uncertainty import accuracy_of
from mcvqa.data.prior import Prior
from mcvqa.ensemble.blend import Member
from mcvqa.insight.audit import LabelAudit, audit_labels
from mcvqa.insight.evidence import EVIDENCE, Judged, Neighbours, RowEvidence, gather_evidence, write_evidence
from mcvqa.insight.label_noise import LabelNoise, estimate_label_noise, stacked_means
from mcvqa.insight.tag_words import tag_words
from mcvqa.insight.tags import tag_counts, tagged
from mcvqa.report.gallery import ErrorTag
from mcvqa.run.dataset import RunData, prior_of_train
from mcvqa.run.learned import learned_probabilities
from mcvqa.run.project import Project
from mcvqa.scoring.scores import Scores


# %% out-of-fold scores of the same rows
def aligned_to(ids: np.ndarray, scores: Scores | None) -> Scores | None:
    """Select the rows `ids` of some scores, in that order; None if a row is missing."""
    try:
        return None if scores is None else scores.of_ids(ids)
    except KeyError:
        return None


def judges_of(members: tuple[Member, ...]) -> list[Scores]:
    """Return the out-of-fold scores of the first member, and of each other member that has them for all of its rows.

    The text-only prior does not judge labels, since it has not seen the photographs.
    """
    first = members[0].oof
    assert first is not None
    others = [aligned_to(first.ids, member.oof) for member in members[1:] if member.name != "prior"]
    return [first, *(scores for scores in others if scores is not None)]


def noise_of_run(data: RunData, judges: list[Scores]) -> LabelNoise:
    """Estimate the probability that each scored label is wrong.

    Args:
        data: the rows, with folds.
        judges: result of `judges_of`.
    """
    row_of = {q.id: i for i, q in enumerate(data.train)}
    rows = [row_of[name] for name in judges[0].ids.tolist()]
    labels = [-1 if (answer := data.train[i].answer) is None else answer for i in rows]
    return estimate_label_noise(judges, np.array(labels), data.groups[rows])


# %% evidence
def evidence_of_run(
    data: RunData, prior: Prior, members: tuple[Member, ...], temperature: float, learned: Mapping[str, np.ndarray] | None = None
) -> list[RowEvidence]:
    """Collect the evidence of all rows of a run, labelled rows first.

    Args:
        data: the rows, with folds.
        prior: the text-only prior.
        members: members of the ensemble, the run itself first.
        temperature: calibration temperature of the run.
        learned: id -> (C,) probabilities by the models trained on the label (evidence=full).

    Returns:
        One record per row, with its tag.
    """
    neighbours = Neighbours(data.all_train, data.image_groups)
    problems = {written: record.problem for written, record in data.records.items() if record.problem}
    member, index_of = members[0], {q.id: i for i, q in enumerate(data.train)}
    assert member.oof is not None
    scored = np.array([index_of[name] for name in member.oof.ids.tolist()], dtype=int)
    others = np.setdiff1d(np.arange(len(data.train)), scored)
    shares = prior_of_train(data, prior)
    judges = judges_of(members)
    judged = Judged((member.oof,), stacked_means(judges), temperature)
    rows: dict[int, RowEvidence] = {}
    for index, judge, noise in ((scored, judged, noise_of_run(data, judges)), (others, None, None)):
        questions = [data.train[i] for i in index]
        folds = [int(fold) if fold >= 0 else None for fold in data.folds[index].tolist()]
        evidence = gather_evidence(questions, "train", folds, shares[index], neighbours, problems, judge, noise, learned)
        rows |= dict(zip(index.tolist(), evidence, strict=True))
    labelled = [rows[i] for i in range(len(data.train))]
    return tagged([*labelled, *_evidence_of_test(data, prior, members, temperature, neighbours, problems)])


def _evidence_of_test(
    data: RunData, prior: Prior, members: tuple[Member, ...], temperature: float, neighbours: Neighbours, problems: dict[str, str]
) -> list[RowEvidence]:
    if not data.test:
        return []
    ids = members[0].test[0].ids
    models = [[scores for fold in member.test if (scores := aligned_to(ids, fold))] for member in members]
    means = np.stack([stacked_means(folds).mean(0) for folds in models])
    judged = Judged(members[0].test, means, temperature)
    return gather_evidence(data.test, "test", [None] * len(data.test), prior.test_logprobs, neighbours, problems, judged)


def write_run_evidence(
    project: Project, data: RunData, prior: Prior, members: tuple[Member, ...], temperature: float
) -> list[RowEvidence]:
    """Write experiments/<run>/evidence.csv and return its rows."""
    path = project.paths.experiment / EVIDENCE
    rows = evidence_of_run(data, prior, members, temperature, learned_probabilities(project, data))
    write_evidence(path, rows)
    print(f"  {path}: {tag_counts(rows)}")
    return rows


def tags_of_errors(rows: list[RowEvidence]) -> dict[str, ErrorTag]:
    """Map the id of each wrongly answered row to its probable cause."""
    tags = {}
    for row in rows:
        if row.said is not None and row.is_right is False:
            words = tag_words(row.tag)
            tags[row.question.id] = ErrorTag(
                row.said, {language: name for language, (name, _) in words.items()},
                {"ko": row.reason_in_korean, "en": row.reason}, {language: remedy for language, (_, remedy) in words.items()},
            )
    return tags


# %% after labels were fixed
def accuracy_before_fixes(data: RunData, member: Member) -> str:
    """Describe the accuracy on labels that were not decided with a model's help; empty without `fixes`.

    A row relabelled by a model's proposal says little about a similar model.
    """
    if not data.before or member.oof is None:
        return ""
    ids = member.oof.ids.tolist()
    now, groups = {q.id: q.answer for q in data.train}, dict(zip((q.id for q in data.train), data.groups.tolist(), strict=True))
    predicted = member.oof.predictions()
    group = np.array([groups[name] for name in ids])
    answers = {
        "fixed labels": [now[name] for name in ids],
        "the original labels": [data.before.get(name, now[name]) for name in ids],
        "rows whose label was not changed": [None if name in data.before else now[name] for name in ids],
    }
    lines = [f"  {title}: {accuracy_of(predicted, np.array([-1 if a is None else a for a in column]), group)}"
             for title, column in answers.items()]
    return "\n".join(["", f"labels fixed: {len(data.before)}. Out-of-fold accuracy on", *lines, ""])


def targets_besides_answers(data: RunData) -> str:
    """Describe weights, teacher and pseudo labels, and what they mean for the accuracy; empty without them."""
    notes = [f"  {note}" for note in data.guidance.notes]
    return "\n".join(["", "besides the rows' own answers, models have learned from", *notes, ""]) if notes else ""


# %% the label audit
def audit_of_run(data: RunData, members: tuple[Member, ...], decided: Collection[str] = ()) -> LabelAudit:
    """List the labels of a run that are probably wrong.

    Args:
        data: the rows, with folds.
        members: members of the ensemble, the run itself first.
        decided: ids of rows that a person has already decided.
    """
    judges, by_id = judges_of(members), {q.id: q for q in data.train}
    questions = [by_id[name] for name in judges[0].ids.tolist()]
    return audit_labels(questions, noise_of_run(data, judges), judges[0].logprobs.shape[1], decided)
