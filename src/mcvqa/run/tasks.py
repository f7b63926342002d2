"""Defines tasks, the units of work of a run. A task is done when its key is recorded next to complete results.

A key changes with everything a result depends on. The record of a finished task (`experiments/<run>/tasks/<task>.json`) contains
the key and hashes of the task's results and inputs. The mere existence of a file proves nothing.
"""
import ast
import contextlib
import functools
import hashlib
import re
import secrets
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcvqa.base.files import LONG_WAITS, MANIFEST, damaged_file, file_hash, patiently, read_json, require_storage, write_json
from mcvqa.config import settings_hash

RESULTS_VERSION = 1  # raised by hand when the same settings give other weights or scores
MADE_BY_0_1 = "made by 0.1, unverified"


@dataclass(frozen=True)
class Task:
    """Describes one unit of work.

    Attributes:
        kind: selects the function: 'features', 'train', 'score', ...
        name: name for display and of the record.
        key: hash of everything the result depends on; empty: nothing is recorded, and the task is repeated whenever needed.
        makes: files and folders of the result, relative to the output folder.
        needs: names of the tasks that must be done before it.
        arguments: arguments of the function; JSON only, so that a task can be sent to another process or machine.
        of_0_1: name and possible keys of the record that version 0.1 would have written.
    """

    kind: str
    name: str
    key: str
    makes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    of_0_1: tuple[str, tuple[str, ...]] = ("", ())


# %% what is done
@dataclass(frozen=True)
class TaskRecords:
    """Reads and writes the records of a run's tasks.

    Each has a small file, so that several processes may write them.

    Args:
        folder: folder of the records.
        old_folder: folder of the records of version 0.1, which are only read.
        root: the output folder, to which `Task.makes` is relative.
    """

    folder: Path
    old_folder: Path
    root: Path

    def file(self, name: str) -> Path:
        return self.folder / f"{stem_of(name)}.json"

    def file_of_0_1(self, name: str) -> Path:
        return self.old_folder / f"{stem_of(name)}.json"

    def read(self, name: str) -> dict[str, Any]:
        """Read the record of a task; empty without one. A damaged record counts as none: the task is repeated."""
        return _record_in(self.file(name))

    def is_done(self, task: Task) -> bool:
        """Return whether the task was finished with this key and its current inputs, and its results are complete."""
        record = self.read(task.name)
        if not record:
            return self._adopted(task)
        if record["key"] != task.key or not record.get("finished"):
            return False
        results = [content_print(self.root / path) for path in task.makes]
        # paths are not compared: the folders of a run may be renamed
        return record["used"] == self._used_by(task) and [*record["made"].values()] == results and all(results)

    def _adopted(self, task: Task) -> bool:
        """Return whether version 0.1 has finished the task; if so, record it."""
        name, keys = task.of_0_1
        old = _record_in(self.file_of_0_1(name)) if name else {}
        done = old.get("key") in keys and all(content_print(self.root / path) for path in task.makes)
        if done:
            self.finish(task, by="0.1")
        return done

    def is_of_0_1(self, name: str) -> bool:
        """Return whether version 0.1 did the task; until this version continues the run, only 0.1's own record says so."""
        record = self.read(name)
        return record.get("by") == "0.1" if record else bool(_record_in(self.file_of_0_1(name)))

    def print_of(self, name: str) -> str:
        """Hash the results of a task; empty if none are recorded."""
        record = self.read(name)
        return settings_hash({"made": record["made"]}) if record.get("finished") else ""

    def begin(self, task: Task, **facts: Any) -> str:
        """Return the attempt of a task: a new one, or that of an interrupted session with the same key.

        Args:
            task: the task.
            facts: further values for its record.
        """
        record = self.read(task.name)
        if record.get("key") == task.key and record.get("attempt") and not record.get("finished"):
            return str(record["attempt"])
        attempt = secrets.token_hex(4)
        write_json(self.file(task.name), {"key": task.key, "attempt": attempt, **facts})
        return attempt

    def finish(self, task: Task, **facts: Any) -> None:
        """Record a task whose results are on the disk.

        Args:
            task: the task.
            facts: further values for its record.
        """
        record = self.read(task.name)
        write_json(self.file(task.name), {
            "key": task.key, "attempt": record.get("attempt", "") if record.get("key") == task.key else "", **facts,
            "made": {path: content_print(self.root / path) for path in task.makes},
            "used": self._used_by(task), "finished": True,
        })

    def _used_by(self, task: Task) -> dict[str, str]:
        """Return the recorded hashes of a task's inputs."""
        return {need: recorded for need in task.needs if (recorded := self.print_of(need))}

    def is_current(self, name: str) -> bool:
        """Return whether a recorded task is finished and nothing that it used was made again afterwards."""
        record = self.read(name)
        return bool(record.get("finished")) and all(self.print_of(need) == used for need, used in record["used"].items())

    def forget(self, name: str) -> None:
        self.file(name).unlink(missing_ok=True)

    def sharing_points(self, name: str) -> contextlib.AbstractContextManager[Callable[[], None] | None]:
        """Return the context in which the resume points of a task are published, if the run is shared."""
        return contextlib.nullcontext()


def stem_of(name: str) -> str:
    """Return the name of a task as part of a file's name."""
    return name.replace(" ", "-")


