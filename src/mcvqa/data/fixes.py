"""Applies decisions about labels: fixes.csv, written by `mcvqa audit` and edited by a person.

Only a person's decisions are applied: a row whose decision is empty does not change.
"""
import csv
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mcvqa.base.files import as_spreadsheet_cell, atomic_path, from_spreadsheet_cell
from mcvqa.base.informing import counted
from mcvqa.config import Config
from mcvqa.data.answers import LETTERS
from mcvqa.data.labelled import answered_rows
from mcvqa.data.questions import Question, Table
from mcvqa.data.table import Cells, DataError, read_cells

DECISIONS = KEEP, FIX, DROP = ("keep", "fix", "drop")
FIXES_HEADER = ("id", "now", "proposed", "decision", "probability", "now_text", "proposed_text", "image", "question")
SHOWN_MISTAKES = 10


@dataclass(frozen=True)
class Proposal:
    """Describes one row of fixes.csv that needs a decision.

    Attributes:
        question: the labelled row.
        proposed: the proposed answer.
        probability: probability that the label is wrong.
    """

    question: Question
    proposed: int
    probability: float


@dataclass(frozen=True)
class Decision:
    """Holds a person's decision about one row.

    Attributes:
        row: row of the file, counted from 1 without the header.
        id: id of the labelled row.
        word: one of DECISIONS, or empty: undecided.
        now, proposed: letters; `proposed` may be empty unless the word is `fix`.
    """

    row: int
    id: str
    word: str
    now: str
    proposed: str


@dataclass(frozen=True)
class Fixed:
    """Holds labelled rows after the decisions.

    Attributes:
        questions: the rows, without those dropped.
        before: id of each relabelled row -> its previous answer.
        dropped: ids of the rows that were dropped.
        notes: the changes, in sentences.
    """

    questions: tuple[Question, ...]
    before: dict[str, int]
    dropped: tuple[str, ...]
    notes: tuple[str, ...]


# %% write
def write_fixes(path: Path, proposals: Sequence[Proposal], decided: Sequence[Decision] = ()) -> None:
    """Write undecided proposals, followed by earlier decisions: the new file replaces the old one.

    Args:
        path: the file.
        proposals: rows without a decision.
        decided: earlier decisions to keep.

    Raises:
        DataError: the file already contains decisions, or is something else.
    """
    if path.exists() and (count := _decided_in(path)):
        raise DataError(
            f"{path} contains {counted(count, 'decision')} made by a person and is not overwritten. Choose another --out."
        )
    with atomic_path(path) as part, open(part, "w", newline="", encoding="utf-8-sig") as handle:  # the mark is for Excel
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(FIXES_HEADER)
        for one in proposals:
            q = one.question
            assert q.answer is not None
            cells = (q.id, LETTERS[q.answer], LETTERS[one.proposed], "", f"{one.probability:.3f}", q.choices[q.answer],
                     q.choices[one.proposed], q.image, q.text)
            writer.writerow(map(as_spreadsheet_cell, cells))
        for done in decided:
            rest = [""] * (len(FIXES_HEADER) - 4)
            writer.writerow([*map(as_spreadsheet_cell, (done.id, done.now, done.proposed, done.word)), *rest])


def _decided_in(path: Path) -> int:
    return sum(bool(decision.word) for decision in read_decisions(path))


# %% read
def read_decisions(path: Path) -> list[Decision]:
    """Read a file of decisions, in any encoding and with any separator of a spreadsheet.

    Raises:
        DataError: the file does not exist or is not a table, or columns are missing.
    """
    table = read_cells(path, allow_empty=True)
    columns = _columns_of(table)
    decisions = []
    for number, cells in enumerate(table.records, 1):
        padded = [*cells, *[""] * (len(table.header) - len(cells))]
        values = {name: from_spreadsheet_cell(padded[at]) for name, at in columns.items()}
        words = {name: values[name].strip().lower() for name in ("decision", "now", "proposed")}
        decisions.append(Decision(number, values["id"], words["decision"], words["now"], words["proposed"]))
    return decisions


def _columns_of(table: Cells) -> dict[str, int]:
    names = [name.strip().lower() for name in table.header]
    wanted = ("id", "now", "proposed", "decision")
    if missing := [name for name in wanted if name not in names]:
        raise DataError(
            f"{table.path} has no column {', '.join(map(repr, missing))}; its columns are {', '.join(table.header)}. Expected: "
            f"{', '.join(wanted)}, as `mcvqa audit RUN` writes them."
        )
    return {name: names.index(name) for name in wanted}


