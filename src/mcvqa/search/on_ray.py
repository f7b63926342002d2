"""Runs a search on a Ray cluster: its searchers are tasks of a pool of workers, which Ray places and restarts when they die."""
import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mcvqa.base.budget import TimeUp
from mcvqa.base.interrupt import StopRequest
from mcvqa.run.project import Project, open_project
from mcvqa.run.tasks import Task, TaskGraph
from mcvqa.run.workers.ray import ray_workers
from mcvqa.search.searchers import POLL_EVERY, Tell, do_job, plan_from_json, plan_in_json
from mcvqa.search.study import SearchPlan, SearchStudy


def search_on_ray(study: SearchStudy, count: int, tell: Tell) -> None:
    """Let up to `count` workers of the cluster search, each taking one trial after the other.

    Args:
        study: the study.
        count: number of workers.
        tell: called repeatedly.

    Raises:
        ConfigError: there is no cluster.
        RunStopped: a worker has failed.
        Interrupted, TimeUp: the search goes on later.
    """
    with _told_meanwhile(study, tell):
        _do_all(study.plan, [Task("search", f"search worker {number}", "") for number in range(count)], count)


def confirm_on_ray(plan: SearchPlan, best: Mapping[int, Mapping[str, Any]], count: int) -> None:
    """Let up to `count` workers train the other folds of the best.

    Args:
        plan: plan of the search.
        best: number of the trial -> values of the searched settings.
        count: number of workers.

    Raises:
        ConfigError, RunStopped, Interrupted, TimeUp: see `search_on_ray`.
    """
    _do_all(plan, [
        Task("confirm", f"confirm trial {number}", "", arguments={"best": [dict(values)]}) for number, values in best.items()
    ], count)


def _do_all(plan: SearchPlan, tasks: Sequence[Task], count: int) -> None:
    project = open_project(plan.config.replace(run_name=plan.name))
    pool = ray_workers(project, begin_searching, loaders=0, most=min(count, len(tasks)))
    pool.settings = {"plan": plan_in_json(plan)}
    with StopRequest(at_once=True), contextlib.closing(pool):
        pool.run(TaskGraph.of(tasks, lambda task: False), [task.name for task in tasks])
    if pool.facts.get("time_is_up"):
        raise TimeUp


@contextlib.contextmanager
def _told_meanwhile(study: SearchStudy, tell: Tell) -> Iterator[None]:
    """Within the block, report trials as they end, from a thread: the main one waits for the workers."""
    done = threading.Event()

    def telling() -> None:
        while not done.wait(POLL_EVERY):
            tell(study)

    thread = threading.Thread(target=telling, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        tell(study)


# %% in a worker
def begin_searching(project: Project, settings: dict[str, Any]) -> Callable[[Task], dict[str, Any]]:
    """Return the function that executes a task of the search in a worker.

    Args:
        project: the run.
        settings: with the plan in JSON.
    """
    plan = plan_from_json(settings["plan"])
    output = project.paths.log.with_name(f"{plan.name}-{socket.gethostname()}-{os.getpid()}.txt")

    def work(task: Task) -> dict[str, Any]:
        try:
            do_job(plan, task.arguments, output)
        except TimeUp:
            return {"time_is_up": True}
        return {}

    return work
