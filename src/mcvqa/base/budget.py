"""Plans what fits into a time budget from measured speeds, and drops the least useful work first."""
import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any

from tqdm.auto import tqdm

from mcvqa.base.informing import counted
from mcvqa.base.interrupt import WORKS_ALONE, may_leave_alone

ORDER_SHARE = 0.15  # relative cost of each further option order: orders share their prefix (benchmarks/RESULTS.md)
SPARE = 0.05  # safety margin on the planned time
SCORING_SLACK = 1.25  # scoring comes last, when lost time cannot be made up, and also encodes rows and loads adapters
SAMPLED = 512  # validation rows scored first, or alone if time is short: a standard error of 2 points
READ_SHARE = 0.4  # scoring time of a row relative to training it, until scoring was measured
EDA_SHARE = 0.1  # largest share of the time budget for tables and figures of the data
FEATURES_SHARE = 0.1  # of the remaining time; if encoding takes longer, images are encoded as they are needed


def spell_duration(seconds: float) -> str:
    """Spell a duration: 7500 -> '2 h 05 min'."""
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


class TimeUp(BaseException):
    """Raised when the time budget is used up. Code that recovers from errors of photographs or workers must not catch it."""


# %% what a run does
@dataclass(frozen=True)
class Work:
    """Describes the remaining work of a session.

    Attributes:
        folds: folds to train, including the one in training.
        epochs: epochs per fold, including those already finished.
        orders, scales: option orders and image scales in which every row is scored.
    """

    folds: int
    epochs: float
    orders: int
    scales: tuple[float, ...]

    @property
    def row_cost(self) -> float:
        """Time to score a row, relative to one option order at scale 1."""
        return sum(scale * scale for scale in self.scales) * (1 + ORDER_SHARE * (self.orders - 1))

    def __str__(self) -> str:
        def counted(count: float, word: str) -> str:
            return f"{count:.3g} {word}{'s' * (count != 1)}"

        training = f"{counted(self.folds, 'fold')} of {counted(self.epochs, 'epoch')}, " if self.folds else ""
        if self.folds and not self.epochs:
            training = "the untrained model, "
        return f"{training}scoring in {counted(self.orders, 'option order')} at {counted(len(self.scales), 'image scale')}"


def seconds_for_end(budget: float) -> float:
    """Return how many seconds of a time budget are reserved for the ensemble and the report."""
    return min(60.0, 0.25 * budget) + 0.02 * budget if math.isfinite(budget) else 0.0


def seconds_to_spare(budget: float) -> float:
    """Return how many seconds of a time budget even a slow report must leave for the index of runs."""
    return min(30.0, 0.1 * budget)


