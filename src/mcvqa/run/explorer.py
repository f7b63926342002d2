"""Prepares a run for the explorer: evidence from the scores of its current weights, photographs, and label decisions."""
from pathlib import Path

import numpy as np

from mcvqa.base.uncertainty import accuracy_of_right
from mcvqa.config import settings_hash
from mcvqa.data.fixes import read_decisions
from mcvqa.data.prior import Prior
from mcvqa.ensemble.blend import Member, temperature_of
from mcvqa.insight.evidence import RowEvidence
from mcvqa.insight.explorer import ExploredRun
from mcvqa.run.dataset import RunData
from mcvqa.run.insights import evidence_of_run
from mcvqa.run.learned import learned_probabilities
from mcvqa.run.project import Project
from mcvqa.run.score import splits_of, unmeasured_folds
from mcvqa.run.tasks import Task

EXPLORER_PAGE = "explore.html"


def explored_run(project: Project, data: RunData, prior: Prior, members: tuple[Member, ...]) -> ExploredRun:
    """Prepare a run for the explorer.

    Args:
        project: the run.
        data: its rows, with folds.
        prior: the text-only prior.
        members: members of the ensemble, the run itself first.
    """
    assert members[0].oof is not None
    answers = {q.id: q.answer for q in data.train if q.answer is not None}
    temperature = temperature_of(members[0].oof, answers)
    rows = evidence_of_run(data, prior, members, temperature, learned_probabilities(project, data))
    records = data.records.items()
    unmeasured = next(iter(unmeasured_folds(project, data).values()), "")
    return ExploredRun(
        project.config.run, project.config.model_id, "" if unmeasured else _accuracy_in_words(data, rows), unmeasured, rows,
        photographs={written: record.path for written, record in records if record.path is not None and not record.problem},
        hashes={written: record.content_hash for written, record in records},
        before=data.before, decided=read_decisions(Path(project.config.fixes)) if project.config.fixes else (),
    )


def explorer_task(project: Project, data: RunData) -> Task:
    """Describe the task that writes the explorer's page from the current scores and data."""
    config, folds = project.config, project.config.folds_to_train
    shown = {"train": data.train_print, "test": data.test_print, "members": list(config.members), "fixes": config.fixes}
    needs = tuple(f"score fold {fold} {split}" for fold in folds for split in splits_of(data))
    return Task("explorer", "explorer", settings_hash(shown), (f"experiments/{config.run}/{EXPLORER_PAGE}",), needs)


def explorer_beside_report(project: Project, data: RunData) -> str:
    """Return the name of the explorer's page if it was made from the current scores, else ''."""
    return EXPLORER_PAGE if project.records.is_done(explorer_task(project, data)) else ""


def _accuracy_in_words(data: RunData, rows: list[RowEvidence]) -> str:
    groups = dict(zip((q.id for q in data.train), data.groups.tolist(), strict=True))
    judged = [(row.is_right, groups[row.question.id]) for row in rows if row.split == "train" and row.is_right is not None]
    return str(accuracy_of_right(*map(np.array, zip(*judged, strict=True)))) if judged else ""
