"""run(config): the ten steps from CSV files and photographs to a validated submission.

Each step is skipped when its result is already there for the same settings, and says so.
"""
import contextlib
import dataclasses
import functools
import gc
import math
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import nn

from mcvqa.base.budget import Alarm, Pace, Rows, Schedule, TimeUp, Work, seconds_for_end, seconds_to_spare
from mcvqa.base.files import AWAY, DISK_ADVICE, NO_ROOM, read_json, write_json
from mcvqa.base.interrupt import StopRequest
from mcvqa.base.uncertainty import Accuracy, accuracy_of
from mcvqa.config import Config, settings_hash
from mcvqa.data.images import open_image
from mcvqa.data.questions import Question
from mcvqa.ensemble.blend import Blend, Member, blend_members, read_predictions
from mcvqa.model.device import DevicePlan, plan_device
from mcvqa.model.distributed import by_each, by_main, is_main_process, join_processes, own_share
from mcvqa.model.load import (
    BaseModel,
    choose_weights,
    load_base,
    measure_model,
    read_model_config,
    remove_adapters,
    vision_is_frozen,
)
from mcvqa.model.memory import MemoryPlan, free_memory, less_memory
from mcvqa.model.plain import PlainEncoder, PlainMaker
from mcvqa.model.rows import Maker, RowMaker
from mcvqa.model.vision.features import FeatureStore, ImageInputs
from mcvqa.report.advice import Advice, choose_advice, read_course
from mcvqa.report.experiments import read_experiment, record_experiment, update_index
from mcvqa.report.figures import draw_figures
from mcvqa.report.metrics import Metrics, measure
from mcvqa.report.page import ReportInput, write_report
from mcvqa.report.submission import SubmissionReport, validate_submission
from mcvqa.run.ownership import Ownership
from mcvqa.run.project import Project, RunStopped, heading, question_scores
from mcvqa.run.space import DiskNeed, disk_need, free_space, require_space
from mcvqa.run.takeover import take_over
from mcvqa.run.workers.processes import Job, Places, at_place, fold_places
from mcvqa.scoring.orders import tta_plan
from mcvqa.scoring.score import score_questions
from mcvqa.scoring.scores import Scores, joined, load_scores
from mcvqa.training.checkpoint import CheckpointError, adapter_hash, load_trained, verified
from mcvqa.training.loop import RESUME, FoldResult, FoldTrainer


# %% one owner
@contextlib.contextmanager
def _owning(project: Project, fold: int | None = None) -> Iterator[None]:
    """Nobody else works on the run, or trains this fold of it. Of several processes the main one is the owner."""
    what = f"the run {project.config.run!r}" if fold is None else f"fold {fold} of the run {project.config.run!r}"
    ownership = Ownership(project.paths.lock(fold), what)
    by_main(ownership.take)
    try:
        yield
    finally:
        ownership.give_back()


# %% the ten steps
@dataclass(frozen=True)
class Outcome:
    """What a finished run leaves behind.

    Attributes:
        accuracy: out of fold.
        submission: the CSV file to hand in.
        report: the page to read.
        advice: what to try next.
    """

    run: str
    accuracy: Accuracy
    submission: Path
    report: Path
    metrics: Metrics
    advice: tuple[Advice, ...]


def run(config: Config) -> Outcome:
    """Everything, from the data to the submission.

    Raises:
        ConfigError, DataError, RunStopped, DeviceError, ModelError, TrainingError, NotSaved, Owned: told for people; what was
            reached so far stays on disk and the same call goes on from there.
        Interrupted: after SIGTERM or SIGINT, a KeyboardInterrupt; the same call goes on from there too.
    """
    with _on_record(config) as project:
        return _all_steps(project)


@contextlib.contextmanager
def _on_record(config: Config) -> Iterator[Project]:
    """One owner, what an earlier session left elsewhere, and the record of this session."""
    join_processes(config)
    project = by_main(Project, config)
    with _owning(project), _session(project):
        by_main(take_over, project)
        yield project


@contextlib.contextmanager
def _session(project: Project) -> Iterator[None]:
    """Log how long a session took; a run that fails before it has a result stands in the index as failed.

    Of several processes the main one speaks and keeps this record.
    """
    started, folder = time.time(), project.paths.experiment
    spoken = contextlib.nullcontext() if is_main_process() else _silence()
    try:
        # outside of training every file is written whole, so a signal may end a run anywhere
        with spoken, StopRequest(at_once=True), _memory_told(project.config):
            yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (NO_ROOM | AWAY):
            raise RunStopped(f"The disk is full or away: {error}. {DISK_ADVICE}") from error
        untrained = isinstance(error, CheckpointError)  # `predict` or `ensemble` came too early: no run has failed
        if is_main_process() and folder.exists() and not untrained and read_experiment(folder).accuracy is None:
            told = str(error).splitlines()[0] if str(error) else type(error).__name__
            record_experiment(folder, status="failed", seconds=time.time() - started, note=told)
            update_index(folder.parent)
        raise
    finally:
        if is_main_process() and folder.exists():
            project.log.write("session", seconds=round(time.time() - started, 1))


