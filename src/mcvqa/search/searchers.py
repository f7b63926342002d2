"""Runs processes that search: each takes trials from the study, one after the other, and then confirms the best.

A single searcher is this process; several are separate processes, spread over the GPUs, with their output in
`logs/<study>-searcher<n>.txt`. Processes on other machines that share the output folder join by the same command.
"""
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mcvqa.base.budget import Alarm, TimeUp
from mcvqa.base.interrupt import RUN_ME_AGAIN, Interrupted, StopRequest
from mcvqa.config import Config, McvqaError
from mcvqa.model.device import plan_device
from mcvqa.run.ownership import Owned
from mcvqa.run.project import RunStopped
from mcvqa.run.workers.processes import worker_environment
from mcvqa.search.judge import Judgement
from mcvqa.search.study import SearchPlan, SearchStudy
from mcvqa.search.trial import confirm, do_trial

POLL_EVERY = 1.0  # seconds
SAVING = 600.0  # seconds that a process has to save and end
Tell = Callable[[SearchStudy], None]


# %% one process
def search_here(study: SearchStudy, output: Path, tell: Tell) -> None:
    """Do trials until the study has enough, and wait for those of other processes: if one is killed, this process takes over.

    Args:
        study: the study.
        output: file for the output of the runs; progress bars are shown.
        tell: called after each trial.

    Raises:
        McvqaError, Interrupted, TimeUp: from a trial.
    """
    with Alarm(study.plan.end - time.time()):
        while True:
            if taken := study.take():
                with _printed_to(output):
                    do_trial(study, taken)
            elif study.running() and time.time() < study.plan.until:
                time.sleep(POLL_EVERY)
            else:
                break
            tell(study)


def confirm_here(plan: SearchPlan, values: Mapping[str, Any], output: Path) -> Judgement:
    """Train the other folds of a run.

    Args:
        plan: plan of the search.
        values: values of the searched settings.
        output: file for the output of the run.

    Raises:
        Owned: another process does it.
        McvqaError, Interrupted, TimeUp: from the run.
    """
    with Alarm(plan.end - time.time()), _printed_to(output):
        return confirm(plan, values)


@contextlib.contextmanager
def _printed_to(output: Path) -> Iterator[None]:
    output.parent.mkdir(parents=True, exist_ok=True)
    with open(output, "a", encoding="utf-8", buffering=1) as file, contextlib.redirect_stdout(file):
        yield


# %% several processes
def search_in_processes(study: SearchStudy, count: int, job: dict[str, Any], tell: Tell) -> None:
    """Let `count` processes search, and wait for them.

    Args:
        study: the study.
        count: number of processes.
        job: their job: {} for trials, {"best": [settings]} for confirming.
        tell: called repeatedly.

    Raises:
        RunStopped: one has failed; the others have saved and ended.
        Interrupted, TimeUp: likewise.
    """
    plan = study.plan
    processes = [_launched(plan, number, gpu, count, job) for number, gpu in enumerate(_gpus(plan.config, count))]
    try:
        with StopRequest(at_once=True):
            while any(process.poll() is None for process in processes):
                if any(process.poll() in (FAILED, TIME_IS_UP) for process in processes):
                    break
                tell(study)
                time.sleep(POLL_EVERY)
    finally:
        _end(processes)
    tell(study)
    statuses = [process.returncode for process in processes]
    if TIME_IS_UP in statuses:
        raise TimeUp
    if FAILED in statuses:
        raise RunStopped(f"A search process failed. The end of its output is in {_log(plan, statuses.index(FAILED))}.")
    if not any(status == 0 for status in statuses):  # else the others have done the trials of those that were killed
        raise RunStopped(
            f"All search processes were killed (status {statuses[0]}), perhaps because memory ran out: {_log(plan, 0)}. Run "
            "the same command again to continue."
        )


TIME_IS_UP, FAILED = 76, 1  # exit statuses of a process that searches


def _gpus(config: Config, count: int) -> list[str]:
    """List the GPU of each process as CUDA_VISIBLE_DEVICES names it, else ''."""
    if plan_device(config).device != "cuda":
        return [""] * count
    import torch

    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    gpus = named or [str(number) for number in range(torch.cuda.device_count())]
    return [gpus[number % len(gpus)] for number in range(count)]


def _log(plan: SearchPlan, number: int) -> Path:
    return plan.paths.log.with_name(f"{plan.name}-searcher{number}.txt")


def _launched(plan: SearchPlan, number: int, gpu: str, count: int, job: dict[str, Any]) -> subprocess.Popen:
    log = _log(plan, number)
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", "from mcvqa.search.searchers import begin_searcher; begin_searcher()"], bufsize=0,
            stdin=subprocess.PIPE, stdout=output, stderr=output, env=worker_environment(gpu, count),
            start_new_session=True,  # Ctrl-C reaches it through the main process
        )
    assert process.stdin is not None
    process.stdin.write(json.dumps({"plan": plan_in_json(plan), "log": str(log), **job}).encode() + b"\n")
    return process


def plan_in_json(plan: SearchPlan) -> dict[str, Any]:
    return dataclasses.asdict(plan) | {"config": plan.config.as_dict()}


def plan_from_json(values: dict[str, Any]) -> SearchPlan:
    return SearchPlan(**values | {"config": Config(**values["config"])})


def _end(processes: Sequence[subprocess.Popen]) -> None:
    """Let processes save and end; a second interrupt, or ten minutes, ends them at once."""
    until = time.monotonic() + SAVING
    try:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.1, until - time.monotonic()))
    finally:
        for process in processes:
            process.kill()
            process.wait()


def begin_searcher() -> None:
    """Run a searcher process: its job is a line of standard input, whose end ends the process."""
    job = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    plan, log = plan_from_json(job["plan"]), Path(job["log"])
    try:
        with StopRequest(at_once=True):
            do_job(plan, job, log)
    except TimeUp:
        sys.exit(TIME_IS_UP)
    except Interrupted as stopped:
        print(stopped)
        sys.exit(RUN_ME_AGAIN)
    except McvqaError as error:
        print(f"error: {error}")
        sys.exit(FAILED)


def do_job(plan: SearchPlan, job: Mapping[str, Any], output: Path) -> None:
    """Search, or confirm the settings that another process does not.

    Args:
        plan: plan of the search.
        job: {} for trials, {"best": [settings]} for confirming.
        output: file for what the runs print.

    Raises:
        McvqaError, Interrupted, TimeUp: from a run.
    """
    if "best" not in job:
        search_here(SearchStudy(plan), output, lambda _: None)
    for values in job.get("best", ()):
        with contextlib.suppress(Owned):
            confirm_here(plan, values, output)


def _end_with_input() -> None:
    """Save and end when the main process is gone, however it ended."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
