"""Reads tables as Question records, exactly as they were written.

Nothing is guessed silently: anything that cannot be read is listed with file, row and field.
"""
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mcvqa.base.informing import counted
from mcvqa.data.answers import (
    ALPHABETS,
    ANSWER_STYLES,
    KOREAN_LETTERS,
    LETTERS,
    AnswerConvention,
    AnswersRead,
    Cell,
    find_convention,
    read_answer,
    why_unread,
)
from mcvqa.data.locate import near_misses_of
from mcvqa.data.own_letters import strip_own_letters
from mcvqa.data.table import Cells, DataError, read_cells


@dataclass(frozen=True)
class Question:
    """Holds one multiple-choice question. Text is kept as read.

    Attributes:
        id: identifier, text even if it looks like a number.
        image: path as written in the CSV, resolved inside the data root by `data/images.py`.
        text: the question.
        choices: 2 to 26 texts, in the order of their letters.
        answer: index of the right choice; None: unknown.
        votes: annotators' votes per choice; None: there is only one answer.
        source: the file it is from: train, dev, ...; pseudo: its answer is a model's.
        targets: probability of each choice for training; None: the answer or the votes are used.
        weight: weight of the row in the training loss.
    """

    id: str
    image: str
    text: str
    choices: tuple[str, ...]
    answer: int | None = None
    votes: tuple[int, ...] | None = None
    source: str = ""
    targets: tuple[float, ...] | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class Problem:
    """Describes an irregular cell. Its row stays in the table, without an answer if that is in doubt.

    Attributes:
        file: name of the CSV file.
        row: data row counted from 1; the header and blank lines do not count.
        field: the column's name.
        id: the row's identifier.
        of_answer: whether it concerns the row's answer; these are counted by kind in `AnswersRead`.
    """

    file: str
    row: int
    field: str
    message: str
    id: str = ""
    of_answer: bool = False

    def __str__(self) -> str:
        return f"{self.file}, row {self.row} (id {self.id!r}), {self.field}: {self.message}"


@dataclass(frozen=True)
class Table:
    """Holds the content of a file, and how it was read.

    Attributes:
        questions: every data row, in the file's order.
        columns: part (id, image, question, choices, answer, votes) -> name of its column or columns.
        read_as: the encoding or kind of the file, then its shape.
        delimiter: the delimiter of a CSV file.
        name: the file's name.
        answers: how its answers were read; None for a file without answers.
    """

    questions: tuple[Question, ...]
    problems: tuple[Problem, ...]
    columns: dict[str, str]
    read_as: str
    delimiter: str
    name: str = ""
    answers: AnswersRead | None = None

    @property
    def convention(self) -> AnswerConvention | None:
        """How the file writes its answers; None for a file without answers."""
        return self.answers.convention if self.answers else None


def read_questions(path: str | Path, **settings: Any) -> Table:
    """Read one file.

    Args:
        path: the file.
        settings: arguments of `read_tables`.
    """
    (table,) = read_tables([path], **settings)
    return table


def read_tables(
    paths: Sequence[str | Path],
    *,
    id_column: str = "",
    image_column: str = "",
    question_column: str = "",
    answer_column: str = "",
    answer_style: str = "auto",
    labelled: bool | None = None,
) -> list[Table]:
    """Read files of one competition. Every row is kept, because a submission needs every id.

    Empty cells at the end of a row's choices mean fewer choices. An empty cell between choices stays as an empty choice, so that
    the choices behind it keep their letters; it is listed, and it is never the answer. The whole file decides what an answer
    means; if it is ambiguous, the first other file that is not decides.

    Args:
        paths: the files.
        id_column, image_column, question_column, answer_column: names of columns; empty: found by their usual names.
        answer_style: one of ANSWER_STYLES.
        labelled: True: answers are required; False: they are not read; None: read if there are any.

    Raises:
        DataError: a file does not exist or is not a table, columns are missing or ambiguous, most answers cannot be read, or an
            id contains a NUL or a carriage return.
    """
    named = {"id": id_column, "image": image_column, "question": question_column, "answer": answer_column}
    tables = [_with_choice_columns(read_cells(Path(path))) for path in paths]
    if answer_style == "auto" and not answer_column and labelled is not False:
        tables = [_with_answers_of_marks(table) for table in tables]
    layouts = [_layout_of(table, named, labelled) for table in tables]
    rows = [_padded_rows(table, layout) for table, layout in zip(tables, layouts, strict=True)]
    written = [_answer_cells(table_rows, layout) for table_rows, layout in zip(rows, layouts, strict=True)]
    alone = [find_convention(cells, answer_style) for cells in written]
    clear = next((c for c, cells in zip(alone, written, strict=True) if cells and c.is_clear), None)
    clear = clear or find_convention([cell for cells in written for cell in cells], answer_style)
    conventions = [
        own if own.is_clear else find_convention(cells, answer_style, clear) for own, cells in zip(alone, written, strict=True)
    ]
    read = [_read_rows(*parts) for parts in zip(tables, layouts, rows, conventions, strict=True)]
    for path, table in zip(paths, read, strict=True):
        if labelled and table.answers is not None:
            _require_understood(Path(path), table.answers)
    return read


