"""Tasks: what a run has to do. One place decides whether a task is done: its key stands beside results that are whole.

A key changes with everything a result depends on. The record of a finished task (`experiments/<run>/tasks/<task>.json`) holds the
key, a print of each file or folder the task made, and of what it used. A file that merely exists says nothing.
"""
import ast
import contextlib
import hashlib
import re
import secrets
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcvqa.base.files import MANIFEST, damaged_file, file_hash, read_json, write_json
from mcvqa.config import settings_hash

RESULTS_VERSION = 1  # raised by hand when trained weights or scores of the same settings become other ones
MADE_BY_0_1 = "made by 0.1, unverified"


@dataclass(frozen=True)
class Task:
    """One piece of work.

    Attributes:
        kind: which function does it: 'features', 'train', 'score', ...
        name: for people, and the name of its record.
        key: changes with everything the result depends on; empty: nothing is recorded, and whoever needs it does it again.
        makes: files and folders of the result, relative to the output folder.
        needs: names of the tasks that must be done before it.
        arguments: what the function is called with; JSON only, so that a task can travel to another process or machine.
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
    """The records of a run's tasks, one small file each, so that several processes may write them.

    Args:
        folder: of the records.
        old_folder: of the records of version 0.1, which are only read.
        root: the output folder, to which `Task.makes` is relative.
    """

    folder: Path
    old_folder: Path
    root: Path

    def file(self, name: str) -> Path:
        return self.folder / f"{name.replace(' ', '-')}.json"

    def file_of_0_1(self, name: str) -> Path:
        return self.old_folder / f"{name.replace(' ', '-')}.json"

    def read(self, name: str) -> dict[str, Any]:
        """The record of a task; empty without one. One that is damaged counts as none: the work is done again."""
        return _record_in(self.file(name))

    def is_done(self, task: Task) -> bool:
        """Whether the task was finished with this key, from what it needs as that is now, and its results are whole."""
        record = self.read(task.name)
        if not record:
            return self._adopted(task)
        if record["key"] != task.key or not record.get("finished"):
            return False
        used = self._used_by(task)
        made = {path: content_print(self.root / path) for path in task.makes}
        return record.get("used") == used and record.get("made") == made and all(made.values())

    def _adopted(self, task: Task) -> bool:
        """Whether version 0.1 has finished the task; then it gets a record that says so."""
        name, keys = task.of_0_1
        old = _record_in(self.file_of_0_1(name)) if name else {}
        done = old.get("key") in keys and all(content_print(self.root / path) for path in task.makes)
        if done:
            self.finish(task, by="0.1")
        return done

    def is_of_0_1(self, name: str) -> bool:
        """Whether version 0.1 did the task; until this version goes on with the run, only 0.1's own record says so."""
        record = self.read(name)
        return record.get("by") == "0.1" if record else bool(_record_in(self.file_of_0_1(name)))

    def print_of(self, name: str) -> str:
        """Changes with the results of a task; empty where none are recorded."""
        record = self.read(name)
        return settings_hash({"made": record["made"]}) if record.get("finished") else ""

    def begin(self, task: Task, **facts: Any) -> str:
        """The attempt in which a task is done: a new one, or that of an earlier session that was cut off with the same key.

        Args:
            facts: to be kept beside its key.
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
            facts: to be kept beside its key.
        """
        record = self.read(task.name)
        write_json(self.file(task.name), {
            "key": task.key, "attempt": record.get("attempt", "") if record.get("key") == task.key else "", **facts,
            "made": {path: content_print(self.root / path) for path in task.makes},
            "used": self._used_by(task), "finished": True,
        })

    def _used_by(self, task: Task) -> dict[str, str]:
        """Prints of what a task needs, where that is recorded."""
        return {need: found for need in task.needs if (found := self.print_of(need))}

    def forget(self, name: str) -> None:
        self.file(name).unlink(missing_ok=True)


def _record_in(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        record = read_json(file)
    except ValueError:
        record = None
    if not isinstance(record, dict) or not _is_record(record):
        print(f"  {file} is damaged: what it records counts as not done")
        return {}
    return record


def _is_record(record: dict[str, Any]) -> bool:
    """Whether it has the form in which records are written; those of version 0.1 hold a key alone."""
    kinds = {"key": str, **(dict.fromkeys(("made", "used"), dict) if record.get("finished") else {})}
    return all(isinstance(record.get(name), kind) for name, kind in kinds.items())


def content_print(path: Path) -> str:
    """SHA-256 of a file's content, or of the manifest of a folder that is as it was written; empty where it is not whole."""
    if path.is_dir():
        return file_hash(path / MANIFEST)[:16] if _path_is_whole(path) else ""
    return file_hash(path)[:16] if path.is_file() else ""


def _path_is_whole(path: Path) -> bool:
    return damaged_file(path) is None if path.is_dir() else path.is_file()


# %% what depends on what
@dataclass
class TaskGraph:
    """Tasks in the order in which free workers should take them, and how far they are.

    Attributes:
        tasks: by name.
        done: tasks that are finished, or were before.
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

        def stands(name: str) -> bool:
            """Whether nothing that it was made from will be made again."""
            return name in whole and all(stands(need) for need in named[name].needs if need in named and named[need].key)

        return cls(named, {name for name in named if stands(name)})

    def outstanding(self, goals: Iterable[str]) -> list[str]:
        """The goals that are not done and what they need that is not done, in the order of the graph."""
        wanted: set[str] = set()

        def want(name: str) -> None:
            if name not in wanted | self.done | self.left_out and name in self.tasks:
                wanted.add(name)
                for need in self.tasks[name].needs:
                    want(need)

        for goal in goals:
            want(goal)
        return [name for name in self.tasks if name in wanted]

    def ready(self, goals: Iterable[str]) -> list[Task]:
        """Outstanding tasks that nobody has taken and whose needs are all done."""
        waiting = (self.tasks[name] for name in self.outstanding(goals) if name not in self.running)
        return [task for task in waiting if set(task.needs) <= self.done]

    def leave_out(self, name: str) -> None:
        """The task, and whatever needs it, will not be done."""
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
    """Changes when the code that makes results changes.

    In the package that is RESULTS_VERSION, in a notebook the syntax tree of its cells: a comment or a docstring changes nothing.

    Args:
        parts: how the paths of the modules concerned begin.
    """
    modules = [code for cell in notebook_cells().values() for path, code in _modules_of(cell) if path.startswith(tuple(parts))]
    trees = [ast.dump(_without_docstrings(ast.parse(code))) for code in modules]
    return settings_hash({"version": RESULTS_VERSION, "cells": [hashlib.sha256(t.encode()).hexdigest() for t in trees]})


def _modules_of(cell: str) -> list[tuple[str, str]]:
    """Path below the package and code of each module in a notebook's cell; small modules of a folder share one."""
    _, *pieces = re.split(r"^# (?:@title )?mcvqa/(.*)$", cell, flags=re.MULTILINE)
    return list(zip(pieces[::2], pieces[1::2], strict=True))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [n for n in body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))]  # type: ignore[attr-defined]
    return tree


def notebook_cells() -> dict[str, str]:
    """Title -> the notebook's library cell as it was run last, in the order of first runs; empty in the package."""
    if Task.__module__ != "__main__":
        return {}
    return {cell.split("\n")[0]: cell for cell in run_cells() if cell.startswith("# @title mcvqa/")}


def run_cells() -> Iterator[str]:
    """Every cell that was run, without those that Python could not read."""
    for cell in vars(sys.modules["__main__"]).get("In", []):
        with contextlib.suppress(SyntaxError):
            compile(cell, "cell", "exec")
            yield cell
