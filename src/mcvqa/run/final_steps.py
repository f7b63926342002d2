"""Determines how long the model on all rows (`final_fit`) is trained, from the folds: no rows are left to validate it on."""
import math

import numpy as np

from mcvqa.base.files import read_json
from mcvqa.data.folds import FINAL
from mcvqa.run.dataset import RunData
from mcvqa.run.project import Project


def final_steps(project: Project, data: RunData) -> tuple[int, int]:
    """Compute the optimizer steps of the final model.

    It makes as many epochs over all rows as the folds made on average over theirs, up to their best epoch if the best epoch's
    weights are used.

    Returns:
        Steps of the learning-rate schedule, and steps to take.
    """
    courses, taken = [], []
    for fold in project.config.folds_to_train:
        result = read_json(project.paths.fold(fold) / "result.json", dict)
        passes = result["steps"] / steps_per_epoch(project, data, fold)
        courses.append(passes)
        taken.append(min(passes, result["best_epoch"] + 1) if project.config.keep == "best" else passes)
    per_epoch = steps_per_epoch(project, data, FINAL)
    course = round(float(np.mean(courses)) * per_epoch)
    return course, min(course, round(float(np.mean(taken)) * per_epoch))


def steps_per_epoch(project: Project, data: RunData, fold: int) -> int:
    return math.ceil(len(data.fold_rows(fold)[0]) / project.config.effective_batch)
