"""Places: several folds at the same time, one at each place, which is a process on its own GPU; one display for all of them.

A process gets the run's settings on the command line and one fold after the other as a line of JSON through a pipe, writes to
the run's folders as the main process would, and ends when that one ends. What it says stands in `logs/<run>-place<n>.txt`,
which the main process reads along; there it also says that it is free again.
"""
import contextlib
import dataclasses
import io
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import torch
from tqdm.auto import tqdm

from mcvqa.base.files import write_text
from mcvqa.base.interrupt import RUN_ME_AGAIN, Interrupted, StopRequest
from mcvqa.config import Config
from mcvqa.run.ownership import OWNER
from mcvqa.run.project import Project, RunStopped


# %% where
def fold_places(config: Config, device: str) -> list[str]:
    """One entry for each fold that can be worked on at the same time: its GPU as CUDA_VISIBLE_DEVICES names it, else ''.

    Args:
        device: 'cuda', 'mps' or 'cpu'.
    """
    if "LOCAL_RANK" in os.environ:  # a launcher's processes share a fold
        return [""]
    if device == "cuda":
        named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        gpus = named or [str(number) for number in range(torch.cuda.device_count())]
        return gpus[: min(config.parallel_folds or len(gpus), len(config.folds_to_train))]
    return [""] * (min(config.parallel_folds or 1, len(config.folds_to_train)) if device == "cpu" else 1)


def _surroundings(place: str, places: int) -> dict[str, str]:
    """The environment of a place's process."""
    return os.environ | {
        OWNER: str(os.getpid()), **({"CUDA_VISIBLE_DEVICES": place} if place else {}),
        "OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // places)), "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1",
        "TQDM_MININTERVAL": "1",
    }


# %% what runs there
def notebook_cells() -> dict[str, str]:
    """Title -> the notebook's library cell as it was run last, each at the place where it was run first."""
    return {cell.split("\n")[0]: cell for cell in _run_cells() if cell.startswith("# @title mcvqa/")}


def _run_cells() -> Iterator[str]:
    """Every cell that was run, without those that Python could not read."""
    for cell in vars(sys.modules["__main__"])["In"]:
        with contextlib.suppress(SyntaxError):
            compile(cell, "cell", "exec")
            yield cell


def _program(project: Project, work: Callable[[], None]) -> list[str]:
    """The command that calls `work`; of a notebook, with its cells as they are now in a file of their own."""
    if work.__module__ != "__main__":
        return [sys.executable, "-c", f"from {work.__module__} import {work.__name__}; {work.__name__}()"]
    script = project.paths.experiment / "notebook.py"
    write_text(script, "\n\n\n".join([*notebook_cells().values(), f"{work.__name__}()"]) + "\n")
    return [sys.executable, str(script)]


# %% in the main process
FREE = "--- free for the next fold ---"  # a line of what a process says, which is not passed on


@dataclass(frozen=True)
class Job:
    """What a process is asked for.

    Attributes:
        step: 'train' or 'score'.
        settings: of a Config.
        share: of the time, empty without a time budget; see Places.work.
    """

    step: str
    settings: dict[str, Any]
    fold: int
    share: dict[str, int]


