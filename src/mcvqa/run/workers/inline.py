"""Implements the simplest worker: this process, one task after the other. Processes of a launcher do each task together."""
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from mcvqa.run.tasks import Task, TaskGraph

Allot = Callable[[Task], Task | None]  # the task with its share of the time; None: there is no time for it


def as_it_is(task: Task) -> Task | None:
    """Return the task unchanged: without a time budget there is nothing to allot."""
    return task


@dataclass(frozen=True)
class InlineWorker:
    """Executes tasks in this process.

    Attributes:
        do: executes one task and records it.
    """

    do: Callable[[Task], dict[str, Any]]

    def __len__(self) -> int:
        return 1

    def run(self, graph: TaskGraph, goals: Iterable[str], allot: Allot = as_it_is) -> None:
        """Execute the unfinished tasks that the goals need. A task's error is passed on; finished tasks stay finished.

        Args:
            graph: the tasks.
            goals: names of the tasks to finish.
            allot: called with each task before it starts.
        """
        goals = list(goals)
        while ready := graph.ready(goals):
            task = allot(ready[0])
            if task is None:
                print(f"  {ready[0].name}: left out, there is no time for it")
                graph.leave_out(ready[0].name)
                continue
            graph.start(task.name)
            self.do(task)
            graph.finish(task.name)

    def close(self) -> None:
        """Do nothing: there is nothing to end."""
