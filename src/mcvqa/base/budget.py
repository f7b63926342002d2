"""A run that must be over in time: what fits is planned from what was measured, what is worth least is left out first."""
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

from mcvqa.base.interrupt import WORKS_ALONE, may_leave_alone

ORDER_SHARE = 0.15  # what each further order of a row costs: the orders share their prefix (benchmarks/RESULTS.md)
SPARE = 0.05  # share of what is planned that may take longer than it was measured to take
SCORING_SLACK = 1.25  # it comes last, when nothing can be made up for, and its rows are encoded and adapters loaded besides
SAMPLED = 512  # validation rows that are read first, or alone where there is no time for all: an error of 2 points
READ_SHARE = 0.4  # of the time that learning a row takes; for as long as no reading was measured
EDA_SHARE = 0.1  # of the time budget, that tables and figures of the data may take
FEATURES_SHARE = 0.1  # of the time that is left; image features that take more are made only for what is read


def spell_duration(seconds: float) -> str:
    """7500 -> '2 h 05 min'"""
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


class TimeUp(BaseException):
    """The time is over, wherever the run stood. Nothing that mends errors of photographs or workers must catch it."""


# %% what a run does
@dataclass(frozen=True)
class Work:
    """What is still to be done.

    Attributes:
        folds: to train, the one in training included.
        epochs: of each of them, those included that the first has behind it.
        orders, scales: in which every scored row is read.
    """

    folds: int
    epochs: float
    orders: int
    scales: tuple[float, ...]

    @property
    def ways(self) -> float:
        """How many times as long as one order at scale 1 the reading of a row takes."""
        return sum(scale * scale for scale in self.scales) * (1 + ORDER_SHARE * (self.orders - 1))

    def __str__(self) -> str:
        def several(count: float, word: str) -> str:
            return f"{count:.3g} {word}{'s' * (count != 1)}"

        training = f"{several(self.folds, 'fold')} of {several(self.epochs, 'epoch')}, " if self.folds else ""
        if self.folds and not self.epochs:
            training = "the untrained model, "
        return f"{training}scoring in {several(self.orders, 'option order')} at {several(len(self.scales), 'image scale')}"


def seconds_for_end(budget: float) -> float:
    """Of a time budget: for the ensemble and the report, and to spare."""
    return min(60.0, 0.25 * budget) + 0.02 * budget if math.isfinite(budget) else 0.0


def seconds_to_spare(budget: float) -> float:
    """Of a time budget, that even a slow report must leave: the index of runs is still to be written."""
    return min(30.0, 0.1 * budget)


def lesser(work: Work) -> Iterator[Work]:
    """`work`, and then always a little less of it: first without what is worth least (benchmarks/RESULTS.md)."""
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
class Rows:
    """How many there are for a fold to learn from, to validate with and to answer, and how many photographs scoring reads."""

    train: int
    validation: int
    test: int
    images: int


@dataclass
class Pace:
    """What was measured last, in seconds.

    Attributes:
        learn: of a training row; 0: not measured yet.
        read: of a row in one order at scale 1; 0: not measured yet.
        look: of a photograph whose features are computed; 0: they were there already.
    """

    learn: float = 0.0
    read: float = 0.0
    look: float = 0.0


def seconds_needed(
    work: Work, pace: Pace, rows: Rows, *, behind: float, variants: int, waiting: int, unseen: int = 0
) -> float:
    """Of everything that is left, up to the last score.

    Args:
        behind: epochs that the first fold has behind it.
        variants: kinds of weights that are validated at the end of a fold.
        waiting: folds that are trained and to be scored.
        unseen: photographs whose features at scale 1 are still to be computed for it.
    """
    read = pace.read or READ_SHARE * pace.learn
    epochs = work.folds * work.epochs - min(behind, work.epochs) if work.folds else 0.0
    learning = epochs * (rows.train * pace.learn + rows.validation * read) + work.folds * variants * rows.validation * read
    ways = work.ways + (work.ways > 1)  # in one way first, so that there is something to hand in
    scoring = SCORING_SLACK * (work.folds + waiting) * (rows.validation + rows.test) * ways * read
    looking = pace.look * (unseen + rows.images * sum(scale * scale for scale in work.scales if scale != 1))
    return learning + scoring + looking


