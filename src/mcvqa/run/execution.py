"""Who does the tasks of a session, and with which model: in this process, or in processes on one GPU each."""
import contextlib
import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mcvqa.base.budget import (
    FEATURES_SHARE,
    Pace,
    RowCounts,
    Schedule,
    Work,
    seconds_for_end,
    spell_duration,
    validation_samples,
)
from mcvqa.config import Config
from mcvqa.model.device import DevicePlan, plan_device
from mcvqa.model.distributed import by_each, by_main
from mcvqa.model.load import measure_model, read_model_config
from mcvqa.run.dataset import RunData, read_data, split_rows
from mcvqa.run.lengths import require_rows_fit
from mcvqa.run.model_side import ModelSide, do_features, feature_tasks, features_fit, plan_weights
from mcvqa.run.project import Project, heading
from mcvqa.run.score import do_score, is_scored, score_task, splits_of
from mcvqa.run.session import in_attempt, memory_explained
from mcvqa.run.space import disk_need, require_space
from mcvqa.run.tasks import Task, TaskGraph
from mcvqa.run.train import do_train, require_same_base, train_task
from mcvqa.run.workers.inline import Allot, InlineWorker, as_it_is
from mcvqa.run.workers.processes import ProcessWorkers, serve, silent, worker_gpus
from mcvqa.scoring.orders import tta_plan


@dataclass
class Execution:
    """The tasks of a session, and who does them.

    Attributes:
        side: the model in this process; loaded by the first task that is done here.
        workers: this process, or processes on one GPU each.
        schedule: of a session with a time budget.
        trained: folds whose weights are there, made with these settings, rows and code.
        at_hand: whether no task for image features at scale 1 is needed any more.
        ahead: whether these are computed as training reaches their rows, because there is no time for all of them.
        unencoded: photographs that had no features after the last task that computed some.
        made: names of the feature tasks that this session has done.
    """

    project: Project
    data: RunData
    side: ModelSide
    workers: InlineWorker | ProcessWorkers
    schedule: Schedule | None
    trained: tuple[int, ...] = ()
    at_hand: bool = False
    ahead: bool = False
    unencoded: int = 0
    made: set[str] = field(default_factory=set)

    def __enter__(self) -> "Execution":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers' processes; what they were training is saved."""
        self.workers.close()
        self.side.release()

    def give_room(self) -> None:
        """Before workers' processes load the model themselves, this process gives back the memory of its own."""
        if isinstance(self.workers, ProcessWorkers):
            self.side.unload()

    def run(self, tasks: Sequence[Task], goals: Sequence[str], allot: Allot = as_it_is) -> None:
        """Have the workers do what the goals need and is not done; arguments and errors as for `workers.run`."""
        self.give_room()
        graph = by_main(TaskGraph.of, tuple({task.name: task for task in tasks}.values()), self._is_done)
        self.workers.run(graph, goals, allot)
        self.trained = tuple(
            fold for fold in self.project.config.folds_to_train if fold in self.trained or f"train fold {fold}" in graph.done
        )
        self.made |= {name for name in graph.done if graph.tasks[name].kind == "features"}

    def _is_done(self, task: Task) -> bool:
        """Of the folds that are known to be trained the weights are not hashed again."""
        return (task.kind == "train" and task.arguments["fold"] in self.trained) or self.project.records.is_done(task)

    def training(self) -> list[Task]:
        """Image features, and a task for each fold."""
        features = [] if self.at_hand else self._features(feature_tasks(1.0, len(self.workers)))
        needs = [task.name for task in features]
        folds = self.project.config.folds_to_train
        return [*features, *(train_task(self.project, self.data, fold, needs) for fold in folds)]

    def scoring(self, config: Config, sample: int = 0) -> list[Task]:
        """Image features at the other scales, and for each fold the test rows and then the validation rows.

        Args:
            config: with the ways to read a row in.
            sample: how many validation rows of a fold are read; 0: all.
        """
        scales, rows = {1.0, *tta_plan(config)[1]} - ({1.0} if self.at_hand else set()), "scored" if self.schedule else "all"
        features = self._features(
            task for scale in sorted(scales) for task in feature_tasks(scale, len(self.workers), rows, sample)
        )
        needs = [task.name for task in features]
        return [*features, *(
            score_task(self.project, self.data, config, fold, split, needs, sample)
            for fold in self.project.config.folds_to_train for split in splits_of(self.data)
        )]

    def first_answers(self) -> list[Task]:
        """Within a time budget: as `training`, but the first fold is scored before the next one is trained, so that there is
        something to hand in whatever happens then."""
        first, *rest = (task for task in self.training() if task.kind == "train")
        scored = self.scoring(self.project.config.replace(use_tta=False), validation_samples()[0])
        return [first, *(task for task in scored if first.name in task.needs), *rest, *scored]

    def _features(self, tasks: Iterable[Task]) -> list[Task]:
        """Those that are still to be done."""
        return [task for task in tasks if self.side.keep_features and task.name not in self.made]


