"""`evidence=full`: the folds' answers to rows that they have learned from, which judge no model but show what was not learned."""
import numpy as np

from mcvqa.run.dataset import RunData
from mcvqa.run.execution import Execution
from mcvqa.run.project import Project
from mcvqa.run.score import score_task
from mcvqa.run.tasks import Task
from mcvqa.scoring.scores import load_scores


def learned_tasks(project: Project, data: RunData) -> list[Task]:
    """Score the rows that each fold has learned from, in their original order of choices at the size of training."""
    config = project.config.replace(use_tta=False)
    return [score_task(project, data, config, fold, "train") for fold in config.folds_to_train]


def score_learned(execution: Execution) -> None:
    """Score what is not scored yet of the rows that trained folds have learned from; within a time budget while there is time."""
    project, schedule = execution.project, execution.schedule
    tasks = [task for task in learned_tasks(project, execution.data) if task.arguments["fold"] in execution.trained]
    if schedule and not schedule.has_time_for(sum(len(execution.data.learned_rows(t.arguments["fold"])) for t in tasks)):
        print("  no time to answer the rows that were learned from (evidence=full)")
        return
    execution.run([*execution.training(), *tasks], [task.name for task in tasks])


def learned_probabilities(project: Project, data: RunData) -> dict[str, np.ndarray]:
    """Id of a labelled row -> (C,) mean probabilities of its choices by the folds that have learned from it, as far as scored."""
    if project.config.evidence != "full":
        return {}
    found: dict[str, list[np.ndarray]] = {}
    for task in learned_tasks(project, data):
        if project.records.is_done(task):
            scores = load_scores(project.paths.root / task.makes[0])
            for name, logprobs in zip(scores.ids.tolist(), scores.mean(), strict=True):
                found.setdefault(name, []).append(np.exp(logprobs))
    return {name: np.mean(each, axis=0) for name, each in found.items()}