def _record_in(file: Path) -> dict[str, Any]:
    try:
        record = read_json(file, dict)
    except FileNotFoundError:
        return {}
    except ValueError:
        record = {}
    if not _is_record(record):
        print(f"  {file} is damaged: the work that it records is treated as not done")
        return {}
    return record


def _is_record(record: dict[str, Any]) -> bool:
    """Return whether a record has the form in which records are written; those of version 0.1 contain only a key."""
    kinds = {"key": str, **(dict.fromkeys(("made", "used"), dict) if record.get("finished") else {})}
    return all(isinstance(record.get(name), kind) for name, kind in kinds.items())


def content_print(path: Path) -> str:
    """Hash (SHA-256) a file's content, or the manifest of an unchanged folder; empty if it is not complete."""
    return patiently(lambda: _content_print(path), f"reading {path}", LONG_WAITS)


def _content_print(path: Path) -> str:
    require_storage()
    if path.is_dir():
        return "" if damaged_file(path) else file_hash(path / MANIFEST)[:16]
    return file_hash(path)[:16] if path.is_file() else ""


# %% what depends on what
@dataclass
class TaskGraph:
    """Orders tasks for free workers and tracks their progress.

    Attributes:
        tasks: tasks by name.
        done: finished tasks, including earlier sessions'.
        running: tasks that a worker has taken.
        left_out: tasks for which there is no time, and those that need them.
    """

    tasks: dict[str, Task]
    done: set[str] = field(default_factory=set)
    running: set[str] = field(default_factory=set)
    left_out: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, tasks: Iterable[Task], done: Callable[[Task], bool]) -> "TaskGraph":
        named = {task.name: task for task in tasks}
        whole = {name for name, task in named.items() if task.key and done(task)}

        def is_current(name: str) -> bool:
            """Return whether the task is done and none of its inputs will be made again."""
            return name in whole and all(is_current(need) for need in named[name].needs if need in named and named[need].key)

        return cls(named, {name for name in named if is_current(name)})

    def outstanding(self, goals: Iterable[str]) -> list[str]:
        """List the unfinished goals and their unfinished needs, in the order of the graph."""
        wanted: set[str] = set()

        def want(name: str) -> None:
            if name in self.tasks and not any(name in names for names in (wanted, self.done, self.left_out)):
                wanted.add(name)
                for need in self.tasks[name].needs:
                    want(need)

        for goal in goals:
            want(goal)
        return [name for name in self.tasks if name in wanted]

    def ready(self, goals: Iterable[str]) -> list[Task]:
        """List outstanding tasks that are not taken and whose needs are all done."""
        waiting = (self.tasks[name] for name in self.outstanding(goals) if name not in self.running)
        return [task for task in waiting if set(task.needs) <= self.done]

    def leave_out(self, name: str) -> None:
        """Mark a task, and all tasks that need it, as not to be done."""
        self.left_out.add(name)
        for other in self.tasks.values():
            if name in other.needs and other.name not in self.left_out:
                self.leave_out(other.name)

    def start(self, name: str) -> None:
        self.running.add(name)

    def finish(self, name: str) -> None:
        self.running.discard(name)
        self.done.add(name)


# %% the code that does it
CODE_OF_TRAINING = (
    "config", "data/folds", "data/images", "data/meta_choices", "data/own_letters", "data/paraphrase", "data/questions", "model",
    "training", "run/train",
)
CODE_OF_SCORING = (*CODE_OF_TRAINING, "scoring", "run/score")


def code_print(parts: Collection[str]) -> str:
    """Hash the code that makes results.

    In the package that is RESULTS_VERSION, in a notebook the syntax tree of its cells, without comments and docstrings.

    Args:
        parts: prefixes of the paths of the modules concerned.
    """
    modules = [code for cell in notebook_cells().values() for path, code in _modules_of(cell) if path.startswith(tuple(parts))]
    return settings_hash({"version": RESULTS_VERSION, "cells": [*map(_print_of_module, modules)]})


@functools.cache  # every task asks for all
def _print_of_module(code: str) -> str:
    return hashlib.sha256(ast.dump(_without_docstrings(ast.parse(code))).encode()).hexdigest()


def _modules_of(cell: str) -> list[tuple[str, str]]:
    """Split a notebook cell into its modules, (path in the package, code); small modules of a folder share a cell."""
    _, *pieces = re.split(r"^# (?:@title )?mcvqa/(.*)$", cell, flags=re.MULTILINE)
    return list(zip(pieces[::2], pieces[1::2], strict=True))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [n for n in body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))]  # type: ignore[attr-defined]
    return tree


def notebook_cells() -> dict[str, str]:
    """Map the titles of the notebook's library cells to their latest code, in the order of first runs; empty in the package."""
    if Task.__module__ != "__main__":
        return {}
    return {cell.split("\n")[0]: cell for cell in run_cells() if cell.startswith("# @title mcvqa/")}


def run_cells() -> Iterator[str]:
    """Return every cell that was run, except those with syntax errors."""
    return filter(_is_python, vars(sys.modules["__main__"]).get("In", []))


@functools.cache
def _is_python(cell: str) -> bool:
    with contextlib.suppress(SyntaxError):
        return bool(compile(cell, "cell", "exec"))
    return False
