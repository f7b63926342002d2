"""Makes the members of the ensemble."""
from pathlib import Path

import numpy as np

from mcvqa.data.folds import FINAL
from mcvqa.ensemble.blend import Member, read_predictions
from mcvqa.ensemble.predictions import is_of_run, stored_member
from mcvqa.run.dataset import RunData
from mcvqa.run.other_runs import other_run
from mcvqa.run.project import Project, RunStopped
from mcvqa.run.score import scored_folds, splits_of, valid_scores
from mcvqa.run.tasks import MADE_BY_0_1
from mcvqa.scoring.scores import Scores, joined, load_scores


def run_member(project: Project, data: RunData) -> Member:
    """Make this run's folds one member of the ensemble.

    Returns:
        Out-of-fold scores by each row's own fold, and test scores by all folds.

    Raises:
        CheckpointError: a fold has no weights.
        RunStopped: a fold has no scores of these weights, rows and settings.
    """
    folds = scored_folds(project, data)
    if not folds:
        raise RunStopped(f"The run {project.config.run!r} has no scores: finish it first (mcvqa run).")
    parts = [valid_scores(project, data, fold) for fold in folds]
    final = list[Scores]()
    if project.config.final_fit:
        from mcvqa.run.final import final_scores

        final = final_scores(project, data)
    is_of_0_1 = any(project.records.is_of_0_1(f"score fold {fold} oof") for fold in folds)
    note = f"The scores of {project.config.run} were {MADE_BY_0_1}." if is_of_0_1 else ""
    if (project.paths.experiment / "trial.json").exists():
        from mcvqa.run.of_search import chosen_note

        note = chosen_note(project.paths.experiment)
    return Member(
        project.config.run, joined([oof for oof, _ in parts]), (*(test for _, test in parts), *final), note, bool(final),
    )


def other_member(project: Project, data: RunData, name: str) -> Member:
    """Make a member named by the settings: 'prior', a prediction file, or another run in this folder.

    Args:
        project: this run.
        data: its rows.
        name: from the setting `members`.

    Raises:
        RunStopped: the other run is unfinished or answered other rows.
        BlendError, DataError: the prediction file cannot be used.
    """
    if name == "prior":
        oof, test = (load_scores(project.paths.scores / f"prior-{split}.npz") for split in ("oof", "test"))
        return Member("prior", oof, (test,))
    if name.lower().endswith(".csv"):
        if is_of_run(Path(name)):
            return stored_member(Path(name), data.test, data.train, data.tables[0].convention)
        return read_predictions(name, data.test, data.tables[0].convention)
    other = other_run(data, project.config, name, "members")
    if (other.paths.experiment / "trial.json").exists():
        from mcvqa.run.of_search import searched_member

        return searched_member(other, data)
    scores_by_split = {split: list(other.scores(split).values()) for split in splits_of(data)}
    oof, final = joined(scores_by_split["oof"]), list[Scores]()
    if other.paths.fold(FINAL).exists():
        from mcvqa.run.final import final_of

        final = final_of(other)
    return Member(name, oof, (*scores_by_split.get("test", [oof.rows(np.arange(0))]), *final), final=bool(final))
