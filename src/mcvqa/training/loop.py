"""Trains one fold: validates after every epoch, and keeps the best and the last weights."""
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from accelerate import PartialState
from torch import nn

from mcvqa.base.budget import TimeUp, time_is_up
from mcvqa.base.interrupt import Interrupted, StopRequest
from mcvqa.base.uncertainty import Accuracy
from mcvqa.data.questions import Question
from mcvqa.model.batches import Batches
from mcvqa.model.device import set_seeds
from mcvqa.model.distributed import is_main_process, progress
from mcvqa.model.memory import free_memory
from mcvqa.model.rows import TrainingRows, epoch_windows
from mcvqa.training.evaluate import Evaluator, Validation
from mcvqa.training.job import PACE_STEPS, FoldJob
from mcvqa.training.micro_batch import settle_micro_batch, use_less_memory
from mcvqa.training.resume import KeptWeights, ResumePoints
from mcvqa.training.step import Requests, Stepper, prepare


@dataclass
class FoldResult:
    """Holds the outcome of one fold.

    Attributes:
        fold: number of the fold, from 0.
        best_epoch: epoch of the weights in `best/`, counted from 0.
        accuracy: accuracy of the weights used for scoring, on the validation rows.
        variants: result of the raw weights and of each average ('raw', 'ema', 'swa') at the end of training.
        validated: the N validation rows that were used: all, or within a time budget a sample.
        right: (E, N) bool, whether the weights used for scoring answered each row with a known answer correctly after each
            validated epoch; without the epochs of sessions of version 0.1.
        steps: optimizer steps, including the skipped ones.
        skipped: optimizer steps skipped because a gradient was not finite.
        rollbacks: returns to the beginning of an epoch, after twenty skipped steps in a row.
        seconds: time of all sessions, including validation and saving.
        rows_per_second: speed of this session's optimizer steps.
        trained_parameters: number of trained parameters.
        model: the model with the weights of the last step.
    """

    fold: int
    best_epoch: int
    accuracy: Accuracy
    variants: dict[str, Validation]
    validated: Sequence[Question]
    right: np.ndarray
    steps: int
    skipped: int
    rollbacks: int
    seconds: float
    rows_per_second: float
    trained_parameters: int
    model: nn.Module


def train_fold(job: FoldJob, stepper: Stepper | None = None) -> FoldResult:
    """Train to the last epoch, from the newest resume point or, without one, from freshly initialised adapters.

    Args:
        job: the fold to train.
        stepper: the result of `prepare(job)`, if the caller needs its state afterwards.

    Returns:
        The outcome; the weights are in `job.folder`.

    Raises:
        TrainingError: no gradient is finite in twenty steps in a row and rollbacks do not help; a single row does not fit
            into the GPU's memory; or the resume point has other settings or rows.
        NotSaved: the trained weights could not be written.
        Interrupted: by SIGTERM, SIGINT or SIGHUP; raised in all processes, like TimeUp.
        TimeUp: the time budget is used up.
    """
    config = job.config
    set_seeds(config.training_seed + job.fold + 1009 * PartialState().process_index)  # each process draws its own dropout
    stepper = stepper or prepare(job)
    state, plan = stepper.state, stepper.plan
    evaluator = Evaluator(job, stepper.answers, state)
    kept = KeptWeights(job, stepper, evaluator)
    points = ResumePoints(job, stepper, kept)
    points.resume()
    plan.ask(state.step)
    settle_micro_batch(stepper)
    if not state.anchor and config.num_epochs:
        points.save(begins_epoch=True)

    pace, results = TrainingPace(), {}
    try:
        while state.epochs_done < config.num_epochs:
            if not train_epoch(stepper, points, pace):
                continue  # rolled back
            last = state.step >= plan.end
            results = evaluator.validate(state.epochs_done, every_variant=last)
            kept.keep(state.epochs_done, results, evaluator.scoring_variant(), last=last)
            state.epochs_done += 1
            if last:
                break
            points.save(begins_epoch=True)  # not after the last epoch: its validation would be repeated
    finally:
        stepper.forget_recordings()  # a traceback keeps local variables alive
    if not config.num_epochs:  # score the untrained model
        results = evaluator.validate(-1, every_variant=True)
        kept.keep(-1, results, "raw", last=True)

    assert kept.best is not None
    scored = kept.best if config.keep == "best" else results[evaluator.scoring_variant()]
    return FoldResult(
        job.fold, kept.best_epoch, scored.accuracy, results, evaluator.questions, np.array(state.right), state.step,
        state.skipped, state.rollbacks, points.seconds(), pace.rows_per_second,
        sum(p.numel() for p in state.parameters.values()), stepper.model,
    )


# %% an epoch
@dataclass
class TrainingPace:
    """Counts the rows and seconds of this session's optimizer steps."""

    rows: int = 0
    seconds: float = 0.0

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds if self.seconds else 0.0


