"""Divides the scoring of a fold among workers that would otherwise have nothing to do.

Each shard is a task that scores some of the rows and stores them in cache/, under a key of everything that they depend on. The
fold's own task then joins the shards, and scores those that are missing.
"""
import dataclasses
import functools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mcvqa.base.files import DamagedFile
from mcvqa.config import Config, settings_hash
from mcvqa.data.folds import FINAL
from mcvqa.model.rows import FEWEST_AT_ONCE
from mcvqa.run.dataset import RunData
from mcvqa.run.model_side import ModelSide
from mcvqa.run.project import Project
from mcvqa.run.score import save_scores, score_split, scored_rows
from mcvqa.run.tasks import Task
from mcvqa.scoring.scores import Scores, load_scores
from mcvqa.training.checkpoint import adapter_hash

ROWS_OF_SHARD = 512  # at least; fewer are scored sooner than another worker has loaded the model or the weights of the fold


# %% which tasks are divided
def with_shards(
    project: Project, data: RunData, tasks: Sequence[Task], workers: int, finished: set[str]
) -> list[Task]:
    """Divide scoring tasks, and let them wait for their shards.

    Args:
        project: the run.
        data: its rows, with folds.
        tasks: tasks of a session.
        workers: number of workers.
        finished: names of shards that this session has finished.

    Returns:
        The tasks, with the shards of each in front of it.
    """
    divided: list[Task] = []
    for task in tasks:
        count = n_shards(project.config, data, task, workers) if task.kind == "score" else 1
        if count > 1 and not project.records.is_done(task):
            shards = [shard for shard in _shards_of(task, count) if shard.name not in finished]
            needs = (*task.needs, *(shard.name for shard in shards))
            task = dataclasses.replace(task, needs=needs, arguments={**task.arguments, "shards": count})
            divided += shards
        divided.append(task)
    return divided


def n_shards(config: Config, data: RunData, task: Task, workers: int) -> int:
    """Choose the number of shards of a scoring task.

    While folds are left to train, whole folds keep all workers busy. So only the folds of the last round are divided, and only if
    it leaves workers without a fold: of five folds on two GPUs the fifth.

    Args:
        config: all settings.
        data: rows of the run.
        task: the scoring task.
        workers: number of workers.
    """
    folds, fold = config.folds_to_train, task.arguments["fold"]
    last = (fold,) if fold == FINAL else folds[len(folds) - len(folds) % workers :]
    rows = len(scored_rows(data, task, config.seed))
    return max(1, min(-(-workers // len(last)), rows // ROWS_OF_SHARD)) if fold in last else 1


def _shards_of(task: Task, count: int) -> list[Task]:
    """List the shards of a scoring task. Nothing is recorded: their files show which are missing."""
    return [
        Task("score", f"{task.name} {number + 1} of {count}", "", needs=task.needs, arguments={
            **task.arguments, "shards": count, "shard": number, "whole": dataclasses.asdict(task),
        })
        for number in range(count)
    ]


# %% the tasks
def do_shards(side: ModelSide, task: Task) -> None:
    """Score one shard, or join all of them.

    Args:
        side: the model.
        task: a shard, or the scoring task that was divided.
    """
    count = int(task.arguments["shards"])
    if "shard" in task.arguments:
        _shard_scores(side, Task(**task.arguments["whole"]), int(task.arguments["shard"]), count)
        return
    save_scores(side.project, task, joined_shards([_shard_scores(side, task, number, count) for number in range(count)]))
    shutil.rmtree(_folder(side.project, task, count), ignore_errors=True)


def _shard_scores(side: ModelSide, task: Task, number: int, count: int) -> Scores:
    """Read the scores of a shard; score and save them if they are missing or damaged."""
    file = _folder(side.project, task, count) / f"{number}.npz"
    try:
        return load_scores(file)
    except (FileNotFoundError, DamagedFile):
        scores = score_split(side, task, Share(number, count, _rows_together(side.project.config)))
        scores.save(file)
        return scores


def _folder(project: Project, task: Task, count: int) -> Path:
    """Return the folder for the shards of a task's scores by the current weights."""
    weights = adapter_hash(project.weights(int(task.arguments["fold"])))
    key = {"task": task.key, "adapter": weights, "shards": count, "together": _rows_together(project.config)}
    return project.paths.cache / "scores" / settings_hash(key)


def _rows_together(config: Config) -> int:
    """Return the rows of a pass on a CPU, where scores depend on which rows share a pass. GPUs find out how many they take."""
    return config.eval_batch_size or FEWEST_AT_ONCE


@dataclass(frozen=True)
class Share:
    """Selects every n-th block of the sorted rows: neighboring rows are similar, so the shares take the same time.

    Args:
        number, count: (i, n): the i-th of n shares.
        together: rows of a block.
    """

    number: int
    count: int
    together: int

    def __call__(self, order: list[int]) -> list[int]:
        return [row for place, row in enumerate(order) if place // self.together % self.count == self.number]


def joined_shards(parts: Sequence[Scores]) -> Scores:
    """Take each row's views from the part that has scored them; they are NaN in the others."""
    facts = {name: fact for name, fact in parts[0].provenance.items() if name != "content"}  # a digest of the part
    if "unread" in facts:
        facts["unread"] = sum(part.provenance["unread"] for part in parts)
    logprobs = functools.reduce(np.fmax, [part.logprobs for part in parts])
    return dataclasses.replace(parts[0], logprobs=logprobs, provenance=facts)
