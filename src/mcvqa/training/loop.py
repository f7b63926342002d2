"""One fold: train, validate every epoch, keep the best and the last weights."""
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
from mcvqa.training.step import Stepper, Wishes, prepare


@dataclass
class FoldResult:
    """Outcome of one fold.

    Attributes:
        best_epoch: epoch of the weights in `best/`, counted from 0.
        accuracy: of the weights to score with, on the validation rows.
        variants: Validation at the end of training of the raw weights and of each average ('raw', 'ema', 'swa').
        validated: the N validation rows that were read: all, or within a time budget a sample.
        right: (E, N) bool, of each validated epoch whether each row with a known answer was answered right by the weights to
            score with; without the epochs of sessions of version 0.1.
        skipped: optimizer steps left out because a gradient was not finite.
        rollbacks: returns to the beginning of an epoch, after twenty such steps on end.
        seconds: of all sessions, with validation and saving.
        rows_per_second: of this session's optimizer steps alone.
        model: with the weights of the last step.
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

    A fold that was cut off goes on from its newest resume point with the same call.

    Args:
        stepper: as `prepare(job)` made it, where its state is of interest afterwards.

    Raises:
        TrainingError: no gradient is finite in twenty steps on end, and going back does not help; one row alone does not
            fit into the GPU's memory; or the resume point is of other settings or rows.
        NotSaved: the trained weights could not be written.
        Interrupted: by SIGTERM, SIGINT or SIGHUP; with several processes in all of them, as TimeUp.
        TimeUp: the time budget is over.
    """
    config = job.config
    set_seeds(config.seed + job.fold + 1009 * PartialState().process_index)  # dropout is drawn apart in each process
    stepper = stepper or prepare(job)
    state, plan = stepper.state, stepper.plan
    evaluator = Evaluator(job, stepper.answers, state)
    kept = KeptWeights(job, stepper, evaluator)
    points = ResumePoints(job, stepper, kept)
    points.go_on()
    plan.ask(state.step)
    settle_micro_batch(stepper)
    if not state.anchor and config.num_epochs:
        points.save(begins_epoch=True)

    pace, results = TrainingPace(), {}
    try:
        while state.epochs_done < config.num_epochs:
            if not train_epoch(stepper, points, pace):
                continue  # it was rolled back
            last = state.step >= plan.total
            results = evaluator.validate(state.epochs_done, every_variant=last)
            kept.keep(state.epochs_done, results, evaluator.scoring_variant(), last=last)
            state.epochs_done += 1
            if last:
                break
            points.save(begins_epoch=True)  # after the last epoch a cut repeats its validation
    finally:
        stepper.recorder.forget()  # an error holds on to what is local here
    if not config.num_epochs:  # the untrained model, scored as it is
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
    """Rows and seconds of the optimizer steps of this session."""

    rows: int = 0
    seconds: float = 0.0

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds if self.seconds else 0.0


def train_epoch(stepper: Stepper, points: ResumePoints, pace: TrainingPace) -> bool:
    """The steps of an epoch that are left. Returns whether it was trained to its end, and not rolled back."""
    job, state, plan = stepper.job, stepper.state, stepper.plan
    epoch = state.epochs_done
    windows, first = list(epoch_windows(len(job.train), epoch, job.config)), epoch * job.steps_per_epoch
    stepper.answers.train()
    shown = dict(unit="step", desc=f"fold {job.fold} epoch {epoch + 1}", initial=state.step - first)
    with StopRequest() as stop, progress(windows, **shown) as bar:
        plan.start_clock(state.step)
        # again where memory ran out, the steps that are left being divided anew, and where the schedule has become shorter
        while left := windows[state.step - first : max(0, plan.total - first)]:
            train_windows(stepper, points, pace, with_features(stepper, left), stop, bar)
            if points.must_roll_back():
                points.roll_back()
                return False
        points.save()  # validation takes a while
    return True


def with_features(stepper: Stepper, windows: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """The next of `windows` whose rows have image features: all of them, or, where these are computed as training reaches them,
    so many that the pace can be measured first, and then three times as many as are trained."""
    job, state = stepper.job, stepper.state
    if job.features is None:
        return windows
    windows = windows[: max(2 * PACE_STEPS, 3 * state.step)]
    stepper.recorder.forget()  # the memory that its passes keep
    free_memory()
    job.features([job.train[i].image for window in windows for i in window])
    stepper.plan.start_clock(state.step)
    return windows


def train_windows(
    stepper: Stepper, points: ResumePoints, pace: TrainingPace, windows: Sequence[np.ndarray], stop: StopRequest, bar: Any
) -> None:
    """Optimizer steps, up to the first that does not fit into memory, or the twentieth on end that is lost.

    Args:
        windows: row numbers of each step.
    """
    job, state, plan = stepper.job, stepper.state, stepper.plan
    shares = [stepper.share(window) for window in windows]
    # a process that has no row left in the last window computes one all the same, without weight: all must take part
    keys = [
        (state.epochs_done, part or (int(window[0]),)) for window, share in zip(windows, shares, strict=True) for part in share
    ]
    rows = TrainingRows(job.maker, job.train, job.config)
    batches = iter(Batches(rows, keys, job.base.plan.workers, pin=job.base.plan.device == "cuda"))

    def wishes() -> Wishes:
        return Wishes(points.is_due(), stop.asked, time_is_up(), plan.is_measured(state.step))

    for window, share in zip(windows, shares, strict=True):
        started = time.time()
        made = stepper.step(((next(batches), bool(part)) for part in share), len(window), wishes)
        if made is None:
            use_less_memory(stepper)
            return
        state.skipped_on_end = 0 if made.done else state.skipped_on_end + 1
        seconds = time.time() - started
        pace.rows, pace.seconds = pace.rows + len(window), pace.seconds + seconds
        bar.set_postfix(refresh=False, loss=f"{made.loss:.3f}", skipped=state.skipped)
        bar.update()
        if is_main_process():
            job.log.write(
                "step", fold=job.fold, step=state.step, epoch=state.epochs_done, loss=made.loss, lr=made.rate,
                grad_norm=made.norm, skipped=state.skipped, rows_per_s=round(len(window) / seconds, 2),
            )
        if points.must_roll_back():
            return
        between_steps(stepper, points, wishes() if stepper.accelerator.num_processes == 1 else made.wishes)
        if state.step >= plan.total:
            return


def between_steps(stepper: Stepper, points: ResumePoints, wishes: Wishes) -> None:
    """Do what was asked for.

    Args:
        wishes: of all processes.

    Raises:
        Interrupted: a signal asks to stop.
        TimeUp: the time budget is over.
    """
    job, state = stepper.job, stepper.state
    if wishes.save or wishes.stop:
        points.save()
    if wishes.stop:
        raise Interrupted(
            f"Stopped after step {state.step} of fold {job.fold}; saved in {points.folder / points.newest}."
            if points.newest else f"Stopped after step {state.step} of fold {job.fold}, of which nothing could be saved."
        )
    if wishes.time_up:
        raise TimeUp
    if wishes.revise:
        stepper.plan.revise(state.step)
