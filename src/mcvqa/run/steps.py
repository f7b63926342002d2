"""run(config): the ten steps from CSV files and photographs to a validated submission.

What is done already, for the same settings, rows and weights, is skipped and said to be.
"""
import math
import platform
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from mcvqa.base.budget import (
    EDA_SHARE,
    Alarm,
    Schedule,
    TimeUp,
    seconds_for_end,
    seconds_to_spare,
    spell_duration,
    time_is_up,
    validation_samples,
)
from mcvqa.config import Config, settings_hash
from mcvqa.data.prior import Prior
from mcvqa.model.device import DevicePlan, plan_device
from mcvqa.model.distributed import by_each, by_main
from mcvqa.run.dataset import (
    RunData,
    explore_files,
    fit_text_prior,
    fold_summary,
    read_run_data,
    require_photographs,
    split_rows,
    write_folds,
)
from mcvqa.run.execution import (
    Execution,
    allot_training,
    launched_workers,
    make_first_features,
    prepare_model,
    take_over_pace,
)
from mcvqa.run.project import Project, RunStopped, heading, settle_prompt, settle_settings
from mcvqa.run.results import Outcome, combine, device_named, require_members, write_results
from mcvqa.run.score import is_scored, require_weights, scored_folds, splits_of, valid_scores
from mcvqa.run.session import on_record
from mcvqa.run.submissions import ENSEMBLE_FILE, SINGLE_FILE, Answers, submit_prior, submitted_in, write_answers
from mcvqa.run.tasks import CODE_OF_SCORING, Task, code_print
from mcvqa.run.train import forget_progress, require_untouched_0_1, result_of, train_task
from mcvqa.scoring.orders import tta_plan


# %% the ten steps
def run(config: Config) -> Outcome:
    """Everything, from the data to the submission.

    Args:
        config: every setting of the run.

    Returns:
        Where the submission and the report are, and how accurate the submission is.

    Raises:
        ConfigError, DataError, RunStopped, DeviceError, ModelError, TrainingError, NotSaved, Owned: written for people; what was
            reached so far stays on disk and the same call goes on from there.
        Interrupted: after SIGTERM or SIGINT, a KeyboardInterrupt; the same call goes on from there too.
    """
    with on_record(config) as project:
        return _all_steps(project)


def _all_steps(project: Project) -> Outcome:
    started = time.time()
    plan = set_up(project)
    data, prior, schedule = None, None, None
    try:
        with Alarm(by_main(project.seconds_until, seconds_for_end(project.config.budget_seconds))):
            by_main(settle_config, project)
            with launched_workers(project, plan) as launched:
                data, prior = by_main(explore_data, project)
                project = by_main(settle_prompt, project, data.train)
                data = by_main(make_folds, project, data, prior)
                by_main(prepare_rows, project, data)
                with prepare_model(project, data, plan, launched) as execution:
                    schedule = execution.schedule
                    train_folds(execution)
                    score_folds(execution)
    except TimeUp:
        print(f"\n  the time budget of {project.config.time_budget} is over: what is there is handed in")
    return by_main(_finished, project, data, prior, plan, schedule, started)


def set_up(project: Project) -> DevicePlan:
    """Step 1: what to compute on."""
    heading("set-up", f"Python {platform.python_version()}, torch {torch.__version__}")
    plan = by_each(plan_device, project.config)
    print("\n".join(f"  {reason}" for reason in plan.reasons))
    return plan


def settle_config(project: Project) -> None:
    """Step 2: the settings, which must be those that the run was trained with."""
    heading("config", f"run {project.config.run}")
    settle_settings(project)
    require_members(project)


def _finished(
    project: Project, data: RunData | None, prior: Prior | None, plan: DevicePlan, schedule: Schedule | None, started: float
) -> Outcome:
    """Steps 9 and 10, in what is left of the time."""
    held = f"{project.paths.outputs / ENSEMBLE_FILE} holds what it held, at first the text-only prior's answers; "
    nothing = (
        f"Within the time budget of {project.config.time_budget} no fold was trained and scored{_why_nothing(schedule)}. "
        f"{held if data is None or data.test else ''}the same command goes on from here. "
        "For more speed: a smaller image_size, use_sample=true, a GPU."
    )
    if data is None or prior is None or not len(data.folds) or not scored_folds(project, data):
        raise RunStopped(nothing)
    try:
        with Alarm(project.seconds_until(seconds_to_spare(project.config.budget_seconds))):
            combined = combine(project, data, prior)
            return write_results(project, data, prior, combined, device_named(plan), started)
    except TimeUp:
        valid = f"{project.paths.outputs / ENSEMBLE_FILE} is valid; " if data.test else ""
        raise RunStopped(
            f"The time budget of {project.config.time_budget} is over in the middle of the ensemble or the report. "
            f"{valid}mcvqa report {project.config.run} makes the rest."
        ) from None


