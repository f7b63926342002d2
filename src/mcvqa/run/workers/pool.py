"""Workers besides the main process: a free one takes whatever task is ready, and one display joins what they report.

Where a worker runs is for the implementations to say: processes on this machine (processes.py), a Ray cluster (ray.py).
"""
import contextlib
import dataclasses
import io
import queue
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Generic, Protocol, TypeVar

from tqdm.auto import tqdm

from mcvqa.config import Config, McvqaError
from mcvqa.run.project import Project
from mcvqa.run.tasks import TaskGraph
from mcvqa.run.workers.inline import Allot, as_it_is

SAVING_TAKES = 600.0  # seconds that a worker may take to save and end before it is killed
SHORT_BAR = "{desc} {percentage:.0f}% <{remaining}, {rate_fmt}{postfix}"  # of a worker's progress bar


# %% in the main process
@dataclass(kw_only=True)
class PoolWorker(ABC):
    """A worker as the main process sees it.

    Attributes:
        name: for messages: 'worker 1'.
        task: that it works on; None: none.
        began: when it was given that task.
        introduced: whether it was told the run's settings; before that it only imports what it needs.
        ready: whether it has started up and may be given a task.
        bar: its progress bar.
        failure: what it reported before it ended.
    """

    name: str
    task: str | None = None
    began: float = 0.0
    introduced: bool = False
    ready: bool = False
    bar: str = ""
    failure: str = ""

    @property
    def free(self) -> bool:
        return self.ready and self.task is None

    @property
    def shown(self) -> str:
        """Its line in the display."""
        return self.bar or f"{self.task} ..."

    @abstractmethod
    def send(self, **request: Any) -> None:
        """Pass on a request: `config`, `seconds_ago` and `settings` to begin with, or a `task`."""

    @abstractmethod
    def end(self) -> None:
        """Let it save what it works on, and end."""


SomeWorker = TypeVar("SomeWorker", bound=PoolWorker)