@dataclass
class PlaceProcess:
    """The process of a place.

    Attributes:
        file: what it says.
        position: how far that was read. rest: its last line, which may not be whole.
        fold: that it works on, or did last; None: it was asked for none yet.
        free: whether it waits for a fold; not while it imports what it needs.
    """

    process: subprocess.Popen
    file: Path
    position: int
    rest: str = ""
    fold: int | None = None
    free: bool = False

    def __str__(self) -> str:
        return "A process that was to work on a fold" if self.fold is None else f"The process of fold {self.fold}"

    @property
    def pipe(self) -> IO[bytes]:
        """What it reads its jobs from."""
        return cast(IO[bytes], self.process.stdin)

    def ask(self, job: Job) -> None:
        """Let it begin a fold."""
        self.fold, self.free = job.fold, False
        with contextlib.suppress(OSError):  # it has just ended, which the next look at it will tell
            self.pipe.write(json.dumps(dataclasses.asdict(job)).encode() + b"\n")

    def end(self) -> None:
        """Let it save and end: by an empty line, for loader processes may hold the pipe open, or by a signal."""
        if self.free:
            with contextlib.suppress(OSError):  # it has just ended
                self.pipe.write(b"\n")
        else:
            self.process.terminate()

    def new_lines(self) -> Iterator[str]:
        """What was said since the last call, without progress bars."""
        with open(self.file, "rb") as handle:
            handle.seek(self.position)
            new = handle.read()
        self.position += len(new)
        *lines, rest = (self.rest + new.decode(errors="replace")).split("\n")
        self.rest = rest[max(0, rest.rfind("\r")) :]
        for line in lines:
            said = line.rstrip("\r").split("\r")[-1].strip()
            if said == FREE:
                self.free = True
            elif said and not re.search(r"\d%\|", said):
                yield said if self.fold is None or f"fold {self.fold}" in said.lower() else f"fold {self.fold}: {said}"

    @property
    def progress(self) -> str:
        """Its progress bar in a few words."""
        bar = re.search(r"(\S.*?): +(\d+%)\|.*<([\d:?]+),[^,\]]*(.*)\]", self.rest)
        return f"{bar[1]} {bar[2]} <{bar[3]}{bar[4]}" if bar else f"fold {self.fold} ..."


