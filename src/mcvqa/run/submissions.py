"""What is handed in: which answers a submission file holds, how accurate they are, and when other answers may take its place.

A run's own answers are always in experiments/<run>/submission.csv. outputs/submission_ensemble.csv is the file to hand in: it is
replaced only by answers that are not significantly worse on the rows that both were measured on.
"""
import dataclasses
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcvqa.base.files import atomic_path, read_json, write_json
from mcvqa.base.uncertainty import Accuracy, Gain, accuracy_of_right, paired_gain
from mcvqa.data.prior import Prior
from mcvqa.report.submission import SubmissionError, SubmissionReport, validate_submission, write_submission
from mcvqa.run.dataset import RunData, prior_of_train, without_test
from mcvqa.run.project import Project

ENSEMBLE_FILE, SINGLE_FILE = "submission_ensemble.csv", "submission_single.csv"


# %% records
@dataclass(frozen=True)
class Submitted:
    """What a submission file holds.

    Attributes:
        run: whose answers these are; source: what made them ('prior', 'geometric of r (3 folds)', ...).
        accuracy: on training rows that the answers' model has not seen; None where it is not known.
        test: print of the test rows that are answered, photographs included; '' in files of version 0.1.
        rows: file with the measured rows, relative to the output folder; '' where it is not known.
    """

    run: str
    source: str
    accuracy: Accuracy | None = None
    test: str = ""
    rows: str = ""


@dataclass(frozen=True)
class Answers:
    """Answers to all test rows, and how right the same models are on training rows that they have not seen.

    Attributes:
        predictions: (M,) choice index of each test row.
        ids, right: (R,) training rows, and whether they were answered rightly.
    """

    source: str
    predictions: np.ndarray
    ids: np.ndarray
    right: np.ndarray

    def accuracy(self, groups: Mapping[str, int]) -> Accuracy | None:
        """Args: groups: of photographs, by the row's id."""
        if not len(self.ids):
            return None
        return accuracy_of_right(self.right, np.array([groups[name] for name in self.ids.tolist()]))


def prior_answers(data: RunData, prior: Prior) -> Answers:
    """What can be answered from the texts alone."""
    truth, known = np.array([-1 if q.answer is None else q.answer for q in data.train]), data.validates
    right = prior_of_train(data, prior).argmax(-1) == truth
    ids = np.array([q.id for q in data.train], dtype=np.str_)
    return Answers("prior", prior.test_logprobs.argmax(-1), ids[known], right[known])


def image_groups_of(data: RunData) -> dict[str, int]:
    """Group of photographs by the training row's id."""
    return {q.id: int(group) for q, group in zip(data.train, data.groups, strict=True)}


# %% files
def write_answers(project: Project, data: RunData, answers: Answers, path: Path) -> Submitted:
    """Write and validate a submission file, and record what it holds.

    Raises:
        SubmissionError: the file would not be valid; one that is already there stays as it is.
    """
    write_submission(path, data.test, answers.predictions, data.form)
    rows = project.paths.experiment / f"{path.stem}-rows.npz"
    with atomic_path(rows) as part, open(part, "wb") as handle:
        np.savez_compressed(handle, ids=answers.ids.astype(np.str_), right=answers.right.astype(bool))
    relative = rows.absolute().relative_to(project.paths.root.absolute()).as_posix()
    held = Submitted(project.config.run, answers.source, answers.accuracy(image_groups_of(data)), data.test_print, relative)
    record_submitted(path, held)
    return held


def record_submitted(path: Path, held: Submitted) -> None:
    """Note in submissions.json, beside the file, what it holds."""
    accuracy = held.accuracy.record if held.accuracy else None
    write_json(path.with_name("submissions.json"), _records_beside(path) | {
        path.name: dataclasses.asdict(held) | {"accuracy": accuracy}
    })


def submitted_in(path: Path) -> Submitted | None:
    """What a submission file holds; None where there is no file or nothing is known of it."""
    record = _records_beside(path).get(path.name)
    if not path.exists() or not isinstance(record, dict) or "source" not in record:
        return None
    accuracy = record.get("accuracy")
    return Submitted(
        str(record.get("run", "")), str(record["source"]), Accuracy(*accuracy) if accuracy else None, str(record.get("test", "")),
        str(record.get("rows", "")),
    )


def _records_beside(path: Path) -> dict[str, Any]:
    file = path.with_name("submissions.json")
    if not file.exists():
        return {}
    try:
        records = read_json(file)
    except ValueError:
        records = None
    if not isinstance(records, dict):
        print(f"  {file} is damaged: what the submissions beside it hold is not known")
        return {}
    return records


def validate_file(path: Path, data: RunData) -> SubmissionReport:
    return validate_submission(path, data.test, data.form)