def seconds_of(project: Project) -> float:
    """Time spent on a run by the sessions before this one."""
    return sum(event["seconds"] for event in project.log.events("session"))


def _all_steps(project: Project) -> Outcome:
    started = time.time()
    heading("set-up", f"Python {platform.python_version()}, torch {torch.__version__}")
    plan = by_each(plan_device, project.config)
    print("\n".join(f"  {reason}" for reason in plan.reasons))
    try:
        with Alarm(project.seconds_until(seconds_for_end(project.config.budget_seconds))):
            project = by_main(_prepared, project)
            bench = Bench(project, plan)
            with bench.places:
                train_folds(project, bench)
                score_folds(project, bench)
    except TimeUp:
        print(f"\n  the time budget of {project.config.time_budget} is over: what is there is handed in")
    by_main(_require_scores, project)
    return by_main(_finished, project, plan, started)


def _require_scores(project: Project) -> None:
    """Raises RunStopped where there is nothing but the prior to hand in."""
    if not scored_folds(project):
        raise RunStopped(
            f"Within the time budget of {project.config.time_budget} no fold was trained and scored. "
            f"{project.paths.outputs / 'submission_ensemble.csv'} holds what it held, at first the text-only prior's answers; "
            "the same command goes on from here. For more speed: a smaller image_size, use_sample=true, a GPU."
        )


def _prepared(project: Project) -> Project:
    """Steps 2 to 4: `project` with its data and its folds."""
    heading("config", f"run {project.config.run}")
    project.settle()
    require_members(project)
    explore_data(project)
    project.require_photographs()
    make_folds(project)
    return project


def _finished(project: Project, plan: DevicePlan, started: float) -> Outcome:
    """Steps 9 and 10."""
    try:
        with Alarm(project.seconds_until(seconds_to_spare(project.config.budget_seconds))):
            return write_results(project, combine(project), plan, started)
    except TimeUp:
        raise RunStopped(
            f"The time budget of {project.config.time_budget} is over in the middle of the ensemble or the report. "
            f"{project.paths.outputs / 'submission_ensemble.csv'} is valid; mcvqa report with the same settings makes the rest."
        ) from None


# %% step 3: data and EDA
def explore_data(project: Project) -> None:
    """Tables, figures, the prior, and its submission as the first valid one."""
    heading("data and EDA", str(project.config.data_dir))
    project.settle_data()
    data = project.data
    key = settings_hash({"train": data.train_print, "test": data.test_print})
    summary = project.paths.experiment / "eda" / "summary.txt"
    if project.steps.done("eda", key, [summary]):
        print(f"  already done: {summary.parent}")
    else:
        print(project.explore().summary())
        project.steps.remember("eda", key)
    report, blind = project.submit_prior(), project.prior.accuracy
    project.log.write("prior", accuracy=blind.value, standard_error=blind.standard_error, n=blind.n)
    if report is not None:
        print(f"  first submission: the text-only prior's, {report.rows} rows, accuracy {blind} out of fold")


# %% step 4: folds
def make_folds(project: Project) -> None:
    heading("folds", f"{project.config.n_folds} folds" if project.config.use_kfold else "one stratified split")
    print(project.fold_summary())
    project.log.write("folds", rows=np.unique(project.folds, return_counts=True)[1].tolist())


