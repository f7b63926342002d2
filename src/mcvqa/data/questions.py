"""CSV files -> Question records, exactly as they were written.

Nothing is guessed silently: what cannot be understood is listed with file, row and field.
"""
import csv
import dataclasses
import io
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mcvqa.config import McvqaError

LETTERS = string.ascii_lowercase


@dataclass(frozen=True)
class Question:
    """One multiple-choice question. Text is kept as read.

    Attributes:
        id: identifier, text even where it looks like a number.
        image: path as written in the CSV, resolved inside the data root by `data/images.py`.
        text: the question.
        choices: 2 to 26 texts, in the order of their letters.
        answer: index of the right choice, or None where it is not known.
        votes: annotators' votes per choice, or None where there is one answer only.
    """

    id: str
    image: str
    text: str
    choices: tuple[str, ...]
    answer: int | None = None
    votes: tuple[int, ...] | None = None


class DataError(McvqaError, ValueError):
    """Data that cannot be used at all; the message says what was found, what was expected and how to fix it."""


@dataclass(frozen=True)
class Problem:
    """One cell that is not as it should be. Its row stays in the table, without an answer where that is in doubt.

    Attributes:
        file: name of the CSV file.
        row: data row counted from 1; the header and blank lines do not count.
        field: the column's name.
        id: the row's identifier.
    """

    file: str
    row: int
    field: str
    message: str
    id: str = ""

    def __str__(self) -> str:
        return f"{self.file}, row {self.row} (id {self.id!r}), {self.field}: {self.message}"


@dataclass(frozen=True)
class Table:
    """What a CSV file holds, and how it was read.

    Attributes:
        questions: every data row, in the file's order.
        columns: part (id, image, question, choices, answer, votes) -> name of its column or columns.
        encoding, delimiter: as found.
    """

    questions: tuple[Question, ...]
    problems: tuple[Problem, ...]
    columns: dict[str, str]
    encoding: str
    delimiter: str


def read_questions(
    path: str | Path,
    *,
    image_column: str = "",
    question_column: str = "",
    answer_column: str = "",
    labelled: bool | None = None,
) -> Table:
    """Read one CSV file. Every row is kept, because a submission needs every id.

    Empty cells at the end of a row's choices mean fewer choices. An empty cell between choices stays as an empty
    choice, so that the choices behind it keep their letters; it is listed, and it is never the answer.

    Args:
        image_column, question_column, answer_column: names of columns; empty: found by their usual names.
        labelled: True: answers are required; False: they are not read; None: read where there are any.

    Raises:
        DataError: no such file, not a table, columns that are missing or ambiguous, or an id with a NUL or a carriage return.
    """
    path = Path(path)
    text, encoding = csv_text(path)
    delimiter = csv_delimiter(text)
    header, *records = csv_records(path, text, delimiter) or [[]]
    if not records:
        raise DataError(f"{path} has no rows below its header ({', '.join(header)}).")
    layout = _find_layout(path, header, image_column, question_column, answer_column, labelled)
    answered = any(i < len(cells) and cells[i].strip() for cells in records for i in layout.labels)
    if labelled and not answered:
        names = [header[i] for i in layout.labels]
        found = f"empty: {', '.join(names)}" if names else f"its columns are {', '.join(header)}"
        raise DataError(f"{path} has no answers ({found}). Name their column with --set answer_column=NAME.")
    if not answered:
        layout = dataclasses.replace(layout, answer=None, votes=())
    return _read_rows(path, header, records, layout, encoding, delimiter)


# %% the file: bytes -> rows of cells
def csv_text(path: Path) -> tuple[str, str]:
    """The file's text without a byte order mark, and its encoding."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
    encoding = _csv_encoding(path, raw)
    try:
        text = raw.decode(encoding).lstrip("\ufeff")
    except UnicodeDecodeError:
        raise DataError(f"{path} is neither UTF-8, UTF-16 nor cp949 text. Save it again as 'CSV UTF-8'.") from None
    if not text.strip():
        raise DataError(f"{path} is empty.")
    return text, encoding


def _csv_encoding(path: Path, raw: bytes) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if raw.count(0) > len(raw) / 20:  # UTF-16 without a mark: ASCII's zero bytes show the byte order
        return "utf-16-le" if raw[1::2].count(0) > raw[::2].count(0) else "utf-16-be"
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        # Damaged UTF-8 may pass as cp949 and become other words; its intact Hangul (3 bytes each) gives it away.
        mended = raw.decode("utf-8", errors="replace")
        if sum(c >= "\u0800" and c != "\ufffd" for c in mended) > mended.count("\ufffd"):
            line = raw[: error.start].count(b"\n") + 1
            raise DataError(f"{path} is UTF-8 with a damaged character in line {line}. Copy it again.") from None
        return "cp949"
    return "utf-8-sig" if raw.startswith(b"\xef\xbb\xbf") else "utf-8"


def csv_delimiter(text: str) -> str:
    """The one of comma, semicolon and tab that splits the first line into most cells."""
    line = text.lstrip().splitlines()[0][:100_000]
    return max(",;\t", key=lambda sign: len(next(csv.reader([line.replace("\0", "")], delimiter=sign))))


def csv_records(path: Path, text: str, delimiter: str) -> list[list[str]]:
    """All rows that hold anything. Strict, since a quote left open would silently swallow the rows behind it."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    start, records = 1, []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                records.append(cells)
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}: the row that begins in line {start} is broken ({error}). "
            'A text with quotes in it must be written as "he said ""yes"" to me", and every quote must be closed.'
        ) from None
    return records