def prepare_model(
    project: Project, data: RunData, plan: DevicePlan, launched: ProcessWorkers | None = None
) -> Execution:
    """Step 6: who does the tasks, with which weights, and whether image features are kept. If all is done, nothing is loaded.

    Args:
        launched: workers as `launched_workers` gives them.
    """
    by_main(require_same_base, project)
    trained = by_main(trained_folds, project, data)
    everything = trained == project.config.folds_to_train and by_main(_all_scored, project, data)
    schedule = make_schedule(project, data) if project.config.time_budget else None
    if everything:
        heading("model", "every fold is trained and scored")
        side = ModelSide(project, data, plan, False, schedule)
        return Execution(project, data, side, InlineWorker(functools.partial(do_task, side)), schedule, trained)
    heading("model", project.config.model_id)
    plan = by_each(plan_weights, project, plan)
    left, at_once = len(project.config.folds_to_train) - len(trained), len(worker_gpus(project.config, plan.device))
    need = disk_need(project.config, _trained_parameters(project.config), data, left, at_once)
    by_main(require_space, need, project.config)
    by_main(require_rows_fit, project.config, data, plan, left > 0)
    keep_features = by_main(features_fit, project, data, plan, need)
    side = ModelSide(project, data, plan, keep_features, schedule)
    workers = launched or process_workers(project, plan)
    if workers is None:
        return Execution(project, data, side, InlineWorker(functools.partial(do_task, side)), schedule, trained)
    workers.project, workers.settings = project, {"keep_features": keep_features}  # as settled after they were launched
    where = ", ".join(f"GPU {gpu}" for gpu in workers.gpus) if workers.gpus[0] else "the CPU"
    print(f"  {len(workers)} worker{'s' * (len(workers) > 1)}, each in a process of its own, on {where}")
    return Execution(project, data, side, workers, schedule, trained)


def process_workers(project: Project, plan: DevicePlan) -> ProcessWorkers | None:
    """Where there are several GPUs and several folds, or the settings say so; None: this process does the tasks."""
    gpus, executor = worker_gpus(project.config, plan.device), project.config.executor
    if executor == "inline" or (executor == "auto" and len(gpus) < 2) or "LOCAL_RANK" in os.environ:
        return None
    return ProcessWorkers(project, begin_worker, gpus, {}, plan.workers)


@contextlib.contextmanager
def launched_workers(project: Project, plan: DevicePlan) -> Iterator[ProcessWorkers | None]:
    """Workers whose processes import what they need while this one reads the data; they end with the block. None: there are no
    such workers, or the records say that everything is done."""
    tasks = [f"{what} fold {fold}{split}" for fold in project.config.folds_to_train
             for what, split in (("train", ""), ("score", " test"), ("score", " oof"))]
    finished = all(project.records.read(name).get("finished") for name in tasks)
    workers = None if finished else process_workers(project, plan)
    try:
        if workers:
            workers.launch(len(workers))
        yield workers
    finally:
        if workers:
            workers.close()


def _trained_parameters(config: Config) -> int:
    return measure_model(read_model_config(config), config).trained


def trained_folds(project: Project, data: RunData) -> tuple[int, ...]:
    """Folds whose weights are there, made with these settings, rows and code."""
    folds = project.config.folds_to_train
    return tuple(fold for fold in folds if project.records.is_done(train_task(project, data, fold)))


def _all_scored(project: Project, data: RunData) -> bool:
    return all(is_scored(project, data, project.config, fold) for fold in project.config.folds_to_train)


DOING: dict[str, Callable[[ModelSide, Task], None]] = {"features": do_features, "train": do_train, "score": do_score}


def do_task(side: ModelSide, task: Task) -> dict[str, Any]:
    """Carry out one task in this process.

    Returns:
        What the next tasks are planned with.
    """
    if side.schedule and "share" in task.arguments:
        side.schedule.folds, side.schedule.waiting = (task.arguments["share"][name] for name in ("folds", "waiting"))
    DOING[task.kind](side, task)
    return {"pace": dataclasses.asdict(side.schedule.pace), "unencoded": side.unencoded} if side.schedule else {}


def begin_worker() -> None:
    """What the process of a worker runs: it reads the data, loads the model for its first task and keeps it for the others."""
    def begin(project: Project, settings: dict[str, Any]) -> Callable[[Task], dict[str, Any]]:
        with silent():
            data = split_rows(read_data(project), project.config)
            plan = plan_weights(project, plan_device(project.config))
        project = in_attempt(project)
        schedule = make_schedule(project, data) if project.config.time_budget else None
        side = ModelSide(project, data, plan, settings["keep_features"], schedule)

        def do(task: Task) -> dict[str, Any]:
            with memory_explained(project.config):
                return do_task(side, task)

        return do

    serve(begin)


