"""Scores folds on their own training rows (`evidence=full`): these scores judge no model but reveal rows that were not
learned."""
import numpy as np

from mcvqa.run.dataset import RunData
from mcvqa.run.execution import Execution
from mcvqa.run.project import Project
from mcvqa.run.score import score_task
from mcvqa.run.tasks import Task
from mcvqa.scoring.scores import load_scores


def learned_tasks(project: Project, data: RunData) -> list[Task]:
    """List the tasks that score each fold's training rows, in the original order of choices at the training image size."""
    config = project.config.replace(use_tta=False)
    return [score_task(project, data, config, fold, "train") for fold in config.folds_to_train]


def score_learned(execution: Execution) -> None:
    """Score the training rows of trained folds that have no scores yet; within a time budget as long as there is time."""
    project, schedule = execution.project, execution.schedule
    tasks = [task for task in learned_tasks(project, execution.data) if task.arguments["fold"] in execution.trained]
    if schedule and not schedule.has_time_for(sum(len(execution.data.learned_rows(t.arguments["fold"])) for t in tasks)):
        print("  no time to score the rows that were trained on (evidence=full)")
        return
    execution.run([*execution.training(), *tasks], [task.name for task in tasks])


def learned_probabilities(project: Project, data: RunData) -> dict[str, np.ndarray]:
    """Return the mean probabilities (C,) of each labelled row, by id, over the folds trained on it, as far as they are scored.

    Rows of weight 0 have none: no fold was trained on them.
    """
    if project.config.evidence != "full":
        return {}
    by_id: dict[str, list[np.ndarray]] = {}
    for task in learned_tasks(project, data):
        if project.records.is_done(task):
            scores = load_scores(project.paths.root / task.makes[0])
            for name, logprobs in zip(scores.ids.tolist(), scores.mean(), strict=True):
                if data.guidance.weights.get(name, 1.0):
                    by_id.setdefault(name, []).append(np.exp(logprobs))
    return {name: np.mean(each, axis=0) for name, each in by_id.items()}