# %% the header: which column plays which part
@dataclass(frozen=True)
class ColumnLayout:
    """Positions of the columns. `votes` are the answers of several annotators."""

    id: int
    image: int
    question: int
    choices: tuple[int, ...]
    answer: int | None = None
    votes: tuple[int, ...] = ()

    @property
    def labels(self) -> tuple[int, ...]:
        """All columns that hold answers."""
        return self.votes if self.answer is None else (self.answer, *self.votes)


# Usual names, compared without case, spaces and signs. The second group counts where none of the first is there.
COLUMN_NAMES: dict[str, tuple[set[str], set[str]]] = {
    "id": ({"id"}, {"questionid", "qid", "rowid", "sampleid", "idx", "index", "번호", "아이디"}),
    "image": (
        {"path", "image", "img", "imagepath", "imgpath", "file", "filename", "filepath", "imagefile", "imagename",
         "photo", "picture", "이미지", "이미지경로", "사진", "경로", "파일", "파일명"},
        {"imageid", "imgid"},
    ),
    "question": ({"question", "questiontext", "질문", "문제", "문항"}, {"query", "prompt", "text", "q"}),
    "answer": (
        {"answer", "label", "target", "correct", "correctanswer", "correctchoice", "correctoption", "gt", "groundtruth",
         "gold", "정답", "답"},
        set(),
    ),
}
CHOICE_NAME = re.compile(r"(?:(choice|option|opt|candidate|answer|선택지|보기|선지|옵션)s?)?\(?([a-z]|\d{1,2})\)?번?")
VOTE_NAME = re.compile(r"(?:answer|annotator|vote|label|정답|답)\d{1,2}")


def _header_key(name: str) -> str:
    return re.sub(r"[\s_\-.]+", "", unicodedata.normalize("NFKC", name).casefold())


def _find_layout(
    path: Path, header: list[str], image: str, question: str, answer: str, labelled: bool | None
) -> ColumnLayout:
    choices = _choice_columns(path, header)
    found = {
        part: _part_column(path, header, part, wanted, choices)
        for part, wanted in (("id", ""), ("image", image), ("question", question))
    }
    for part in ("id", "image", "question"):
        if found[part] is None:
            fix = "Name one of them id." if part == "id" else f"Name it with --set {part}_column=NAME."
            raise DataError(f"{path} has no {part} column; its columns are {', '.join(header)}. {fix}")
    layout = ColumnLayout(choices=choices, **found)  # type: ignore[arg-type]
    if labelled is False:
        return layout
    votes = () if answer else tuple(i for i, name in enumerate(header) if VOTE_NAME.fullmatch(_header_key(name)))
    return dataclasses.replace(layout, answer=_part_column(path, header, "answer", answer, choices), votes=votes)


def _part_column(path: Path, header: list[str], part: str, wanted: str, choices: Sequence[int]) -> int | None:
    if wanted:
        groups: tuple[set[str], ...] = ({_header_key(wanted)},)
    else:
        groups = COLUMN_NAMES[part]
    for names in groups:
        hits = [i for i, name in enumerate(header) if _header_key(name) in names and i not in choices]
        hits = [i for i in hits if header[i] == wanted] or hits
        if len(hits) > 1:
            fix = "Name only one of them id." if part == "id" else f"Choose with --set {part}_column=NAME."
            raise DataError(f"{path}: several columns could be the {part}: {', '.join(header[i] for i in hits)}. {fix}")
        if hits:
            return hits[0]
    if wanted:
        raise DataError(f"{path} has no column {wanted!r} ({part}_column); its columns are {', '.join(header)}.")
    return None


