"""Workers in processes of their own on this machine, one GPU each. A free worker takes whatever task is ready.

Requests travel to a worker through its standard input, records back through its standard output, one line of JSON each. What it
prints goes to `logs/<run>-worker<n>.txt`, and line by line to the display of the main process, which joins all progress bars.

Not loky (joblib's): when one of its workers dies, it ends the others at once and what they were training is not saved, and Triton
cannot read the source of kernels that a notebook's cells define (tried; DECISIONS.md).
"""
import contextlib
import dataclasses
import io
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, cast

from tqdm.auto import tqdm

from mcvqa.base.files import write_text
from mcvqa.base.interrupt import RUN_ME_AGAIN, Interrupted, StopRequest
from mcvqa.config import Config, McvqaError
from mcvqa.run.ownership import OWNER
from mcvqa.run.project import Project, RunStopped, open_project
from mcvqa.run.tasks import Task, TaskGraph, notebook_cells
from mcvqa.run.workers.inline import Allot, as_it_is

SAVING_TAKES = 600.0  # seconds that a worker may take to save and end before it is killed
SHORT_BAR = "{desc} {percentage:.0f}% <{remaining}, {rate_fmt}{postfix}"  # of a worker's progress bar


# %% where
def worker_gpus(config: Config, device: str) -> list[str]:
    """One entry for each worker: its GPU as CUDA_VISIBLE_DEVICES names it, else ''.

    Args:
        device: 'cuda', 'mps' or 'cpu'.
    """
    if "LOCAL_RANK" in os.environ:  # a launcher's processes share each task
        return [""]
    if device == "cuda":
        import torch  # here, as the processes of the workers use this module without it

        named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        gpus = named or [str(number) for number in range(torch.cuda.device_count())]
        return gpus[: min(config.parallel_folds or len(gpus), len(config.folds_to_train))]
    return [""] * (min(config.parallel_folds or 1, len(config.folds_to_train)) if device == "cpu" else 1)


