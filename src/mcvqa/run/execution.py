"""Executes the tasks of a session, in this process or in worker processes with one GPU each."""
import contextlib
import dataclasses
import functools
import math
import os
import socket
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
from mcvqa.base.informing import counted
from mcvqa.config import Config, settings_hash
from mcvqa.model.device import DevicePlan, plan_device
from mcvqa.model.distributed import by_each, by_main
from mcvqa.model.load import load_encoder
from mcvqa.model.size import measure_model
from mcvqa.run.dataset import RunData, read_data
from mcvqa.run.folds import split_rows
from mcvqa.run.lengths import require_rows_fit
from mcvqa.run.model_side import ModelSide, do_features, feature_tasks, features_fit, plan_weights
from mcvqa.run.project import Project, RunStopped, heading
from mcvqa.run.score import SPLITS, do_score, is_scored, score_task, splits_of
from mcvqa.run.session import in_attempt, memory_explained
from mcvqa.run.space import disk_need, require_space
from mcvqa.run.tasks import Task, TaskGraph
from mcvqa.run.train import do_train, require_same_base, train_task
from mcvqa.run.workers.inline import Allot, InlineWorker, as_it_is
from mcvqa.run.workers.pool import WorkerPool, silent
from mcvqa.run.workers.processes import ProcessWorkers, most_workers, serve, worker_gpus
from mcvqa.scoring.orders import tta_plan


@dataclass
class Execution:
    """Holds the tasks of a session and the workers that execute them.

    Attributes:
        project: the run.
        data: its rows, with folds.
        side: the model in this process, loaded by the first task that runs here.
        workers: this process, or processes with one GPU each.
        schedule: schedule of a session with a time budget; None: there is no budget.
        trained: folds with weights trained with these settings, rows and code.
        features_ready: whether no task for image features at scale 1 is needed any more.
        encode_on_demand: whether photographs are encoded as training reaches their rows, because there is no time for all.
        unencoded: photographs without features after the last task that encoded some.
        unrecorded_done: names of this session's finished tasks that have no record.
    """

    project: Project
    data: RunData
    side: ModelSide
    workers: InlineWorker | WorkerPool[Any]
    schedule: Schedule | None
    trained: tuple[int, ...] = ()
    features_ready: bool = False
    encode_on_demand: bool = False
    unencoded: int = 0
    unrecorded_done: set[str] = field(default_factory=set)

    def __enter__(self) -> "Execution":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes, saving the training in progress, and free the model's memory."""
        self.workers.close()
        self.side.unload()

    def unload_model(self) -> None:
        """Free the memory of this process's model before worker processes load theirs."""
        if isinstance(self.workers, WorkerPool):
            self.side.unload()

    def run(self, tasks: Sequence[Task], goals: Sequence[str], allot: Allot = as_it_is) -> None:
        """Run all unfinished tasks that the goals need.

        Args:
            tasks: all tasks that may be needed.
            goals: names of the tasks to finish.
            allot: adjusts each task before it starts, or drops it.

        Raises:
            Exception: from a task; see `workers.run`.
        """
        self.unload_model()
        if isinstance(self.workers, WorkerPool) and not self.schedule and Task.__module__ != "__main__":
            from mcvqa.run.shards import with_shards

            tasks = with_shards(self.project, self.data, tasks, len(self.workers), self.unrecorded_done)
        if self.project.config.shared_dir and Task.__module__ != "__main__":
            from mcvqa.run.shared_session import shared_records

            by_main(shared_records(self.project).parcels.share_beginning)
        graph = by_main(TaskGraph.of, tuple({task.name: task for task in tasks}.values()), self._is_done)
        self.workers.run(graph, goals, allot)
        self.trained = tuple(
            fold for fold in self.project.config.folds_to_train if fold in self.trained or f"train fold {fold}" in graph.done
        )
        self.unrecorded_done |= {name for name, task in graph.tasks.items() if name in graph.done and not task.key}

    def _is_done(self, task: Task) -> bool:
        """Return whether a task is done, without hashing the weights of `trained` folds again."""
        return (task.kind == "train" and task.arguments["fold"] in self.trained) or self.project.records.is_done(task)

    def training(self) -> list[Task]:
        """List the tasks that encode images and train each fold."""
        features = [] if self.features_ready else self._features(feature_tasks(1.0, len(self.workers)))
        needs = [task.name for task in features]
        folds = self.project.config.folds_to_train
        return [*features, *(train_task(self.project, self.data, fold, needs) for fold in folds)]

    def scoring(self, config: Config, sample: int = 0) -> list[Task]:
        """List the tasks that encode images at all scales and score the test and validation rows of each fold.

        Args:
            config: with the option orders and scales.
            sample: number of validation rows per fold; 0: all.
        """
        scales = {1.0, *tta_plan(config)[1]} - ({1.0} if self.features_ready else set())
        rows = {"test": "test", "oof": "scored"} if self.schedule else dict.fromkeys(SPLITS, "all")
        features = {
            split: self._features(
                task for scale in sorted(scales)
                for task in feature_tasks(scale, len(self.workers), rows[split], sample * (split == "oof"))
            )
            for split in splits_of(self.data)
        }
        return [
            task for fold in self.project.config.folds_to_train for split, needs in features.items()
            for task in (*needs, score_task(self.project, self.data, config, fold, split, [t.name for t in needs], sample))
        ]

    def first_answers(self) -> list[Task]:
        """List the tasks within a time budget: the first fold is scored before the next is trained, so that there is a
        submission."""
        first, *rest = (task for task in self.training() if task.kind == "train")
        scored = self.scoring(self.project.config.replace(use_tta=False), validation_samples()[0])
        return [first, *(task for task in scored if first.name in task.needs), *rest, *scored]

    def _features(self, tasks: Iterable[Task]) -> list[Task]:
        """Return the feature tasks that this session has not done yet."""
        return [task for task in tasks if self.side.keep_features and task.name not in self.unrecorded_done]