def _choice_columns(path: Path, header: list[str]) -> tuple[int, ...]:
    """Positions of the choices in the order of their letters: a, b, ... or choice1, choice2, ... and the like."""
    families: dict[tuple[str, bool], dict[int, list[int]]] = {}
    for position, name in enumerate(header):
        match = CHOICE_NAME.fullmatch(_header_key(name))
        if match and not VOTE_NAME.fullmatch(_header_key(name)):
            word, slot = match[1] or "", match[2]
            number = int(slot) if slot.isdigit() else LETTERS.index(slot)
            families.setdefault((word, slot.isdigit()), {}).setdefault(number, []).append(position)
    runs = []
    for (_, numbered), columns in families.items():
        first = 1 if numbered and 0 not in columns else 0
        last = first
        while last in columns:
            last += 1
        if last - first >= 2:
            runs.append([columns[i] for i in range(first, last)])
            if last + 1 in columns:
                before, behind = header[columns[last - 1][0]], header[columns[last + 1][0]]
                raise DataError(f"{path}: a choice column is missing between {before!r} and {behind!r}.")
    if not runs:
        raise DataError(
            f"{path} has no choice columns (a, b, ... or choice1, choice2, ...); its columns are {', '.join(header)}."
        )
    if len(runs) > 1 or any(len(places) > 1 for places in runs[0]):
        names = ", ".join(header[i] for run in runs for places in run for i in places)
        raise DataError(f"{path}: several columns could be the choices: {names}. Keep one set, named a, b, c, ...")
    if len(runs[0]) > len(LETTERS):
        raise DataError(f"{path} has {len(runs[0])} choice columns; there are letters for {len(LETTERS)}.")
    return tuple(places[0] for places in runs[0])


# %% answers: what was written -> index of a choice
LETTER_ANSWER = re.compile(r"[(\[{<'\"]*([a-z])[)\]}>'\".:,]*")
NUMBER_ANSWER = re.compile(r"[(\[{<'\"]*([0-9]{1,2})(?:\.0+)?번?[)\]}>'\".:,]*")
ANSWER_READINGS = ("letter", "text", "number")  # where several are possible, the earlier one is meant


@dataclass(frozen=True)
class AnswerHabit:
    """How a file writes its answers.

    Attributes:
        counted_from: 0 or 1, the number of the first choice.
        usual: those of ANSWER_READINGS that are the only possible one in at least ten rows; in doubt, they are meant.
    """

    counted_from: int = 1
    usual: frozenset[str] = frozenset()


PLAIN_HABIT = AnswerHabit()


def read_answer(written: str, choices: Sequence[str], habit: AnswerHabit = PLAIN_HABIT) -> int | None:
    """The choice meant by a letter ("b", " B.", "(C)"), the text of one choice, or a number; None if that is not clear.

    A text is preferred to a number: among the choices 2, 3, 4 the answer "3" is the second.
    """
    readings = _answer_readings(written, choices, habit.counted_from)
    if not readings:
        return None
    return readings[max(readings, key=lambda way: (way in habit.usual, -ANSWER_READINGS.index(way)))]


def _answer_readings(written: str, choices: Sequence[str], counted_from: int) -> dict[str, int]:
    """Every way to understand `written`: one of ANSWER_READINGS -> index of a choice that is not empty."""
    shown = _compared(written)
    found = {}
    if match := LETTER_ANSWER.fullmatch(shown):
        found["letter"] = LETTERS.index(match[1])
    same = [i for i, text in enumerate(choices) if text.strip() == written.strip()]
    same = same or [i for i, text in enumerate(choices) if _compared(text) == shown]
    if len(same) == 1:
        found["text"] = same[0]
    if match := NUMBER_ANSWER.fullmatch(shown):
        found["number"] = int(match[1]) - counted_from
    return {way: index for way, index in found.items() if 0 <= index < len(choices) and choices[index]}


def _compared(text: str) -> str:
    """`text` as it is compared, never as it is kept: full-width forms, case and spaces do not matter."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def find_habit(answers: list[tuple[str, tuple[str, ...]]]) -> AnswerHabit:
    """Args: answers: what was written and the row's choices, for all cells that are not empty."""
    counted_from = _find_first_number(answers)
    readings = [_answer_readings(*pair, counted_from) for pair in answers]
    only = Counter(way for found in readings if len(found) == 1 for way in found)
    return AnswerHabit(counted_from, frozenset(way for way in ANSWER_READINGS if only[way] >= 10))


def _find_first_number(answers: list[tuple[str, tuple[str, ...]]]) -> int:
    """0 where every answer is a number, all fit counting from 0, and a 0 occurs that is no choice's text; else 1."""
    ordinals = []
    for written, choices in answers:
        match = NUMBER_ANSWER.fullmatch(_compared(written))
        if not match:
            return 1
        if "text" not in _answer_readings(written, choices, 1):
            if int(match[1]) >= len(choices):
                return 1
            ordinals.append(int(match[1]))
    return 0 if 0 in ordinals else 1


# %% rows: cells -> Question, and what is wrong with them
SAME_TEXT = "the same text as choice"  # how the message about a repeated choice starts


