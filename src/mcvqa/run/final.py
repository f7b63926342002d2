"""Defines the tasks of the model on all rows (`final_fit`), and reads its scores."""
from collections.abc import Sequence

from mcvqa.base.files import read_yaml
from mcvqa.data.folds import FINAL
from mcvqa.run.dataset import RunData
from mcvqa.run.other_runs import OtherRun
from mcvqa.run.project import Project, RunStopped
from mcvqa.run.score import expected_task, score_task
from mcvqa.run.tasks import Task
from mcvqa.run.train import train_task
from mcvqa.scoring.scores import Scores, load_scores


# %% tasks
def final_tasks(project: Project, data: RunData, needs: Sequence[str] = ()) -> tuple[Task, ...]:
    """List the tasks that train the final model and score the test rows with it, in the views used by the folds.

    Args:
        project: the run.
        data: its rows, with folds.
        needs: tasks that encode images.
    """
    train = train_task(project, data, FINAL, needs)
    if not data.test:
        return (train,)
    views = expected_task(project, data, project.config.folds_to_train[0], "test").arguments["settings"]
    return train, score_task(project, data, project.config.replace(**views), FINAL, "test", needs)


def final_is_done(project: Project, data: RunData) -> bool:
    return all(map(project.records.is_done, final_tasks(project, data)))


# %% its scores
def final_scores(project: Project, data: RunData) -> list[Scores]:
    """Read the test scores of the final model; none without test rows, or if a time budget left no time for it.

    Raises:
        RunStopped: they are missing, or belong to other weights, rows or settings.
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
    return [load_scores(project.paths.scores_of(FINAL, "test"))]


def final_of(other: OtherRun) -> list[Scores]:
    """Read the test scores of another run's final model; none if its settings ask for none, or it is unfinished."""
    file = other.paths.scores_of(FINAL, "test")
    asked = bool(read_yaml(other.paths.experiment / "config.yaml", dict).get("final_fit"))
    return [load_scores(file)] if asked and file.exists() and other.has_scores(FINAL, ("test",)) else []
