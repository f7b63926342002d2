"""Manages workers besides the main process: a free one takes whatever task is ready, and one display shows their progress.

Implementations determine where a worker runs: as a process on this machine (processes.py) or on a Ray cluster (ray.py).
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
    """Represents a worker in the main process.

    Attributes:
        name: name for messages: 'worker 1'.
        task: its current task; None: none.
        began: start of that task by time.monotonic().
        introduced: whether it has received the run's settings; before that it only imports libraries.
        ready: whether it has started up and may be given a task.
        bar: its progress bar.
        failure: failure that it reported before it ended.
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
        """Send a request: `config`, `seconds_ago` and `settings` at first, then a `task`."""

    @abstractmethod
    def end(self) -> None:
        """Let it save its current work and end."""


SomeWorker = TypeVar("SomeWorker", bound=PoolWorker)


@dataclass
class WorkerPool(ABC, Generic[SomeWorker]):
    """Manages workers that execute tasks until `close`.

    A worker keeps its loaded model for all of its tasks.

    Args:
        project: the run.
        program: function that a worker runs, at a module's top level.
        gpus: one entry per worker.
        settings: values that all workers must share.
        loaders: loader processes of all workers together, if the settings give no number.

    Attributes:
        messages: messages of the workers; None when one has ended.
        facts: the latest return values of tasks.
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
        """Explain the end of a worker, as an exception."""

    @abstractmethod
    def close(self) -> None:
        """Let the workers save and end, and wait for them; a second interrupt, or ten minutes, ends them at once."""

    def launch(self, count: int) -> None:
        """Start up to `count` workers that are not running; they import libraries while the main process continues."""
        for number in range(len(self.workers), min(count, len(self.gpus))):
            self.workers.append(self._launched(number))

    def start(self, count: int) -> None:
        """Let up to `count` workers open the run."""
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
        """Execute tasks until the goals are done.

        Meanwhile, free workers take other ready tasks of the graph, which may still be running afterwards.

        Args:
            graph: the tasks.
            goals: names of the tasks to finish.
            allot: called with each task before it starts.

        Raises:
            RunStopped: a worker failed.
            Interrupted: a worker was asked to stop. The others save and end first.
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
                    worker.task, worker.bar, worker.began = task.name, "", time.monotonic()
                    worker.send(task=dataclasses.asdict(task))
                    break
                tqdm.write(f"  {ready[0].name}: left out, there is no time for it")
                graph.leave_out(ready[0].name)

    def _receive(self, graph: TaskGraph, display: tqdm) -> None:
        """Process one message, or wait a second for one.

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
            took = time.monotonic() - worker.began
            times = {"began": time.time() - took, "seconds": round(took, 3)}
            self.project.log.write("task", worker=worker.name, task=message["done"], **times)
            worker.task, worker.bar = None, ""


# %% in a worker
class MainSide(Protocol):
    """Represents the main process in a worker."""

    def report(self, **message: Any) -> None:
        """Send a message for the display or the graph of tasks."""


class ReportedOutput(io.TextIOBase):
    """Replaces an output of a worker, passing it on to the main process and to a log.

    Args:
        main: receives what is to be shown.
        log: receives the rest, unless its drive is unavailable: a message must not end the work.
    """

    def __init__(self, main: MainSide, log: IO[str]) -> None:
        self.main, self.log, self.rest = main, log, ""

    def note(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self.log.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self.log.flush()

    def writable(self) -> bool:
        return True


class ReportedLines(ReportedOutput):
    """Replaces a worker's standard output: everything goes to its log, whole lines also to the main process."""

    def write(self, text: str) -> int:
        self.note(text)
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            if line.strip():
                self.main.report(line=line.strip())
        return len(text)


class ReportedBars(ReportedOutput):
    """Replaces a worker's standard error: progress bars, which end without a line feed, go to the main process, the rest to the
    log."""

    def write(self, text: str) -> int:
        if not text.startswith("\r"):
            self.note(text)
        elif bar := text.strip():
            self.main.report(bar=bar)
        return len(text)


def explained_failure(error: Exception, task: str) -> str:
    if isinstance(error, McvqaError):  # written for people
        return str(error)
    traceback.print_exc()
    return f"{f'{task.capitalize()}: ' if task else ''}{type(error).__name__}: {error}"


def silent() -> contextlib.AbstractContextManager[Any]:
    """Within the block, print nothing: the main process has already printed it."""
    return contextlib.redirect_stdout(io.StringIO())


