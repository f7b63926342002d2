"""Writes and validates submission files.

They hold exactly the test ids, in order, in the competition's format, or are not written at all.
"""
import csv
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mcvqa.base.files import atomic_path
from mcvqa.base.informing import counted, one_line
from mcvqa.config import McvqaError, read_user_file
from mcvqa.data.answers import STYLE_WORDS, SUBMISSION_STYLES, AnswerConvention, compared_text, find_convention, written_answer
from mcvqa.data.questions import Question
from mcvqa.data.table import Cells, DataError, read_cells


# %% records
class SubmissionError(McvqaError, ValueError):
    """Raised if a submission would be rejected; the message names the file and the rows."""


@dataclass(frozen=True)
class SubmissionReport:
    """Holds the result of validating a submission file.

    Attributes:
        rows: number of rows below the header.
        distribution: answer -> number of rows.
        problems: what is wrong; empty if the file is valid.
    """

    rows: int
    distribution: dict[str, int]
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.problems:
            return "NOT valid:\n" + "\n".join(f"  - {problem}" for problem in self.problems)
        shares = [f"{answer}: {count:,} ({count / self.rows:.1%})" for answer, count in self.distribution.items()]
        more = f", and {len(shares) - SHOWN_ANSWERS} more" if len(shares) > SHOWN_ANSWERS else ""
        return f"valid: {counted(self.rows, 'row')}; {', '.join(shares[:SHOWN_ANSWERS])}{more}"


SHOWN_ANSWERS = 10


# %% the competition's format
@dataclass(frozen=True)
class SubmissionForm:
    """Describes the format of the competition's submissions.

    Attributes:
        header: column names, in the sample's order.
        id_at, answer_at: indices of the id and answer columns; a third column numbers the rows.
        style: one of SUBMISSION_STYLES.
        delimiter: separator of the cells.
        first_number: first value of the column that numbers the rows.
        notes: remarks for the user, such as a sample_submission.csv that does not match.
        around: what is before and behind each answer: ('(', ')') or ('', '번').
    """

    header: tuple[str, ...] = ("id", "answer")
    id_at: int = 0
    answer_at: int = 1
    style: str = "lower"
    delimiter: str = ","
    first_number: int = 0
    notes: tuple[str, ...] = ()
    around: tuple[str, ...] = ("", "")


PLAIN_FORM = SubmissionForm()
NO_CONVENTION = AnswerConvention(words=(), numbers=())  # of a sample that shows no answers


def find_form(
    test: Sequence[Question], sample: Path | None, train: AnswerConvention | None, style: str = "auto"
) -> SubmissionForm:
    """Determine the submission format.

    It has the header and columns of the sample, and answers as in the sample, else as in train.csv. The sample's answers count
    only if they differ: one letter for all rows, blanks and zeros are placeholders.

    Args:
        test: the test rows.
        sample: sample_submission.csv; None: there is none.
        train: how train.csv writes its answers; None: not known.
        style: one of SUBMISSION_STYLES, or "auto".

    Raises:
        SubmissionError: neither file shows how answers are written.
    """
    form, of_sample, counts = _form_of_sample(test, sample) if sample else (PLAIN_FORM, NO_CONVENTION, False)
    known, shown = train.usual if train else "", of_sample.usual
    chosen = style if style != "auto" else shown if shown and counts else known
    if not chosen:
        raise SubmissionError(
            "Neither sample_submission.csv nor train.csv shows how to write the answers of the submission. Choose with --set "
            f"submission_style={'|'.join(SUBMISSION_STYLES)}."
        )
    if style != "auto":
        return replace(form, style=chosen)
    if shown == chosen and (around := of_sample.unlike[2:]):
        form = replace(form, around=around)
    else:
        as_sample = shown and (counts or (shown == chosen and of_sample.unlike))
        spelt = _notes_on_spelling(of_sample if as_sample else train, sample, of_sample)
        form = replace(form, notes=(*form.notes, *spelt))
    form = replace(form, style=chosen)
    if sample and shown and known and shown != known:
        constant = " (the same in every row)" * (not counts)
        note = (
            f"{sample.name} has {STYLE_WORDS[shown]}{constant}, the training file {STYLE_WORDS[known]}: the submission is written"
            f" in {STYLE_WORDS[chosen]} (submission_style={known if chosen == shown else shown} changes that)."
        )
        form = replace(form, notes=(*form.notes, note))
    return form


def _notes_on_spelling(chosen: AnswerConvention | None, sample: Path | None, of_sample: AnswerConvention) -> list[str]:
    """Note if answers are spelt differently from the file they follow, or are not numbers although the sample's are."""
    notes = []
    if chosen and chosen.unlike:
        written, ours, *around = chosen.unlike
        name = sample.name if sample and chosen is of_sample else "the training file"
        way = ", or write so into sample_submission.csv" * bool(around)
        notes.append(f"{name} writes {written!r} where the submission has {ours!r}: check the competition's rules{way}")
    if sample and not of_sample.usual and of_sample.numbers and chosen and chosen.usual not in ("one", "zero"):
        notes.append(
            f"{sample.name} holds numbers that may count from 0 or from 1: the submission is written in "
            f"{STYLE_WORDS[chosen.usual]}, like the training file (submission_style=one or zero changes that)"
        )
    return notes


