"""One session of a run: one owner, its record in the log, and errors that say what to do."""
import contextlib
import dataclasses
import os
import secrets
import shutil
import time
from collections.abc import Iterator

import torch

from mcvqa.base.files import DiskError, disk_errors_explained, write_json
from mcvqa.base.informing import printable_output
from mcvqa.base.interrupt import StopRequest
from mcvqa.config import Config, McvqaError
from mcvqa.model.distributed import by_main, is_main_process, join_processes
from mcvqa.model.memory import less_memory
from mcvqa.report.experiments import read_experiment, record_experiment, update_index
from mcvqa.run.ownership import Ownership
from mcvqa.run.project import Project, RunStopped, open_project, with_kept_prompt
from mcvqa.run.takeover import take_over
from mcvqa.training.checkpoint import CheckpointError


@contextlib.contextmanager
def owning(project: Project, fold: int | None = None) -> Iterator[None]:
    """Nobody else works on the run, or trains this fold of it. Of several processes the main one is the owner."""
    what = f"the run {project.config.run!r}" if fold is None else f"fold {fold} of the run {project.config.run!r}"
    paths = project.paths
    fresh = not paths.experiment.exists() and not paths.log.exists()
    new = [path for path in (paths.experiment.parent, paths.log.parent, paths.root, *paths.root.parents) if not path.exists()]
    ownership = Ownership(paths.lock(fold), what)
    by_main(ownership.take)
    try:
        yield
    except McvqaError:
        if fresh and is_main_process() and not _has_begun(project):
            with contextlib.suppress(OSError):
                shutil.rmtree(paths.experiment, ignore_errors=True)
                paths.log.unlink(missing_ok=True)
                paths.lock(fold).unlink(missing_ok=True)
        raise
    finally:
        ownership.give_back()
        for folder in new:
            with contextlib.suppress(OSError):  # what holds something stays
                folder.rmdir()


def _has_begun(project: Project) -> bool:
    """Whether a run has got as far as its data: what stops it before is a mistyped setting, of which nothing remains."""
    return (project.paths.experiment / "data.json").exists() or project.paths.checkpoints.exists()


@contextlib.contextmanager
def on_record(config: Config) -> Iterator[Project]:
    """One owner, what an earlier session left elsewhere, and the record of this session."""
    join_processes(config)
    project = by_main(open_project, config)
    with owning(project), _session(by_main(with_attempt, project)) as recorded:
        by_main(take_over, recorded)
        yield dataclasses.replace(recorded, config=by_main(with_kept_prompt, recorded.config))


def with_attempt(project: Project) -> Project:
    """`project` with a log whose events carry the attempt: a new one where the run was started over, weights and all."""
    if not project.paths.checkpoints.exists():
        write_json(project.records.file("run"), {"key": "", "attempt": secrets.token_hex(4)})
    return in_attempt(project)


def in_attempt(project: Project) -> Project:
    """`project` with a log whose events carry the attempt that its record names."""
    attempt = str(project.records.read("run").get("attempt", ""))
    return dataclasses.replace(project, log=project.log.with_facts(attempt=attempt)) if attempt else project


@contextlib.contextmanager
def _session(project: Project) -> Iterator[Project]:
    """Log how long a session took; a run that fails before it has a result is in the index as failed.

    Of several processes the main one prints and keeps this record.
    """
    started, folder = time.time(), project.paths.experiment
    printing = printable_output() if is_main_process() else contextlib.redirect_stdout(open(os.devnull, "w"))  # noqa: SIM115
    try:
        # outside of training every file is written whole, so a signal may end a run anywhere
        with printing, StopRequest(at_once=True), disk_errors_explained(), memory_explained(project.config):
            yield project
    except Exception as error:
        # `predict` or `ensemble` came too early, so no run has failed, or nothing can be written
        unnoted = isinstance(error, (CheckpointError, DiskError))
        if is_main_process() and _has_begun(project) and not unnoted and read_experiment(folder).accuracy is None:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            record_experiment(folder, status="failed", seconds=time.time() - started, note=reason)
            update_index(folder.parent)
        raise
    finally:
        if is_main_process() and folder.exists():
            project.log.write("session", seconds=round(time.time() - started, 1))


@contextlib.contextmanager
def memory_explained(config: Config) -> Iterator[None]:
    """Raises RunStopped where the memory of the GPU or of the machine is full."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise RunStopped(f"The GPU's memory is full. What is finished is kept. {less_memory(config)}") from error
        if not isinstance(error, MemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        raise RunStopped(
            f"The machine's memory is full. What is finished is kept. Use less: a smaller image_size (now {config.image_size}), "
            f"batch_size (now {config.batch_size}) or num_workers."
        ) from error
