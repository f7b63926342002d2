"""Runs the ten steps from CSV files and photographs to a validated submission: run(config).

Work that is already done for the same settings, rows and weights is reported and skipped.
"""
import math
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

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
from mcvqa.base.informing import counted
from mcvqa.config import Config
from mcvqa.data.prior import Prior
from mcvqa.model.content import require_model_folder
from mcvqa.model.device import DevicePlan, plan_device
from mcvqa.model.distributed import by_each, by_main
from mcvqa.run.dataset import RunData, fit_text_prior, read_run_data, require_photographs, restore_records
from mcvqa.run.execution import (
    Execution,
    allot_training,
    launched_workers,
    make_first_features,
    prepare_model,
    update_pace,
)
from mcvqa.run.exploration import exploration_task, explore_files
from mcvqa.run.folds import fold_summary, split_rows, write_folds
from mcvqa.run.project import Project, RunStopped, heading, settle_prompt, settle_settings
from mcvqa.run.provenance import device_named
from mcvqa.run.results import Outcome, combine, require_members, require_members_fit, write_results
from mcvqa.run.score import is_scored, require_weights, scored_folds, splits_of, valid_scores
from mcvqa.run.session import run_session
from mcvqa.run.submissions import ENSEMBLE_FILE, SINGLE_FILE, Answers, read_submitted, submit_prior, write_answers
from mcvqa.run.tasks import CODE_OF_SCORING, Task, code_print
from mcvqa.run.train import forget_progress, require_untouched_0_1, result_of, train_task
from mcvqa.scoring.orders import tta_plan


# %% the ten steps
def run(config: Config, metrics: Mapping[str, Any] | None = None, augment: Any = None) -> Outcome:
    """Run all ten steps, from the data to the submission.

    Args:
        config: all settings of the run.
        metrics: own metrics, name -> function; see `mcvqa.report.own_metrics`.
        augment: own augmentation of training rows; see `mcvqa.model.augment`.

    Returns:
        Paths of the submission and the report, and the accuracy of the submission.

    Raises:
        ConfigError, DataError, RunStopped, DeviceError, ModelError, TrainingError, NotSaved, Owned: with a message for the
            user; finished work stays on disk and the same call continues from there.
        Interrupted: after SIGTERM or SIGINT, a KeyboardInterrupt; the same call continues from there too.
    """
    with run_session(config, metrics=metrics or {}, augment=augment) as project:
        if config.report_to:
            from mcvqa.run.trackers import tracked

            with tracked(project):
                return _all_steps(project)
        return _all_steps(project)


def _all_steps(project: Project) -> Outcome:
    started = time.monotonic()
    plan = set_up(project)
    data, prior, schedule = None, None, None
    try:
        with Alarm(by_main(project.seconds_until, seconds_for_end(project.config.budget_seconds))):
            by_main(settle_config, project)
            with launched_workers(project, plan) as launched:
                data, prior = by_main(explore_data, project)
                by_main(require_members_fit, project, data)
                project = by_main(settle_prompt, project, data.train)
                data = by_main(make_folds, project, data, prior)
                by_main(prepare_rows, project, data)
                with prepare_model(project, data, plan, launched) as execution:
                    schedule = execution.schedule
                    train_folds(execution)
                    score_folds(execution)
                    if project.config.final_fit:
                        from mcvqa.run.final_fit import fit_finally

                        fit_finally(execution)
                if project.config.n_seeds > 1:
                    from mcvqa.run.other_seeds import train_seeds

                    train_seeds(project, data, prior, plan)
    except TimeUp:
        print(f"\n  the time budget of {project.config.time_budget} is used up; the submission is written from the finished work")
    return by_main(_finished, project, data, prior, plan, schedule, started)


def set_up(project: Project) -> DevicePlan:
    """Step 1: choose the device and precision."""
    heading("set-up", f"Python {platform.python_version()}, torch {torch.__version__}")
    plan = by_each(plan_device, project.config)
    print("\n".join(f"  {reason}" for reason in plan.reasons))
    return plan