MARK_NAME = re.compile(r"(?:is)?(?:answer|label|correct|target|votes?|정답|답)(?:[a-z]|\d\d?)")
MARKS = {"": "0", "x": "0", "false": "0", "o": "1", "true": "1"}


def _with_answers_of_marks(table: Cells) -> Cells:
    """Detect marks or counts, one column per choice, by their sum, which is the same in nearly every row."""
    at = [i for i, name in enumerate(table.header) if MARK_NAME.fullmatch(_header_key(name))]
    try:
        written = [[cells[i].strip().lower().removesuffix(".0") for i in at] for cells in table.records]
        marks = [[int(MARKS.get(cell, cell)) for cell in cells] for cells in written]
    except (ValueError, IndexError):
        return table
    others = ["" if i in at else name for i, name in enumerate(table.header)]
    total, rows = (Counter(sum(row) for row in marks if len({*row}) > 1).most_common(1) or [(0, 0)])[0]
    choices = [len(run) for run in _runs_of_choices(table.path, others, votes=False)]
    if total and rows >= 0.9 * len(marks) and choices == [len(at)]:
        from mcvqa.data.marks import answers_of_marks

        return answers_of_marks(table, at, marks, alone=find_column(table.path, others, "answer", "") is None)
    return table


CHOICE_LISTS = ("choices", "options", "candidates", "선택지", "보기")  # columns that hold all choices of a row


def _with_choice_columns(table: Cells) -> Cells:
    at = next((i for i, name in enumerate(table.header) if name.strip().lower() in CHOICE_LISTS), None)
    if at is not None and not _runs_of_choices(table.path, table.header, votes=False):  # else 보기 is a passage, as in exams
        from mcvqa.data.choice_lists import expand_choice_lists

        return expand_choice_lists(table, at)
    return table


def _layout_of(table: Cells, named: dict[str, str], labelled: bool | None) -> "ColumnLayout":
    path, header = table.path, table.header
    row, names = _header_below(table, named)
    try:
        layout = _find_layout(path, header, named, labelled)
    except DataError as error:
        advice = f" The header seems to be row {row} below that line ({names}): delete what is above it." if row else ""
        raise DataError(f"{error}{advice}") from None
    if row:  # it would be a row to answer
        raise DataError(f"{path} has a second header, row {row}: delete one of the two.")
    answered = any(i < len(cells) and cells[i].strip() for cells in table.records for i in layout.labels)
    if labelled and not answered:
        names = ", ".join(header[i] for i in layout.labels)
        contents = f"empty: {names}" if names else f"its columns are {', '.join(header)}"
        beside = f" If they are in {', '.join(near)}, join them by id." if (near := near_misses_of(path.parent, "train")) else ""
        raise DataError(f"{path} has no answers ({contents}). Name their column with --set answer_column=NAME.{beside}")
    return layout if answered else replace(layout, answer=None, votes=())


def _header_below(table: Cells, named: dict[str, str]) -> tuple[int, str]:
    """Find a header among the first rows, as below the title of a spreadsheet; row 0: there is none."""
    for row, cells in enumerate(table.records[:10], start=1):
        try:
            _find_layout(table.path, cells, named, labelled=None)
        except DataError:
            continue
        return row, ", ".join(cells)
    return 0, ""


# %% the header: which column plays which part
@dataclass(frozen=True)
class ColumnLayout:
    """Holds the positions of the columns. `votes` are the answers of several annotators."""

    id: int
    image: int
    question: int
    choices: tuple[int, ...]
    answer: int | None = None
    votes: tuple[int, ...] = ()

    @property
    def labels(self) -> tuple[int, ...]:
        """All columns with answers."""
        return self.votes if self.answer is None else (self.answer, *self.votes)