@dataclass
class Places:
    """The places of a run. The process at each lasts until the block ends that this is entered for: what it has loaded serves all
    folds and steps.

    Args:
        names: as `fold_places` gives them.
        workers: loader processes for all of them together, where the settings name no number.

    Attributes:
        processes: of the first places, as many as were needed so far.
    """

    project: Project
    names: Sequence[str]
    workers: int
    processes: list[PlaceProcess] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.names)

    def __enter__(self) -> "Places":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, program: Callable[[], None], folds: int) -> None:
        """Start what processes so many folds need. They get ready while this one goes on.

        Args:
            program: of a process, a function of a module's top level. It calls `at_place`.
        """
        for place in range(len(self.processes), min(len(self), folds)):
            self.processes.append(self._start(place, program))

    def work(
        self, program: Callable[[], None], step: str, config: Config, folds: Sequence[int],
        share: Callable[[int], dict[str, int] | None],
    ) -> None:
        """One step of all folds; the next fold goes where a place becomes free.

        Args:
            program: as in `begin`.
            config: the settings of the step.
            share: what is told with the next fold of its share of the time, given how many folds are not begun; None: there is
                no time for it.

        Raises:
            RunStopped: a process failed. Interrupted: one was asked to stop. The others work until `close`.
        """
        waiting, names = list(folds), self.names[: len(folds)]
        where = ", ".join(f"GPU {name}" for name in names) if names[0] else "the CPU"
        print(f"  {len(names)} folds at a time, each in a process of its own, on {where}")
        self.begin(program, len(folds))
        with tqdm(bar_format="{desc}", leave=False) as display:
            while waiting or self._busy():
                while waiting and (free := self._free()):
                    told, fold = share(len(waiting)), waiting.pop(0)
                    if told is None:
                        tqdm.write(f"  fold {fold}: left out, there is not the time for it")
                    else:
                        free[0].ask(Job(step, config.as_dict(), fold, told))
                time.sleep(0.2)
                self._listen()
                self._show(display)

    def _busy(self) -> list[PlaceProcess]:
        return [process for process in self.processes if not process.free and process.fold is not None]

    def _free(self) -> list[PlaceProcess]:
        return [process for process in self.processes if process.free]

    def _start(self, place: int, program: Callable[[], None]) -> PlaceProcess:
        config, log = self.project.config, self.project.paths.log
        if config.num_workers < 0:
            config = config.replace(num_workers=self.workers // len(self))
        began = time.time() - (time.monotonic() - self.project.began)
        file = log.with_name(f"{config.run}-place{place}.txt")
        with open(file, "ab") as said:
            position = said.tell()
            process = subprocess.Popen(
                [*_program(self.project, program), json.dumps(config.as_dict()), str(began)], bufsize=0,
                stdin=subprocess.PIPE, stdout=said, stderr=subprocess.STDOUT,
                env=_surroundings(self.names[place], len(self)), start_new_session=True,  # Ctrl-C reaches it through this process
            )
            return PlaceProcess(process, file, position)

    def _listen(self) -> None:
        """Pass on what was said. Raises RunStopped or Interrupted for a process that has ended."""
        for child in self.processes:
            status = child.process.poll()
            for line in child.new_lines():
                tqdm.write(f"  {line}")
            if status == RUN_ME_AGAIN:
                raise Interrupted(f"{child} was asked to stop: what is done is saved.")
            if status is not None:
                raise RunStopped(self._why(child, status))

    def _why(self, child: PlaceProcess, status: int) -> str:
        told = [e["told"] for e in self.project.log.events("failed") if e["process"] == child.process.pid]
        if told:
            return str(told[-1])
        by = f"{signal.Signals(-status).name}, maybe for want of memory" if status < 0 else f"an error, status {status}"
        return f"{child} was ended by {by}. What it said: {child.file}"

    def _show(self, display: tqdm) -> None:
        shown = " · ".join(child.progress for child in self._busy())
        if time.time() - display.last_print_t >= max(1, display.mininterval):
            display.last_print_t = time.time()
            display.set_description_str(shown)

    def close(self) -> None:
        """Let the processes save and end, and wait for it; a second interrupt ends them at once."""
        children, self.processes = self.processes, []
        try:
            for child in children:
                child.end()
            for child in children:
                child.process.wait()
                for line in child.new_lines():
                    tqdm.write(f"  {line}")
        finally:
            for child in children:
                child.process.kill()


# %% in the process of a place
def at_place(work: Callable[[Project, Job], None]) -> None:
    """The life of a place's process: `work` for one job after the other. It ends with status 0 when there are no more, else
    with 1 or 75."""
    settings, began = sys.argv[1:]
    project = Project(Config(**json.loads(settings)))
    project.began -= time.time() - float(began)  # the session began with its main process
    jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    working, job = threading.Event(), None
    threading.Thread(target=_receive, args=(jobs, working), daemon=True).start()
    try:
        with StopRequest(at_once=True):
            while job := _next_job(jobs):
                work(project, job)
                working.clear()
    except KeyboardInterrupt as stopped:
        print(stopped)
        sys.exit(RUN_ME_AGAIN)
    except Exception as error:
        told = str(error)
        if type(error).__module__.split(".")[0] not in ("mcvqa", "__main__"):  # not written for people
            traceback.print_exc()
            told = f"{f'Fold {job.fold}: ' if job else ''}{type(error).__name__}: {error}"
        project.log.write("failed", process=os.getpid(), told=told)
        sys.exit(1)


def _next_job(jobs: queue.SimpleQueue[bytes]) -> Job | None:
    """Say that this process is free, and wait; None: there is no more to do."""
    print(f"\n{FREE}\n", end="")  # in one piece
    line = jobs.get().strip()
    return Job(**json.loads(line)) if line else None


def _receive(jobs: queue.SimpleQueue[bytes], working: threading.Event) -> None:
    """The lines that come through the pipe, and an empty one when it ends, as it does with its owner, however that was. An empty
    line says that there is no more to do."""
    for line in io.FileIO(0, closefd=False):  # not sys.stdin: who waits there holds a lock that Python needs to end
        if line.strip():
            working.set()
        jobs.put(line)
    if working.is_set():
        os.kill(os.getpid(), signal.SIGTERM)
    jobs.put(b"")