def settle_config(project: Project) -> None:
    """Step 2: check that the settings are those that the run was trained with."""
    heading("config", f"run {project.config.run}")
    settle_settings(project)
    if not project.paths.checkpoints.exists():  # a trained run needs its model no longer
        require_model_folder(project.config)
    require_members(project)


def _finished(
    project: Project, data: RunData | None, prior: Prior | None, plan: DevicePlan, schedule: Schedule | None, started: float
) -> Outcome:
    """Run steps 9 and 10 in the remaining time."""
    if data is None or prior is None or not len(data.folds) or not scored_folds(project, data):
        handed_in = ""
        if Task.__module__ != "__main__":  # the notebook scores all test rows at once
            from mcvqa.run.unfinished import hand_in_parts, spell_content

            handed_in = hand_in_parts(project, data, prior) or spell_content(project.paths.outputs / ENSEMBLE_FILE)
        raise RunStopped(
            f"Within the time budget of {project.config.time_budget} no fold was trained and scored{_why_no_scores(schedule)}. "
            f"{handed_in if data is None or data.test else ''}Run the same command again to continue. To speed it up: a "
            "smaller image_size, use_sample=true, a GPU."
        )
    try:
        with Alarm(project.seconds_until(seconds_to_spare(project.config.budget_seconds))):
            combined = combine(project, data, prior)
            return write_results(project, data, prior, combined, device_named(plan), started)
    except TimeUp:
        valid = f"{project.paths.outputs / ENSEMBLE_FILE} is valid; " if data.test else ""
        raise RunStopped(
            f"The time budget of {project.config.time_budget} ended during the ensemble or the report. "
            f"{valid}mcvqa report {project.config.run} finishes it."
        ) from None


def _why_no_scores(schedule: Schedule | None) -> str:
    """Say how long the minimum work for a submission takes, as far as it was measured."""
    if schedule is None:
        return ": it ended before the model was loaded"
    if seconds := schedule.seconds_to_read(schedule.rows.test):
        return f": scoring {counted(schedule.rows.test, 'test row')} alone takes about {spell_duration(seconds)}"
    if seconds := schedule.pace.encode:
        return f": encoding a photograph takes {seconds:.2g} s, and no row was scored before it ended"
    return ": it ended before the photographs of the test rows were encoded"


# %% step 3: data and EDA
def explore_data(project: Project) -> tuple[RunData, Prior]:
    """Step 3: read and explore the data, fit the text-only prior and submit its answers as the first valid submission."""
    heading("data and EDA", str(project.config.data_dir))
    data = read_run_data(project)
    prior = fit_text_prior(project, data)
    report, accuracy = submit_prior(project, data, prior), prior.accuracy
    project.log.write("prior", accuracy=accuracy.value, standard_error=accuracy.standard_error, n=accuracy.n)
    _explore_in_time(project, data, prior)
    if report is not None:
        measured = f", accuracy {accuracy} out of fold" if accuracy.n else ""
        print(f"  first submission: the text-only prior's, {counted(report.rows, 'row')}{measured}")
    return data, prior


def _explore_in_time(project: Project, data: RunData, prior: Prior) -> None:
    """Make tables and figures of the data unless they exist, in a small share of a time budget."""
    if project.records.is_done(exploration_task(project, data)):
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


# %% step 4: folds
def make_folds(project: Project, data: RunData, prior: Prior) -> RunData:
    """Step 4: assign rows to folds."""
    require_photographs(project, data, prior_note(project, prior) if data.test else "")
    heading("folds", f"{project.config.n_folds} folds" if project.config.use_kfold else "one stratified split")
    data = split_rows(data, project.config)
    write_folds(project, data)
    print(fold_summary(data, project.config.n_folds))
    folds, counts = np.unique(data.folds, return_counts=True)
    project.log.write("folds", rows=dict(zip(map(str, folds.tolist()), counts.tolist(), strict=True)))
    return data


def prior_note(project: Project, prior: Prior) -> str:
    """Make a sentence that names the prior's submission; '' if there is none."""
    path = project.paths.outputs / ENSEMBLE_FILE
    current = read_submitted(path)
    if current is None or current.source != "prior":
        return ""
    measured = f" (accuracy {prior.accuracy} out of fold)" if prior.accuracy.n else ""
    return f"Until then {path} holds the answers of the text-only prior{measured}."


