"""Finds errors of a run on rows on which it was not trained, with their photographs if these still exist."""
import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcvqa.answer.trained import TrainedRun
from mcvqa.answer.typed import lines_of, typed_choices
from mcvqa.base.files import DamagedFile, as_spreadsheet_cell, read_json
from mcvqa.config import McvqaError
from mcvqa.data.answers import LETTERS
from mcvqa.data.questions import Question
from mcvqa.data.table import DataError
from mcvqa.ensemble.predictions import OOF_PREDICTIONS
from mcvqa.run.dataset import RunData, read_data


@dataclass(frozen=True)
class Mistake:
    """Describes a validation row that the run answered wrongly.

    Attributes:
        question: the question, with the right answer.
        photograph: its file.
        said: index of the run's choice.
        share: probability of this choice.
    """

    question: Question
    photograph: Path
    said: int
    share: float


def mistakes_of_run(trained: TrainedRun, most: int) -> list[Mistake]:
    """List errors with readable photographs, the most confident first, one for each photograph.

    Args:
        trained: the run; errors of folds that do not answer are left out, since the answering folds were trained on them.
        most: maximum number.

    Raises:
        DataError: the run has left no predictions, or its data are missing or have changed.
    """
    predictions, data = _predictions(trained), _own_data(trained)
    asked = [(row, predictions.get(as_spreadsheet_cell(row.id))) for row in data.train]
    wrong = [mistake for row, predicted in asked if predicted and (mistake := _mistake(row, predicted, data))]
    by_photograph = {mistake.photograph: mistake for mistake in sorted(wrong, key=lambda mistake: mistake.share)}
    return sorted(by_photograph.values(), key=lambda mistake: -mistake.share)[:most]


def _predictions(trained: TrainedRun) -> dict[str, Mapping[str, str]]:
    """Map the first cell to each row of oof_predictions.csv."""
    file = trained.project.paths.experiment / OOF_PREDICTIONS
    try:
        with open(file, newline="", encoding="utf-8") as handle:
            rows = [row for row in csv.DictReader(handle) if row.get("fold") in set(map(str, trained.folds))]
    except FileNotFoundError:
        raise DataError(f"{file} is missing: mcvqa ensemble {trained.project.config.run} writes it") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} cannot be read ({error})") from None
    return {row["id"]: row for row in rows if row.get("id")}


def _own_data(trained: TrainedRun) -> RunData:
    """Read the data that the run was trained on, as they are now."""
    project = trained.project
    file = project.paths.experiment / "data.json"
    try:
        before = read_json(file, dict)
        data = read_data(project)
    except (OSError, DamagedFile, McvqaError) as error:
        raise DataError(f"the run's data cannot be read: {error}") from None
    if data.train_print != before.get("content"):
        raise DataError(f"{data.files.root} holds rows or photographs other than those that the run was trained on")
    return data


def _mistake(question: Question, predicted: Mapping[str, str], data: RunData) -> Mistake | None:
    """Make a mistake; None: the answer is right or unknown, or the photograph cannot be shown."""
    record = data.records[question.image]
    shares = [_share(predicted.get(f"prob_{letter}")) for letter in LETTERS[: len(question.choices)]]
    said = max(range(len(shares)), key=shares.__getitem__)
    if record.path is None or record.problem or question.answer in (None, said) or shares[said] <= 0:
        return None
    return Mistake(question, record.path, said, shares[said])


def _share(cell: str | None) -> float:
    """Read a probability; 0 for a cell that was edited into something else."""
    try:
        return float(cell or 0)
    except ValueError:
        return 0.0


def is_asked_by(mistake: Mistake, question: str, choices: Sequence[str]) -> bool:
    """Return whether a question with its choices is that of a mistake."""
    asked = mistake.question
    return question == asked.text.strip() and typed_choices(lines_of(asked.choices)) == tuple(choices)
