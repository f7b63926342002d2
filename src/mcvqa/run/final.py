"""`final_fit`: after the folds, one model on all labelled rows, trained as long as they: no rows are left to validate it with."""
import math
from collections.abc import Sequence

import numpy as np

from mcvqa.base.budget import seconds_for_end, spell_duration
from mcvqa.base.files import read_json, read_yaml
from mcvqa.base.informing import counted
from mcvqa.data.folds import FINAL
from mcvqa.model.distributed import by_main
from mcvqa.run.dataset import RunData
from mcvqa.run.execution import Execution
from mcvqa.run.other_runs import OtherRun
from mcvqa.run.project import Project, RunStopped
from mcvqa.run.score import expected_task, score_task
from mcvqa.run.tasks import Task
from mcvqa.run.train import train_task
from mcvqa.scoring.scores import Scores, load_scores

FINAL_SCORES = "final-test.npz"
SCORING_TOO = 1.5  # time of the final model relative to that of its training


# %% how long
def final_steps(project: Project, data: RunData) -> tuple[int, int]:
    """Optimizer steps of the final model: of the learning rate's whole course, and those that are taken.

    Both are as many passes over all rows as the folds made on average over theirs, up to their best epoch where the best epoch's
    weights are used.
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


# %% tasks
def final_tasks(project: Project, data: RunData, needs: Sequence[str] = ()) -> tuple[Task, ...]:
    """The tasks that train the final model and score the test rows with it, in the views in which the folds have scored them.

    Args:
        needs: tasks that encode images.
    """
    train = train_task(project, data, FINAL, needs)
    if not data.test:
        return (train,)
    views = expected_task(project, data, project.config.folds_to_train[0], "test").arguments["settings"]
    return train, score_task(project, data, project.config.replace(**views), FINAL, "test", needs)


def final_is_done(project: Project, data: RunData) -> bool:
    return all(map(project.records.is_done, final_tasks(project, data)))


def fit_finally(execution: Execution) -> None:
    """Train the final model on all rows and score the test rows with it; within a time budget only if it fits.

    Its accuracy cannot be measured.
    """
    project, data = execution.project, execution.data
    if not by_main(_can_begin, execution):
        return
    before = execution.training()
    tasks = by_main(final_tasks, project, data, [task.name for task in before if task.kind == "features"])
    execution.run([*before, *tasks], [task.name for task in tasks])
    rows = counted(len(data.fold_rows(FINAL)[0]), "labelled row")
    print(f"  final model: learned from {rows}, so its accuracy is not measured; that of the folds is")


def _can_begin(execution: Execution) -> bool:
    """Whether all folds are trained and the time suffices; says so where it does not."""
    project, schedule = execution.project, execution.schedule
    if missing := [fold for fold in project.config.folds_to_train if fold not in execution.trained]:
        print(f"  no final model: fold {missing[0]}, which says how long to train it, is not trained")
        return False
    if schedule is None or project.paths.fold(FINAL).exists():
        return True
    folds = [read_json(project.paths.fold(fold) / "result.json", dict) for fold in project.config.folds_to_train]
    pace = sum(fold["seconds"] for fold in folds) / max(1, sum(fold["steps"] for fold in folds))
    needed = SCORING_TOO * pace * final_steps(project, execution.data)[1]
    left = project.seconds_until(seconds_for_end(project.config.budget_seconds))
    if needed > left:
        print(f"  no final model: it takes about {spell_duration(needed)}, and {spell_duration(left)} are left")
    return needed <= left


# %% its scores
def final_scores(project: Project, data: RunData) -> list[Scores]:
    """Test scores of the final model; none without test rows, or where a time budget had no time for it.

    Raises:
        RunStopped: they are missing, or of other weights, rows or settings.
    """
    if not data.test:
        return []
    if not final_is_done(project, data):
        if project.config.time_budget:
            print("  left out: the final model, which is not finished")
            return []
        raise RunStopped(
            f"final_fit=true: the final model of the run {project.config.run!r} is not trained and scored with these settings: "
            "mcvqa run finishes it."
        )
    return [load_scores(project.paths.scores / FINAL_SCORES)]


def final_of(other: OtherRun) -> list[Scores]:
    """Test scores of another run's final model; none where its settings ask for none, or it is unfinished."""
    file = other.paths.scores / FINAL_SCORES
    asked = bool(read_yaml(other.paths.experiment / "config.yaml", dict).get("final_fit"))
    return [load_scores(file)] if asked and file.exists() and other.has_scores(FINAL, ("test",)) else []
