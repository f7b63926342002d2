"""Manages submission files: their content, their accuracy, and when they may be replaced.

A run's own answers are always in experiments/<run>/submission.csv. outputs/submission_ensemble.csv is the file to hand in: it is
replaced only by answers that are not significantly worse on the rows on which both were measured.
"""
import dataclasses
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcvqa.base.files import atomic_path, file_hash, read_json, write_json
from mcvqa.base.informing import counted
from mcvqa.base.uncertainty import Accuracy, Gain, accuracy_of_right, paired_gain
from mcvqa.data.prior import Prior
from mcvqa.report.submission import SubmissionError, SubmissionReport, validate_submission, write_submission
from mcvqa.run.dataset import RunData, prior_of_train, read_data, read_form, without_test
from mcvqa.run.project import Project

ENSEMBLE_FILE, SINGLE_FILE = "submission_ensemble.csv", "submission_single.csv"


# %% records
@dataclass(frozen=True)
class Submitted:
    """Records the content of a submission file.

    Attributes:
        run: name of the run that made the answers.
        source: what produced them ('prior', 'geometric mean of r (3 folds)', ...).
        accuracy: accuracy on unseen training rows; None: not known.
        test: hash of the answered test rows and their photographs; '' in files of version 0.1.
        rows: file with the measured rows, relative to the output folder; '': not known.
        content: hash of the file; '' in records of earlier versions.
    """

    run: str
    source: str
    accuracy: Accuracy | None = None
    test: str = ""
    rows: str = ""
    content: str = ""


@dataclass(frozen=True)
class Answers:
    """Holds the answers to all test rows, and the results of the same models on unseen training rows.

    Attributes:
        source: what produced them, as in `Submitted`.
        predictions: (M,) choice index of each test row.
        ids: (R,) training rows.
        right: (R,) whether they were answered correctly.
        not_measured: why the models may have been trained on these rows; empty: they were not.
    """

    source: str
    predictions: np.ndarray
    ids: np.ndarray
    right: np.ndarray
    not_measured: str = ""

    def accuracy(self, groups: Mapping[str, int]) -> Accuracy | None:
        """Compute the accuracy on the training rows; None: there are none.

        Args:
            groups: id of a training row -> image group.
        """
        if not len(self.ids):
            return None
        accuracy = accuracy_of_right(self.right, np.array([groups[name] for name in self.ids.tolist()]))
        return dataclasses.replace(accuracy, not_measured=self.not_measured)


def prior_answers(data: RunData, prior: Prior) -> Answers:
    """Return the answers of the text-only prior."""
    truth, known = np.array([-1 if q.answer is None else q.answer for q in data.train]), data.validates
    right = prior_of_train(data, prior).argmax(-1) == truth
    ids = np.array([q.id for q in data.train], dtype=np.str_)
    return Answers("prior", prior.test_logprobs.argmax(-1), ids[known], right[known])


def image_groups_of(data: RunData) -> dict[str, int]:
    """Map the id of each training row to its image group."""
    return {q.id: int(group) for q, group in zip(data.train, data.groups, strict=True)}


# %% files
def write_answers(project: Project, data: RunData, answers: Answers, path: Path) -> Submitted:
    """Write and validate a submission file, and record its content.

    Raises:
        SubmissionError: the file would not be valid; an existing one is unchanged.
    """
    rows = project.paths.experiment / f"{path.stem}-rows.npz"
    relative = rows.absolute().relative_to(project.paths.root.absolute()).as_posix()
    new = Submitted(project.config.run, answers.source, answers.accuracy(image_groups_of(data)), data.test_print, relative)

    def record(written: Path) -> None:
        content = file_hash(written)
        ids, right = answers.ids.astype(np.str_), answers.right.astype(bool)
        with atomic_path(rows) as part, open(part, "wb") as file:
            np.savez_compressed(file, ids=ids, right=right, submission=content)
        record_submitted(path, dataclasses.replace(new, content=content))

    write_submission(path, data.test, answers.predictions, data.form, record)
    return dataclasses.replace(new, content=file_hash(path))


