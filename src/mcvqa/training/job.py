"""Defines a fold's training job: rows and settings, number of optimizer steps, and learning rate of each step."""
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from mcvqa.base.files import RunLog
from mcvqa.config import Config, McvqaError
from mcvqa.data.folds import fold_title
from mcvqa.data.questions import Question
from mcvqa.model.distributed import by_main
from mcvqa.model.load import BaseModel
from mcvqa.model.memory import MemoryPlan
from mcvqa.model.rows import Maker

PACE_STEPS = 10  # steps over which the pace is measured
PACE_SECONDS = 30.0  # seconds after which fewer steps (at least two) suffice


class TrainingError(McvqaError, RuntimeError):
    """Raised if training cannot continue; the message says why and what to change."""


# %% interface of the time budget
class MeasuredPace(Protocol):
    """Holds seconds per row, measured by training: `learn` to train on a row, `read` to score a validation row in one order."""

    learn: float
    read: float


class TrainingSchedule(Protocol):
    """Describes what training needs from the plan of a session with a time budget.

    With several processes only the main process is asked, at the same step of all of them.
    """

    @property
    def pace(self) -> MeasuredPace:
        """Receives the measurements of training."""

    def steps_total(self, done: int, per_epoch: int) -> int:
        """Return the optimizer steps of the whole fold at the current `pace`, before the first step and again later.

        It may be less than one epoch. At this step the learning rate reaches zero and the fold is validated and finished.

        Args:
            done: steps already taken.
            per_epoch: steps of one epoch.
        """

    def validation_rows(self, available: int) -> int:
        """Return how many of a fold's `available` validation rows to use; fewer are a fixed random sample."""


# %% the job
@dataclass(frozen=True)
class FoldJob:
    """Describes one fold to train.

    Args:
        config: all settings.
        base: the base model.
        maker: builds batches from questions.
        train, validation: disjoint questions with answers.
        fold: number of the fold, from 0.
        folder: receives best/, last/ and, after training, one folder for each other kind of weights (raw/, ema/); during training
            also resume/.
        log: receives the events of training.
        memory: division of a step into micro-batches, shared by the folds of a run and determined by the first one.
        rows_key: hash of the rows and their photographs.
        schedule: plan of a session with a time budget.
        groups: (N,) image group of each validation row, for standard errors; None: each row is its own group.
        features: encodes the photographs that are about to be used; None: all are encoded already.
        start: folder of trained adapters to start from; None: newly initialised ones.
        not_measured: why these, or the base model, may have been trained on the validation rows; empty: they were not.
        beside: files that are saved next to the trained weights, name -> text.
        validating: builds batches of validation rows; None: `maker` does.
        steps: optimizer steps of the learning-rate schedule, and steps to take; empty: those of all epochs.
        on_point: called after each resume point that was saved; None: nothing is.
    """

    config: Config
    base: BaseModel
    maker: Maker
    train: Sequence[Question]
    validation: Sequence[Question]
    fold: int
    folder: Path
    log: RunLog
    memory: MemoryPlan = field(default_factory=MemoryPlan)
    rows_key: str = ""
    schedule: TrainingSchedule | None = None
    groups: np.ndarray | None = None
    features: Callable[[Sequence[str]], None] | None = None
    start: Path | None = None
    not_measured: str = ""
    beside: Mapping[str, str] = field(default_factory=dict)
    validating: Maker | None = None
    steps: tuple[int, ...] = ()
    on_point: Callable[[], None] | None = None

    @property
    def title(self) -> str:
        return fold_title(self.fold)

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.train) / self.config.effective_batch)

    @property
    def rows_in_step(self) -> int:
        """Rows per optimizer step; the last step of an epoch may have fewer."""
        return min(self.config.effective_batch, len(self.train))


# %% the number of steps
def learning_rate_at(step: int, total: int, config: Config) -> float:
    """Compute the learning rate of an optimizer step: linear warm-up, then cosine or linear decay to zero.

    Args:
        step: the step, from 0.
        total: number of steps of the schedule.
        config: all settings.
    """
    warmup = math.ceil(config.warmup_ratio * total)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    remaining = 1 - (step - warmup) / max(1, total - warmup)
    return config.learning_rate * (remaining if config.lr_schedule == "linear" else 0.5 * (1 - math.cos(math.pi * remaining)))


def swa_start_step(steps_per_epoch: int, total: int, config: Config) -> int:
    """Return the first optimizer step, of `total`, whose weights enter the SWA average."""
    start = config.swa_start_epoch * steps_per_epoch if config.swa_start_epoch >= 0 else 0.75 * total
    return min(int(start), total - 1)


class StepPlan:
    """Counts the optimizer steps of a fold, which a time budget may change during training.

    Attributes:
        total: steps of the whole fold, possibly fewer than its epochs have.
        end: number of these steps to take.
    """

    def __init__(self, job: FoldJob) -> None:
        self.job, every = job, job.steps_per_epoch * job.config.num_epochs
        self.total, self.end = job.steps or (every, every)
        self.start_clock(0)

    def learning_rate(self, step: int, rollbacks: int) -> float:
        """Return the learning rate of optimizer step `step`, halved by each rollback."""
        return learning_rate_at(step, self.total, self.job.config) / 2**rollbacks

    def swa_start(self) -> int:
        return swa_start_step(self.job.steps_per_epoch, self.total, self.job.config)

    def start_clock(self, step: int) -> None:
        """Start measuring the pace at `step`."""
        self.clock_step, self.clock_started = step, time.monotonic()

    def is_measured(self, step: int) -> bool:
        """Return whether enough steps were timed to revise the plan."""
        steps, seconds = step - self.clock_step, time.monotonic() - self.clock_started
        return self.job.schedule is not None and (
            steps >= min(PACE_STEPS, self.job.steps_per_epoch) or (steps > 1 and seconds >= PACE_SECONDS)
        )

    def revise(self, step: int) -> None:
        """Revise the plan from the steps since `start_clock`; all processes call this after the same step."""
        assert self.job.schedule is not None
        seconds, rows = time.monotonic() - self.clock_started, (step - self.clock_step) * self.job.config.effective_batch
        self.job.schedule.pace.learn = seconds / rows
        self.ask(step)
        self.start_clock(step)

    def ask(self, step: int) -> None:
        """Adopt the number of steps from the schedule, if there is one."""
        if self.job.schedule is not None:
            planned = by_main(self.job.schedule.steps_total, step, self.job.steps_per_epoch)
            self.total = self.end = max(step, min(planned, self.job.steps_per_epoch * self.job.config.num_epochs))
