"""Protects trained weights: only the user deletes them. Those of version 0.1: see `require_untouched_0_1` in train.py."""
from typing import Any

from mcvqa.run.project import Project, RunStopped
from mcvqa.run.tasks import Task, content_print


def require_replaceable(project: Project, task: Task) -> None:
    """Check that training would not replace trained weights without being asked.

    Raises:
        RunStopped: it would.
    """
    fold, record = int(task.arguments["fold"]), project.records.read(task.name)
    folder = project.paths.fold(fold)
    if (record and not record.get("finished")) or not (folder / "result.json").exists():
        return
    why = _why_not_done(project, task, record) if content_print(project.weights(fold)) else ""
    if why:
        raise RunStopped(
            f"Fold {fold} of the run {project.config.run!r} {why}. mcvqa does not overwrite it: restore what changed, "
            f"delete {folder} to train it again, or choose another name (--set run_name=...)."
        )


def _why_not_done(project: Project, task: Task, record: dict[str, Any]) -> str:
    """Say why trained weights do not count as a task's result, as a predicate."""
    if not record:
        return f"is trained, but {project.records.file(task.name)} is missing or damaged, so with what is not known"
    if record["key"] != task.key:
        return "is trained, but with other settings, rows, other runs' answers or another version of mcvqa"
    made = zip(task.makes, record["made"].values(), strict=False)
    changed = [path for path, before in made if before != content_print(project.paths.root / path)]
    return f"is trained, but {', '.join(changed)} changed afterwards" if changed else ""