# %% steps 5 and 6: rows and model
class Bench:
    """The model side of a run: base model, rows and image features, each made when first needed."""

    def __init__(self, project: Project, plan: DevicePlan) -> None:
        self.project, self.device_plan, self.config, self.memory = project, plan, project.config, MemoryPlan()
        self.places, self.shared = Places(project, fold_places(project.config, plan.device), plan.workers), False
        self.schedule = make_schedule(project) if project.config.time_budget else None

    @cached_property
    def plan(self) -> DevicePlan:
        """With the choice between full and 4-bit weights, which depends on the model."""
        if self.device_plan.four_bit is not None:
            return self.device_plan
        plan = by_each(lambda: choose_weights(self.config, self.device_plan, read_model_config(self.config)))
        print(f"  {plan.reasons[-1]}")
        return plan

    @cached_property
    def disk_need(self) -> DiskNeed:
        """Of the folds that are not trained yet."""
        lacking = [fold for fold in self.config.folds_to_train if not self.project.is_trained(fold)]
        trained = measure_model(read_model_config(self.config), self.config).trained
        return disk_need(self.config, trained, self.project.data, len(lacking))

    @cached_property
    def base(self) -> BaseModel:
        return by_each(load_base, self.config, self.plan)

    @cached_property
    def images(self) -> ImageInputs:
        return ImageInputs(
            self.project.data.records, self.base.processor, image_size=self.config.image_size, patch=self.base.patch,
            merge=self.base.merge,
        )

    @cached_property
    def store(self) -> FeatureStore | None:
        """Features kept on disk, or None where the vision tower is trained or the disk is too small."""
        if not vision_is_frozen(self.config):
            print("  image features are made anew in every step: the vision tower is trained")
            return None
        store = FeatureStore(self.project.paths.cache / "features", self.base, self.images)
        if not by_main(self._fits_on_disk, store):
            return None
        self.look(1.0, store)
        return store

    def look(self, scale: float, store: FeatureStore) -> None:
        """Compute what is missing of the image features at one scale."""
        images, started = by_main(store.missing, self._images_seen, scale), time.time()
        if not images:
            return
        by_each(store.fill, self.base, own_share(images), scale)
        overflowed = sum(gather_object([store.overflowed]))
        if overflowed:
            print(f"  {overflowed} of {len(images)} images overflow float16: their features were computed in float32")
        if is_main_process():
            rate = len(images) / (time.time() - started)
            self.project.log.write(
                "features", scale=scale, images=len(images), images_per_s=round(rate, 1), in_float32=overflowed)
            if self.schedule:
                self.schedule.pace.look = 1 / (rate * scale * scale)

    def look_in_all_scales(self, config: Config) -> None:
        if isinstance(self.maker, RowMaker) and self.store:
            for scale in tta_plan(config)[1]:
                self.look(scale, self.store)

    @property
    def _images_seen(self) -> list[str]:
        data = self.project.data
        return [q.image for q in (*data.train, *data.test) if not data.records[q.image].problem]

    def _fits_on_disk(self, store: FeatureStore) -> bool:
        missing = {scale: store.missing(self._images_seen, scale) for scale in {1.0, *tta_plan(self.config)[1]}}
        size = sum(store.bytes_needed(images, scale) for scale, images in missing.items())
        if size and size > free_space(store.folder) - self.disk_need.total:
            print(f"  image features are made anew in every step: {size / 2**30:.1f} GiB do not fit on the disk")
            return False
        if size:
            print(f"  image features: {sum(map(len, missing.values()))} to compute, {size / 2**20:.0f} MiB in {store.folder}")
        return True

    @cached_property
    def maker(self) -> Maker:
        data, (orders, scales) = self.project.data, tta_plan(self.config)
        ways = f"{orders * len(scales)} way{'s' if orders * len(scales) > 1 else ''}"
        heading("rows", f"{len(data.train):,} to learn from, {len(data.test):,} to answer in {ways}")
        heading("model", self.config.model_id)
        if isinstance(self.base.encoder, PlainEncoder):
            print(f"  {self.base.family.model_type} has no fast path: every prompt is encoded with its own photograph")
            return PlainMaker(self.base.encoder, data.records)
        return RowMaker(self.base.encoder, self.images, self.store)

    def share(self) -> None:
        """Compute what the places' processes read, and give back the memory of the model, which they load themselves."""
        if not self.shared and not self.schedule:  # within a time budget it is not known yet what will be read
            self.look_in_all_scales(self.config)
        self.shared = True
        for name in ("base", "images", "store", "maker"):
            self.__dict__.pop(name, None)
        gc.collect()
        free_memory()

    def restore_base(self, model: nn.Module) -> None:
        """Free the base model of adapters; where its own weights were changed (lora_r=0) it is loaded anew when needed."""
        remove_adapters(self.base, model)
        if self.config.lora_r == 0:
            del self.base


# %% within a time budget
def make_schedule(project: Project) -> Schedule:
    """Of a session with a time budget, which began when `project` was made."""
    config, data = project.config, project.data
    folds = config.folds_to_train
    validation = math.ceil(np.mean([(project.folds == fold).sum() for fold in folds]))
    train = int((project.folds != -2).sum()) - validation
    images = len({q.image for q in (*data.train, *data.test)})
    return Schedule(
        functools.partial(project.seconds_until, seconds_for_end(config.budget_seconds)),
        Work(len(folds), config.num_epochs, *tta_plan(config)),
        Rows(train, validation, len(data.test), images), 1 + config.use_ema + config.use_swa,
    )


def _trained_folds(project: Project) -> tuple[int, ...]:
    """The folds to score: all of them; within a time budget those that were trained."""
    folds = project.config.folds_to_train
    if not project.config.time_budget:
        return folds
    return by_main(lambda: tuple(fold for fold in folds if project.is_trained(fold)))


def scored_folds(project: Project) -> tuple[int, ...]:
    """The folds that make up the run's predictions: all of them; within a time budget those that were scored."""
    folds = project.config.folds_to_train
    if not project.config.time_budget:
        return folds
    return tuple(fold for fold in folds if all(file.exists() for file in _score_files(project, fold)))