# Usual names, compared without case, spaces, signs and remarks in brackets; the first one present counts.
COLUMN_NAMES: dict[str, tuple[str, ...]] = {
    "id": ("id", "(question|q|row|sample)id|idx|index|(문항|문제|질문)?(번호|id)|아이디", "no|연번|순번|일련번호"),
    "image": (
        "(image|img|photo|picture)(file)?(path|name)?|file(path|name)?|path|(이미지|사진|그림)(파일)?(경로|명|이름)?|"
        "파일(경로|명|이름)?|경로",
        "(image|img)id",
    ),
    "question": ("question(text)?|(질문|문제|문항)(내용)?|질의", "query|prompt|text|q"),
    "answer": (
        "answer(key)?|label|target|correct(answer|choice|option)?|gt|groundtruth|gold|정답(번호)?|답안?",
        "answers|(answer|label|correct(answer|choice|option)?)(idx|index|letter)|정답보기",
    ),
}
CHOICE_NAME = re.compile(
    rf"(?:(choice|option|opt|candidate|answer|선택지|보기|선지|옵션)s?)?\(?([a-z{KOREAN_LETTERS}]|\d{{1,2}})\)?번?(?:보기|선택지|선지)?"
)
VOTE_NAME = re.compile(r"(?:answer|annotator|vote|label|정답|답)\d{1,2}")


def _header_key(name: str) -> str:
    return re.sub(r"[\s_\-.]+", "", unicodedata.normalize("NFKC", name).casefold())


def _is_named(name: str, pattern: str) -> bool:
    key = _header_key(name)
    return any(re.fullmatch(pattern, one) for one in (key, re.sub(r"\(.*\)", "", key)))


def _find_layout(path: Path, header: list[str], named: dict[str, str], labelled: bool | None) -> ColumnLayout:
    choices = _choice_columns(path, header)
    positions = {part: _part_column(path, header, part, named[part], choices) for part in ("id", "image", "question")}
    for part in ("id", "image", "question"):
        if positions[part] is None:
            advice = " (that of the image, where each row has its own)" if part == "id" else ""
            raise DataError(f"{path} has no {part} column; its columns are {', '.join(header)}. "
                            f"Name it with --set {part}_column=NAME{advice}.")
    layout = ColumnLayout(choices=choices, **positions)  # type: ignore[arg-type]
    if labelled is False:
        return layout
    answer = _part_column(path, header, "answer", named["answer"], choices)
    named_votes = [i for i, name in enumerate(header) if VOTE_NAME.fullmatch(_header_key(name)) and i not in choices]
    return replace(layout, answer=answer, votes=() if named["answer"] else tuple(named_votes))


def find_column(path: Path, header: list[str], part: str, wanted: str) -> int | None:
    """Find the column of a part ("id", "image", "question", "answer"); see `read_tables`.

    Args:
        path: the file, for messages.
        header: names of the columns.
        part: the part.
        wanted: name given by the user; empty: the usual names.

    Returns:
        Its position; None: there is none.
    """
    return _part_column(path, header, part, wanted, ())


def _part_column(path: Path, header: list[str], part: str, wanted: str, choices: Sequence[int]) -> int | None:
    for names in (re.escape(_header_key(wanted)),) if wanted else COLUMN_NAMES[part]:
        hits = [i for i, name in enumerate(header) if _is_named(name, names) and i not in choices]
        hits = [i for i in hits if header[i] == wanted] or hits
        if len(hits) > 1:
            candidates = ", ".join(header[i] for i in hits)
            raise DataError(f"{path}: several columns could be the {part}: {candidates}. Choose with --set {part}_column=NAME.")
        if hits:
            return hits[0]
    if wanted:
        raise DataError(f"{path} has no column {wanted!r} ({part}_column); its columns are {', '.join(header)}.")
    return None


def _choice_columns(path: Path, header: list[str]) -> tuple[int, ...]:
    """Find the choices in the order of their letters: a, b, ... or choice1, choice2, ... and the like."""
    lists = [name for name in header if name.strip().lower() in CHOICE_LISTS]
    # answer1, answer2, ... are choices if there are no others, else the answers of annotators
    runs = _runs_of_choices(path, header, votes=False) or (not lists and _runs_of_choices(path, header, votes=True))
    if not runs:
        advice = f" {lists[0]!r} is read where each of its cells is a list: [\"red\", \"blue\"] or red|blue." if lists else ""
        raise DataError(
            f"{path} has no choice columns (a, b, ... or choice1, choice2, ...); its columns are {', '.join(header)}.{advice}"
        )
    if len(runs) > 1 or any(len(at) > 1 for at in runs[0]):
        names = ", ".join(header[i] for run in runs for at in run for i in at)
        raise DataError(f"{path}: several columns could be the choices: {names}. Keep one set, named a, b, c, ...")
    if len(runs[0]) > len(LETTERS):
        raise DataError(f"{path} has {len(runs[0])} choice columns; at most {len(LETTERS)} are supported.")
    return tuple(at[0] for at in runs[0])