def reduced_plans(work: Work) -> Iterator[Work]:
    """Yield `work`, then ever smaller plans, dropping the least useful work first (benchmarks/RESULTS.md)."""
    yield work
    while work.orders > 1:
        yield (work := replace(work, orders=work.orders // 2))
    while len(work.scales) > 1:
        farthest = max(work.scales, key=lambda scale: abs(math.log(scale)))
        yield (work := replace(work, scales=tuple(scale for scale in work.scales if scale != farthest)))
    while work.epochs > 1:
        yield (work := replace(work, epochs=max(1.0, round(work.epochs - 0.1, 1))))
    while work.folds > 1:
        yield (work := replace(work, folds=work.folds - 1))
    while work.epochs > 0:
        yield (work := replace(work, epochs=max(0.0, round(work.epochs - 0.02, 2))))


@dataclass(frozen=True)
class RowCounts:
    """Counts the rows of one fold by split, and the distinct photographs that scoring reads."""

    train: int
    validation: int
    test: int
    images: int


@dataclass
class Pace:
    """Holds the latest measurements in seconds; 0: not measured yet.

    Attributes:
        learn: time to train on a row.
        read: time to score a row in one option order at scale 1.
        encode: time to encode a photograph.
    """

    learn: float = 0.0
    read: float = 0.0
    encode: float = 0.0


def seconds_needed(
    work: Work, pace: Pace, rows: RowCounts, *, epochs_done: float, variants: int, waiting: int, unencoded: int = 0
) -> float:
    """Estimate the time until the last score.

    Args:
        work: the planned work.
        pace: measured speeds.
        rows: rows of one fold.
        epochs_done: epochs that the fold in training has finished.
        variants: kinds of weights (raw, EMA, SWA) validated at the end of a fold.
        waiting: trained folds that are not scored yet.
        unencoded: photographs still to be encoded at scale 1.

    Returns:
        Seconds.
    """
    read = pace.read or READ_SHARE * pace.learn
    epochs = work.folds * work.epochs - min(epochs_done, work.epochs) if work.folds else 0.0
    training = epochs * (rows.train * pace.learn + rows.validation * read) + work.folds * variants * rows.validation * read
    passes = work.row_cost + (work.row_cost > 1)  # first in one order and scale, so that there is something to hand in
    scoring = SCORING_SLACK * (work.folds + waiting) * (rows.validation + rows.test) * passes * read
    encoding = pace.encode * (unencoded + rows.images * sum(scale * scale for scale in work.scales if scale != 1))
    return training + scoring + encoding


def validation_samples() -> tuple[int, ...]:
    """List the sizes of a validation sample if time is short, largest first; a smaller sample is a subset of a larger one."""
    return tuple(max(1, SAMPLED // part) for part in (1, 4, 16))


def all_encoded(epochs: float) -> int:
    """Return 0 photographs to encode, for when all of them are encoded."""
    return 0


# %% the end of the time
DEADLINE: ContextVar[float] = ContextVar("DEADLINE", default=math.inf)  # a time of time.monotonic()
RING_AGAIN = 10.0  # seconds; longer than it takes to clean up after the first ring


def time_is_up() -> bool:
    """Return whether the innermost Alarm's time is over; several processes ask at the same step."""
    return time.monotonic() >= DEADLINE.get()


class Alarm:
    """Raises TimeUp after `seconds`, as a context manager.

    A signal raises it wherever the code is, and again if something swallowed it. No signal is used where other processes wait for
    this one, in threads other than the main one and on Windows: there `time_is_up` is checked between batches and steps.

    Args:
        seconds: time until TimeUp; infinite: never.
        again: seconds until the signal is repeated.
    """

    def __init__(self, seconds: float, again: float = RING_AGAIN) -> None:
        self.seconds, self.again, self.rings = seconds, again, False

    def __enter__(self) -> None:
        self.token: Token[float] | None = DEADLINE.set(min(DEADLINE.get(), time.monotonic() + self.seconds))
        in_main_thread = threading.current_thread() is threading.main_thread()
        self.rings = (
            math.isfinite(DEADLINE.get()) and hasattr(signal, "setitimer") and in_main_thread and may_leave_alone()
        )
        if self.rings:
            self.before: Any = signal.signal(signal.SIGALRM, self._ring)
            self.outer = self._set_timer()[0] > 0  # an enclosing alarm was set

    def __exit__(self, *_: object) -> None:
        try:
            self._leave()
        except TimeUp:  # the alarm rang while it was being removed
            self._leave()
            raise

    def _leave(self) -> None:
        if self.rings:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self.before)
        if self.token is not None:
            token, self.token = self.token, None
            DEADLINE.reset(token)
        if self.rings and self.outer:
            self._set_timer()

    def _set_timer(self) -> tuple[float, float]:
        """Set the timer to the deadline; returns the previous setting."""
        return signal.setitimer(signal.ITIMER_REAL, max(DEADLINE.get() - time.monotonic(), 1e-3), self.again)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        raise TimeUp


@contextlib.contextmanager
def working_alone() -> Iterator[None]:
    """Within the block, alarm and signals may interrupt this process anywhere: the others wait and learn how it ended."""
    token = WORKS_ALONE.set(True)
    try:
        with Alarm(math.inf):
            yield
    finally:
        WORKS_ALONE.reset(token)


# %% one session
@dataclass
class Schedule:
    """Holds the plan of a session with a time budget and revises it after each measurement.

    Args:
        left: returns the seconds until the last score must be written.
        full: the work that the settings ask for.
        rows: rows of one fold.
        variants: kinds of weights (raw, EMA, SWA) validated at the end of a fold.

    Attributes:
        folds: folds to train, including the one in training.
        waiting: trained folds that are not scored yet.
        pace: the latest measurements.
        work: the plan; None: nothing was measured yet.
        sample: validation rows used per fold if time is short; 0: all.
        unencoded: maps a number of epochs of the fold in training to the photographs still to be encoded for them.
    """

    left: Callable[[], float]
    full: Work
    rows: RowCounts
    variants: int
    folds: int = 0
    waiting: int = 0
    pace: Pace = field(default_factory=Pace)
    work: Work | None = None
    sample: int = 0
    unencoded: Callable[[float], int] = all_encoded

    def announce(self) -> Work:
        """Make a new plan before a piece of work and print it."""
        self.work = None
        work = self.plan()
        if not self._measured:
            tqdm.write(f"  time budget: {spell_duration(self.left())} left; the plan follows once some rows have been timed")
        return work

    def plan(self, epochs_done: float = 0.0) -> Work:
        """Plan the most that fits, and print the plan if it changed.

        Args:
            epochs_done: epochs that the fold in training has finished.
        """
        work = self.most(epochs_done)
        self._print_change(work)
        self.work = work
        return work

    def most(self, epochs_done: float = 0.0) -> Work:
        """Return the most work that fits, with as many validation rows as fit.

        Args:
            epochs_done: epochs that the fold in training has finished.
        """
        def fits(work: Work) -> bool:
            needed = seconds_needed(
                work, self.pace, self.rows_read, epochs_done=epochs_done, variants=self.variants, waiting=self.waiting,
                unencoded=self._unencoded_for(work),
            )
            return (1 + SPARE) * needed <= self.left()

        plans = [*reduced_plans(replace(self.full, folds=self.folds))]
        self.sample = 0  # all validation rows if everything fits with them, else a sample
        if not fits(plans[0]):
            for self.sample in validation_samples():
                if fits(plans[-1]):
                    break
        return next(filter(fits, plans), plans[-1])

    def steps_total(self, done: int, per_epoch: int) -> int:
        """Return the optimizer steps of the fold in training.

        Args:
            done: steps already taken.
            per_epoch: steps of one epoch.
        """
        return max(done, math.ceil(self.plan(done / per_epoch).epochs * per_epoch))

    @property
    def rows_read(self) -> RowCounts:
        """Row counts with only the validation rows that are always used."""
        return replace(self.rows, validation=self.validation_rows(self.rows.validation))

    def validation_rows(self, available: int) -> int:
        """Return how many of a fold's `available` validation rows training uses."""
        return min(available, self.sample) if self.sample else available

    def sample_in_time(self) -> int:
        """Return the largest validation sample of a fold that there is time for."""
        *larger, least = validation_samples()
        return next(filter(self.has_time_for, larger), least)

    def has_time_for(self, rows: int, images: int = 0) -> bool:
        """Return whether there is time to score `rows` in one view and to encode `images`, as far as was measured."""
        return (1 + SPARE) * (self.seconds_to_read(rows) + images * self.pace.encode) <= self.left()

    def seconds_to_read(self, rows: int) -> float:
        """Return the time to score `rows` in one order and scale; 0: not measured yet."""
        return SCORING_SLACK * rows * (self.pace.read or READ_SHARE * self.pace.learn)

    @property
    def _measured(self) -> bool:
        return bool(self.pace.learn or self.pace.read)

    def _unencoded_for(self, work: Work) -> int:
        return self.unencoded(work.epochs if work.folds else 0.0)

    def _print_change(self, work: Work) -> None:
        before = self.work
        same = before is not None and (work.orders, work.scales) == (before.orders, before.scales) and (
            work.folds in (before.folds, before.folds - 1) and abs(work.epochs - before.epochs) < 0.25
        )
        if not same and self._measured:
            whole = replace(self.full, folds=self.folds, epochs=self.full.epochs if self.folds else work.epochs)
            less = "" if work == whole else ": less than the settings ask for"
            images = self._unencoded_for(work)
            features = f"image features of {counted(images, 'photograph')}, " if images else ""
            tqdm.write(f"  time budget: {spell_duration(self.left())} for {features}{work}{less}")