def _form_of_sample(test: Sequence[Question], sample: Path) -> tuple[SubmissionForm, AnswerConvention, bool]:
    """Return the sample's columns, its notation of answers (`usual` is '' if it shows none), and whether its answers count."""
    try:
        table = read_cells(sample, allow_empty=True)
    except DataError as error:
        note = f"{error} It is not used: the submission's header is id,answer."
        return replace(PLAIN_FORM, notes=(note,)), NO_CONVENTION, False
    form = _columns_of_sample(test, table)
    if form is None:
        shown = ", ".join(table.header) or "none"
        note = f"{sample.name} has the columns {shown}; an id and an answer are expected. The header is id,answer."
        return replace(PLAIN_FORM, notes=(note,)), NO_CONVENTION, False
    questions = {_plain_id(q.id): q for q in test}
    rows = [cells for cells in table.records if len(cells) > max(form.id_at, form.answer_at)]
    ids = {_plain_id(cells[form.id_at]) for cells in rows}
    missing, unknown = questions.keys() - ids, ids - questions.keys()
    if missing or unknown:
        note = (
            f"{sample.name} does not match the test rows: only in the sample {_some_rows(sorted(unknown))}; only in the test "
            f"rows {_some_rows(sorted(missing))}. The submission uses the ids and the order of the test file."
        )
        form = replace(form, notes=(note,))
    known = [(row, q) for row in rows if (q := questions.get(_plain_id(row[form.id_at])))]
    if spoilt := [pair for row, q in known if _is_spoilt(*(pair := (row[form.id_at], q.id)))]:
        note = f"{sample.name} has the id {spoilt[0][0]!r} where the test file, and so the submission, has {spoilt[0][1]!r}"
        form = replace(form, notes=(*form.notes, f"{note}: check the competition's rules"))
    cells = [(row[form.answer_at], q.choices) for row, q in known]
    written = {compared_text(cell) for cell, _ in cells}
    convention = find_convention((cell, choices) for cell, choices in cells if cell.strip())
    return form, replace(convention, usual="") if written == {"0"} else convention, len(written) > 1 and "" not in written


def _columns_of_sample(test: Sequence[Question], table: Cells) -> SubmissionForm | None:
    """Find the columns of ids (those of the test rows) and answers; a nameless column numbers the rows."""
    header = tuple(name.strip() for name in table.header)
    numbering = [i for i, name in enumerate(header) if not name or name.startswith("Unnamed: ")][:1]
    others = [i for i in range(len(header)) if i not in numbering]
    if len(others) != 2 or len(header) > 3:
        return None
    known = {_plain_id(q.id) for q in test}
    hits = [sum(len(cells) > i and _plain_id(cells[i]) in known for cells in table.records) for i in others]
    id_at, answer_at = others[::-1] if hits[1] > hits[0] else others
    from_one = bool(numbering and table.records) and table.records[0][numbering[0]].strip() == "1"
    return SubmissionForm(header, id_at, answer_at, delimiter=table.delimiter or ",", first_number=int(from_one))


def _plain_id(text: str) -> str:
    """Normalise an id for comparison with the sample: tools write 1 as 0001, 1.0 or with a trailing space."""
    text = text.strip()
    whole = text.removesuffix(".0")
    return (whole.lstrip("0") or "0") if whole.isascii() and whole.isdigit() else text


def _is_spoilt(of_sample: str, test_id: str) -> bool:
    """Return whether a test file has damaged an id that is intact in the sample: lost leading zeros, or added .0 or blanks."""
    whole = of_sample.strip()
    lost = whole.isdigit() and (not test_id.isdigit() or len(test_id) < len(whole))
    return test_id != whole and (lost or test_id.strip() == whole)


# %% writing
def write_submission(
    path: str | Path,
    test_questions: Sequence[Question],
    predictions: Sequence[int] | np.ndarray,
    form: SubmissionForm = PLAIN_FORM,
    record: Callable[[Path], None] | None = None,
) -> None:
    """Write a submission, which is read back and validated before it gets its name.

    Args:
        path: the file.
        test_questions: the N test rows.
        predictions: (N,) choice indices, in the same order.
        form: from `find_form`.
        record: called with the valid file before it gets its name.

    Raises:
        SubmissionError: the file would not be valid; an existing file is unchanged.
    """
    if len(predictions) != len(test_questions):
        rows = counted(len(test_questions), "test row")
        raise SubmissionError(f"{path}: {counted(len(predictions), 'prediction')} for {rows}.")
    with atomic_path(path) as part:
        with open(part, "w", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle, lineterminator="\n", delimiter=form.delimiter)
            writer.writerow(form.header)
            for number, (question, choice) in enumerate(zip(test_questions, predictions, strict=True), start=form.first_number):
                cells = [str(number)] * len(form.header)
                cells[form.id_at], cells[form.answer_at] = question.id, _answer(choice, question, form)
                writer.writerow(cells)
        if problems := validate_submission(part, test_questions, form).problems:
            raise SubmissionError(f"{path} was not written: " + " ".join(problems))
        if record:
            record(part)


