"""Places: several folds at the same time, each in a process of its own on its own GPU, and one display for all of them.

A process gets its settings and its fold on the command line, writes to the run's folders as the main process would, and
ends when that one ends. What it says stands in `logs/<run>-fold<k>.txt`, which the main process reads along.
"""
import contextlib
import dataclasses
import json
import os
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

import torch
from tqdm.auto import tqdm

from mcvqa.config import Config
from mcvqa.files import write_text
from mcvqa.interrupt import RUN_ME_AGAIN, Interrupted, StopRequest
from mcvqa.ownership import OWNER
from mcvqa.project import Project, RunStopped


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
        return gpus[: config.parallel_folds or len(gpus)]
    return [""] * (config.parallel_folds or 1 if device == "cpu" else 1)


def _surroundings(place: str, places: int) -> dict[str, str]:
    """The environment of a fold's process."""
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
@dataclass
class FoldProcess:
    """A process that works on one fold.

    Attributes:
        file: what it says.
        position: how far that was read. rest: its last line, which may not be whole.
    """

    fold: int
    place: str
    process: subprocess.Popen
    file: Path
    position: int
    rest: str = ""

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
            if said and not re.search(r"\d%\|", said):
                yield said if f"fold {self.fold}" in said.lower() else f"fold {self.fold}: {said}"

    @property
    def progress(self) -> str:
        """Its progress bar in a few words."""
        bar = re.search(r"(\S.*?): +(\d+%)\|.*<([\d:?]+),[^,\]]*(.*)\]", self.rest)
        return f"{bar[1]} {bar[2]} <{bar[3]}{bar[4]}" if bar else f"fold {self.fold} ..."


@dataclass
class FoldProcesses:
    """Works on folds at several places; the next fold goes where a place becomes free.

    Args:
        command: of a process, without the fold.
        share: what the process of the next fold is told of its share of the time, given how many folds are not begun; None:
            there is no time for it.
    """

    project: Project
    command: list[str]
    places: Sequence[str]
    share: Callable[[int], dict[str, int] | None]
    running: list[FoldProcess] = field(default_factory=list)

    def work(self, folds: Sequence[int]) -> None:
        """Until all folds are done.

        Raises:
            RunStopped: a process failed; the others have saved and ended, and nothing is started again.
            Interrupted: one was asked to stop; with a KeyboardInterrupt here all are.
        """
        waiting, free = list(folds), list(self.places)
        with tqdm(bar_format="{desc}", leave=False) as display:
            try:
                while waiting or self.running:
                    while waiting and free:
                        share, fold = self.share(len(waiting)), waiting.pop(0)
                        if share is None:
                            tqdm.write(f"  fold {fold}: left out, there is not the time for it")
                        else:
                            self._start(fold, free.pop(0), share)
                    time.sleep(0.2)
                    free += [child.place for child in self._ended()]
                    self._show(display)
            finally:
                self._end_all()

    def _start(self, fold: int, place: str, share: dict[str, int]) -> None:
        file = self.project.paths.log.with_name(f"{self.project.config.run}-fold{fold}.txt")
        with open(file, "ab") as said:
            position = said.tell()
            process = subprocess.Popen(
                [*self.command, str(fold), str(time.time()), json.dumps(share)],
                stdin=subprocess.PIPE, stdout=said, stderr=subprocess.STDOUT,
                env=_surroundings(place, len(self.places)), start_new_session=True,  # Ctrl-C reaches it through the main process
            )
            self.running.append(FoldProcess(fold, place, process, file, position))

    def _ended(self) -> list[FoldProcess]:
        """Processes that ended well. Raises RunStopped or Interrupted for others."""
        ended = [child for child in self.running if child.process.poll() is not None]
        for child in self.running:
            for line in child.new_lines():
                tqdm.write(f"  {line}")
        self.running = [child for child in self.running if child not in ended]
        for child in ended:
            if child.process.returncode == RUN_ME_AGAIN:
                raise Interrupted(f"The process of fold {child.fold} was asked to stop: what is done is saved.")
            if child.process.returncode:
                raise RunStopped(self._why(child))
        return ended

    def _why(self, child: FoldProcess) -> str:
        told = [e["told"] for e in self.project.log.events("failed") if e["process"] == child.process.pid]
        if told:
            return str(told[-1])
        status = child.process.returncode
        by = f"{signal.Signals(-status).name}, maybe for want of memory" if status < 0 else f"an error, status {status}"
        return f"The process of fold {child.fold} was ended by {by}. What it said: {child.file}"

    def _show(self, display: tqdm) -> None:
        shown = " · ".join(child.progress for child in self.running)
        if time.time() - display.last_print_t >= max(1, display.mininterval):
            display.last_print_t = time.time()
            display.set_description_str(shown)

    def _end_all(self) -> None:
        """Ask the processes to save and end, and wait for it; a second interrupt ends them at once."""
        for child in self.running:
            child.process.terminate()
        try:
            for child in self.running:
                child.process.wait()
                for line in child.new_lines():
                    tqdm.write(f"  {line}")
        finally:
            for child in self.running:
                child.process.kill()


def side_by_side(
    project: Project, config: Config, places: Sequence[str], folds: Sequence[int], work: Callable[[], None], workers: int,
    share: Callable[[int], dict[str, int] | None],
) -> None:
    """`work`, a function of a module's top level, once for each fold, in processes of their own. It calls `in_child`.

    Args:
        config: the settings of the processes.
        workers: loader processes for all of them together, where the settings name no number.
        share: as in FoldProcesses.

    Raises:
        RunStopped: one of them failed. Interrupted: one was asked to stop.
    """
    where = ", ".join(f"GPU {place}" for place in places) if places[0] else "the CPU"
    print(f"  {len(places)} folds at a time, each in a process of its own, on {where}")
    config = config if config.num_workers >= 0 else config.replace(num_workers=workers // len(places))
    began = time.time() - (time.monotonic() - project.began)
    command = [*_program(project, work), json.dumps(dataclasses.asdict(config)), str(began)]
    FoldProcesses(project, command, places, share).work(folds)


# %% in a fold's process
def in_child(work: Callable[[Project, int, float, dict[str, int]], None]) -> None:
    """The life of a fold's process: `work` for what is on the command line: the fold, the moment at which the process was
    started, and its share of the time. It ends with status 0, 1 or 75."""
    settings, began, fold, started, share = sys.argv[1:]
    project = Project(Config(**json.loads(settings)))
    project.began -= time.time() - float(began)  # the session began with its main process
    threading.Thread(target=_stop_without_owner, daemon=True).start()
    try:
        with StopRequest(at_once=True):
            work(project, int(fold), float(started), json.loads(share))
    except KeyboardInterrupt as stopped:
        print(stopped)
        sys.exit(RUN_ME_AGAIN)
    except Exception as error:
        told = str(error)
        if type(error).__module__.split(".")[0] not in ("mcvqa", "__main__"):  # not written for people
            traceback.print_exc()
            told = f"Fold {fold}: {type(error).__name__}: {error}"
        project.log.write("failed", fold=int(fold), process=os.getpid(), told=told)
        sys.exit(1)


def _stop_without_owner() -> None:
    """The pipe to the owner ends when it does, however that was."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