def record_submitted(path: Path, content: Submitted) -> None:
    """Record the content of a submission file in submissions.json beside it, just before the file is replaced.

    The record of the file that is still there stays beside it, so that a kill in between leaves neither file unknown.
    """
    before = read_submitted(path)
    record = _record_of(content)
    if before is not None:
        record["before"] = _record_of(dataclasses.replace(before, content=file_hash(path)))
    write_json(path.with_name("submissions.json"), _records_beside(path) | {path.name: record})


def _record_of(content: Submitted) -> dict[str, Any]:
    return dataclasses.asdict(content) | {"accuracy": content.accuracy.record if content.accuracy else None}


def read_submitted(path: Path) -> Submitted | None:
    """Read the recorded content of a submission file; None: there is no file, or no record of this file."""
    record = _records_beside(path).get(path.name)
    if not path.exists() or record is None:
        return None
    try:
        known = [_submitted_from(one) for one in (record, record.get("before")) if one is not None]
    except (TypeError, ValueError, AttributeError):
        print(f"  {path.with_name('submissions.json')} is damaged, so the content of {path.name} is unknown")
        return None
    held = ("", file_hash(path))
    return next((one for one in known if one.content in held), None)


def _submitted_from(record: Any) -> Submitted:
    """Read back a record of `record_submitted`; version 0.1 wrote less. Raises various errors for anything else."""
    texts = {name: record.get(name, "") for name in ("run", "source", "test", "rows", "content")}
    if not texts["source"] or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("names of files and runs are texts")
    accuracy = record.get("accuracy")
    return Submitted(**texts, accuracy=Accuracy.from_record(accuracy) if accuracy else None)


def _records_beside(path: Path) -> dict[str, Any]:
    file = path.with_name("submissions.json")
    if not file.exists():
        return {}
    try:
        records = read_json(file)
    except ValueError:
        records = None
    if not isinstance(records, dict):
        print(f"  {file} is damaged, so the content of the submissions next to it is unknown")
        return {}
    return records


def submission_files(project: Project, data: RunData) -> list[Path]:
    """List the submission files of the run and of its output folder; none without test rows."""
    files = [*sorted(project.paths.outputs.glob("submission_*.csv")), project.paths.experiment / "submission.csv"]
    return files if data.test else []


def validate_file(path: Path, data: RunData) -> SubmissionReport:
    """Validate a submission file; a file recorded as answering other test rows is invalid."""
    report, content = validate_submission(path, data.test, data.form), read_submitted(path)
    if content is None or content.test in ("", data.test_print):
        return report
    other = (
        f"It holds answers of the run {content.run!r} to other test rows: questions, choices or photographs differ. Score "
        f"these rows: mcvqa predict {content.run}, then mcvqa ensemble {content.run}."
    )
    return dataclasses.replace(report, problems=(*report.problems, other))


def validate_any(path: Path, project: Project) -> SubmissionReport:
    """Validate a file that a run may have written; photographs are surveyed only if its content is recorded."""
    content = read_submitted(path)
    if content is not None and content.test:
        return validate_file(path, read_data(project))
    return validate_submission(path, *read_form(project))


def is_current(path: Path, data: RunData) -> bool:
    """Return whether a submission file is valid for the current test rows."""
    try:
        return path.exists() and not validate_file(path, data).problems
    except SubmissionError:
        return False


# %% comparison
def gain_over(project: Project, data: RunData, answers: Answers, current: Submitted) -> Gain | None:
    """Compute the gain of `answers` over a file's content, on the rows on which both were measured; None: there are none."""
    file = project.paths.root / current.rows
    try:
        with np.load(file, allow_pickle=False) as stored:
            before = dict(zip(stored["ids"].tolist(), stored["right"].tolist(), strict=True))
            if str(stored.get("submission", "")) != current.content:
                return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return _gain_on_common_rows(data, answers, before)


def _gain_on_common_rows(data: RunData, answers: Answers, before: Mapping[str, bool]) -> Gain | None:
    """Compute the gain over `before`, which maps ids of training rows to right or wrong."""
    groups = image_groups_of(data)
    common = [(bool(right), before[name], groups[name]) for name, right in zip(answers.ids.tolist(), answers.right, strict=True)
            if name in before and name in groups]
    return paired_gain(*(np.array(column) for column in zip(*common, strict=True))) if common else None