def prepare_model(
    project: Project, data: RunData, plan: DevicePlan, launched: WorkerPool[Any] | None = None
) -> Execution:
    """Step 6: choose workers and weights, and decide whether image features are kept. Nothing is loaded if all is done.

    Args:
        project: the run.
        data: its rows, with folds.
        plan: device and precision.
        launched: workers from `launched_workers`.

    Raises:
        RunStopped: the disk or the memory is too small, or the base model has changed.
    """
    by_main(require_same_base, project)
    trained = by_main(trained_folds, project, data)
    all_done = trained == project.config.folds_to_train and by_main(_all_scored, project, data)
    schedule = make_schedule(project, data) if project.config.time_budget else None
    if all_done:
        heading("model", "every fold is trained and scored")
        side = ModelSide(project, data, plan, False, schedule)
        return Execution(project, data, side, InlineWorker(functools.partial(do_task, side)), schedule, trained)
    heading("model", project.config.model_id)
    plan = by_each(plan_weights, project, plan)
    folds_left, n_workers = len(project.config.folds_to_train) - len(trained), len(gpus_of_workers(project, plan))
    loaded = by_each(load_encoder, project.config)
    size = measure_model(loaded[-1], project.config)
    need = disk_need(project.config, size.trained, data, folds_left + project.config.final_fit, n_workers)
    by_main(require_space, need, project.config)
    by_main(require_rows_fit, project.config, data, plan, folds_left > 0, loaded, size)
    keep_features = by_main(features_fit, project, data, plan, need, loaded)
    side = ModelSide(project, data, plan, keep_features, schedule)
    if launched and len(plan.stages) > project.config.gpus_at_least:  # each with one GPU, before the model was known
        launched.close()
        launched = None
    workers = launched or worker_pool(project, plan)
    if workers is None:
        return Execution(project, data, side, InlineWorker(functools.partial(do_task, side)), schedule, trained)
    # which have changed since the launch
    workers.project, workers.settings = project, {"keep_features": keep_features, "data": data_key(project.config, data)}
    print(f"  {workers}")
    return Execution(project, data, side, workers, schedule, trained)


def gpus_of_workers(project: Project, plan: DevicePlan) -> list[str]:
    """List the GPUs of each worker; several if a model is divided among them."""
    return worker_gpus(project.config, plan.device, len(plan.limits))


def worker_pool(project: Project, plan: DevicePlan) -> WorkerPool[Any] | None:
    """Make workers for several GPUs and folds, or if the settings ask for them; None: this process executes the tasks."""
    gpus, executor = gpus_of_workers(project, plan), project.config.executor
    if executor == "inline" or project.augment or (executor == "auto" and len(gpus) < 2) or "LOCAL_RANK" in os.environ:
        return None
    if executor == "ray":
        from mcvqa.run.workers.ray import ray_workers

        if plan.stages and project.config.gpus_at_least < len(plan.stages):
            raise RunStopped(f"The model needs {len(plan.stages)} GPUs: with executor=ray set gpus_per_model={len(plan.stages)}.")
        return ray_workers(project, begin_tasks, plan.workers, most_workers(project.config))
    return ProcessWorkers(project, begin_worker, gpus, {}, plan.workers)


