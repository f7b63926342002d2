"""Runs workers in separate processes on this machine, with one GPU each, or as many as a model needs.

Requests reach a worker through its standard input, records come back through its standard output, one line of JSON each. Its
output goes to `logs/<run>-worker<n>.txt`, and line by line to the display of the main process, which shows all progress bars.

This does not use loky (joblib): when one of its workers dies, it ends the others at once without saving their training, and
Triton cannot read the source of kernels defined in notebook cells (tried; DECISIONS.md).
"""
import contextlib
import io
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any, cast

from mcvqa.base.files import write_text
from mcvqa.base.informing import counted
from mcvqa.base.interrupt import RUN_ME_AGAIN, Interrupted, StopRequest
from mcvqa.config import Config
from mcvqa.run.ownership import OWNER
from mcvqa.run.project import Project, RunStopped, open_project
from mcvqa.run.tasks import Task, notebook_cells
from mcvqa.run.workers.pool import (
    SAVING_TAKES,
    SHORT_BAR,
    PoolWorker,
    ReportedBars,
    ReportedLines,
    WorkerPool,
    explained_failure,
)


# %% where
def most_workers(config: Config) -> int:
    """Return how many workers a run may have: one per fold, or more if they and the executor were asked for."""
    return max(config.parallel_folds * (config.executor != "auto"), len(config.folds_to_train))


def worker_gpus(config: Config, device: str, each: int = 1) -> list[str]:
    """List the GPUs of each worker as CUDA_VISIBLE_DEVICES names them; '' without GPUs.

    Args:
        config: all settings.
        device: 'cuda', 'mps' or 'cpu'.
        each: number of GPUs that the model needs; the settings may raise it.
    """
    if "LOCAL_RANK" in os.environ:  # a launcher's processes share each task
        return [""]
    if device == "cuda":
        import torch  # here, as the processes of the workers use this module without it

        named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        single, each = named or [str(number) for number in range(torch.cuda.device_count())], max(each, config.gpus_at_least)
        gpus = [",".join(single[start : start + each]) for start in range(0, len(single) - each + 1, each)]
        return gpus[: min(config.parallel_folds or len(gpus), most_workers(config))]
    return [""] * (min(config.parallel_folds or 1, most_workers(config)) if device == "cpu" else 1)


