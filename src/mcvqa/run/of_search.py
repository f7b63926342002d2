"""Uses runs of a search as ensemble members, members=search:NAME:5, and selects the rows that judge them."""
import re
from pathlib import Path
from typing import Any

import numpy as np

from mcvqa.base.files import read_json
from mcvqa.config import Config
from mcvqa.ensemble.blend import Member
from mcvqa.run.dataset import RunData
from mcvqa.run.other_runs import OtherRun
from mcvqa.run.paths import RunPaths
from mcvqa.run.project import RunStopped
from mcvqa.scoring.scores import joined

TRIALS_FILE = "trials.json"  # in experiments/<study>: its trials, the best of the fold that judges first
CHOSEN_ON = "trial.json"  # in experiments/<run>: the folds whose rows have chosen it; results.py names it too


def with_members_of_search(config: Config) -> Config:
    """Replace search:NAME:5 in the settings by names of runs.

    The best runs are those with the lowest loss on the fold that judged all trials. The rows of the other folds had no part in
    this choice, so only they judge the ensemble (`searched_member`).

    Raises:
        RunStopped: there is no such search, or too few of its runs are trained on all folds.
    """
    members = [run for name in config.members for run in (_best_runs(config, name) if name.startswith("search:") else [name])]
    return config.replace(members=tuple(members)) if tuple(members) != config.members else config


def _best_runs(config: Config, member: str) -> list[str]:
    """List the runs that `member` refers to, without the run itself, which is always a member."""
    asked = re.fullmatch(r"search:(.+):([1-9]\d*)", member)
    if asked is None:
        raise RunStopped(f"members: {member!r} is not of the form search:NAME:5, with the name of a study and how many of it.")
    study, count = asked[1], int(asked[2])
    complete = [one for one in recorded_trials(Path(config.output_dir), study) if "log_loss" in one]
    best = {one["run"]: one for one in complete[:count]}
    if missing := [str(one["trial"]) for one in best.values() if "all_folds" not in one]:
        raise RunStopped(
            f"members: of the {count} best trials of {study!r}, not all are trained on all folds yet (trial "
            f"{', '.join(missing)} is not). The same search with --best {count} trains them."
        )
    if len(best) < count:
        raise RunStopped(f"members: {study!r} has {len(best)} different trials that were trained to their end, not {count}.")
    return [run for run in best if run != config.run]


def searched_member(other: OtherRun, data: RunData) -> Member:
    """Make a member of a run of a search, judged only by rows that had no part in choosing it; unjudged if there are none."""
    name, chosen = other.paths.run, read_json(other.paths.experiment / CHOSEN_ON, dict)["folds"]
    scores = other.scores("oof")
    judging = [part for fold, part in scores.items() if fold not in chosen]
    test = tuple(other.scores("test").values()) if data.test else (next(iter(scores.values())).rows(np.arange(0)),)
    folds = f"fold {', '.join(map(str, chosen))}, which chose it"
    return Member(name, joined(judging) if judging else None, test, f"{name} is not judged by {folds}.")


def chosen_note(experiment: Path) -> str:
    """Say which rows have chosen a run of a search, as its accuracy here includes them.

    Args:
        experiment: folder of the run.
    """
    chosen = read_json(experiment / CHOSEN_ON, dict)
    folds, trials = ", ".join(map(str, chosen["folds"])), experiment.with_name(chosen["study"]) / TRIALS_FILE
    return f"The search chose these settings by fold {folds}, so that the accuracy here is too optimistic; without it: {trials}."


def recorded_trials(root: Path, study: str) -> list[dict[str, Any]]:
    """Read the trials of a search.

    Args:
        root: output folder.
        study: name of the search.

    Returns:
        The complete trials with different settings, the best first, then the others.

    Raises:
        RunStopped: there is no such search.
    """
    file = RunPaths(root, study).experiment / TRIALS_FILE
    if not file.exists():
        known = sorted(path.parent.name for path in (root / "experiments").glob(f"*/{TRIALS_FILE}"))
        there = f"There are {', '.join(known)}." if known else "There are none yet."
        raise RunStopped(f"members: there is no search {study!r}: {file} is missing. {there}")
    return list(read_json(file, list))
