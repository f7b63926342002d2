"""The predictions of a run elsewhere as a member, with those out of fold, by which it is weighed and calibrated."""
import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mcvqa.base.files import as_spreadsheet_cell
from mcvqa.data.answers import AnswerConvention
from mcvqa.data.questions import Question
from mcvqa.ensemble.blend import Member, read_predictions
from mcvqa.ensemble.predictions import OOF_PREDICTIONS


def stored_member(path: Path, test: Sequence[Question], train: Sequence[Question], known: AnswerConvention | None) -> Member:
    """The member that a run's test_predictions.csv and the oof_predictions.csv beside it make.

    Args:
        path: of test_predictions.csv.
        test: the test rows, all of which it must hold.
        train: training rows; those of the other file join the member, whose folds may be others.
        known: how the competition writes answers.

    Raises:
        BlendError, DataError: a file cannot be used; see `read_predictions`.
    """
    beside = path.with_name(OOF_PREDICTIONS)
    with open(beside, newline="", encoding="utf-8") as handle:
        ids = {row.get("id", "") for row in csv.DictReader(handle)}
    rows = [q for q in train if q.id in ids or as_spreadsheet_cell(q.id) in ids]
    oof = read_predictions(beside, rows, known).test[0] if rows else None
    return replace(read_predictions(path, test, known), name=path.absolute().parent.name, oof=oof)