# %% step 5: rows
def describe_views(config: Config) -> str:
    """Describe the views: '2 option orders, scales 1, 1.25'."""
    orders, scales = tta_plan(config)
    sizes = ", ".join(f"{scale:g}" for scale in scales)
    return f"{counted(orders, 'option order')}, scale{'s' * (len(scales) > 1)} {sizes}"


def prepare_rows(project: Project, data: RunData) -> None:
    """Step 5: report how many rows are trained on and answered."""
    heading("rows", f"{data.used:,} to learn from, {len(data.test):,} to answer in {describe_views(project.config)}")
    if left_out := len(data.train) - data.used:
        print(f"  {counted(left_out, 'training row is', 'training rows are')} left out: no readable photograph")
    if unreadable := sum(bool(data.records[q.image].problem) for q in data.test):
        rows = counted(unreadable, "test row has", "test rows have")
        print(f"  {rows} no readable photograph: answered from the text alone (eda/problems.csv)")


# %% step 7: training
def train_folds(execution: Execution, only: int | None = None) -> None:
    """Train all folds without a result, each from freshly initialised adapters.

    With several workers, a free one already scores trained folds.

    Args:
        execution: tasks and workers of the session.
        only: the only fold to train; None: all.

    Raises:
        TrainingError, NotSaved: a fold cannot continue; finished work is kept.
        RunStopped, Interrupted: from a worker's process.
    """
    project, data = execution.project, execution.data
    folds = project.config.folds_to_train if only is None else (only,)
    heading("training", f"folds {', '.join(map(str, folds))}")
    done = execution.trained
    for fold in folds:
        if fold in done:
            by_main(forget_progress, project, fold)
            print(f"  fold {fold}: already trained, accuracy {by_main(result_of, project, fold)}{_origin_note(project, fold)}")
    todo = [fold for fold in folds if fold not in done]
    for fold in todo:
        by_main(require_untouched_0_1, project, train_task(project, data, fold))
    if Task.__module__ != "__main__":  # in a notebook an edited cell trains again
        from mcvqa.run.replaceable import require_replaceable

        for fold in project.config.folds_to_train:
            if fold not in done:
                by_main(require_replaceable, project, train_task(project, data, fold))
    by_main(restore_records, project, data)
    if not todo:
        return
    make_first_features(execution)
    tasks, goals = execution.training(), [f"train fold {fold}" for fold in todo]
    if only is None and execution.schedule is None and project.config.average != "auto":
        tasks = [*tasks, *execution.scoring(project.config)]
    elif execution.schedule and only is None:
        tasks = execution.first_answers()
        if not by_main(_has_scores, project, data, folds[0]):
            goals = [task.name for task in tasks if task.name in goals or f"train fold {folds[0]}" in task.needs]
    execution.run(tasks, goals, allot_training(execution, len(done), todo))


def _has_scores(project: Project, data: RunData, fold: int) -> bool:
    """Return whether a fold has scores, with or without TTA, on all or on a sample of the validation rows."""
    configs, samples = (project.config, project.config.replace(use_tta=False)), (0, *validation_samples())
    return any(is_scored(project, data, config, fold, sample) for config in configs for sample in samples)


def _origin_note(project: Project, fold: int) -> str:
    return " (made by 0.1, unverified)" if project.records.is_of_0_1(f"train fold {fold}") else ""


# %% step 8: scoring
def score_folds(execution: Execution) -> None:
    """Score the test rows and the validation rows of every trained fold.

    Args:
        execution: tasks and workers of the session.

    Raises:
        CheckpointError: a fold has no weights, or they are damaged.
        RunStopped, Interrupted: from a worker's process.
    """
    project = execution.project
    heading("scoring", describe_views(project.config))
    folds = execution.trained if project.config.time_budget else project.config.folds_to_train
    by_main(require_weights, project, folds)
    by_main(_require_trained, execution, folds)
    if project.config.average == "auto":
        from mcvqa.run.averages import settle_average

        by_main(settle_average, project, execution.data)
    for config, sample in _scoring_rounds(execution, folds):
        _score_round(execution, config, sample, folds)
    if project.config.evidence == "full":
        from mcvqa.run.learned import score_learned

        score_learned(execution)