def _ways_in_time(project: Project, bench: Bench, folds: Sequence[int]) -> Iterator[Config]:
    """The settings; within a time budget first with one way to read a row, so that every fold has scores, and then with as many
    option orders and image scales as there is time for."""
    if bench.schedule is None:
        yield project.config
        return
    plain = project.config.replace(use_tta=False)
    yield plain
    if len(bench.places) > 1:
        bench.schedule.pace = _pace_apart(project, bench.schedule.pace.look)
    bench.schedule.folds, bench.schedule.waiting = 0, math.ceil(len(folds) / len(bench.places))
    work = by_main(bench.schedule.plan)
    richer = project.config.replace(tta_orders=work.orders, tta_scales=work.scales)
    if folds and work.ways > 1 and tta_plan(richer) != tta_plan(plain):
        print(f"  there is time for more: {_ways_named(richer)}")
        yield richer


# %% folds at several places
def worked_apart(
    project: Project, bench: Bench, step: str, config: Config, folds: Sequence[int],
    share: Callable[[int], dict[str, int] | None] = lambda left: {},
) -> bool:
    """Whether there are several places for `folds`; then `step`, 'train' or 'score', was done for each of them there.

    Args:
        config: the settings of the step.
        share: of the time; as in Places.work.

    Raises:
        RunStopped, Interrupted: from a place's process; the other folds are saved when `bench.places` ends.
    """
    if min(len(bench.places), len(folds)) < 2:
        bench.places.close()  # of its GPU's memory this process needs all
        return False
    bench.share()
    bench.places.work(work_at_place, step, config, folds, share)
    return True


def _pace_apart(project: Project, look: float) -> Pace:
    """What a place's process measured last. Args: look: as this process has measured it."""
    measured = [Pace(event["learn"], event["read"], look) for event in project.log.events("pace")]
    return measured[-1] if measured else Pace(look=look)


def _share_of_time(project: Project, bench: Bench, trained: int, folds: int, left: int) -> dict[str, int] | None:
    """For the next fold: how many folds its place has still to train, with it, and how many rounds of scoring stand against
    them; None: there is no time for it.

    Args:
        trained: folds that were trained before; folds: that are to be trained; left: of these, those not begun.
    """
    if bench.schedule is None:
        return {}
    bench.schedule.pace = _pace_apart(project, bench.schedule.pace.look)
    places = len(bench.places)
    rounds = math.ceil(left / places)
    waiting = math.ceil((trained + folds) / places) - rounds
    first = not trained and folds - left < places
    return dict(folds=rounds, waiting=waiting) if _is_in_time(bench.schedule, rounds, waiting, first=first) else None


