"""Saves test scores in parts, so that little is lost if a time budget ends among the test rows."""
import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mcvqa.base.budget import Pace
from mcvqa.base.files import DamagedFile
from mcvqa.config import settings_hash
from mcvqa.data.questions import Question
from mcvqa.model.distributed import by_main
from mcvqa.run.project import Project
from mcvqa.run.tasks import Task
from mcvqa.scoring.scores import Scores, joined, load_scores
from mcvqa.training.checkpoint import adapter_hash

PART_SECONDS = 60.0  # duration of a part, which is lost if it is interrupted
FIRST_ROWS = 64  # rows of the first part, unless the pace is known


def parts_folder(project: Project, task: Task) -> Path:
    """Return the folder in cache/ for the parts of a task's scores by the current weights."""
    weights = adapter_hash(project.weights(int(task.arguments["fold"])))
    return project.paths.cache / "scores" / settings_hash({"task": task.key, "adapter": weights})


def score_in_parts(
    project: Project, task: Task, rows: Sequence[Question], score: Callable[[Sequence[Question]], Scores], pace: Pace
) -> Scores:
    """Score rows part by part, saving each part for later sessions.

    Args:
        project: the run.
        task: the scoring task; its parts are deleted at the end.
        rows: the rows.
        score: scores some rows and measures the pace.
        pace: pace of the session.

    Returns:
        Scores of all rows, in their order.
    """
    folder = parts_folder(project, task)
    parts = by_main(read_parts, folder)
    done = {name for part in parts for name in part.ids.tolist()}
    left = sorted((question for question in rows if question.id not in done), key=lambda question: question.image)
    while left:  # one photograph's rows side by side, so that it is processed once
        size = by_main(lambda: max(FIRST_ROWS, int(PART_SECONDS / pace.read)) if pace.read else FIRST_ROWS)
        parts.append(score(left[:size]))
        by_main(parts[-1].save, folder / f"{settings_hash({'ids': parts[-1].ids.tolist()})}.npz")
        left = left[size:]
    by_main(shutil.rmtree, folder, True)
    whole = joined(parts)
    index = {name: i for i, name in enumerate(whole.ids.tolist())}
    ordered = whole.rows(np.array([index[question.id] for question in rows]))
    facts = {name: fact for name, fact in parts[0].provenance.items() if name != "content"}  # a digest of the part
    return dataclasses.replace(ordered, provenance=facts)


def read_parts(folder: Path) -> list[Scores]:
    """Read the complete parts."""
    parts = (_part_in(file) for file in sorted(folder.glob("*.npz")))
    return [part for part in parts if part is not None]


def _part_in(file: Path) -> Scores | None:
    try:
        return load_scores(file)
    except (OSError, DamagedFile):  # cut off
        return None
