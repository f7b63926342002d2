"""Submits the answers to some of the test rows if a time budget ends early, with the prior's answers to the others."""
from pathlib import Path

import numpy as np

from mcvqa.base.files import DamagedFile
from mcvqa.base.informing import counted
from mcvqa.data.prior import Prior
from mcvqa.run.dataset import RunData
from mcvqa.run.parts import parts_folder, read_parts
from mcvqa.run.project import Project
from mcvqa.run.score import score_task
from mcvqa.run.submissions import ENSEMBLE_FILE, Answers, is_current, read_submitted, write_answers
from mcvqa.run.train import result_of
from mcvqa.scoring.scores import Scores, load_scores
from mcvqa.training.checkpoint import CheckpointError


def hand_in_parts(project: Project, data: RunData | None, prior: Prior | None) -> str:
    """Submit the answers of a fold without an accuracy, and the prior's answers to the other test rows.

    Only answers of the prior, or of an earlier session of this run that ended in the same way, are replaced, and only by a fold
    that was more accurate when it was trained.

    Returns:
        A sentence about it; '' if nothing was submitted.
    """
    if data is None or prior is None or not data.test or not len(data.folds):
        return ""
    path = project.paths.outputs / ENSEMBLE_FILE
    current = read_submitted(path)
    unmeasured = current is not None and current.run == project.config.run and current.accuracy is None
    if (current is None and is_current(path, data)) or (current is not None and current.source != "prior" and not unmeasured):
        return ""
    for fold in project.config.folds_to_train:
        parts = _scored_parts(project, data, fold)
        if not parts or result_of(project, fold).value <= prior.accuracy.value:
            continue
        answered = {name: choice for part in parts for name, choice in zip(part.ids.tolist(), part.predictions(), strict=True)}
        blind = prior.test_logprobs.argmax(-1).tolist()
        predictions = np.array([answered.get(q.id, guess) for q, guess in zip(data.test, blind, strict=True)])
        source, others = f"fold {fold}", ""
        if len(answered) < len(data.test):
            source += f" ({len(answered):,} of {len(data.test):,} rows), else prior"
            others = ", and those of the text-only prior to the others"
        write_answers(project, data, Answers(source, predictions, np.empty(0, np.str_), np.empty(0, bool)), path)
        return f"{path} holds the answers of fold {fold} to {len(answered):,} of {counted(len(data.test), 'test row')}{others}. "
    return ""


def _scored_parts(project: Project, data: RunData, fold: int) -> list[Scores]:
    """Read a fold's test scores in one order and scale: all of them, or the parts scored so far; none without weights."""
    try:
        task = score_task(project, data, project.config.replace(use_tta=False), fold, "test")
        if project.records.is_done(task):
            return [load_scores(project.paths.root / task.makes[0])]
        return read_parts(parts_folder(project, task))
    except (OSError, ValueError, KeyError, DamagedFile, CheckpointError):
        return []


def spell_content(path: Path) -> str:
    """Make a sentence that says whose answers a submission file contains; '' if that is not recorded."""
    current = read_submitted(path)
    if current is None:
        return ""
    by = "the text-only prior" if current.source == "prior" else f"the run {current.run!r} ({current.source})"
    return f"{path} holds the answers of {by}. "