def _answers_these_rows(path: Path, data: RunData, held: Submitted | None) -> bool:
    """Whether a submission file is valid for the test rows that are there now."""
    if held is not None and held.test and held.test != data.test_print:
        return False
    try:
        return path.exists() and not validate_file(path, data).problems
    except SubmissionError:
        return False


# %% comparing
def gain_over(project: Project, data: RunData, answers: Answers, held: Submitted) -> Gain | None:
    """Gain of `answers` over what a file holds, on the rows that both were measured on; None where there are none."""
    file = project.paths.root / held.rows
    try:
        with np.load(file, allow_pickle=False) as stored:
            before = dict(zip(stored["ids"].tolist(), stored["right"].tolist(), strict=True))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return _gain_on_common_rows(data, answers, before)


def _gain_on_common_rows(data: RunData, answers: Answers, before: Mapping[str, bool]) -> Gain | None:
    """Args: before: right or wrong by the training row's id."""
    groups = image_groups_of(data)
    both = [(bool(right), before[name], groups[name]) for name, right in zip(answers.ids.tolist(), answers.right, strict=True)
            if name in before and name in groups]
    return paired_gain(*(np.array(column) for column in zip(*both, strict=True))) if both else None


# %% the prior's
def submit_prior(project: Project, data: RunData, prior: Prior) -> SubmissionReport | None:
    """The prior's answers as the first valid submission; one that is there already for these test rows is left alone.

    Returns:
        What its validation found, or None where another one was there, or there are no test rows.
    """
    if not data.test:
        return None
    path = project.paths.outputs / ENSEMBLE_FILE
    held = submitted_in(path)
    if _answers_these_rows(path, data, held) and (held is None or held.source != "prior"):
        return None
    _name_what_is_replaced(project, path, held, data)
    write_answers(project, data, prior_answers(data, prior), path)
    return validate_file(path, data)


def _name_what_is_replaced(project: Project, path: Path, held: Submitted | None, data: RunData) -> None:
    if held is not None and held.run != project.config.run and held.source != "prior":
        kept = project.paths.experiment.parent / held.run / "submission.csv"
        where = f"; they are also in {kept}" if kept.exists() else ""
        print(f"  {path} held the answers of the run {held.run!r} to other test rows{where}")


# %% a run's
def hand_in(project: Project, data: RunData, answers: Answers, prior: Prior, *, force: bool = False) -> Submitted | None:
    """Write a run's answers to experiments/<run>/submission.csv and, unless that holds better ones, to the file to hand in.

    Args:
        force: hand these answers in, whatever the file holds and the prior reaches.

    Returns:
        What outputs/submission_ensemble.csv holds now; None without test rows: then nothing is written.
    """
    if not data.test:
        print(f"  {without_test(project)}")
        return None
    own = answers if force else _own_answers(project, data, answers, prior)
    write_answers(project, data, own, project.paths.experiment / "submission.csv")
    path = project.paths.outputs / ENSEMBLE_FILE
    held = submitted_in(path)
    why = None if force else _why_it_stays(project, data, own, path, held)
    if why is None:
        if not _answers_these_rows(path, data, held):
            _name_what_is_replaced(project, path, held, data)
        held = write_answers(project, data, own, path)
        print(f"  {path}: {validate_file(path, data)}")
        return held
    print(
        f"  {path} stays as it is: {why}\n  This run's answers are in {project.paths.experiment / 'submission.csv'}. "
        f"To hand them in: mcvqa ensemble {project.config.run} --force"
    )
    return held or Submitted("", "unknown")


def _own_answers(project: Project, data: RunData, answers: Answers, prior: Prior) -> Answers:
    """The run's own answers, or the prior's where these are significantly better on the same rows."""
    blind = prior_answers(data, prior)
    gain = _gain_on_common_rows(data, answers, dict(zip(blind.ids.tolist(), blind.right.tolist(), strict=True)))
    if gain is not None and gain.is_worse:
        print(f"  the text-only prior is significantly better than this run ({gain} on the same rows): its answers are handed in")
        return blind
    return answers


def _why_it_stays(project: Project, data: RunData, answers: Answers, path: Path, held: Submitted | None) -> str | None:
    """Why a submission file is not replaced; None: it is."""
    if not _answers_these_rows(path, data, held):
        return None
    if held is None:
        return "it is not known what it holds."
    gain = gain_over(project, data, answers, held)
    if gain is None and held.run == project.config.run:
        return None
    whose = f"it holds {held.source} of the run {held.run!r}" + (f", accuracy {held.accuracy}" if held.accuracy else "")
    if gain is None:
        return f"{whose}, and there are no rows on which both were measured."
    worse = f"{whose}, and these answers are significantly worse: {gain} on the {gain.n:,} rows that both were measured on."
    return worse if gain.is_worse else None
