"""Chooses one kind of weights for all folds (`average=auto`) by the pooled log-loss of their validation rows.

It compares the weights at the end of training: those of the last step, their EMA with `use_ema`, and their SWA with `use_swa`.
"""
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcvqa.base.uncertainty import selection_optimism, spell_points
from mcvqa.config import settings_hash
from mcvqa.run.dataset import RunData
from mcvqa.run.project import Project, RunStopped, attempts_of
from mcvqa.run.score import variant_scores
from mcvqa.run.tasks import Task
from mcvqa.scoring.scores import joined, log_softmax

AVERAGE_KINDS = ("raw", "ema", "swa")  # if there are several, the last one is saved as last/


@dataclass(frozen=True)
class AverageChoice:
    """Records the kind of weights with which a run is scored.

    Attributes:
        kind: one of AVERAGE_KINDS.
        losses: kind -> out-of-fold log-loss, in nats.
        optimism: how much the accuracy is probably too high, because the kind was chosen on the rows by which it is judged.
    """

    kind: str
    losses: dict[str, float]
    optimism: float

    def __str__(self) -> str:
        losses = ", ".join(f"{kind} {loss:.4f}" for kind, loss in self.losses.items())
        added = f"the choice makes the accuracy about {spell_points(self.optimism)} points too high"
        return f"{self.kind} for all folds, chosen by out-of-fold log-loss ({losses}); {added}"


# %% the task
def average_task(project: Project) -> Task:
    needs = tuple(f"train fold {fold}" for fold in project.config.folds_to_train)
    return Task("average", "average", settings_hash({"average": needs}), needs=needs)


def settle_average(project: Project, data: RunData) -> None:
    """Choose the kind of weights and print the choice, unless it was already made for these weights.

    Raises:
        RunStopped: the folds have no scores to choose by.
    """
    task = average_task(project)
    if not project.records.is_done(task):
        choice = choose_average(project, data)
        last = [kind for kind in AVERAGE_KINDS if kind in choice.losses][-1]
        folder = "last" if choice.kind == last else choice.kind
        project.records.finish(task, folder=folder, kind=choice.kind, losses=choice.losses, optimism=choice.optimism)
    print(f"  weights: {recorded_average(project)}")


def recorded_average(project: Project) -> AverageChoice:
    """Read the recorded choice of a run."""
    record: dict[str, Any] = project.records.read("average")
    return AverageChoice(record["kind"], record["losses"], record["optimism"])


# %% the choice
def choose_average(project: Project, data: RunData) -> AverageChoice:
    """Choose the kind of weights with the lowest log-loss on the validation rows of all folds together.

    Raises:
        RunStopped: the folds have no scores to choose by.
    """
    folds, attempts = project.config.folds_to_train, attempts_of(project)
    found = {kind: joined(parts) for kind in AVERAGE_KINDS if (parts := variant_scores(project, folds, kind, attempts))}
    if not found:
        raise RunStopped(
            f"average=auto: the run {project.config.run!r} has no validation scores of its weights. Train it again, or set "
            "average=as_set."
        )
    index = {q.id: i for i, q in enumerate(data.train)}
    rows = np.array([index[name] for name in next(iter(found.values())).ids.tolist()])
    answers = np.array([-1 if data.train[i].answer is None else data.train[i].answer for i in rows], dtype=int)
    known = answers >= 0
    logprobs = {kind: log_softmax(scores.of_ids(next(iter(found.values())).ids).mean())[known] for kind, scores in found.items()}
    gains = np.array([each[np.arange(len(each)), answers[known]] for each in logprobs.values()])  # (kinds, rows)
    right = np.array([each.argmax(-1) == answers[known] for each in logprobs.values()])
    losses = {kind: float(-gain.mean()) for kind, gain in zip(logprobs, gains, strict=True)}
    optimism = selection_optimism(right, data.groups[rows][known], gains=gains)
    return AverageChoice(min(losses, key=lambda kind: losses[kind]), losses, optimism)