# %% apply
def with_fixes(questions: Sequence[Question], path: Path, left_out: Mapping[str, str] | None = None) -> Fixed:
    """Apply the decisions of a file to labelled rows.

    Args:
        questions: all labelled rows.
        path: the file.
        left_out: see `rows_left_out`. Of these rows, undecided ones and those to drop need nothing; others are mistakes.

    Returns:
        The rows and the changes. A relabelled row loses its votes: the decision replaces them.

    Raises:
        DataError: rows of the file cannot be applied: an unknown id, another label, an unknown word or letter; the message names
            each.
    """
    by_id, left_out = {q.id: q for q in questions}, left_out or {}
    every = read_decisions(path)
    decisions = [one for one in every if one.id not in left_out]
    seen: dict[str, int] = {}
    mistakes = _decided_in_vain(every, left_out)
    for one in decisions:
        mistake = _mistake_in(one, by_id, seen)
        seen.setdefault(one.id, one.row)
        mistakes += [f"row {one.row} (id {one.id!r}): {mistake}"] if mistake else []
    if mistakes:
        more = f"\n  and {len(mistakes) - SHOWN_MISTAKES} more" if len(mistakes) > SHOWN_MISTAKES else ""
        shown = "\n  ".join(mistakes[:SHOWN_MISTAKES])
        raise DataError(f"{path} does not match the data; nothing was applied:\n  {shown}{more}")
    return _applied(questions, decisions, path, len(every) - len(decisions))


def rows_left_out(questions: Sequence[Question], tables: Sequence[Table], config: Config) -> dict[str, str]:
    """Map ids of rows with an answer or votes that the settings leave out to the reason, and how to have them.

    Args:
        questions: the rows that are not left out.
        tables: tables of train.csv and, if it is used, dev.csv.
        config: all settings.
    """
    kept = {q.id for q in questions}
    every, _ = answered_rows(tables, config.replace(min_votes=0, soft_votes=True))
    few = f"left out by min_votes={config.min_votes} (delete these decisions, or lower min_votes)"
    tied = "left out because the votes are tied (delete these decisions, or set soft_votes=true)"
    return {q.id: tied if q.answer is None and not config.soft_votes else few for q in every if q.id not in kept}


def _decided_in_vain(decisions: Sequence[Decision], left_out: Mapping[str, str]) -> list[str]:
    """List the decisions to fix or keep rows that are left out, one line a reason."""
    ids = defaultdict(list)
    for one in decisions:
        if one.id in left_out and one.word not in ("", DROP):
            ids[left_out[one.id]].append(repr(one.id))
    return [
        f"{counted(len(some), 'decided row is', 'decided rows are')} {why}: {', '.join(some[:SHOWN_MISTAKES])}"
        + (f" and {len(some) - SHOWN_MISTAKES} more" if len(some) > SHOWN_MISTAKES else "")
        for why, some in ids.items()
    ]


def _mistake_in(one: Decision, by_id: dict[str, Question], seen: dict[str, int]) -> str:
    """Describe what is wrong with a decision; empty if nothing is."""
    if one.id not in by_id:
        return f"no labelled row has this id{_id_a_spreadsheet_changed(one.id, by_id)}"
    if one.id in seen:
        return f"the same id as in row {seen[one.id]}"
    question = by_id[one.id]
    letters = LETTERS[: len(question.choices)]
    label = "" if question.answer is None else LETTERS[question.answer]
    if one.now != label:
        return f"its label is {label or 'missing'!r}, not {one.now!r}: the file was made from other data, or 'now' was edited"
    if one.word not in ("", *DECISIONS):
        return f"the decision {one.word!r} is neither empty nor one of {', '.join(DECISIONS)}"
    if one.word == FIX and (len(one.proposed) != 1 or one.proposed not in letters):
        return f"'proposed' is {one.proposed!r}; the row has the choices {', '.join(letters)}"
    if one.word == FIX and one.proposed == label:
        return f"'proposed' is the label that the row already has, {label!r}: write keep, or another letter"
    return ""


def _id_a_spreadsheet_changed(written: str, by_id: dict[str, Question]) -> str:
    bare = written.lstrip("0")
    same = [name for name in by_id if re.fullmatch(r"0+\d+", name) and name.lstrip("0") == bare]
    return f"; a spreadsheet seems to have cut the zeros of {same[0]!r} (import the column as text)" if same else ""


def _applied(questions: Sequence[Question], decisions: Sequence[Decision], path: Path, ignored: int) -> Fixed:
    by_id = {q.id: q for q in questions}
    fixed = {one.id: LETTERS.index(one.proposed) for one in decisions if one.word == FIX}
    dropped = tuple(one.id for one in decisions if one.word == DROP)
    left = [q for q in questions if q.id not in dropped]
    new = tuple(replace(q, answer=fixed[q.id], votes=None) if q.id in fixed else q for q in left)
    before = {name: answer for name in fixed if (answer := by_id[name].answer) is not None}
    return Fixed(new, before, dropped, _notes_on_decisions(decisions, path, ignored))


def _notes_on_decisions(decisions: Sequence[Decision], path: Path, ignored: int) -> tuple[str, ...]:
    count = {word: sum(one.word == word for one in decisions) for word in ("", *DECISIONS)}
    undecided = f"; {counted(count[''], 'row is', 'rows are')} undecided and unchanged" if count[""] else ""
    undecided += f"; {counted(ignored, 'row is', 'rows are')} left out anyway" if ignored else ""
    labels, rows = counted(count[FIX], "label"), counted(count[DROP], "row")
    return (
        f"{path.name}: {labels} fixed, {rows} dropped, {count[KEEP]:,} kept{undecided}",
        *(f"{path.name}: {one.id}: {one.now} -> {one.proposed}" for one in decisions if one.word == FIX),
    )[:SHOWN_MISTAKES]