def _runs_of_choices(path: Path, header: list[str], *, votes: bool) -> list[list[list[int]]]:
    """Find the positions by slot of each set of columns that are named like choices.

    Args:
        votes: whether answer1, answer2, ... count too.
    """
    families: dict[tuple[str, bool, bool], dict[int, list[int]]] = {}
    for position, name in enumerate(header):
        match = CHOICE_NAME.fullmatch(_header_key(name))
        if match and (votes or not VOTE_NAME.fullmatch(_header_key(name))):
            word, slot = match[1] or "", match[2]
            number = int(slot) if slot.isdigit() else next(alphabet.index(slot) for alphabet in ALPHABETS if slot in alphabet)
            families.setdefault((word, slot.isdigit(), slot.isascii()), {}).setdefault(number, []).append(position)
    runs = []
    for (_, numbered, _), columns in families.items():
        first = 1 if numbered and 0 not in columns else 0
        last = first
        while last in columns:
            last += 1
        if last - first >= 2:
            runs.append([columns[i] for i in range(first, last)])
            if last + 1 in columns:
                before, behind = header[columns[last - 1][0]], header[columns[last + 1][0]]
                raise DataError(f"{path}: a choice column is missing between {before!r} and {behind!r}.")
    return runs


# %% rows: cells -> Question, and what is wrong with them
SAME_TEXT = "the same text as choice"  # how the message about a repeated choice starts
WITHOUT_ANSWER = (NO_ANSWER, NO_VOTE, TIED) = ("no answer", "no answer by any annotator", "the annotators' votes are tied")


PaddedRows = list[tuple[list[str], tuple[str, ...]]]  # cells, as many as the header has or more, and the choices among them


def _padded_rows(table: Cells, layout: ColumnLayout) -> PaddedRows:
    padded = [cells + [""] * (len(table.header) - len(cells)) for cells in table.records]
    return [(cells, _row_choices(cells, layout)) for cells in padded]


def _answer_cells(rows: PaddedRows, layout: ColumnLayout) -> list[Cell]:
    """List the cells that decide the convention; a total in the last line of a table does not."""
    return [(cells[i], choices) for cells, choices in rows for i in layout.labels if cells[i].strip() and any(choices)]


def _read_rows(table: Cells, layout: ColumnLayout, rows: PaddedRows, convention: AnswerConvention) -> Table:
    file, header = table.path.name, table.header
    named = max((i for i, name in enumerate(header, start=1) if name.strip()), default=0)
    read = [{i: read_answer(cells[i], choices, convention) for i in layout.labels if cells[i].strip()} for cells, choices in rows]
    questions: list[Question] = []
    problems: list[Problem] = []
    first_row: dict[str, int] = {}
    for row, (cells, choices) in enumerate(rows, start=1):
        id = cells[layout.id]
        if "\0" in id or "\r" in id:  # NumPy drops a NUL at the end of a text, and csv writes a CR without quotes
            raise DataError(
                f"{table.path}, row {row}, {header[layout.id]}: the id {id!r} contains a NUL or a carriage return, which a "
                "submission cannot. Write the id without it."
            )
        notes = _row_notes(cells, choices, layout)
        if first_row.setdefault(id, row) != row and not layout.labels:
            notes.append((layout.id, f"the same id as in row {first_row[id]}"))
        answer, votes = None, None
        doubts: list[tuple[int, str]] = []
        count = len(table.records[row - 1])
        ragged = count < len(header) or any(cell.strip() for cell in cells[len(header) :])
        if ragged or any(cell.strip() for cell in cells[named:]):
            note = f"{counted(count, 'cell')} in the row, {named} in the header; is a quote or a delimiter missing?"
            notes.append((layout.id, note + " Its answer is not used" * ragged))
        if layout.labels and not ragged:
            answer, votes, doubts = _row_answer(cells, choices, layout, read[row - 1], convention)
        questions.append(Question(id, cells[layout.image], cells[layout.question], choices, answer, votes))
        problems += [Problem(file, row, header[column], message, id) for column, message in notes]
        problems += [Problem(file, row, header[column], message, id, of_answer=True) for column, message in doubts]
    answers = None
    if layout.labels:
        left_out = Counter(p.message.partition(":")[0] for p in problems if p.of_answer and p.message.startswith(WITHOUT_ANSWER))
        answers = replace(_answers_read(rows, read, convention), left_out=dict(left_out))
    return Table(
        tuple(questions), tuple(problems), _named_columns(header, layout), table.read_as, table.delimiter, file, answers
    )