# %% the prior's submission
def submit_prior(project: Project, data: RunData, prior: Prior) -> SubmissionReport | None:
    """Submit the prior's answers as the first valid submission, unless a run has submitted for these test rows.

    Returns:
        Result of the validation; None: nothing was written, or there are no test rows.
    """
    if not data.test:
        return None
    path = project.paths.outputs / ENSEMBLE_FILE
    current = read_submitted(path)
    if is_current(path, data) and (current is None or current.source != "prior"):
        return None
    _print_replaced(project, path, current, data)
    write_answers(project, data, prior_answers(data, prior), path)
    return validate_file(path, data)


def _print_replaced(project: Project, path: Path, current: Submitted | None, data: RunData) -> None:
    if current is not None and current.run != project.config.run and current.source != "prior":
        copy = project.paths.experiment.parent / current.run / "submission.csv"
        where = f"; they are also in {copy}" if copy.exists() else ""
        print(f"  {path} held the run {current.run!r}'s answers to other test rows{where}")


# %% a run's submission
def hand_in(project: Project, data: RunData, answers: Answers, prior: Prior, *, force: bool = False) -> Submitted | None:
    """Write a run's answers to experiments/<run>/submission.csv and, unless it holds better ones, to the file to hand in.

    Args:
        project: the run.
        data: its rows, with folds.
        answers: the run's answers.
        prior: the text-only prior.
        force: replace the file to hand in, whatever its accuracy and the prior's.

    Returns:
        Content of outputs/submission_ensemble.csv; None: there are no test rows and nothing was written.
    """
    if not data.test:
        print(f"  {without_test(project)}")
        return None
    chosen = answers if force else _run_or_prior(project, data, answers, prior)
    write_answers(project, data, chosen, project.paths.experiment / "submission.csv")
    path = project.paths.outputs / ENSEMBLE_FILE
    current = read_submitted(path)
    reason = None if force else _reason_to_keep(project, data, chosen, path, current)
    if reason is None:
        if not is_current(path, data):
            _print_replaced(project, path, current, data)
        current = write_answers(project, data, chosen, path)
        print(f"  {path}: {validate_file(path, data)}")
        return current
    print(
        f"  {path} is kept: {reason}\n  This run's answers are in {project.paths.experiment / 'submission.csv'}. To submit "
        f"them: mcvqa ensemble {project.config.run} --force"
    )
    return current or Submitted("", "unknown")


def _run_or_prior(project: Project, data: RunData, answers: Answers, prior: Prior) -> Answers:
    """Return the run's answers, or the prior's if they are significantly better on the same rows."""
    blind = prior_answers(data, prior)
    gain = _gain_on_common_rows(data, answers, dict(zip(blind.ids.tolist(), blind.right.tolist(), strict=True)))
    if gain is not None and gain.is_worse:
        print(f"  the text-only prior is significantly better than this run ({gain} on the same rows): its answers are used")
        return blind
    return answers


def _reason_to_keep(project: Project, data: RunData, answers: Answers, path: Path, current: Submitted | None) -> str | None:
    """Say why a submission file is not replaced; None: it is replaced."""
    if not is_current(path, data):
        return None
    if current is None:
        return "its content is unknown."
    is_own, held = current.run == project.config.run or current.source == "prior", current.accuracy
    if bool(answers.not_measured) != bool(held and held.not_measured):  # how right they are cannot be compared
        return None if is_own or not answers.not_measured else (
            f"it holds {current.source} of the run {current.run!r}, and the accuracy of the new answers is not measured."
        )
    gain = gain_over(project, data, answers, current)
    if gain is None and current.run == project.config.run:
        return None
    accuracy = f", accuracy {current.accuracy}" if current.accuracy else ""
    content = f"it holds {current.source} of the run {current.run!r}{accuracy}"
    if gain is None:
        return f"{content}, and there are no rows on which both were measured."
    rows = counted(gain.n, "row")
    worse = f"{content}, and the new answers are significantly worse: {gain} on {rows} on which both were measured."
    return worse if gain.is_worse else None