@contextlib.contextmanager
def launched_workers(project: Project, plan: DevicePlan) -> Iterator[WorkerPool[Any] | None]:
    """Launch workers, which import libraries while this process reads the data, and end them after the block.

    Yields:
        The workers; None if no worker processes are used or everything is recorded as done.
    """
    tasks = [f"{kind} fold {fold}{split}" for fold in project.config.folds_to_train
             for kind, split in (("train", ""), ("score", " test"), ("score", " oof"))]
    finished = all(project.records.read(name).get("finished") for name in tasks)
    workers = None if finished else worker_pool(project, plan)
    try:
        if workers:
            workers.launch(len(workers))
        yield workers
    finally:
        if workers:
            workers.close()


def trained_folds(project: Project, data: RunData) -> tuple[int, ...]:
    """Return the folds with weights trained with these settings, rows and code."""
    folds = project.config.folds_to_train
    return tuple(fold for fold in folds if project.records.is_done(train_task(project, data, fold)))


def _all_scored(project: Project, data: RunData) -> bool:
    scored = all(is_scored(project, data, project.config, fold) for fold in project.config.folds_to_train)
    if scored and project.config.final_fit:
        from mcvqa.run.final import final_is_done

        return final_is_done(project, data)
    return scored


def data_key(config: Config, data: RunData) -> str:
    """Hash the rows, photographs, folds and targets of a run."""
    guidance = [data.guidance.key(fold) for fold in config.folds_to_train]
    return settings_hash({"rows": [data.train_print, data.test_print, data.folds.tolist(), guidance]})


TASK_FUNCTIONS: dict[str, Callable[[ModelSide, Task], None]] = {"features": do_features, "train": do_train, "score": do_score}


def do_task(side: ModelSide, task: Task) -> dict[str, Any]:
    """Execute one task in this process.

    Args:
        side: the model.
        task: features, train or score.

    Returns:
        Measurements for planning the next tasks; empty without a time budget.
    """
    if side.schedule and "share" in task.arguments:
        side.schedule.folds, side.schedule.waiting = (task.arguments["share"][name] for name in ("folds", "waiting"))
    if "shards" in task.arguments and Task.__module__ != "__main__":
        from mcvqa.run.shards import do_shards

        do_shards(side, task)
        return {}
    TASK_FUNCTIONS[task.kind](side, task)
    return {"pace": dataclasses.asdict(side.schedule.pace), "unencoded": side.unencoded} if side.schedule else {}


def begin_worker() -> None:
    """Run a worker process."""
    serve(begin_tasks)


def begin_tasks(project: Project, settings: dict[str, Any]) -> Callable[[Task], dict[str, Any]]:
    """Read the data in a worker.

    Args:
        project: the run.
        settings: values that all workers must share.

    Returns:
        The function that executes a task; it loads the model for the first one and keeps it.

    Raises:
        RunStopped: this worker's rows are not those of the run: its results would be recorded as theirs.
    """
    with silent():
        data = split_rows(read_data(project), project.config)
        if data_key(project.config, data) != settings["data"]:
            raise RunStopped(
                f"A worker on {socket.gethostname()} has read other rows or photographs in {data.files.root.absolute()} than "
                "this run began with: they changed, or are other copies. Make them the same and run again."
            )
        plan = plan_weights(project, plan_device(project.config))
    project = in_attempt(project)
    schedule = make_schedule(project, data) if project.config.time_budget else None
    side = ModelSide(project, data, plan, settings["keep_features"], schedule)

    def do(task: Task) -> dict[str, Any]:
        with memory_explained(project.config):
            return do_task(side, task)

    return do


# %% within a time budget
def make_schedule(project: Project, data: RunData) -> Schedule:
    """Make the schedule of a session with a time budget, which starts when `project` is opened."""
    config, folds = project.config, project.config.folds_to_train
    held_out = math.ceil(np.mean([(data.folds == fold).sum() for fold in folds]))
    validation = math.ceil(np.mean([data.validated(fold).sum() for fold in folds]))
    pseudo = math.ceil(np.mean([len(data.guidance.pseudo.get(fold, ())) for fold in folds]))
    images = len({q.image for rows in (data.test, *map(data.validation_rows, folds)) for q in rows})
    return Schedule(
        functools.partial(project.seconds_until, seconds_for_end(config.budget_seconds)),
        Work(len(folds), config.num_epochs, *tta_plan(config)),
        RowCounts(data.used - held_out + pseudo, validation, len(data.test), images), 1 + config.use_ema + config.use_swa,
    )