def _answers_read(rows: PaddedRows, read: list[dict[int, int | None]], convention: AnswerConvention) -> AnswersRead:
    cells = [(row[i], choices, index) for (row, choices), answers in zip(rows, read, strict=True) for i, index in answers.items()]
    unread: dict[str, list[str]] = {}
    for written, choices, index in cells:
        if index is None:
            unread.setdefault(why_unread(written, choices, convention), []).append(written)
    known = [(written, f"{LETTERS[i]} ({choices[i]})") for written, choices, i in cells if i is not None]
    examples = dict(known[:200])
    return AnswersRead(convention, tuple(examples.items())[:3], len(known), unread)


def _require_understood(path: Path, answers: AnswersRead) -> None:
    """Raises DataError if most answers cannot be read: the file then means something else."""
    unread = sum(map(len, answers.unread.values()))
    if unread > answers.understood:
        raise DataError(
            f"{path}: {unread:,} of {unread + answers.understood:,} answers could not be interpreted.\n  "
            + "\n  ".join(answers.doubts())
            + f"\nState what they mean with --set answer_style={'|'.join(ANSWER_STYLES[1:])}, name their column with "
            "--set answer_column=NAME, or write them as letters (a, b, c, d)."
        )


def _row_choices(cells: list[str], layout: ColumnLayout) -> tuple[str, ...]:
    """Return the texts up to the last non-empty one, at least two."""
    texts = [cells[i] if cells[i].strip() else "" for i in layout.choices]
    while len(texts) > 2 and not texts[-1]:
        texts.pop()
    return tuple(texts)


def _row_notes(cells: list[str], choices: tuple[str, ...], layout: ColumnLayout) -> list[tuple[int, str]]:
    """List (column, message) for each irregularity in a row except its answer."""
    parts = {layout.id: "no id", layout.image: "no image", layout.question: "no question"}
    notes = [(column, message) for column, message in parts.items() if not cells[column].strip()]
    texts = [text.strip() for text in strip_own_letters(choices)[0]]
    for column, letter, text in zip(layout.choices, LETTERS, texts, strict=False):
        first = LETTERS[texts.index(text)]
        if not text:
            notes.append((column, f"choice {letter} is empty; it keeps its letter"))
        elif first != letter:
            notes.append((column, f"{SAME_TEXT} {first}: {text!r}"))
    return notes


def _row_answer(
    cells: list[str], choices: tuple[str, ...], layout: ColumnLayout, read: dict[int, int | None], convention: AnswerConvention
) -> tuple[int | None, tuple[int, ...] | None, list[tuple[int, str]]]:
    """Read the answer and the votes, and list unreadable ones. A separate answer column decides, else the majority."""
    notes = [
        (i, f"the answer {cells[i]!r} is not used: {why_unread(cells[i], choices, convention)}")
        for i, index in read.items() if index is None
    ]
    count = Counter(read[i] for i in layout.votes if read.get(i) is not None)
    votes = tuple(count[slot] for slot in range(len(choices))) if count else None
    if layout.answer is not None:
        if layout.answer not in read:
            notes.append((layout.answer, NO_ANSWER))
        return read.get(layout.answer), votes, notes
    if votes is None:
        return None, None, notes or [(layout.votes[0], NO_VOTE)]
    winners = [slot for slot, number in enumerate(votes) if number == max(votes)]
    if len(winners) == 1:
        return winners[0], votes, notes
    tie = ", ".join(f"{LETTERS[slot]} {votes[slot]}" for slot in winners)
    return None, votes, [*notes, (layout.votes[0], f"{TIED}: {tie}")]


def _named_columns(header: list[str], layout: ColumnLayout) -> dict[str, str]:
    columns = {"id": header[layout.id], "image": header[layout.image], "question": header[layout.question]}
    columns["choices"] = ", ".join(header[i] for i in layout.choices)
    if layout.answer is not None:
        columns["answer"] = header[layout.answer]
    if layout.votes:
        columns["votes"] = ", ".join(header[i] for i in layout.votes)
    return columns
