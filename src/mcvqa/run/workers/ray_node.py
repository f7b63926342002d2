"""The side of a Ray worker that runs on its node: the actor that does tasks, and the one that collects reports."""
import contextlib
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

from mcvqa.base.interrupt import StopRequest
from mcvqa.config import Config, ConfigError
from mcvqa.run.project import open_project
from mcvqa.run.tasks import Task
from mcvqa.run.workers.pool import ReportedBars, ReportedLines, explained_failure

SAME_VERSIONS = ("torch", "transformers", "peft", "accelerate", "numpy")  # results may differ between versions of these


# %% reports
class Reports:
    """An actor: what workers report until the main process takes it."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, dict[str, Any]]] = []

    def add(self, number: int, message: dict[str, Any]) -> None:
        self.waiting.append((number, message))

    def take(self) -> list[tuple[int, dict[str, Any]]]:
        waiting, self.waiting = self.waiting, []
        return waiting


@dataclass(frozen=True)
class DistantMain:
    """The main process as an actor sees it.

    Args:
        number: of the worker.
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
    """The actor: does one task after the other, in the main thread of its process.

    Args:
        number: of the worker.
        program: called once with the run and the workers' common settings; returns what does a task.
        run: its name on the cluster.
    """

    def __init__(self, number: int, program: Callable[..., Any], run: str) -> None:
        import ray

        self.number, self.program, self.main = number, program, DistantMain(number, ray.get_actor(run))
        self.work: Callable[[Task], dict[str, Any]] | None = None
        self.main.report(process=os.getpid(), node=ray.get_runtime_context().get_node_id(), host=socket.gethostname(), bar="")

    def begin(self, request: dict[str, Any]) -> dict[str, Any]:
        """Read what the run needs.

        Args:
            request: settings, and how to see whether this node fits.
        """
        return self._guarded(lambda: self._begin(request))

    def do(self, task: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
        """Do a task.

        Args:
            request: as for `begin`, where Ray has just started this actor anew.
        """
        return self._guarded(lambda: self._do(Task(**task), request), task["name"])

    def _guarded(self, work: Callable[[], dict[str, Any]], task: str = "") -> dict[str, Any]:
        """What `work` returns, or why it did not."""
        try:
            with StopRequest(at_once=True):
                return work()
        except KeyboardInterrupt as stopped:
            return {"stopped": str(stopped)}
        except Exception as error:
            return {"failed": explained_failure(error, task)}

    def _begin(self, request: dict[str, Any]) -> dict[str, Any]:
        if Path(request["folder"]).is_dir():
            os.chdir(request["folder"])
        require_same_node(request["shared"], request["versions"])
        project = open_project(Config(**request["config"]), request["seconds_ago"])
        file = project.paths.log.with_name(f"{project.config.run}-worker{self.number}.txt")
        file.parent.mkdir(parents=True, exist_ok=True)
        log = open(file, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 - for as long as the process lives
        sys.stdout, sys.stderr = ReportedLines(self.main, log), ReportedBars(self.main, log)
        self.work = self.program(project, request["settings"])
        return {"ready": True}

    def _do(self, task: Task, request: dict[str, Any]) -> dict[str, Any]:
        if self.work is None:
            self._begin(request)
        assert self.work is not None
        return {"done": task.name, "facts": self.work(task)}


def ask_to_stop(process: int) -> None:
    """Send a process of this node the signal on which it saves and ends."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGTERM)


# %% what a node must have
def versions_here() -> dict[str, str]:
    """Versions of what results depend on."""
    found = {"python": platform.python_version().rpartition(".")[0]}
    for package in SAME_VERSIONS:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package).partition("+")[0]
    return found


def require_same_node(shared: tuple[str, str], versions: dict[str, str]) -> None:
    """Check that this node sees the run's folder and would get the results of the main process's node.

    Args:
        shared: a file of the run's folder, and what it holds.
        versions: as `versions_here` gives them there.

    Raises:
        ConfigError: naming what differs.
    """
    host, here = socket.gethostname(), versions_here()
    if differing := [f"{name} {here.get(name, 'missing')} instead of {there}" for name, there in versions.items()
                     if here.get(name) != there]:
        raise ConfigError(f"Node {host} has other versions, which may change results: {', '.join(differing)}. Install the same.")
    file, content = Path(shared[0]), shared[1]
    if not file.is_file() or file.read_text() != content:
        raise ConfigError(
            f"Node {host} does not see {file.parent.parent} as the main process does. All nodes must share output_dir and "
            "data_dir: put them on a file system that is mounted everywhere, under the same path."
        )