def make_first_features(execution: Execution) -> None:
    """Within a time budget, encode the images of the test rows, then the others if this takes a small share of the time.

    Otherwise the others are encoded as training reaches their rows. In either case the plan includes them.
    """
    schedule, parts = execution.schedule, len(execution.workers)
    if schedule is None or not execution.side.keep_features:
        return
    by_main(schedule.announce)
    for rows in ("test", "all"):
        tasks = feature_tasks(1.0, parts, rows)
        execution.run(tasks, [task.name for task in tasks])
        update_pace(execution)
        if rows == "test":
            execution.encode_on_demand = by_main(_must_encode_on_demand, execution)
            execution.features_ready = True
            if execution.encode_on_demand:
                return


def _must_encode_on_demand(execution: Execution) -> bool:
    """Return whether encoding the remaining images takes more than a small share of the time, or an unknown time."""
    schedule, unencoded = execution.schedule, execution.unencoded
    assert schedule is not None
    seconds, left = unencoded * schedule.pace.encode / len(execution.workers), schedule.left()
    on_demand = unencoded > 0 and (not seconds or seconds > FEATURES_SHARE * left)
    if unencoded:
        estimate = f" takes about {spell_duration(seconds)} of the remaining {spell_duration(left)}" if seconds else ""
        decision = ": they are encoded as training reaches their rows" if on_demand else ""
        print(f"  time budget: encoding {counted(unencoded, 'other photograph')}{estimate}{decision}")
    return on_demand


def allot_training(execution: Execution, trained: int, todo: Sequence[int]) -> Allot:
    """Make the function that allots time to each fold before it starts, or drops it for lack of time.

    A fold is told how many folds its worker still has to train, including itself, and how many scoring rounds remain.

    Args:
        execution: tasks and workers of the session.
        trained: number of folds trained before.
        todo: folds to train.
    """
    schedule, workers = execution.schedule, len(execution.workers)
    if schedule is None:
        return as_it_is
    started: list[str] = []

    def allot(task: Task) -> Task | None:
        if task.kind == "score":
            update_pace(execution)
            return with_sample(execution, task, by_main(schedule.sample_in_time))
        if task.kind != "train":
            return task
        left = len(todo) - len(started)
        started.append(task.name)
        update_pace(execution)
        rounds = math.ceil(left / workers)
        waiting = math.ceil((trained + len(todo)) / workers) - rounds
        first = not trained and len(todo) - left < workers
        if not _has_time_to_train(schedule, rounds, waiting, first=first):
            return None
        share = {"folds": rounds, "waiting": waiting}
        return dataclasses.replace(task, arguments={**task.arguments, "share": share, "ahead": execution.encode_on_demand})

    return allot


def with_sample(execution: Execution, task: Task, sample: int) -> Task:
    """Limit a scoring task to `sample` validation rows."""
    config, fold = execution.project.config.replace(**task.arguments["settings"]), task.arguments["fold"]
    if task.arguments["split"] == "test" or 0 < task.arguments["sample"] <= sample:
        return task
    return score_task(execution.project, execution.data, config, fold, task.arguments["split"], task.needs, sample)


def update_pace(execution: Execution) -> None:
    """Adopt the latest measurements of the worker processes."""
    execution.unencoded = execution.side.unencoded
    if execution.schedule and isinstance(execution.workers, WorkerPool) and "pace" in execution.workers.facts:
        execution.unencoded = execution.workers.facts["unencoded"]
        measured = Pace(**execution.workers.facts["pace"])
        execution.schedule.pace = Pace(measured.learn, measured.read, measured.encode or execution.schedule.pace.encode)


def _has_time_to_train(schedule: Schedule, folds: int, waiting: int, *, first: bool) -> bool:
    """Decide whether to train the next fold: the first in any case, another if there is time for an epoch.

    Args:
        folds: number of folds left, including this one.
        waiting: number of trained folds that are not scored yet.
        first: whether it is the first.
    """
    schedule.folds, schedule.waiting = folds, waiting
    work = by_main(schedule.plan)
    return first or work.epochs >= min(1, schedule.full.epochs)