@contextlib.contextmanager
def _memory_told(config: Config) -> Iterator[None]:
    """Raises RunStopped where the GPU's memory is full."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise RunStopped(f"The GPU's memory is full. What is finished is kept. {less_memory(config)}") from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def work_at_place() -> None:
    """All that the process of a place does: what it loads for its first fold serves the others too."""
    bench_of = functools.cache(lambda project: Bench(project, plan_device(project.config)))

    def work(project: Project, job: Job) -> None:
        with _memory_told(project.config):
            with _silence():  # the main process has said it
                bench = bench_of(project)
                _ = bench.maker
            _work_on(project, bench, job)

    at_place(work)


def _work_on(project: Project, bench: Bench, job: Job) -> None:
    planned = bench.schedule if job.share else None
    if planned:
        planned.folds, planned.waiting = job.share["folds"], job.share["waiting"]
    if job.step == "train":
        _train_fold(project, bench, job.fold)
    else:
        _score_fold(project, bench, Config(**job.settings), job.fold)
    if planned:
        project.log.write("pace", **dataclasses.asdict(planned.pace))


# %% step 7: training
def train_folds(project: Project, bench: Bench, only: int | None = None) -> None:
    """Train every fold (or only one) that has no result yet, each from freshly initialised adapters: side by side where
    there are several GPUs, else one after the other. Call it within `bench.places`.

    Raises:
        TrainingError, NotSaved: a fold cannot go on; what is finished is kept.
        RunStopped, Interrupted: from a place's process.
    """
    folds = project.config.folds_to_train if only is None else (only,)
    todo = by_main(lambda: [fold for fold in folds if not project.is_trained(fold)])
    if todo:
        by_main(lambda: require_space(bench.disk_need, project.config))
        if min(len(bench.places), len(todo)) > 1:
            bench.places.begin(work_at_place, len(todo))  # so that they import torch and the rest meanwhile
        _ = bench.maker  # steps 5 and 6
    else:
        heading("rows", "not needed for training")
        heading("model", "every fold is trained")
    heading("training", f"folds {', '.join(map(str, folds))}")
    for fold in folds:
        if fold not in todo:
            by_main(_forget_progress, project, fold)
            facts = read_json(project.paths.fold(fold) / "result.json")
            print(f"  fold {fold}: already trained, accuracy {Accuracy(*facts['accuracy'])}")
    trained = len(folds) - len(todo)
    share = functools.partial(_share_of_time, project, bench, trained, len(todo))
    if not worked_apart(project, bench, "train", project.config, todo, share):
        _train_in_turn(project, bench, todo, trained)


def _train_in_turn(project: Project, bench: Bench, folds: Sequence[int], trained: int) -> None:
    """One fold after the other, those that there is time for. Args: trained: folds that are trained already."""
    for number, fold in enumerate(folds):
        if _is_in_time(bench.schedule, len(folds) - number, trained, first=not trained):
            _train_fold(project, bench, fold)
            trained += 1
        else:
            print(f"  fold {fold}: left out, there is not the time for it")


def _is_in_time(schedule: Schedule | None, folds: int, waiting: int, *, first: bool) -> bool:
    """Whether the next fold is to be trained: the first in any case, another where there is time for an epoch of it.

    Args:
        folds: that are left, with it. waiting: that are trained and wait for being scored.
    """
    if schedule is None:
        return True
    schedule.folds, schedule.waiting = folds, waiting
    work = by_main(schedule.plan)
    return first or work.epochs >= min(1, schedule.full.epochs)


def _train_fold(project: Project, bench: Bench, fold: int) -> None:
    train, validation = project.fold_rows(fold)
    maker = bench.maker
    trainer = FoldTrainer(
        project.config, bench.base, maker, train, validation, fold, project.paths.fold(fold), project.log, bench.memory,
        project.rows_key(fold), bench.schedule,
    )
    with _owning(project, fold):
        result = trainer.run()
        bench.restore_base(trainer.model)
        by_main(_keep_result, project, fold, validation, result)


def _keep_result(project: Project, fold: int, validation: list[Question], result: FoldResult) -> None:
    for name, found in result.variants.items():
        _variant_scores(validation, found.logprobs, {"run": project.config.run, "fold": fold, "variant": name}).save(
            project.paths.scores / f"fold{fold}-{name}.npz"
        )
    write_json(project.paths.fold(fold) / "result.json", _result_facts(result))
    project.steps.remember(f"train fold {fold}", project.weights_key(fold))
    _forget_progress(project, fold)
    lost = f" ({result.skipped} skipped, {result.rollbacks} rollbacks)" if result.skipped or result.rollbacks else ""
    print(
        f"  fold {fold}: accuracy {result.accuracy}, best epoch {result.best_epoch + 1}, {result.steps} steps{lost}, "
        f"{result.rows_per_second:.1f} rows/s"
    )


def _forget_progress(project: Project, fold: int) -> None:
    """A fold that is finished needs no resume points."""
    shutil.rmtree(project.paths.fold(fold) / RESUME, ignore_errors=True)


def _variant_scores(questions: list[Question], logprobs: list[np.ndarray], provenance: dict[str, Any]) -> Scores:
    table = np.full((len(questions), max(map(len, logprobs))), -np.inf)
    for i, values in enumerate(logprobs):
        table[i, : len(values)] = values
    return question_scores(questions, table, provenance)


def _result_facts(result: FoldResult) -> dict[str, Any]:
    return {
        "fold": result.fold, "best_epoch": result.best_epoch, "accuracy": [result.accuracy.right, result.accuracy.n],
        "variants": {k: [v.accuracy.right, v.accuracy.n] for k, v in result.variants.items()}, "steps": result.steps,
        "skipped": result.skipped, "rollbacks": result.rollbacks, "seconds": round(result.seconds, 1),
        "trained_parameters": result.trained_parameters,
    }


# %% step 8: scoring
def score_folds(project: Project, bench: Bench) -> None:
    """Out-of-fold and test Scores of every fold: side by side where there are several GPUs, else one after the other. Call it
    within `bench.places`.

    Raises:
        CheckpointError: a fold has no weights, or they are not whole.
        RunStopped, Interrupted: from a place's process.
    """
    folds = _trained_folds(project)
    heading("scoring", _ways_named(project.config))
    if unseen := sum(bool(project.data.records[q.image].problem) for q in project.data.test):
        print(f"  {unseen:,} test rows have no readable photograph: they are answered from their text alone (eda/problems.csv)")
    for config in _ways_in_time(project, bench, folds):
        _score_in(config, project, bench, folds)


def _ways_named(config: Config) -> str:
    orders, scales = tta_plan(config)
    sizes = ", ".join(f"{scale:g}" for scale in scales)
    return f"{orders} option order{'s' * (orders > 1)}, scale{'s' * (len(scales) > 1)} {sizes}"


def _score_in(config: Config, project: Project, bench: Bench, folds: Sequence[int]) -> None:
    """Args: config: with the ways to read in."""
    todo = [
        fold for fold in folds
        if not any(by_main(_is_scored, project, bench.plan, asked, fold) for asked in dict.fromkeys((project.config, config)))
    ]
    apart = worked_apart(project, bench, "score", config, todo)
    for fold in folds:
        if fold not in todo:
            print(f"  fold {fold}: already scored")
        elif not apart:
            _score_fold(project, bench, config, fold)
        if fold == folds[0]:
            by_main(_submit_single, project, fold)


def _score_files(project: Project, fold: int) -> list[Path]:
    return [project.paths.scores / f"fold{fold}-{split}.npz" for split in ("oof", "test")]


def _is_scored(project: Project, plan: DevicePlan, config: Config, fold: int) -> bool:
    """Whether there are scores of a fold, in all ways of `config`."""
    return project.steps.done(f"score fold {fold}", _score_key(project, plan, config, fold), _score_files(project, fold))


def _remember_scored(project: Project, plan: DevicePlan, config: Config, fold: int) -> None:
    project.steps.remember(f"score fold {fold}", _score_key(project, plan, config, fold))


def _score_key(project: Project, plan: DevicePlan, config: Config, fold: int) -> str:
    """Changes with everything the scores of a fold depend on. Raises CheckpointError for weights that are not whole."""
    folder = project.paths.fold(fold) / config.keep
    verified(folder)
    orders, scales = tta_plan(config)
    return settings_hash({
        "weights": [project.weights_key(fold), adapter_hash(folder)], "test": project.data.test_print, "orders": orders,
        "scales": scales, "answer_by": [config.answer_by, config.max_new_tokens],
        "precision": [str(plan.dtype), plan.four_bit],
    })


def _submit_single(project: Project, fold: int) -> None:
    scores = load_scores(_score_files(project, fold)[1])
    project.submit("single", scores.predictions(), f"fold {fold} of {project.config.run}")


def _score_fold(project: Project, bench: Bench, config: Config, fold: int) -> None:
    """Args: config: with the ways that there is time for."""
    maker, folder = bench.maker, project.paths.fold(fold) / config.keep
    bench.look_in_all_scales(config)
    model = load_trained(bench.base, folder)
    _, validation = project.fold_rows(fold)
    facts = {"run": config.run, "fold": fold, "adapter": adapter_hash(folder), "config": settings_hash(config.weight_settings())}
    names, rows = (("oof", "out of fold"), ("test", "test")), (validation, project.data.test)
    for (split, words), questions, file in zip(names, rows, _score_files(project, fold), strict=True):
        scores = score_questions(
            model, bench.base, maker, questions, config, facts | {"split": split}, title=f"fold {fold} {words}"
        )
        by_main(_keep_scores, project, scores, file)
    bench.restore_base(model)
    by_main(_remember_scored, project, bench.plan, config, fold)


def _keep_scores(project: Project, scores: Scores, file: Path) -> None:
    scores.save(file)
    project.log.write("scored", fold=scores.provenance["fold"], split=scores.provenance["split"], rows=len(scores.ids))


# %% step 9: ensemble
def run_member(project: Project) -> Member:
    """The folds of this run as one member: a row out of fold by its own fold's model, test rows by all of them."""
    return _folds_as_member(project.config.run, project.paths.scores, scored_folds(project))