# %% within a time budget
def make_schedule(project: Project, data: RunData) -> Schedule:
    """Of a session with a time budget, which began when `project` was opened."""
    config, folds = project.config, project.config.folds_to_train
    held_out = math.ceil(np.mean([(data.folds == fold).sum() for fold in folds]))
    validation = math.ceil(np.mean([data.validated(fold).sum() for fold in folds]))
    images = len({q.image for rows in (data.test, *map(data.validation_rows, folds)) for q in rows})
    return Schedule(
        functools.partial(project.seconds_until, seconds_for_end(config.budget_seconds)),
        Work(len(folds), config.num_epochs, *tta_plan(config)),
        RowCounts(data.used - held_out, validation, len(data.test), images), 1 + config.use_ema + config.use_swa,
    )


def make_first_features(execution: Execution) -> None:
    """Image features of the test rows, and then of all others, where these take a small part of the time that is left; else they
    are computed as training reaches their rows. Either way they are part of the plan."""
    schedule, parts = execution.schedule, len(execution.workers)
    if schedule is None or not execution.side.keep_features:
        return
    by_main(schedule.announce)
    for rows in ("test", "all"):
        tasks = feature_tasks(1.0, parts, rows)
        execution.run(tasks, [task.name for task in tasks])
        take_over_pace(execution)
        if rows == "test":
            execution.ahead = by_main(_are_features_many, execution)
            execution.at_hand = True
            if execution.ahead:
                return


def _are_features_many(execution: Execution) -> bool:
    """Whether the features that are left take more than a small part of the time, or how long they take is not known."""
    schedule, unencoded = execution.schedule, execution.unencoded
    assert schedule is not None
    seconds, left = unencoded * schedule.pace.encode / len(execution.workers), schedule.left()
    many = unencoded > 0 and (not seconds or seconds > FEATURES_SHARE * left)
    if unencoded:
        about = f" take about {spell_duration(seconds)} of the {spell_duration(left)} that are left" if seconds else ""
        then = ": they are computed as training reaches their rows" if many else ""
        print(f"  time budget: image features of the other {unencoded:,} photographs{about}{then}")
    return many


def allot_training(execution: Execution, trained: int, todo: Sequence[int]) -> Allot:
    """What is told with each fold of its share of the time: how many folds its worker has still to train, with it, and how many
    rounds of scoring remain besides. None: there is no time for it.

    Args:
        trained: folds that were trained before; todo: folds that are to be trained.
    """
    schedule, workers = execution.schedule, len(execution.workers)
    if schedule is None:
        return as_it_is
    begun: list[str] = []

    def allot(task: Task) -> Task | None:
        if task.kind == "score":
            take_over_pace(execution)
            return with_sample(execution, task, by_main(schedule.sample_in_time))
        if task.kind != "train":
            return task
        left = len(todo) - len(begun)
        begun.append(task.name)
        take_over_pace(execution)
        rounds = math.ceil(left / workers)
        waiting = math.ceil((trained + len(todo)) / workers) - rounds
        first = not trained and len(todo) - left < workers
        if not _is_in_time(schedule, rounds, waiting, first=first):
            return None
        share = {"folds": rounds, "waiting": waiting}
        return dataclasses.replace(task, arguments={**task.arguments, "share": share, "ahead": execution.ahead})

    return allot


def with_sample(execution: Execution, task: Task, sample: int) -> Task:
    """The same scoring task with fewer validation rows, where it reads more than so many of them."""
    config, fold = execution.project.config.replace(**task.arguments["settings"]), task.arguments["fold"]
    if task.arguments["split"] == "test" or 0 < task.arguments["sample"] <= sample:
        return task
    return score_task(execution.project, execution.data, config, fold, task.arguments["split"], task.needs, sample)


def take_over_pace(execution: Execution) -> None:
    """What workers' processes measured last."""
    execution.unencoded = execution.side.unencoded
    if execution.schedule and isinstance(execution.workers, ProcessWorkers) and "pace" in execution.workers.facts:
        execution.unencoded = execution.workers.facts["unencoded"]
        measured = Pace(**execution.workers.facts["pace"])
        execution.schedule.pace = Pace(measured.learn, measured.read, measured.encode or execution.schedule.pace.encode)


def _is_in_time(schedule: Schedule, folds: int, waiting: int, *, first: bool) -> bool:
    """Whether the next fold is to be trained: the first in any case, another where there is time for an epoch of it.

    Args:
        folds: that are left, with it. waiting: that are trained and wait for being scored.
    """
    schedule.folds, schedule.waiting = folds, waiting
    work = by_main(schedule.plan)
    return first or work.epochs >= min(1, schedule.full.epochs)