def _read_rows(
    path: Path, header: list[str], records: list[list[str]], layout: ColumnLayout, encoding: str, delimiter: str
) -> Table:
    file = path.name
    padded = [cells + [""] * (len(header) - len(cells)) for cells in records]
    all_choices = [_row_choices(cells, layout) for cells in padded]
    rows = list(zip(padded, all_choices, strict=True))
    habit = find_habit([(cells[i], choices) for cells, choices in rows for i in layout.labels if cells[i].strip()])
    questions: list[Question] = []
    problems: list[Problem] = []
    first_row: dict[str, int] = {}
    for row, (cells, choices) in enumerate(rows, start=1):
        id = cells[layout.id]
        if "\0" in id or "\r" in id:  # NumPy drops a NUL at the end of a text, and csv writes a CR without quotes
            raise DataError(f"{path}, row {row}, {header[layout.id]}: the id {id!r} holds a NUL or a carriage return, which a "
                            "submission cannot keep. Write the id without it.")
        notes = _row_notes(cells, choices, layout)
        if first_row.setdefault(id, row) != row:
            notes.append((layout.id, f"the same id as in row {first_row[id]}"))
        answer = votes = None
        ragged = len(records[row - 1]) < len(header) or any(cell.strip() for cell in cells[len(header) :])
        if ragged:
            notes.append((layout.id, f"{len(records[row - 1])} cells in the row, {len(header)} in the header; "
                          "is a quote or a delimiter missing? Its answer is not used"))
        elif layout.labels:
            answer, votes, doubts = _row_answer(cells, choices, layout, habit)
            notes += doubts
        questions.append(Question(id, cells[layout.image], cells[layout.question], choices, answer, votes))
        problems += [Problem(file, row, header[column], message, id) for column, message in notes]
    return Table(tuple(questions), tuple(problems), _named_columns(header, layout, habit), encoding, delimiter)


def _row_choices(cells: list[str], layout: ColumnLayout) -> tuple[str, ...]:
    """Texts up to the last one that is not empty, at least two."""
    texts = [cells[i] if cells[i].strip() else "" for i in layout.choices]
    while len(texts) > 2 and not texts[-1]:
        texts.pop()
    return tuple(texts)


def _row_notes(cells: list[str], choices: tuple[str, ...], layout: ColumnLayout) -> list[tuple[int, str]]:
    """(column, message) for everything odd in a row but its answer."""
    parts = {layout.id: "no id", layout.image: "no image", layout.question: "no question"}
    notes = [(column, message) for column, message in parts.items() if not cells[column].strip()]
    for slot, text in enumerate(choices):
        column = layout.choices[slot]
        if not text:
            notes.append((column, f"choice {LETTERS[slot]} is empty; it keeps its letter"))
        elif text.strip() in [other.strip() for other in choices[:slot]]:
            twin = [other.strip() for other in choices].index(text.strip())
            notes.append((column, f"{SAME_TEXT} {LETTERS[twin]}: {text.strip()!r}"))
    return notes


def _row_answer(
    cells: list[str], choices: tuple[str, ...], layout: ColumnLayout, habit: AnswerHabit
) -> tuple[int | None, tuple[int, ...] | None, list[tuple[int, str]]]:
    """Answer, votes, and what could not be understood. A column of its own decides the answer, else the majority."""
    read = {i: read_answer(cells[i], choices, habit) for i in layout.labels if cells[i].strip()}
    expected = f"a letter a to {LETTERS[len(choices) - 1]}, a number or one choice's text"
    notes = [(i, f"{cells[i]!r} is not understood as {expected}") for i, index in read.items() if index is None]
    count = Counter(read[i] for i in layout.votes if read.get(i) is not None)
    votes = tuple(count[slot] for slot in range(len(choices))) if count else None
    if layout.answer is not None:
        if layout.answer not in read:
            notes.append((layout.answer, "no answer"))
        return read.get(layout.answer), votes, notes
    if votes is None:
        return None, None, notes or [(layout.votes[0], "no answer by any annotator")]
    winners = [slot for slot, number in enumerate(votes) if number == max(votes)]
    if len(winners) == 1:
        return winners[0], votes, notes
    tie = ", ".join(f"{LETTERS[slot]} {votes[slot]}" for slot in winners)
    return None, votes, [*notes, (layout.votes[0], f"the annotators' votes are tied: {tie}")]


def _named_columns(header: list[str], layout: ColumnLayout, habit: AnswerHabit) -> dict[str, str]:
    columns = {
        "id": header[layout.id],
        "image": header[layout.image],
        "question": header[layout.question],
        "choices": ", ".join(header[i] for i in layout.choices),
    }
    if layout.answer is not None:
        columns["answer"] = header[layout.answer]
    if layout.votes:
        columns["votes"] = ", ".join(header[i] for i in layout.votes)
    if habit.counted_from == 0:
        columns["answers count from"] = "0"
    return columns