def worker_environment(gpu: str, workers: int) -> dict[str, str]:
    import torch

    return os.environ | {
        OWNER: str(os.getpid()), **({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {}),
        "OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // workers)), "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1",
        "TQDM_MININTERVAL": "1", "TQDM_BAR_FORMAT": SHORT_BAR,
    }


def worker_command(project: Project, program: Callable[[], None]) -> list[str]:
    """Make the command that calls `program`.

    In a notebook, its current cells are written to a file first, from which Triton reads the source of kernels.
    """
    if program.__module__ != "__main__":
        return [sys.executable, "-c", f"from {program.__module__} import {program.__name__}; {program.__name__}()"]
    script = project.paths.experiment / "notebook.py"
    write_text(script, "\n\n\n".join([*notebook_cells().values(), f"{program.__name__}()"]) + "\n")
    return [sys.executable, str(script)]


# %% in the main process
@dataclass(kw_only=True)
class WorkerProcess(PoolWorker):
    """Represents a worker process on this machine.

    Attributes:
        log: file with its full output.
    """

    process: subprocess.Popen
    log: str

    def send(self, **request: Any) -> None:
        with contextlib.suppress(OSError):  # it has just ended, as its closed output will show
            cast(IO[bytes], self.process.stdin).write(json.dumps(request).encode() + b"\n")

    def end(self) -> None:
        """Let it save and end.

        It gets a request if it is waiting for one, since loaders may keep the pipe open, otherwise a signal. If it has nothing to
        save, it is killed.
        """
        if not self.introduced:
            self.process.kill()
        elif self.task is None:
            self.send(end=True)
        else:
            self.process.terminate()


class ProcessWorkers(WorkerPool[WorkerProcess]):
    """Manages processes with separate GPUs; `program` calls `serve`, and `gpus` is the result of `worker_gpus`."""

    def __str__(self) -> str:
        devices = ", ".join(f"GPU{'s' * (',' in gpu)} {gpu}" for gpu in self.gpus) if self.gpus[0] else "the CPU"
        return f"{counted(len(self), 'worker')}, each in a process of its own, on {devices}"

    def _launched(self, number: int) -> WorkerProcess:
        log = self.project.paths.log.with_name(f"{self.project.config.run}-worker{number}.txt")
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as output:
            process = subprocess.Popen(
                worker_command(self.project, self.program), bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=output, env=worker_environment(self.gpus[number], len(self.gpus)),
                start_new_session=True,  # Ctrl-C reaches it through the main process
            )
        worker = WorkerProcess(name=f"worker {number}", process=process, log=str(log))
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()
        return worker

    def _listen(self, worker: WorkerProcess) -> None:
        """Pass on a worker's messages, and None when it has closed its output."""
        for line in io.BufferedReader(cast(io.RawIOBase, worker.process.stdout)):
            with contextlib.suppress(ValueError):
                self.messages.put((worker, json.loads(line)))
        self.messages.put((worker, None))

    def _ended(self, worker: WorkerProcess) -> BaseException:
        """Explain the end of a worker, as an exception."""
        status = worker.process.wait(timeout=SAVING_TAKES)
        doing = f", working on {worker.task!r}," if worker.task else ""
        if status == RUN_ME_AGAIN:
            return Interrupted(f"{worker.name.capitalize()}{doing} was asked to stop; finished work is saved.")
        if worker.failure:
            return RunStopped(worker.failure)
        by = f"{signal.Signals(-status).name}, perhaps because memory ran out" if status < 0 else f"an error, status {status}"
        return RunStopped(f"{worker.name.capitalize()}{doing} was ended by {by}. Its full output: {worker.log}")

    def close(self) -> None:
        """Let the workers save and end, and wait for them; a second interrupt, or ten minutes, ends them at once."""
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
    """Represents the main process in a worker.

    Args:
        pipe: pipe for reports.
        lock: held while a report is written.
    """

    pipe: IO[bytes]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def report(self, **message: Any) -> None:
        with self.lock, contextlib.suppress(OSError):  # it is gone, as the closed input will show
            self.pipe.write(json.dumps(message).encode() + b"\n")
            self.pipe.flush()


def serve(begin: Callable[[Project, dict[str, Any]], Callable[[Task], dict[str, Any]]]) -> None:
    """Run a worker process: execute one task after the other, as the main process requests.

    It ends with status 0 when there are no more tasks, or none came at all; 75 when it was stopped and has saved; else 1.

    Args:
        begin: called once with the run and the shared settings; returns the function that executes a task and returns
            measurements for planning the next ones.
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
        main.report(failed=explained_failure(error, task.name if task else ""))
        sys.exit(1)


def _own_output() -> IO[bytes]:
    """Reserve standard output for reports: from now on, output of libraries goes to the log."""
    sys.stdout.flush()
    output = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(output, "wb")


def _next_request(requests: "queue.SimpleQueue[bytes]") -> dict[str, Any] | None:
    """Return the next request; None: there are no more."""
    line = requests.get().strip()
    request = json.loads(line) if line else {"end": True}
    return None if "end" in request else request


def _receive_requests(requests: "queue.SimpleQueue[bytes]", working: threading.Event) -> None:
    """Pass on the lines from the pipe, and an empty one when it closes, as it does however the main process ends."""
    for line in io.FileIO(0, closefd=False):  # not sys.stdin: a thread that waits there holds a lock that Python needs to end
        if b'"task"' in line:
            working.set()
        requests.put(line)
    if working.is_set():
        os.kill(os.getpid(), signal.SIGTERM)
    requests.put(b"")