def _why_nothing(schedule: Schedule | None) -> str:
    """How long the least that is worth handing in takes, as far as that was measured."""
    if schedule is None:
        return ": it was over before the model was loaded"
    if seconds := schedule.seconds_to_read(schedule.rows.test):
        return f": reading the {schedule.rows.test:,} test rows alone takes about {spell_duration(seconds)}"
    if look := schedule.pace.look:
        return f": a photograph takes {look:.2g} s, and no row was read before it was over"
    return ": it was over before image features of the test rows were there"


# %% step 3: data and EDA
def explore_data(project: Project) -> tuple[RunData, Prior]:
    """Step 3: the data, tables and figures of them, the text-only prior, and its answers as the first valid submission."""
    heading("data and EDA", str(project.config.data_dir))
    data = read_run_data(project)
    prior = fit_text_prior(project, data)
    report, blind = submit_prior(project, data, prior), prior.accuracy
    project.log.write("prior", accuracy=blind.value, standard_error=blind.standard_error, n=blind.n)
    _explore_in_time(project, data, prior)
    if report is not None:
        measured = f", accuracy {blind} out of fold" if blind.n else ""
        print(f"  first submission: the text-only prior's, {report.rows} rows{measured}")
    return data, prior


def _explore_in_time(project: Project, data: RunData, prior: Prior) -> None:
    """Tables and figures of the data, where that was not done before; of a time budget they take a small share at most."""
    task = Task("eda", "eda", settings_hash({"train": data.train_print, "test": data.test_print}), (
        f"experiments/{project.config.run}/eda/summary.txt",
    ))
    if project.records.is_done(task):
        print(f"  already done: {project.paths.experiment / 'eda'}")
        return
    try:
        with Alarm(EDA_SHARE * project.config.budget_seconds):
            summary = explore_files(project, data, prior).summary()
    except TimeUp:
        if time_is_up():
            raise
        print(f"  no tables and figures: they take more than {EDA_SHARE:.0%} of the time budget (mcvqa eda makes them)")
        return
    print(summary)
    project.records.finish(task)


# %% step 4: folds
def make_folds(project: Project, data: RunData, prior: Prior) -> RunData:
    """Step 4: which rows are validation in which fold."""
    require_photographs(project, data, meanwhile(project, prior) if data.test else "")
    heading("folds", f"{project.config.n_folds} folds" if project.config.use_kfold else "one stratified split")
    data = split_rows(data, project.config)
    write_folds(project, data)
    print(fold_summary(data, project.config.n_folds))
    folds, counts = np.unique(data.folds, return_counts=True)
    project.log.write("folds", rows=dict(zip(map(str, folds.tolist()), counts.tolist(), strict=True)))
    return data


def meanwhile(project: Project, prior: Prior) -> str:
    path = project.paths.outputs / ENSEMBLE_FILE
    held = submitted_in(path)
    if held is None or held.source != "prior":
        return ""
    measured = f" (accuracy {prior.accuracy} out of fold)" if prior.accuracy.n else ""
    return f"Until then {path} holds the answers of the text-only prior{measured}."


# %% step 5: rows
def prepare_rows(project: Project, data: RunData) -> None:
    """Step 5: how many rows there are to learn from and to answer."""
    orders, scales = tta_plan(project.config)
    ways = f"{orders * len(scales)} way{'s' if orders * len(scales) > 1 else ''}"
    heading("rows", f"{data.used:,} to learn from, {len(data.test):,} to answer in {ways}")
    if left_out := len(data.train) - data.used:
        print(f"  {left_out:,} training rows are left out: their photographs cannot be read")
    if unseen := sum(bool(data.records[q.image].problem) for q in data.test):
        print(f"  {unseen:,} test rows have no readable photograph: they are answered from their text alone (eda/problems.csv)")


# %% step 7: training
def train_folds(execution: Execution, only: int | None = None) -> None:
    """Train every fold (or only one) that has no result yet, each from freshly initialised adapters.

    Where there are several workers, one that is free already scores folds that are trained.

    Raises:
        TrainingError, NotSaved: a fold cannot go on; what is finished is kept.
        RunStopped, Interrupted: from a worker's process.
    """
    project, data = execution.project, execution.data
    folds = project.config.folds_to_train if only is None else (only,)
    heading("training", f"folds {', '.join(map(str, folds))}")
    done = execution.trained
    for fold in folds:
        if fold in done:
            by_main(forget_progress, project, fold)
            print(f"  fold {fold}: already trained, accuracy {by_main(result_of, project, fold)}{_by_0_1(project, fold)}")
    todo = [fold for fold in folds if fold not in done]
    for fold in todo:
        by_main(require_untouched_0_1, project, train_task(project, data, fold))
    if not todo:
        return
    make_first_features(execution)
    tasks, goals = execution.training(), [f"train fold {fold}" for fold in todo]
    if only is None and execution.schedule is None:
        tasks = [*tasks, *execution.scoring(project.config)]
    elif only is None:
        tasks = execution.first_answers()
        if not by_main(_is_scored_somehow, project, data, folds[0]):
            goals = [task.name for task in tasks if task.name in goals or f"train fold {folds[0]}" in task.needs]
    execution.run(tasks, goals, allot_training(execution, len(done), todo))