def _folds_as_member(name: str, folder: Path, folds: Sequence[int]) -> Member:
    lacking = [f for f in folds if not (folder / f"fold{f}-test.npz").exists()]
    if lacking or not folds:
        raise RunStopped(f"The run {name!r} has no scores of fold {lacking or '0'} in {folder}: finish it first (mcvqa run).")
    oof, test = ([load_scores(folder / f"fold{f}-{split}.npz") for f in folds] for split in ("oof", "test"))
    return Member(name, joined(oof), tuple(test))


def other_member(project: Project, name: str) -> Member:
    """A member of the ensemble named in the settings: 'prior', a prediction file, or another run in this folder."""
    if name == "prior":
        scores = [load_scores(project.paths.scores / f"prior-{split}.npz") for split in ("oof", "test")]
        return Member("prior", scores[0], (scores[1],))
    if name.lower().endswith(".csv"):
        return read_predictions(name, project.data.test)
    folder = project.paths.experiment.parent / name / "scores"
    folds = sorted(int(f.stem.removeprefix("fold").removesuffix("-test")) for f in folder.glob("fold*-test.npz"))
    return _folds_as_member(name, folder, folds)


def require_members(project: Project) -> None:
    """Raises RunStopped, before any training, for members that will not be found after it."""
    for name in project.config.members:
        there = Path(name) if name.lower().endswith(".csv") else project.paths.experiment.parent / name / "scores"
        if name != "prior" and not there.exists():
            raise RunStopped(f"members: there is no {there}. Name 'prior', a prediction file (.csv) or a run in this folder.")
    names = [Path(name).stem for name in (project.config.run, *project.config.members)]
    if len(set(names)) < len(names):
        raise RunStopped(f"members: two have the same name ({', '.join(names)}). Rename a file.")


