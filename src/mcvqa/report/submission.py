"""Submission: exactly the test ids, in their order, with letters their rows have. Or no file at all."""
import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mcvqa.base.files import atomic_path
from mcvqa.config import McvqaError
from mcvqa.data.questions import LETTERS, Question

SUBMISSION_HEADER = ("id", "answer")


# %% what is found in a file
class SubmissionError(McvqaError, ValueError):
    """A submission that would be refused; the message names the file and the rows."""


@dataclass(frozen=True)
class SubmissionReport:
    """Attributes: rows below the header; distribution: letter -> rows; problems: what is wrong, none if it is valid."""

    rows: int
    distribution: dict[str, int]
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.problems:
            return "NOT valid:\n" + "\n".join(f"  - {problem}" for problem in self.problems)
        shares = (f"{letter} {count:,} ({count / self.rows:.1%})" for letter, count in self.distribution.items())
        return f"valid: {self.rows:,} rows; {', '.join(shares)}"


# %% writing
def write_submission(
    path: str | Path,
    test_questions: Sequence[Question],
    predictions: Sequence[int] | np.ndarray,
    sample: Path | None = None,
) -> None:
    """Write a submission; it takes its name only after it has been read back and found valid.

    Args:
        predictions: one choice index per question, in the same order.
        sample: sample_submission.csv, whose column names and their order are used; None: id,answer.
    Raises:
        SubmissionError: something in it is not valid; a file already at `path` stays as it is.
    """
    if len(predictions) != len(test_questions):
        raise SubmissionError(f"{path}: {len(predictions)} predictions for {len(test_questions)} test rows.")
    header, id_at = _wanted_header(test_questions, sample)
    with atomic_path(path) as part:
        with open(part, "w", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(header)
            for question, choice in zip(test_questions, predictions, strict=True):
                cells = [question.id, _letter(choice)]
                writer.writerow(cells if id_at == 0 else cells[::-1])
        if problems := validate_submission(part, test_questions, sample).problems:
            raise SubmissionError(f"{path} was not written: " + " ".join(problems))


def _letter(choice: int) -> str:
    """The letter of a choice; anything else as it is, for the validation to refuse by row."""
    return LETTERS[int(choice)] if choice in range(len(LETTERS)) else str(choice)


# %% checking
def validate_submission(
    path: str | Path, test_questions: Sequence[Question], sample: Path | None = None
) -> SubmissionReport:
    """Everything that is wrong with a submission file; rows are counted from 2, the first below the header.

    Raises:
        SubmissionError: the sample file itself cannot be used.
    """
    header, id_at = _wanted_header(test_questions, sample)
    try:
        found, *records = _submission_cells(path) or [[]]
    except SubmissionError as error:
        return SubmissionReport(0, {}, (str(error),))
    problems = [] if found == list(header) else [_header_problem(found, header)]
    odd = [f"row {n}" for n, cells in enumerate(records, start=2) if len(cells) != 2]
    if odd:
        problems.append(f"Not two cells in {_some_rows(odd)}.")
    if len(found) != 2 or odd:
        return SubmissionReport(len(records), {}, tuple(problems))
    ids, letters = [cells[id_at] for cells in records], [cells[1 - id_at] for cells in records]
    problems += _id_problems(ids, [q.id for q in test_questions])
    problems += _letter_problems(ids, letters, {q.id: len(q.choices) for q in test_questions})
    return SubmissionReport(len(records), dict(sorted(Counter(letters).items())), tuple(problems))


def _submission_cells(path: str | Path) -> list[list[str]]:
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise SubmissionError(f"The file cannot be read: {error.strerror or error}.") from None
    if raw.startswith(b"\xef\xbb\xbf"):
        raise SubmissionError("The file begins with a byte order mark; save it as UTF-8 without BOM.")
    try:
        return list(csv.reader(io.StringIO(raw.decode("utf-8"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise SubmissionError(f"The file is not a CSV table in UTF-8: {error}.") from None


def _wanted_header(test_questions: Sequence[Question], sample: Path | None) -> tuple[tuple[str, ...], int]:
    """The column names, and which of the two holds the ids. The sample must be about the same rows."""
    if sample is None:
        return SUBMISSION_HEADER, 0
    try:  # a mark at its beginning is the organisers' matter, not a part of the first name
        text = Path(sample).read_bytes().decode("utf-8-sig")
        found, *records = list(csv.reader(io.StringIO(text, newline=""))) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SubmissionError(f"{sample} cannot be read: {error}.") from None
    if len(found) != 2:
        raise SubmissionError(f"{sample} has the columns {', '.join(found)}; two are expected, the id and the answer.")
    ids = {q.id for q in test_questions}
    hits = [sum(len(cells) > at and cells[at] in ids for cells in records) for at in (0, 1)]
    id_at = int(hits[1] > hits[0])
    listed = {cells[id_at] for cells in records if len(cells) > id_at}
    if listed != ids:
        raise SubmissionError(
            f"{sample} and the test rows differ: only in the sample {_some_rows(sorted(listed - ids))}; "
            f"only in the test rows {_some_rows(sorted(ids - listed))}."
        )
    return tuple(found), id_at


def _header_problem(found: list[str], header: tuple[str, ...]) -> str:
    index = " It looks as if a table's index was written too (index=False)." if len(found) > 2 and not found[0] else ""
    return f"The first line must be {','.join(header)!r}; it is {','.join(found)!r}.{index}"


def _id_problems(ids: list[str], wanted: list[str]) -> list[str]:
    if ids == wanted:
        return []
    missing, unknown = Counter(wanted) - Counter(ids), Counter(ids) - Counter(wanted)
    known = set(wanted)
    twice, new = [i for i in unknown if i in known], [i for i in unknown if i not in known]
    problems = [f"The file has {len(ids)} rows, the test set {len(wanted)}."] if len(ids) != len(wanted) else []
    named = {"Missing ids": list(missing), "Ids that occur twice": twice, "Ids not in the test set": new}
    problems += [f"{words}: {_some_rows(found)}." for words, found in named.items() if found]
    if not missing and not unknown:
        pairs = enumerate(zip(ids, wanted, strict=True), start=2)
        moved = [f"row {n} has {is_now}, not {should_be}" for n, (is_now, should_be) in pairs if is_now != should_be]
        problems.append(f"The ids are not in the order of the test set: {_some_rows(moved)}.")
    return problems


def _letter_problems(ids: list[str], letters: list[str], n_choices: dict[str, int]) -> list[str]:
    wrong = [
        f"row {n} ({row_id}) {letter!r}"
        for n, (row_id, letter) in enumerate(zip(ids, letters, strict=True), start=2)
        if letter not in tuple(LETTERS[: n_choices.get(row_id, len(LETTERS))])
    ]
    if not wrong:
        return []
    return [f"Answers must be lower-case letters of the row's choices; they are not in {_some_rows(wrong)}."]


def _some_rows(rows: Sequence[str]) -> str:
    """The first ten and the count."""
    return f"{len(rows)}: {', '.join(rows[:10])}{', ...' if len(rows) > 10 else ''}" if rows else "none"