def worker_environment(gpu: str, workers: int) -> dict[str, str]:
    import torch

    return os.environ | {
        OWNER: str(os.getpid()), **({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {}),
        "OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // workers)), "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1",
        "TQDM_MININTERVAL": "1", "TQDM_BAR_FORMAT": SHORT_BAR,
    }


def worker_command(project: Project, program: Callable[[], None]) -> list[str]:
    """The command that calls `program`; of a notebook, with its cells as they are now in a file of their own, from which Triton
    reads the source of kernels."""
    if program.__module__ != "__main__":
        return [sys.executable, "-c", f"from {program.__module__} import {program.__name__}; {program.__name__}()"]
    script = project.paths.experiment / "notebook.py"
    write_text(script, "\n\n\n".join([*notebook_cells().values(), f"{program.__name__}()"]) + "\n")
    return [sys.executable, str(script)]


# %% in the main process
@dataclass
class WorkerProcess:
    """A worker as the main process sees it.

    Attributes:
        name: for messages: 'worker 1'.
        log: the file with its full output.
        task: that it works on; None: none.
        began: when it was given that task.
        introduced: whether it was told the run's settings; before that it only imports what it needs.
        ready: whether it has started up and may be given a task.
        bar: its progress bar.
        failure: what it reported before it ended.
    """

    name: str
    process: subprocess.Popen
    log: str
    task: str | None = None
    began: float = 0.0
    introduced: bool = False
    ready: bool = False
    bar: str = ""
    failure: str = ""

    @property
    def free(self) -> bool:
        return self.ready and self.task is None

    def send(self, **request: Any) -> None:
        with contextlib.suppress(OSError):  # it has just ended, which its closed output tells
            cast(IO[bytes], self.process.stdin).write(json.dumps(request).encode() + b"\n")

    def end(self) -> None:
        """Let it save and end: by a request where it waits for one, as loaders may hold the pipe open; else by a signal. One that
        has nothing to save is killed."""
        if not self.introduced:
            self.process.kill()
        elif self.task is None:
            self.send(end=True)
        else:
            self.process.terminate()


@dataclass
class ProcessWorkers:
    """Processes that do tasks until `close`; what a worker has loaded serves all of its tasks.

    Args:
        program: what a worker's process runs, a function of a module's top level. It calls `serve`.
        gpus: as `worker_gpus` gives them.
        settings: passed on to `serve`'s function: whatever the workers must decide alike.
        loaders: loader processes of all workers together, where the settings give no number.

    Attributes:
        facts: what tasks returned last.
    """

    project: Project
    program: Callable[[], None]
    gpus: Sequence[str]
    settings: dict[str, Any]
    loaders: int
    workers: list[WorkerProcess] = field(default_factory=list)
    messages: "queue.SimpleQueue[tuple[WorkerProcess, dict[str, Any] | None]]" = field(default_factory=queue.SimpleQueue)
    facts: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.gpus)

    def launch(self, count: int) -> None:
        """Start the processes of up to `count` workers that are not running; they import while the main process goes on."""
        for number in range(len(self.workers), min(count, len(self.gpus))):
            self.workers.append(self._launched(number))

    def start(self, count: int) -> None:
        """Have up to `count` workers begin with the run."""
        self.launch(count)
        config = self.project.config
        if config.num_workers < 0:
            config = config.replace(num_workers=self.loaders // len(self.gpus))
        for worker in self.workers[:count]:
            if not worker.introduced:
                worker.introduced = True
                worker.send(
                    config=config.as_dict(), seconds_ago=time.monotonic() - self.project.began, settings=self.settings
                )

    def _launched(self, number: int) -> WorkerProcess:
        log = self.project.paths.log.with_name(f"{self.project.config.run}-worker{number}.txt")
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as output:
            process = subprocess.Popen(
                worker_command(self.project, self.program), bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=output, env=worker_environment(self.gpus[number], len(self.gpus)),
                start_new_session=True,  # Ctrl-C reaches it through the main process
            )
        worker = WorkerProcess(f"worker {number}", process, str(log))
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()
        return worker

    def _listen(self, worker: WorkerProcess) -> None:
        """Pass on what a worker reports, and None when it has closed its output."""
        for line in io.BufferedReader(cast(io.RawIOBase, worker.process.stdout)):
            with contextlib.suppress(ValueError):
                self.messages.put((worker, json.loads(line)))
        self.messages.put((worker, None))

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
        shown = " · ".join(worker.bar or f"{worker.task} ..." for worker in self.workers if worker.task)
        if time.time() - display.last_print_t >= max(1.0, display.mininterval):
            display.last_print_t = time.time()
            display.set_description_str(shown)

    def _take_in(self, worker: WorkerProcess, message: dict[str, Any], graph: TaskGraph | None) -> None:
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

    def _ended(self, worker: WorkerProcess) -> BaseException:
        """Why a worker has ended, as an exception."""
        status = worker.process.wait(timeout=SAVING_TAKES)
        doing = f", which was at work on {worker.task!r}," if worker.task else ""
        if status == RUN_ME_AGAIN:
            return Interrupted(f"{worker.name.capitalize()}{doing} was asked to stop; finished work is saved.")
        if worker.failure:
            return RunStopped(worker.failure)
        by = f"{signal.Signals(-status).name}, perhaps because memory ran out" if status < 0 else f"an error, status {status}"
        return RunStopped(f"{worker.name.capitalize()}{doing} was ended by {by}. Its full output: {worker.log}")

    def close(self) -> None:
        """Let the workers save and end, and wait for that; a second interrupt, or ten minutes, ends them at once."""
        workers, self.workers = self.workers, []
        until = time.monotonic() + SAVING_TAKES
        try:
            for worker in workers:
                worker.end()
            open_outputs = len(workers)
            while open_outputs and time.monotonic() < until:
                with contextlib.suppress(queue.Empty):
                    worker, message = self.messages.get(timeout=1.0)
                    open_outputs -= message is None and worker in workers
                    if message:
                        self._take_in(worker, message, None)
                if all(worker.process.poll() is not None for worker in workers):
                    break
            for worker in workers:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    worker.process.wait(timeout=max(0.1, until - time.monotonic()))
        finally:
            for worker in workers:
                worker.process.kill()
                worker.process.wait()


# %% in a worker's process
@dataclass(frozen=True)
class MainProcess:
    """The main process as a worker sees it.

    Args:
        pipe: to write reports to.
        lock: held while one is written.
    """

    pipe: IO[bytes]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def report(self, **message: Any) -> None:
        with self.lock, contextlib.suppress(OSError):  # it is gone, as the closed input tells
            self.pipe.write(json.dumps(message).encode() + b"\n")
            self.pipe.flush()


class ReportedLines(io.TextIOBase):
    """Standard output of a worker: everything goes to its log, whole lines to the main process too.

    Args:
        main: receives the lines.
        log: receives everything.
    """

    def __init__(self, main: MainProcess, log: IO[str]) -> None:
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

    def __init__(self, main: MainProcess, log: IO[str]) -> None:
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


def serve(begin: Callable[[Project, dict[str, Any]], Callable[[Task], dict[str, Any]]]) -> None:
    """The life of a worker's process: one task after the other, as the main process asks for them.

    It ends with status 0 when there are no more, or none came at all, 75 when it was stopped and has saved, else 1.

    Args:
        begin: called once with the run and the workers' common settings; returns what does a task, and gives back figures to plan
            the next ones with.
    """
    main, requests = MainProcess(_own_output()), queue.SimpleQueue[bytes]()
    working, task = threading.Event(), None
    threading.Thread(target=_receive_requests, args=(requests, working), daemon=True).start()
    sys.stdout, sys.stderr = ReportedLines(main, sys.stderr), ReportedBars(main, sys.stderr)
    try:
        with StopRequest(at_once=True):
            first = _next_request(requests)
            if first is None:
                return
            project = open_project(Config(**first["config"]), first["seconds_ago"])
            do = begin(project, first["settings"])
            main.report(ready=True)
            while request := _next_request(requests):
                task = Task(**request["task"])
                facts = do(task)
                working.clear()
                main.report(done=task.name, facts=facts)
    except KeyboardInterrupt as stopped:
        print(stopped)
        sys.exit(RUN_ME_AGAIN)
    except Exception as error:
        main.report(failed=_explained(error, task))
        sys.exit(1)


def _own_output() -> IO[bytes]:
    """Standard output for reports alone: what libraries write to it goes to the log from now on."""
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(own, "wb")


def _explained(error: Exception, task: Task | None) -> str:
    if isinstance(error, McvqaError):  # written for people
        return str(error)
    traceback.print_exc()
    return f"{f'{task.name.capitalize()}: ' if task else ''}{type(error).__name__}: {error}"


def _next_request(requests: "queue.SimpleQueue[bytes]") -> dict[str, Any] | None:
    """None: there is no more to do."""
    line = requests.get().strip()
    request = json.loads(line) if line else {"end": True}
    return None if "end" in request else request


def _receive_requests(requests: "queue.SimpleQueue[bytes]", working: threading.Event) -> None:
    """The lines that come through the pipe, and an empty one when it ends, as it does with the main process however that ends."""
    for line in io.FileIO(0, closefd=False):  # not sys.stdin: a thread that waits there holds a lock that Python needs to end
        if b'"task"' in line:
            working.set()
        requests.put(line)
    if working.is_set():
        os.kill(os.getpid(), signal.SIGTERM)
    requests.put(b"")


def silent() -> contextlib.AbstractContextManager[Any]:
    """Nothing is printed within the block: the main process has said it."""
    return contextlib.redirect_stdout(io.StringIO())