def combine(project: Project) -> Blend:
    """Combine the folds and the other members, and write the submission."""
    heading("ensemble", project.config.ensemble)
    members = [run_member(project), *(other_member(project, name) for name in project.config.members)]
    answers = {q.id: q.answer for q in project.data.train if q.answer is not None}
    blend = blend_members(members, answers, project.config.ensemble, seed=project.config.seed)
    names = ", ".join(f"{m.name} ({len(m.test)} folds)" if len(m.test) > 1 else m.name for m in members)
    print(f"  members: {names}\n  method: {blend.method}. {blend.reason}")
    print("\n".join(_accuracy_lines(blend)))
    project.log.write(
        "ensemble", method=blend.method, members=names, accuracies={k: [a.right, a.n] for k, a in blend.table.items()},
    )
    file = project.paths.outputs / "submission_ensemble.csv"
    own, blind = blend.table.get(blend.method), _blind_accuracy(project, blend.oof_ids.tolist(), answers)
    if own and own.value < blind.value:
        project.submit_prior()
        print(f"  {file} keeps what it had: out of fold this run has {own}, the text-only prior {blind}")
    else:
        print(f"  {file}: {project.submit('ensemble', blend.predictions, f'{blend.method} of {names}')}")
    return blend


def _blind_accuracy(project: Project, ids: Sequence[str], answers: dict[str, int]) -> Accuracy:
    """Of the text-only prior on some training rows."""
    guessed = dict(zip((q.id for q in project.data.train), project.prior_of_train().argmax(-1).tolist(), strict=True))
    return accuracy_of(np.array([guessed[i] for i in ids]), np.array([answers[i] for i in ids]))


def _accuracy_lines(blend: Blend) -> list[str]:
    """Of each member alone and of every method; with a single member all methods answer alike, so one line says it."""
    if len(blend.alone) < 2:
        return [f"  out of fold: {accuracy}" for accuracy in blend.alone.values()]
    named = {f"{name} alone": accuracy for name, accuracy in blend.alone.items()} | blend.table
    width = max(map(len, named))
    return [f"  {name:{width}} {accuracy}" for name, accuracy in named.items()]