def _require_trained(execution: Execution, folds: Sequence[int]) -> None:
    """Check that all weights are from these settings, rows and code.

    Raises:
        RunStopped: they are not.
    """
    if outdated := [fold for fold in folds if fold not in execution.trained]:
        raise RunStopped(
            f"The weights of fold {', '.join(map(str, outdated))} in {execution.project.paths.checkpoints} are unfinished or "
            "belong to other settings, rows or code: train first (mcvqa train)."
        )


def _score_round(execution: Execution, config: Config, sample: int, folds: Sequence[int]) -> None:
    """Score the folds without equal or better scores.

    Args:
        config: with the option orders and scales of this round.
        sample: number of validation rows per fold; 0: all.
        folds: the trained folds.
    """
    project, data = execution.project, execution.data
    larger = [size for size in validation_samples() if size > sample > 0]
    sufficient = dict.fromkeys([(project.config, 0), (config, 0), *((config, size) for size in (*larger, sample))])
    done = by_main(lambda: [fold for fold in folds if any(is_scored(project, data, c, fold, n) for c, n in sufficient)])
    for fold in done:
        print(f"  fold {fold}: already scored")
    todo = [fold for fold in folds if fold not in done]
    if any(_was_scored_by_other_code(project, fold) for fold in todo):
        print("  the code has changed since: the folds are scored again")
    goals = [f"score fold {fold} {split}" for fold in todo for split in splits_of(data)]
    if goals:
        execution.run([*execution.training(), *execution.scoring(config, sample)], goals)
    if folds and data.test:
        by_main(_submit_single, project, data, folds[0])


def _was_scored_by_other_code(project: Project, fold: int) -> bool:
    return project.records.read(f"score fold {fold} oof").get("code", code_print(CODE_OF_SCORING)) != code_print(CODE_OF_SCORING)


def _submit_single(project: Project, data: RunData, fold: int) -> None:
    """Write outputs/submission_single.csv, the answers of the first fold alone."""
    oof, test = valid_scores(project, data, fold)
    truth = {q.id: q.answer for q in data.train}
    known = np.array([truth.get(name) is not None for name in oof.ids.tolist()], dtype=bool)
    right = oof.predictions() == np.array([-1 if truth.get(name) is None else truth[name] for name in oof.ids.tolist()])
    source, reason = f"fold {fold} of {project.config.run}", result_of(project, fold).not_measured
    answers = Answers(source, test.predictions(), oof.ids[known], right[known], reason)
    write_answers(project, data, answers, project.paths.outputs / SINGLE_FILE)


def _scoring_rounds(execution: Execution, folds: Sequence[int]) -> Iterator[tuple[Config, int]]:
    """Yield the settings and the number of validation rows per fold (0: all) of each scoring round.

    Within a time budget, first a single view and a sample of the validation rows, so that every fold has scores; then all
    validation rows; then as many option orders and image scales as there is time for.
    """
    config, schedule = execution.project.config, execution.schedule
    if schedule is None:
        yield config, 0
        return
    single_view, validation = config.replace(use_tta=False), schedule.rows.validation
    rounds = math.ceil(len(folds) / len(execution.workers))
    schedule.folds, schedule.waiting = 0, rounds
    by_main(schedule.announce)
    sample = by_main(schedule.sample_in_time)
    yield single_view, sample
    update_pace(execution)
    if validation > sample and folds and by_main(schedule.has_time_for, rounds * validation, execution.unencoded):
        print(f"  there is time for all {counted(validation, 'validation row')} of a fold")
        yield single_view, 0
    work = by_main(schedule.plan)
    extended = config.replace(tta_orders=work.orders, tta_scales=work.scales)
    if folds and work.row_cost > 1 and tta_plan(extended) != tta_plan(single_view):
        print(f"  there is time for more: {describe_views(extended)}")
        yield extended, schedule.sample
