"""What the training of a fold is asked for: its rows and settings, how many optimizer steps, and the learning rate of each."""
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from mcvqa.base.files import RunLog
from mcvqa.config import Config, McvqaError
from mcvqa.data.questions import Question
from mcvqa.model.distributed import by_main
from mcvqa.model.load import BaseModel
from mcvqa.model.memory import MemoryPlan
from mcvqa.model.rows import Maker

PACE_STEPS = 10  # over which the time of a step is measured
PACE_SECONDS = 30.0  # after which fewer steps, two at least, are enough


class TrainingError(McvqaError, RuntimeError):
    """Training cannot go on; the message says why and what to change."""


# %% the time budget's part
class MeasuredPace(Protocol):
    """Seconds per row, written by training: `learn` of a training row, `read` of a validation row in one order."""

    learn: float
    read: float


class TrainingSchedule(Protocol):
    """All that training asks of the plan of a session with a time budget.

    With several processes only the main process is asked, at moments that all of them share.
    """

    @property
    def pace(self) -> MeasuredPace:
        """Where training writes what it measured."""

    def steps_total(self, done: int, per_epoch: int) -> int:
        """Optimizer steps of the whole fold, as `pace` is now: asked before the first step, and again while it trains.

        It may be less than one epoch. The learning rate reaches zero at this step, where the fold is validated and ends.

        Args:
            done: steps that the fold has behind it.
            per_epoch: steps of one epoch.
        """

    def validation_rows(self, available: int) -> int:
        """How many of a fold's validation rows are read, asked once for each fold: with fewer than `available` a fixed
        random sample, the same rows after every epoch."""


# %% the job
@dataclass(frozen=True)
class FoldJob:
    """One fold to train.

    Args:
        maker: makes batches from questions.
        train, validation: questions with answers; a row is never in both.
        folder: receives best/, last/, at the end of training one folder for each other kind of weights (raw/, ema/), and
            until then resume/.
        memory: how a step is divided; the jobs of a run's folds share one, and the first fold fills it.
        rows_key: changes with the rows and their photographs.
        schedule: of a session with a time budget.
        groups: (N,) image group of each validation row, for the errors; None: each row is its own group.
        features: computes the image features of photographs that are about to be read; None: they are all there.
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

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.train) / self.config.effective_batch)

    @property
    def rows_in_step(self) -> int:
        """Rows of an optimizer step; the last one of an epoch may have fewer."""
        return min(self.config.effective_batch, len(self.train))


# %% the number of steps
def learning_rate_at(step: int, total: int, config: Config) -> float:
    """Learning rate of optimizer step `step` (from 0) of `total`: linear warm-up, then cosine or linear to zero."""
    warmup = math.ceil(config.warmup_ratio * total)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    left = 1 - (step - warmup) / max(1, total - warmup)
    return config.learning_rate * (left if config.lr_schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left)))


def swa_start_step(steps_per_epoch: int, total: int, config: Config) -> int:
    """First optimizer step, of `total`, whose weights are averaged by SWA."""
    start = config.swa_start_epoch * steps_per_epoch if config.swa_start_epoch >= 0 else 0.75 * total
    return min(int(start), total - 1)


class StepPlan:
    """How many optimizer steps a fold has; within a time budget that changes while it trains.

    Attributes:
        total: steps of the whole fold, maybe fewer than its epochs have.
    """

    def __init__(self, job: FoldJob) -> None:
        self.job, self.total = job, job.steps_per_epoch * job.config.num_epochs
        self.start_clock(0)

    def learning_rate(self, step: int, rollbacks: int) -> float:
        """Of optimizer step `step`, halved by each rollback."""
        return learning_rate_at(step, self.total, self.job.config) / 2**rollbacks

    def swa_start(self) -> int:
        return swa_start_step(self.job.steps_per_epoch, self.total, self.job.config)

    def start_clock(self, step: int) -> None:
        """Measure the pace from here on."""
        self.clock_step, self.clock_started = step, time.monotonic()

    def is_measured(self, step: int) -> bool:
        """Whether enough steps were measured to plan anew."""
        steps, seconds = step - self.clock_step, time.monotonic() - self.clock_started
        return self.job.schedule is not None and (
            steps >= min(PACE_STEPS, self.job.steps_per_epoch) or (steps > 1 and seconds >= PACE_SECONDS)
        )

    def revise(self, step: int) -> None:
        """Plan anew from what the steps since `start_clock` took; all processes call this after the same step."""
        assert self.job.schedule is not None
        seconds, rows = time.monotonic() - self.clock_started, (step - self.clock_step) * self.job.config.effective_batch
        self.job.schedule.pace.learn = seconds / rows
        self.ask(step)
        self.start_clock(step)

    def ask(self, step: int) -> None:
        """Take over the schedule's number of steps, where there is a schedule."""
        if self.job.schedule is not None:
            planned = by_main(self.job.schedule.steps_total, step, self.job.steps_per_epoch)
            self.total = max(step, min(planned, self.job.steps_per_epoch * self.job.config.num_epochs))
