"""Manages a session of a run: exclusive ownership, its record in the log, and helpful errors."""
import contextlib
import dataclasses
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from typing import Any

import torch

from mcvqa.base.files import STORAGE, DiskError, disk_errors_explained, write_json
from mcvqa.base.informing import printable_output
from mcvqa.base.interrupt import StopRequest
from mcvqa.config import Config, McvqaError
from mcvqa.model.distributed import by_main, is_main_process, join_processes
from mcvqa.model.memory import less_memory
from mcvqa.report.experiments import read_experiment, record_experiment, update_index
from mcvqa.run.ownership import Ownership
from mcvqa.run.paths import START_FILE
from mcvqa.run.project import Project, RunStopped, open_project, with_kept_prompt
from mcvqa.run.takeover import take_over
from mcvqa.training.checkpoint import CheckpointError


@contextlib.contextmanager
def owning(project: Project, fold: int | None = None) -> Iterator[None]:
    """Within the block, ensure that no other session works on the run or, with `fold`, trains this fold.

    With several processes, the main one is the owner.

    Raises:
        Owned: another session does.
    """
    what = f"the run {project.config.run!r}" if fold is None else f"fold {fold} of the run {project.config.run!r}"
    paths, lock = project.paths, project.paths.lock(fold)
    is_new = not paths.experiment.exists() and not paths.log.exists()
    parents = (paths.experiment.parent, paths.log.parent, paths.root, *paths.root.parents)
    new_folders = [path for path in parents if not path.exists()]
    ownership = Ownership(lock, what)
    by_main(ownership.take)
    before = os.environ.get(STORAGE, "")
    os.environ[STORAGE] = str(lock.absolute()) if lock.exists() else ""
    try:
        yield
    except McvqaError:
        if is_new and is_main_process() and not _has_begun(project):
            with contextlib.suppress(OSError):
                shutil.rmtree(paths.experiment, ignore_errors=True)
                paths.log.unlink(missing_ok=True)
                lock.unlink(missing_ok=True)
        raise
    finally:
        os.environ[STORAGE] = before
        ownership.give_back()
        for folder in new_folders:
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()


def _has_begun(project: Project) -> bool:
    """Return whether a run has read its data; a run that stopped earlier, for example at a mistyped setting, leaves nothing."""
    return (project.paths.experiment / "data.json").exists() or project.paths.checkpoints.exists()


@contextlib.contextmanager
def run_session(config: Config, **given: Any) -> Iterator[Project]:
    """Own the run, copy what `shared_dir` and `resume_from` have of it, and record this session in the log.

    Args:
        config: all settings.
        given: the user's metrics and augment; see `Project`.

    Yields:
        The run.
    """
    join_processes(config)
    project = by_main(open_project, config)
    with disk_errors_explained(), owning(project), _session(by_main(with_attempt, project)) as recorded, _continued(recorded):
        project = dataclasses.replace(by_main(in_attempt, recorded), config=by_main(with_kept_prompt, recorded.config), **given)
        if project.config.start_from or project.augment or (project.paths.experiment / START_FILE).exists():
            from mcvqa.run.start import settle_start

            by_main(settle_start, project)
        yield project


def _continued(project: Project) -> contextlib.AbstractContextManager[None]:
    """Copy the output named by `resume_from`, and return the context in which the run is shared, if it has a `shared_dir`."""
    by_main(take_over, project)
    if not project.config.shared_dir:
        return contextlib.nullcontext()
    from mcvqa.run.shared_session import sharing

    return sharing(project)


def with_attempt(project: Project) -> Project:
    """Give the project a log that records the attempt with each event, a new attempt if the run has no weights."""
    if not project.paths.checkpoints.exists():
        write_json(project.records.file("run"), {"key": "", "attempt": secrets.token_hex(4)})
    return in_attempt(project)


def in_attempt(project: Project) -> Project:
    """Give the project a log that records the current attempt with each event."""
    attempt = str(project.records.read("run").get("attempt", ""))
    return dataclasses.replace(project, log=project.log.with_facts(attempt=attempt)) if attempt else project


@contextlib.contextmanager
def _session(project: Project) -> Iterator[Project]:
    """Log the duration of a session; a run that fails without a result is recorded as failed in the index.

    With several processes, only the main one prints and writes this record.
    """
    started, folder = time.monotonic(), project.paths.experiment
    output = printable_output() if is_main_process() else contextlib.redirect_stdout(open(os.devnull, "w"))  # noqa: SIM115
    try:
        # outside of training all files are written atomically, so a signal may end a run anywhere
        with output, StopRequest(at_once=True), disk_errors_explained(), memory_explained(project.config), lost_explained():
            yield project
    except Exception as error:
        # `predict` or `ensemble` came too early, or nothing can be written
        is_unrecorded = isinstance(error, (CheckpointError, DiskError))
        if is_main_process() and _has_begun(project) and not is_unrecorded and read_experiment(folder).accuracy is None:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            record_experiment(folder, status="failed", seconds=time.monotonic() - started, note=reason)
            update_index(folder.parent)
        raise
    finally:
        if is_main_process() and folder.exists():
            in_attempt(project).log.write("session", seconds=round(time.monotonic() - started, 1))


@contextlib.contextmanager
def lost_explained() -> Iterator[None]:
    """Within the block, convert the error of an exchange with a process that has ended to RunStopped."""
    try:
        yield
    except RuntimeError as error:
        is_gloo = type(error) is RuntimeError and "gloo" in str(error)
        if "LOCAL_RANK" not in os.environ or not (is_gloo or isinstance(error, torch.distributed.DistError)):
            raise
        raise RunStopped(
            "A process of this run has ended, so all stop; its own output or that of the launcher says why. Finished work is "
            "kept: run the same command again to continue."
        ) from error


@contextlib.contextmanager
def memory_explained(config: Config) -> Iterator[None]:
    """Within the block, convert out-of-memory errors to RunStopped with advice."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise RunStopped(f"Out of GPU memory. Finished work is kept. {less_memory(config)}") from error
        if not isinstance(error, MemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        raise RunStopped(
            f"The machine is out of memory. Finished work is kept. Reduce image_size (now {config.image_size}), batch_size "
            f"(now {config.batch_size}) or num_workers."
        ) from error