def train_epoch(stepper: Stepper, points: ResumePoints, pace: TrainingPace) -> bool:
    """Train the remaining steps of an epoch.

    Args:
        stepper: takes the steps.
        points: resume points of the fold.
        pace: counts rows and seconds.

    Returns:
        Whether the epoch was finished; False: it was rolled back.
    """
    job, state, plan = stepper.job, stepper.state, stepper.plan
    epoch = state.epochs_done
    windows, first = list(epoch_windows(len(job.train), epoch, job.config)), epoch * job.steps_per_epoch
    stepper.answers.train()
    bar_options = dict(unit="step", desc=f"{job.title} epoch {epoch + 1}", initial=state.step - first)
    with StopRequest() as stop, progress(windows, **bar_options) as bar:
        plan.start_clock(state.step)
        # again after running out of memory, and when the schedule became shorter
        while remaining := windows[state.step - first : max(0, plan.end - first)]:
            train_windows(stepper, points, pace, with_features(stepper, remaining), stop, bar)
            if points.must_roll_back():
                points.roll_back()
                return False
        points.save()  # before validation, which takes a while
    return True


def with_features(stepper: Stepper, windows: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """Return the next windows whose rows have image features.

    These are all windows or, if photographs are encoded as training reaches their rows, first enough to measure the pace, then
    three times as many as have been trained.

    Args:
        stepper: takes the steps.
        windows: row numbers of each remaining step.
    """
    job, state = stepper.job, stepper.state
    if job.features is None:
        return windows
    windows = windows[: max(2 * PACE_STEPS, 3 * state.step)]
    stepper.forget_recordings()  # frees the memory of its recordings
    free_memory()
    job.features([job.train[i].image for window in windows for i in window])
    stepper.plan.start_clock(state.step)
    return windows


def train_windows(
    stepper: Stepper, points: ResumePoints, pace: TrainingPace, windows: Sequence[np.ndarray], stop: StopRequest, bar: Any
) -> None:
    """Take optimizer steps until one does not fit into memory or twenty in a row were skipped.

    Args:
        stepper: takes the steps.
        points: resume points of the fold.
        pace: counts rows and seconds.
        windows: row numbers of each step.
        stop: tells whether a signal asked to stop.
        bar: the progress bar.
    """
    job, state, plan = stepper.job, stepper.state, stepper.plan
    shares = [stepper.share(window) for window in windows]
    # a process without rows in the last window computes one with weight 0: all processes must take part
    keys = [
        (state.epochs_done, part or (int(window[0]),)) for window, share in zip(windows, shares, strict=True) for part in share
    ]
    rows = TrainingRows(job.maker, job.train, job.config)
    batches = iter(Batches(rows, keys, job.base.plan.workers, pin=job.base.plan.device == "cuda"))

    def requests() -> Requests:
        return Requests(points.is_due(), stop.asked, time_is_up(), plan.is_measured(state.step))

    for window, share in zip(windows, shares, strict=True):
        started = time.monotonic()
        result = stepper.step(((next(batches), bool(part)) for part in share), len(window), requests)
        if result is None:
            use_less_memory(stepper)
            return
        state.skipped_on_end = 0 if result.done else state.skipped_on_end + 1
        seconds = time.monotonic() - started
        pace.rows, pace.seconds = pace.rows + len(window), pace.seconds + seconds
        bar.set_postfix(refresh=False, loss=f"{result.loss:.3f}", skipped=state.skipped)
        bar.update()
        if is_main_process():
            job.log.write(
                "step", fold=job.fold, step=state.step, epoch=state.epochs_done, loss=result.loss, lr=result.rate,
                grad_norm=result.norm, skipped=state.skipped, rows_per_s=round(len(window) / seconds, 2),
            )
        if points.must_roll_back():
            return
        between_steps(stepper, points, requests() if stepper.accelerator.num_processes == 1 else result.requests)
        if state.step >= plan.end:
            return


def between_steps(stepper: Stepper, points: ResumePoints, requests: Requests) -> None:
    """Carry out requests: save, stop, revise the plan.

    Args:
        stepper: takes the steps.
        points: resume points of the fold.
        requests: requests of all processes together.

    Raises:
        Interrupted: a signal asked to stop.
        TimeUp: the time budget is used up.
    """
    job, state = stepper.job, stepper.state
    if requests.save or requests.stop:
        points.save()
    if requests.stop:
        raise Interrupted(
            f"Stopped after step {state.step} of {job.title}; saved in {points.folder / points.newest}."
            if points.newest else f"Stopped after step {state.step} of {job.title}; nothing could be saved."
        )
    if requests.time_up:
        raise TimeUp
    if requests.revise:
        stepper.plan.revise(state.step)