def _is_scored_somehow(project: Project, data: RunData, fold: int) -> bool:
    """Whether a fold has scores, in as many ways as the settings ask for or, for want of time, in one."""
    ways, samples = (project.config, project.config.replace(use_tta=False)), (0, *validation_samples())
    return any(is_scored(project, data, config, fold, sample) for config in ways for sample in samples)


def _by_0_1(project: Project, fold: int) -> str:
    return " (made by 0.1, unverified)" if project.records.is_of_0_1(f"train fold {fold}") else ""


# %% step 8: scoring
def score_folds(execution: Execution) -> None:
    """Test and out-of-fold scores of every trained fold.

    Raises:
        CheckpointError: a fold has no weights, or they are not whole.
        RunStopped, Interrupted: from a worker's process.
    """
    project = execution.project
    heading("scoring", ways_named(project.config))
    folds = execution.trained if project.config.time_budget else project.config.folds_to_train
    by_main(require_weights, project, folds)
    by_main(_require_trained, execution, folds)
    for config, sample in _ways_in_time(execution, folds):
        _score_in(execution, config, sample, folds)


def _require_trained(execution: Execution, folds: Sequence[int]) -> None:
    """Raises RunStopped where weights are there that were not made with these settings, rows and code."""
    if other := [fold for fold in folds if fold not in execution.trained]:
        raise RunStopped(
            f"The weights of fold {', '.join(map(str, other))} in {execution.project.paths.checkpoints} were not made with these "
            "settings, rows and code, or were not finished: train first (mcvqa train)."
        )


def ways_named(config: Config) -> str:
    orders, scales = tta_plan(config)
    sizes = ", ".join(f"{scale:g}" for scale in scales)
    return f"{orders} option order{'s' * (orders > 1)}, scale{'s' * (len(scales) > 1)} {sizes}"


def _score_in(execution: Execution, config: Config, sample: int, folds: Sequence[int]) -> None:
    """Score what is not scored so, or better.

    Args:
        config: with the ways to read in.
        sample: how many validation rows of a fold are read; 0: all.
    """
    project, data = execution.project, execution.data
    more = [size for size in validation_samples() if size > sample > 0]
    asked = dict.fromkeys([(project.config, 0), (config, 0), *((config, size) for size in (*more, sample))])
    done = by_main(lambda: [fold for fold in folds if any(is_scored(project, data, c, fold, n) for c, n in asked)])
    for fold in done:
        print(f"  fold {fold}: already scored")
    todo = [fold for fold in folds if fold not in done]
    if any(_was_scored_by_other_code(project, fold) for fold in todo):
        print("  the code was changed since: the folds are scored again")
    goals = [f"score fold {fold} {split}" for fold in todo for split in splits_of(data)]
    if goals:
        execution.run([*execution.training(), *execution.scoring(config, sample)], goals)
    if folds and data.test:
        by_main(_submit_single, project, data, folds[0])


def _was_scored_by_other_code(project: Project, fold: int) -> bool:
    return project.records.read(f"score fold {fold} oof").get("code", code_print(CODE_OF_SCORING)) != code_print(CODE_OF_SCORING)


def _submit_single(project: Project, data: RunData, fold: int) -> None:
    """outputs/submission_single.csv: the answers of the first fold alone."""
    oof, test = valid_scores(project, data, fold)
    truth = {q.id: q.answer for q in data.train}
    known = np.array([truth.get(name) is not None for name in oof.ids.tolist()], dtype=bool)
    right = oof.predictions() == np.array([-1 if truth.get(name) is None else truth[name] for name in oof.ids.tolist()])
    answers = Answers(f"fold {fold} of {project.config.run}", test.predictions(), oof.ids[known], right[known])
    write_answers(project, data, answers, project.paths.outputs / SINGLE_FILE)


def _ways_in_time(execution: Execution, folds: Sequence[int]) -> Iterator[tuple[Config, int]]:
    """The settings, and how many validation rows of a fold are read (0: all).

    Within a time budget first one way to read a row and a sample of the validation rows, so that every fold has scores; then all
    of these rows, and then as many option orders and image scales as there is time for.
    """
    config, schedule = execution.project.config, execution.schedule
    if schedule is None:
        yield config, 0
        return
    plain, validation = config.replace(use_tta=False), schedule.rows.validation
    rounds = math.ceil(len(folds) / len(execution.workers))
    schedule.folds, schedule.waiting = 0, rounds
    by_main(schedule.announce)
    sample = by_main(schedule.sample_in_time)
    yield plain, sample
    take_over_pace(execution)
    if validation > sample and folds and by_main(schedule.has_time_for, rounds * validation, execution.unseen):
        print(f"  there is time for all {validation:,} validation rows of a fold")
        yield plain, 0
    work = by_main(schedule.plan)
    richer = config.replace(tta_orders=work.orders, tta_scales=work.scales)
    if folds and work.ways > 1 and tta_plan(richer) != tta_plan(plain):
        print(f"  there is time for more: {ways_named(richer)}")
        yield richer, schedule.sample