def validation_samples() -> tuple[int, ...]:
    """How many validation rows of a fold are read where there is no time for all, the most first. A smaller sample is a part of a
    larger one."""
    return tuple(max(1, SAMPLED // part) for part in (1, 4, 16))


def all_seen(epochs: float) -> int:
    """How many photographs are without features, where all have them."""
    return 0


# %% the end of the time
DEADLINE: ContextVar[float] = ContextVar("DEADLINE", default=math.inf)  # a time of time.monotonic()
RING_AGAIN = 10.0  # seconds; longer than it takes to clean up after the first ring


def time_is_up() -> bool:
    """Whether the innermost Alarm's time is over. Several processes ask this at moments that all of them share."""
    return time.monotonic() >= DEADLINE.get()


class Alarm:
    """While this is entered, TimeUp is raised `seconds` from then on.

    A signal raises it in the middle of whatever is going on, and again for whoever swallowed it. There is none where it would
    take this process away from others that wait for it, in threads other than the main one and on Windows: there `time_is_up`
    is looked at between batches and steps.

    Args:
        again: seconds until the next ring.
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
            self.outer = self._set_timer()[0] > 0  # an alarm around this one was set

    def __exit__(self, *_: object) -> None:
        try:
            self._leave()
        except TimeUp:  # it rang in this very moment
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
        """Ring at the deadline; returns what was set before."""
        return signal.setitimer(signal.ITIMER_REAL, max(DEADLINE.get() - time.monotonic(), 1e-3), self.again)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        raise TimeUp


@contextlib.contextmanager
def working_alone() -> Iterator[None]:
    """Work that one process does while the others wait for its end, which tells them how it ended: alarm and signals may
    interrupt it anywhere."""
    token = WORKS_ALONE.set(True)
    try:
        with Alarm(math.inf):
            yield
    finally:
        WORKS_ALONE.reset(token)


# %% one session
@dataclass
class Schedule:
    """What a session does within its time budget; planned anew whenever something was measured.

    Args:
        left: seconds until the last score must be there, now.
        full: what the settings ask for.
        variants: kinds of weights that are validated at the end of a fold.

    Attributes:
        unseen: gives how many photographs' features are still to be computed for so many epochs of the fold in training.
        folds: that are to be trained, the one in training included.
        waiting: folds that are trained and to be scored.
        work: the plan; None: nothing was measured yet.
        sample: with how many rows of a fold is validated, for want of time; 0: with all.
    """

    left: Callable[[], float]
    full: Work
    rows: Rows
    variants: int
    folds: int = 0
    waiting: int = 0
    pace: Pace = field(default_factory=Pace)
    work: Work | None = None
    sample: int = 0
    unseen: Callable[[float], int] = all_seen

    def announce(self) -> Work:
        """Plan anew before a piece of work, and say what is planned."""
        self.work = None
        work = self.plan()
        if not self._measured:
            tqdm.write(f"  time budget: {spell_duration(self.left())} left; what fits is planned once some rows were measured")
        return work

    def plan(self, behind: float = 0.0) -> Work:
        """The most that fits; told where it is not what was planned before.

        Args:
            behind: epochs that the fold in training has behind it.
        """
        work = self.most(behind)
        self._tell(work)
        self.work = work
        return work

    def most(self, behind: float = 0.0) -> Work:
        """The most that fits, with as many validation rows as fit.

        Args:
            behind: epochs that the fold in training has behind it.
        """
        def fits(work: Work) -> bool:
            needed = seconds_needed(
                work, self.pace, self.rows_read, behind=behind, variants=self.variants, waiting=self.waiting,
                unseen=self._unseen_by(work),
            )
            return (1 + SPARE) * needed <= self.left()

        works = [*lesser(replace(self.full, folds=self.folds))]
        self.sample = 0  # all validation rows where everything fits with them, else a sample of them
        if not fits(works[0]):
            for self.sample in validation_samples():
                if fits(works[-1]):
                    break
        return next(filter(fits, works), works[-1])

    def steps_total(self, done: int, per_epoch: int) -> int:
        """Optimizer steps of the fold in training. Args: done: those behind it. per_epoch: of one epoch."""
        return max(done, math.ceil(self.plan(done / per_epoch).epochs * per_epoch))

    @property
    def rows_read(self) -> Rows:
        """Rows with as many validation rows as are read for certain."""
        return replace(self.rows, validation=self.validation_rows(self.rows.validation))

    def validation_rows(self, available: int) -> int:
        """How many of a fold's validation rows training reads."""
        return min(available, self.sample) if self.sample else available

    def sample_in_time(self) -> int:
        """How many validation rows of a fold to read first: the most that there is time for."""
        *larger, least = validation_samples()
        return next(filter(self.has_time_for, larger), least)

    def has_time_for(self, rows: int, images: int = 0) -> bool:
        """Whether so many rows can be read in one way, and features of so many photographs be computed, as far as the pace is
        known."""
        return (1 + SPARE) * (self.seconds_to_read(rows) + images * self.pace.look) <= self.left()

    def seconds_to_read(self, rows: int) -> float:
        """So many rows in one way; 0 where nothing was measured."""
        return SCORING_SLACK * rows * (self.pace.read or READ_SHARE * self.pace.learn)

    @property
    def _measured(self) -> bool:
        return bool(self.pace.learn or self.pace.read)

    def _unseen_by(self, work: Work) -> int:
        return self.unseen(work.epochs if work.folds else 0.0)

    def _tell(self, work: Work) -> None:
        before = self.work
        same = before is not None and (work.orders, work.scales) == (before.orders, before.scales) and (
            work.folds in (before.folds, before.folds - 1) and abs(work.epochs - before.epochs) < 0.25
        )
        if not same and self._measured:
            whole = replace(self.full, folds=self.folds, epochs=self.full.epochs if self.folds else work.epochs)
            less = "" if work == whole else ": less than the settings ask for"
            images = self._unseen_by(work)
            features = f"image features of {images:,} photograph{'s' * (images > 1)}, " if images else ""
            tqdm.write(f"  time budget: {spell_duration(self.left())} for {features}{work}{less}")
