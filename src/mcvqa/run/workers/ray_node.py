"""Implements a Ray worker on its node: the actor that executes tasks, and the one that collects reports."""
import contextlib
import functools
import os
import platform
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mcvqa.base.files import LONG_WAITS, STORAGE, UNAVAILABLE, patiently, require_storage
from mcvqa.base.interrupt import StopRequest
from mcvqa.config import Config, ConfigError
from mcvqa.run.project import open_project
from mcvqa.run.shared_session import do_shared, shared_records
from mcvqa.run.tasks import Task
from mcvqa.run.workers.pool import ReportedBars, ReportedLines, explained_failure

SAME_VERSIONS = ("torch", "transformers", "peft", "accelerate", "numpy")  # results may differ between versions of these


# %% reports
class Reports:
    """Collects the workers' reports, as an actor, until the main process takes them."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, dict[str, Any]]] = []

    def add(self, number: int, message: dict[str, Any]) -> None:
        self.waiting.append((number, message))

    def take(self) -> list[tuple[int, dict[str, Any]]]:
        waiting, self.waiting = self.waiting, []
        return waiting


@dataclass(frozen=True)
class DistantMain:
    """Represents the main process in an actor.

    Args:
        number: number of the worker.
        reports: the actor that collects reports.
    """

    number: int
    reports: Any

    def report(self, **message: Any) -> None:
        import ray

        with contextlib.suppress(ray.exceptions.RayError):  # the main process is gone, and Ray will end this one
            ray.get(self.reports.add.remote(self.number, message))  # waits, so that no answer to a request overtakes it


# %% tasks
class RayTasks:
    """Executes one task after the other, as an actor, in the main thread of its process.

    Args:
        number: number of the worker.
        program: called once with the run and the shared settings; returns the function that executes a task.
        run: name of the run on the cluster.
    """

    def __init__(self, number: int, program: Callable[..., Any], run: str) -> None:
        import ray

        self.number, self.program, self.run, self.main = number, program, run, DistantMain(number, ray.get_actor(run))
        self.work: Callable[[Task], dict[str, Any]] | None = None
        self.main.report(process=os.getpid(), node=ray.get_runtime_context().get_node_id(), host=socket.gethostname(), bar="")

    def begin(self, request: dict[str, Any]) -> dict[str, Any]:
        """Read the data of the run.

        Args:
            request: settings, and values by which this node is checked.
        """
        return self._guarded(lambda: self._begin_patiently(request))

    def do(self, task: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
        """Execute a task.

        Args:
            task: the task.
            request: see `begin`; needed if Ray has just restarted this actor.
        """
        return self._guarded(lambda: self._do(Task(**task), request), task["name"])

    def _guarded(self, work: Callable[[], dict[str, Any]], task: str = "") -> dict[str, Any]:
        """Return the result of `work`, or the reason for its failure."""
        try:
            with StopRequest(at_once=True):
                return work()
        except KeyboardInterrupt as stopped:
            return {"stopped": str(stopped)}
        except Exception as error:
            return {"failed": explained_failure(error, task)}

    def _begin_patiently(self, request: dict[str, Any]) -> dict[str, Any]:
        return patiently(lambda: self._begin(request), f"opening the run {self.run}", LONG_WAITS)

    def _begin(self, request: dict[str, Any]) -> dict[str, Any]:
        if Path(request["folder"]).is_dir():
            os.chdir(request["folder"])
        require_same_node(request["shared"], request["versions"])
        os.environ[STORAGE] = request["shared"][0]
        project = open_project(Config(**request["config"]), request["seconds_ago"])
        file = project.paths.log.with_name(f"{project.config.run}-worker{self.number}.txt")
        file.parent.mkdir(parents=True, exist_ok=True)
        log = open(file, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 - for as long as the process lives
        sys.stdout, sys.stderr = ReportedLines(self.main, log), ReportedBars(self.main, log)
        if project.config.shared_dir:
            shared_records(project).parcels.receive_beginning()
            self.work = functools.partial(do_shared, project, work=self.program(project, request["settings"]))
            return {"ready": True}
        self.work = self.program(project, request["settings"])
        return {"ready": True}

    def _do(self, task: Task, request: dict[str, Any]) -> dict[str, Any]:
        if self.work is None:  # Ray has restarted this actor, perhaps because the storage is away
            os.environ[STORAGE] = request["shared"][0]
            patiently(require_storage, f"waiting for the storage of the run {self.run}", LONG_WAITS)
            self._begin_patiently(request)
        assert self.work is not None
        try:
            return {"done": task.name, "facts": self.work(task)}
        except OSError as error:
            if error.errno not in UNAVAILABLE:
                raise
            patiently(require_storage, f"waiting for the storage of the run {self.run}", LONG_WAITS)
            os._exit(1)  # Ray repeats the task in a new process, which does not depend on where the outage met this one


def ask_to_stop(process: int) -> None:
    """Send a process on this node the signal that makes it save and end."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGTERM)


# %% what a node must have
def versions_here() -> dict[str, str]:
    """Return the versions of the libraries that results depend on."""
    versions = {"python": platform.python_version().rpartition(".")[0]}
    for package in SAME_VERSIONS:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package).partition("+")[0]
    return versions


def require_same_node(shared: tuple[str, str], versions: dict[str, str]) -> None:
    """Check that this node sees the run's folder and has the same versions as the main process's node.

    Args:
        shared: a file of the run's folder, and its content; empty: the nodes need not share that folder.
        versions: `versions_here` of that node.

    Raises:
        ConfigError: something differs; the message names it.
    """
    host, here = socket.gethostname(), versions_here()
    if differing := [f"{name} {here.get(name, 'missing')} instead of {there}" for name, there in versions.items()
                     if here.get(name) != there]:
        raise ConfigError(f"Node {host} has other versions, which may change results: {', '.join(differing)}. Install the same.")
    file, content = Path(shared[0]), shared[1]
    if content and (not file.is_file() or file.read_text() != content):
        raise ConfigError(
            f"Node {host} does not see the same {file.parent.parent} as the main process. All nodes must share output_dir and "
            "data_dir: put them on a file system that is mounted under the same path everywhere, or share the run through an "
            "object store: --set shared_dir=s3://BUCKET/FOLDER."
        )
