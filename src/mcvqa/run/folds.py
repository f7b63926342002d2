"""Assigns rows to folds (step 4)."""
import csv
import dataclasses
from pathlib import Path

import numpy as np

from mcvqa.base.files import as_spreadsheet_cell, atomic_path
from mcvqa.base.informing import counted
from mcvqa.config import Config
from mcvqa.data.answers import LETTERS
from mcvqa.data.folds import LEFT_OUT, TRAINING_ONLY, FoldError, assign_folds, folds_of_groups, large_group_warning
from mcvqa.data.kinds import question_kind
from mcvqa.run.dataset import RunData
from mcvqa.run.project import Project


def split_rows(data: RunData, config: Config) -> RunData:
    """Assign rows to folds, and collect the other training targets.

    Args:
        data: the rows.
        config: all settings.

    Returns:
        The data with folds and guidance.

    Raises:
        FoldError: there are fewer groups of images for validation than folds, or a fold has no row with an answer.
        ConfigError, RunStopped: from `guidance_of`.
    """
    usable = data.with_image
    if not usable.any():
        raise FoldError("None of the training photographs can be read, so there is nothing to split: mcvqa check lists them.")
    assigned = usable & np.array([config.validate_on in ("", q.source) for q in data.train], dtype=bool)
    chosen = [data.train[i] for i in np.flatnonzero(assigned)]
    of_chosen = assign_folds(chosen, data.groups[assigned], config.n_folds, config.seed, config.use_kfold)
    folds = np.where(usable, folds_of_groups(data.groups, assigned, of_chosen), LEFT_OUT)
    data = dataclasses.replace(data, folds=folds)
    if empty := [fold for fold in sorted(set(of_chosen.tolist()) - {TRAINING_ONLY}) if not data.validated(fold).any()]:
        raise FoldError(f"Fold {empty[0]} has no answered row to validate with. Use more rows or a smaller n_folds.")
    if config.row_weights or config.pseudo or config.teacher:
        from mcvqa.run.guidance import guidance_of

        data = dataclasses.replace(data, guidance=guidance_of(data, config))
    return data


def write_folds(project: Project, data: RunData) -> Path:
    """Write experiments/<run>/folds.csv and return its path."""
    file = project.paths.experiment / "folds.csv"
    with atomic_path(file) as part, open(part, "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["id", "fold", "group", "kind", "answer", "source", "validated"])
        for question, fold, group, validates in zip(data.train, data.folds, data.groups, data.validates, strict=True):
            answer = "" if question.answer is None else LETTERS[question.answer]
            facts = (question_kind(question), answer, question.source, int(validates and fold >= 0))
            writer.writerow([as_spreadsheet_cell(question.id), fold, group, *facts])
    return file


def fold_summary(data: RunData, n_folds: int) -> str:
    """Describe each fold in one line."""
    lines = []
    for fold in sorted(set(data.folds[data.folds >= 0].tolist())):
        rows = data.validation_rows(fold)
        letters = np.bincount([q.answer for q in rows if q.answer is not None])
        shares = "  ".join(f"{LETTERS[i]} {count / len(rows):.0%}" for i, count in enumerate(letters))
        groups = len(set(data.groups[data.validated(fold)].tolist()))
        lines.append(f"  fold {fold}: {counted(len(rows), 'validation row')} in {counted(groups, 'image group')}   {shares}")
    in_use = data.folds != LEFT_OUT
    if others := int((in_use & ~data.validates).sum()):
        lines.append(f"  trained on, but never validated: {counted(others, 'row')}")
    left_out = int((~in_use).sum())
    if left_out:
        lines.append(f"  left out: {counted(left_out, 'row')} whose photograph cannot be read (listed in the EDA)")
    warning = large_group_warning(data.groups[in_use & data.validates], n_folds)
    return "\n".join([*lines, *([f"  {warning}"] if warning else []), *(f"  {note}" for note in data.guidance.notes)])