# %% step 10: report
def technique_variants(project: Project, scores: Scores, answers: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Right or wrong (N,) with and without each technique, on the out-of-fold rows of `scores`."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    folder, folds = project.paths.scores, scored_folds(project)
    variants = {
        name: joined([load_scores(folder / f"fold{f}-{name}.npz") for f in folds]).predictions() == answers
        for name in ("raw", "ema", "swa") if all((folder / f"fold{f}-{name}.npz").exists() for f in folds)
    }
    found |= {name.upper(): (right, variants["raw"]) for name, right in variants.items() if name != "raw"}
    if len({load_scores(folder / f"fold{f}-oof.npz").scales.tobytes() for f in folds}) > 1:
        return found  # some folds were read in more ways than there was time for with the others
    scales = set(scores.scales.tolist())
    orders = len(scores.scales) // len(scales)
    # the plain question: the first order at the scale nearest to 1
    at_scale = scores.scales == scores.scales[np.abs(scores.scales - 1).argmin()]
    plain = scores.ways(np.arange(len(at_scale)) == at_scale.argmax()).predictions() == answers
    every_order, everything = scores.ways(at_scale).predictions() == answers, scores.predictions() == answers
    if orders > 1:
        found["TTA orders"] = (every_order, plain)
    if len(scales) > 1:
        found["TTA scales"] = (everything, every_order)
    if orders > 1 and len(scales) > 1:
        found["TTA"] = (everything, plain)
    return found


def write_results(project: Project, blend: Blend, plan: DevicePlan, started: float) -> Outcome:
    """Metrics, figures and the report of a scored run; the index of all runs."""
    heading("report")
    paths, data = project.paths, project.data
    scores = run_member(project).oof
    assert scores is not None
    place = {q.id: i for i, q in enumerate(data.train)}
    rows = [place[name] for name in scores.ids.tolist()]
    questions = [data.train[i] for i in rows]
    answers = np.array([-1 if q.answer is None else q.answer for q in questions])
    variants = technique_variants(project, scores, answers)
    if project.config.members:
        blended = dict(zip(blend.oof_ids.tolist(), blend.oof_predictions.tolist(), strict=True))
        if all(q.id in blended for q in questions):
            variants["ensemble"] = (np.array([blended[q.id] for q in questions]) == answers, scores.predictions() == answers)
    metrics = measure(
        questions, scores, project.folds[rows], prior=project.prior_of_train()[rows],
        temperature=blend.temperatures[project.config.run], variants=variants, test_size=len(data.test),
    )
    seconds = seconds_of(project) + time.time() - started
    record_experiment(paths.experiment, status="finished", seconds=seconds, metrics=metrics)
    figures = draw_figures(
        metrics, project.log, paths.experiment, lambda written: open_image(data.records[written].path or written)
    )
    advice = choose_advice(metrics, project.config.as_dict(), read_course(project.log), seconds)
    summary = paths.experiment / "eda" / "summary.txt"
    _, page = write_report(paths.experiment, ReportInput(
        run=project.config.run, config=project.config.as_dict(), metrics=metrics,
        methods=blend.table if len(blend.alone) > 1 else {},
        data_summary=summary.read_text(encoding="utf-8") if summary.exists() else "", method=blend.method,
        method_reason=blend.reason, figures=figures, submissions=_submissions(project), advice=advice,
        environment=environment(plan), seconds=seconds,
    ))
    index = update_index(paths.experiment.parent)
    accuracy = metrics.overall.accuracy
    project.log.write(
        "result", accuracy=accuracy.value, standard_error=accuracy.standard_error, n=accuracy.n, seconds=round(seconds, 1),
        gains={name: gain.value for name, gain in metrics.gains.items()},
    )
    submission = paths.outputs / "submission_ensemble.csv"
    print(f"  accuracy out of fold: {accuracy}; blind: {metrics.overall.blind}")
    for name, gain in metrics.gains.items():
        print(f"  {name:12} {gain}")
    print(f"\nsubmission  {submission}\naccuracies  {paths.experiment / 'REPORT.md'}\nreport      {page}\nall runs    {index}")
    return Outcome(project.config.run, accuracy, submission, page, metrics, advice)


def _submissions(project: Project) -> dict[str, SubmissionReport]:
    files = sorted(project.paths.outputs.glob("submission_*.csv"))
    return {str(f): validate_submission(f, project.data.test, project.data.files.sample_submission) for f in files}


def environment(plan: DevicePlan) -> dict[str, str]:
    """Versions, commit and device: the provenance of a result."""
    packages = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "numpy", "scikit-learn", "pillow")
    found = {"python": platform.python_version(), "system": platform.platform(), "mcvqa": _version_of("mcvqa")}
    found |= {name: _version_of(name) for name in packages}
    return found | {"commit": code_commit(), "device": plan.reasons[0].split(":")[0].removeprefix("device ")}


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def code_commit() -> str:
    """Of the checkout that the package is run from; 'unknown' without one."""
    spec = find_spec("mcvqa")
    if spec is None or not spec.submodule_search_locations:
        return "unknown"
    command = ["git", "-C", next(iter(spec.submodule_search_locations)), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


# %% single steps, for the command line
def train_only(config: Config, fold: int | None = None) -> None:
    """Steps 1 to 7. Args: fold: only this one."""
    join_processes(config)
    by_main(_require_fold, config, fold)
    with _on_record(config) as project:
        project = by_main(_ready_to_train, project)
        bench = Bench(project, by_each(plan_device, config))
        with bench.places:
            train_folds(project, bench, fold)


def _require_fold(config: Config, fold: int | None) -> None:
    if fold is not None and fold not in config.folds_to_train:
        raise RunStopped(f"There is no fold {fold}: the settings have folds {', '.join(map(str, config.folds_to_train))}.")


def _ready_to_train(project: Project) -> Project:
    project.settle()
    project.settle_data()
    project.submit_prior()
    project.require_photographs()
    return _with_folds(project)


def _with_folds(project: Project) -> Project:
    """`project` with its data and its folds made, as the other processes receive it: they write nothing."""
    _ = project.folds
    return project


def predict_only(config: Config) -> None:
    """Step 8, for trained folds."""
    with _on_record(config) as project:
        by_main(project.settle)
        by_main(project.settle_data)
        project = by_main(_with_folds, project)
        bench = Bench(project, by_each(plan_device, config))
        with bench.places:
            score_folds(project, bench)


def combine_only(config: Config) -> None:
    """Step 9, for scored folds."""
    with _owned(config) as project:
        combine(project)


def report_only(config: Config) -> None:
    """Steps 9 and 10, for scored folds."""
    started = time.time()
    with _owned(config) as project:
        write_results(project, combine(project), plan_device(config), started)


@contextlib.contextmanager
def _owned(config: Config) -> Iterator[Project]:
    """A project whose settings, data and members are those of its run."""
    project = Project(config)
    with _owning(project):
        take_over(project)
        project.settle()
        project.settle_data()
        require_members(project)
        yield project