@dataclass
class WorkerPool(ABC, Generic[SomeWorker]):
    """Workers that do tasks until `close`; what one has loaded serves all of its tasks.

    Args:
        program: what a worker runs, a function of a module's top level.
        gpus: one entry for each worker.
        settings: whatever the workers must decide alike.
        loaders: loader processes of all workers together, where the settings give no number.

    Attributes:
        messages: what workers report; None when one has ended.
        facts: what tasks returned last.
    """

    project: Project
    program: Callable[..., Any]
    gpus: Sequence[str]
    settings: dict[str, Any]
    loaders: int
    workers: list[SomeWorker] = field(default_factory=list)
    messages: "queue.SimpleQueue[tuple[SomeWorker, dict[str, Any] | None]]" = field(default_factory=queue.SimpleQueue)
    facts: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.gpus)

    @abstractmethod
    def _launched(self, number: int) -> SomeWorker:
        """Start one worker."""

    @abstractmethod
    def _ended(self, worker: SomeWorker) -> BaseException:
        """Why a worker has ended, as an exception."""

    @abstractmethod
    def close(self) -> None:
        """Let the workers save and end, and wait for that; a second interrupt, or ten minutes, ends them at once."""

    def launch(self, count: int) -> None:
        """Start up to `count` workers that are not running; they import while the main process goes on."""
        for number in range(len(self.workers), min(count, len(self.gpus))):
            self.workers.append(self._launched(number))

    def start(self, count: int) -> None:
        """Have up to `count` workers begin with the run."""
        self.launch(count)
        for worker in self.workers[:count]:
            if not worker.introduced:
                worker.introduced = True
                worker.send(
                    config=self._worker_config().as_dict(), seconds_ago=time.monotonic() - self.project.began,
                    settings=self.settings,
                )

    def _worker_config(self) -> Config:
        config = self.project.config
        return config if config.num_workers >= 0 else config.replace(num_workers=self.loaders // len(self.gpus))

    def run(self, graph: TaskGraph, goals: Iterable[str], allot: Allot = as_it_is) -> None:
        """Do tasks until the goals are done. Workers that are free meanwhile take other tasks of the graph that are ready; these
        may still be running afterwards.

        Args:
            allot: called with each task before it starts.

        Raises:
            RunStopped: a worker failed. Interrupted: one was asked to stop. The others save and end first.
        """
        goals = list(goals)
        for worker in self.workers:  # what one still does for earlier goals is not to be done twice
            if worker.task in graph.tasks:
                graph.start(worker.task)
        try:
            with tqdm(bar_format="{desc}", leave=False) as display:
                while outstanding := graph.outstanding(goals):
                    self.start(len(graph.ready(graph.tasks)) + len(graph.running))
                    self._hand_out(graph, goals, allot)
                    if not graph.outstanding(goals):
                        break
                    begun = [worker for worker in self.workers if worker.introduced]
                    assert graph.running or not all(worker.ready for worker in begun), f"nobody can do {outstanding}"
                    self._receive(graph, display)
        except BaseException:
            self.close()
            raise

    def _hand_out(self, graph: TaskGraph, goals: Sequence[str], allot: Allot) -> None:
        for worker in [worker for worker in self.workers if worker.free]:
            while ready := [*graph.ready(goals), *graph.ready(graph.tasks)]:
                task = allot(ready[0])
                if task is not None:
                    graph.start(task.name)
                    worker.task, worker.bar, worker.began = task.name, "", time.time()
                    worker.send(task=dataclasses.asdict(task))
                    break
                tqdm.write(f"  {ready[0].name}: left out, there is no time for it")
                graph.leave_out(ready[0].name)

    def _receive(self, graph: TaskGraph, display: tqdm) -> None:
        """Take in one message, or wait a second for one.

        Raises:
            RunStopped, Interrupted: a worker has ended.
        """
        with contextlib.suppress(queue.Empty):
            worker, message = self.messages.get(timeout=1.0)
            if message is None:
                raise self._ended(worker)
            self._take_in(worker, message, graph)
        shown = " · ".join(worker.shown for worker in self.workers if worker.task)
        if time.time() - display.last_print_t >= max(1.0, display.mininterval):
            display.last_print_t = time.time()
            display.set_description_str(shown)

    def _take_in(self, worker: SomeWorker, message: dict[str, Any], graph: TaskGraph | None) -> None:
        worker.ready = worker.ready or "ready" in message
        worker.bar = message.get("bar", worker.bar)
        worker.failure = message.get("failed", worker.failure)
        if "line" in message:
            line = message["line"]
            subject = " ".join((worker.task or "").split()[1:3])  # 'train fold 0' -> 'fold 0'
            tqdm.write(f"  {line if subject in line.lower() else f'{subject}: {line}'}")
        if "done" in message and graph is not None:
            self.facts |= message["facts"]
            graph.finish(message["done"])
            took = time.time() - worker.began
            self.project.log.write("task", worker=worker.name, task=message["done"], began=worker.began, seconds=round(took, 3))
            worker.task, worker.bar = None, ""


# %% in a worker
class MainSide(Protocol):
    """The main process as a worker sees it."""

    def report(self, **message: Any) -> None:
        """Send a message for the display or the graph of tasks."""


class ReportedLines(io.TextIOBase):
    """Standard output of a worker: everything goes to its log, whole lines to the main process too.

    Args:
        main: receives the lines.
        log: receives everything.
    """

    def __init__(self, main: MainSide, log: IO[str]) -> None:
        self.main, self.log, self.rest = main, log, ""

    def write(self, text: str) -> int:
        self.log.write(text)
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            if line.strip():
                self.main.report(line=line.strip())
        return len(text)

    def flush(self) -> None:
        self.log.flush()

    def writable(self) -> bool:
        return True


class ReportedBars(io.TextIOBase):
    """Standard error of a worker: progress bars, which end in no line feed, go to the main process, everything else to the log.

    Args:
        main: receives the bars.
        log: receives the rest.
    """

    def __init__(self, main: MainSide, log: IO[str]) -> None:
        self.main, self.log = main, log

    def write(self, text: str) -> int:
        if text.startswith("\r"):
            if bar := text.strip():
                self.main.report(bar=bar)
        else:
            self.log.write(text)
        return len(text)

    def flush(self) -> None:
        self.log.flush()

    def writable(self) -> bool:
        return True


def explained_failure(error: Exception, task: str) -> str:
    if isinstance(error, McvqaError):  # written for people
        return str(error)
    traceback.print_exc()
    return f"{f'{task.capitalize()}: ' if task else ''}{type(error).__name__}: {error}"


def silent() -> contextlib.AbstractContextManager[Any]:
    """Nothing is printed within the block: the main process has said it."""
    return contextlib.redirect_stdout(io.StringIO())