def _answer(choice: int, question: Question, form: SubmissionForm) -> str:
    """Format an answer; an index that the row does not have is written as such, for the validation to reject."""
    if choice in range(len(question.choices)):
        return written_answer(int(choice), question.choices, form.style).join(form.around)
    return f"choice {choice}"


# %% checking
def validate_submission(
    path: str | Path, test_questions: Sequence[Question], form: SubmissionForm = PLAIN_FORM
) -> SubmissionReport:
    """Validate a submission file and report all problems; the first row below the header is row 2.

    Args:
        path: the file.
        test_questions: the test rows.
        form: from `find_form`.
    """
    try:
        header, *records = _submission_cells(path, form.delimiter) or [[]]
    except SubmissionError as error:
        return SubmissionReport(0, {}, (str(error),))
    while records and not any(cell.strip() for cell in records[-1]):  # blank lines at the end
        records.pop()
    problems = [] if header == list(form.header) else [_header_problem(header, form)]
    odd = [f"row {n}" for n, cells in enumerate(records, start=2) if len(cells) != len(form.header)]
    if odd:
        problems.append(f"Rows that do not have {len(form.header)} cells: {_some_rows(odd)}.")
    if len(header) != len(form.header) or odd:
        return SubmissionReport(len(records), {}, tuple(problems))
    ids, answers = [cells[form.id_at] for cells in records], [cells[form.answer_at] for cells in records]
    problems += _id_problems(ids, [q.id for q in test_questions])
    problems += _answer_problems(ids, answers, {q.id: q for q in test_questions}, form)
    return SubmissionReport(len(records), dict(sorted(Counter(answers).items())), tuple(problems))


def _submission_cells(path: str | Path, delimiter: str) -> list[list[str]]:
    try:
        raw = read_user_file(path)
    except OSError as error:
        raise SubmissionError(f"{path} cannot be read: {error.strerror or error}.") from None
    if raw.startswith(b"\xef\xbb\xbf"):
        raise SubmissionError("The file begins with a byte order mark; save it as UTF-8 without BOM.")
    try:
        return list(csv.reader(io.StringIO(raw.decode("utf-8"), newline=""), strict=True, delimiter=delimiter))
    except (UnicodeDecodeError, csv.Error) as error:
        raise SubmissionError(f"The file is not a CSV table in UTF-8: {error}.") from None


def _header_problem(header: list[str], form: SubmissionForm) -> str:
    index = len(header) > len(form.header) and not header[0]
    advice = " It looks as if the table's index was written too (use index=False)." * index
    return f"The first line must be {form.delimiter.join(form.header)!r}; it is {form.delimiter.join(header)!r}.{advice}"


def _id_problems(ids: list[str], wanted: list[str]) -> list[str]:
    if ids == wanted:
        return []
    missing, unknown = Counter(wanted) - Counter(ids), Counter(ids) - Counter(wanted)
    known = set(wanted)
    duplicates, new = [i for i in unknown if i in known], [i for i in unknown if i not in known]
    problems = [f"The file has {counted(len(ids), 'row')}, the test set {len(wanted)}."] if len(ids) != len(wanted) else []
    named = {"Missing ids": list(missing), "Duplicate ids": duplicates, "Ids not in the test set": new}
    problems += [f"{words}: {_some_rows(rows)}." for words, rows in named.items() if rows]
    if not missing and not unknown:
        pairs = enumerate(zip(ids, wanted, strict=True), start=2)
        moved = [f"row {n} has {is_now} instead of {should_be}" for n, (is_now, should_be) in pairs if is_now != should_be]
        problems.append(f"The ids are not in the order of the test set: {_some_rows(moved)}.")
    return problems


def _answer_problems(ids: list[str], answers: list[str], questions: dict[str, Question], form: SubmissionForm) -> list[str]:
    by_text = form.style in ("text", "bare")
    allowed = {
        row_id: {_answer(i, q, form) for i in range(len(q.choices)) if q.choices[i] or not by_text}
        for row_id, q in questions.items()
    }
    wrong = [
        f"row {n} ({row_id}) {answer!r}"
        for n, (row_id, answer) in enumerate(zip(ids, answers, strict=True), start=2)
        if row_id in allowed and answer not in allowed[row_id]
    ]
    if not wrong:
        return []
    shown = f"{STYLE_WORDS[form.style]}, such as {min(next(iter(allowed.values())))!r}"
    return [f"Answers must be {shown}, and fit the row's choices; they do not in {_some_rows(wrong)}."]


def _some_rows(rows: Sequence[str]) -> str:
    """Spell the count and the first ten."""
    return f"{len(rows)}: {', '.join(map(one_line, rows[:10]))}{', ...' if len(rows) > 10 else ''}" if rows else "none"
