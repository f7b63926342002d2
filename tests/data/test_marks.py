"""Answers as marks beside the choices, one column for each: never taken for the answers of annotators."""
import csv
import random
from pathlib import Path

import pytest

from mcvqa.data.questions import Table, read_questions
from mcvqa.data.table import DataError

CHOICES = ("red", "teal", "blue", "grey")
RIGHT = [random.Random(7).randrange(4) for _ in range(30)]


def marked(folder: Path, names: list[str], rows: list[list[object]], extra: tuple[str, ...] = (), **settings: str) -> Table:
    """A table with choices a to d, columns of marks, and one more whose cell is its row's number."""
    with open(folder / "train.csv", "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "path", "question", "a", "b", "c", "d", *names, *extra])
        writer.writerows([i, "p", "?", *CHOICES, *marks, *("abcd"[RIGHT[i]] for _ in extra)] for i, marks in enumerate(rows))
    return read_questions(folder / "train.csv", labelled=True, **settings)  # type: ignore[arg-type]


def one_hot(yes: object, no: object) -> list[list[object]]:
    return [[yes if slot == right else no for slot in range(4)] for right in RIGHT]


@pytest.mark.parametrize("name", ["label_{}", "answer{}", "is_correct_{}", "정답{}", "정답_{}", "Correct {}", "vote{}"])
@pytest.mark.parametrize("slots", ["abcd", "1234", "0123", "ABCD"])
@pytest.mark.parametrize(("yes", "no"), [(1, 0), ("1.0", "0.0"), ("TRUE", "FALSE"), ("O", "X"), ("o", "")])
def test_one_hot_columns(tmp_path: Path, name: str, slots: str, yes: object, no: object) -> None:
    rows = one_hot(yes, no)
    if no == "" or yes == "1.0":
        rows[4] = [no] * 4  # a row that nobody has marked
    read = marked(tmp_path, [name.format(slot) for slot in slots], rows)
    assert [q.answer for q in read.questions] == [None if i == 4 and rows[4] == [no] * 4 else k for i, k in enumerate(RIGHT)]
    assert f"answers by the marks in {name.format(slots[0])} to {name.format(slots[3])}" in read.read_as


def test_counted_votes_are_votes(tmp_path: Path) -> None:
    """Also of so few annotators that each count could be a position."""
    rows = [[2 if slot == right else int(slot == (right + 1) % 4) for slot in range(4)] for right in RIGHT]
    rows[1] = [1, 1, 1, 0]
    read = marked(tmp_path, ["vote_1", "vote_2", "vote_3", "vote_4"], rows)
    assert [q.votes for q in read.questions] == [tuple(row) for row in rows]
    assert [q.answer for q in read.questions] == [RIGHT[0], None, *RIGHT[2:]]
    assert any("tied" in problem.message for problem in read.problems)


def test_a_row_with_two_marks_has_no_answer(tmp_path: Path) -> None:
    rows = one_hot(1, 0)
    rows[2] = [1, 0, 1, 0]
    read = marked(tmp_path, ["label_a", "label_b", "label_c", "label_d"], rows)
    assert [q.answer for q in read.questions] == [*RIGHT[:2], None, *RIGHT[3:]]


def test_a_column_of_answers_decides(tmp_path: Path) -> None:
    read = marked(tmp_path, ["label_a", "label_b", "label_c", "label_d"], one_hot(1, 0), extra=("answer",))
    assert [q.answer for q in read.questions] == RIGHT and read.columns["answer"] == "answer"


@pytest.mark.parametrize("columns", [4, 5])
def test_annotators_who_count_from_zero_are_annotators(tmp_path: Path, columns: int) -> None:
    draw = random.Random(columns)
    rows: list[list[object]] = [[right if draw.random() < 0.8 else draw.randrange(4) for _ in range(columns)] for right in RIGHT]
    read = marked(tmp_path, [f"answer{i + 1}" for i in range(columns)], rows)
    assert [q.votes for q in read.questions] == [tuple(row.count(slot) for slot in range(4)) for row in rows]


def test_annotators_who_nearly_always_agree_on_the_same_choice(tmp_path: Path) -> None:
    """The sum is the same in nearly every row, and yet these are no counts."""
    rows: list[list[object]] = [[0, 0, 0, 3], *([1] * 4 for _ in range(29))]
    read = marked(tmp_path, [f"answer{i}" for i in range(1, 5)], rows)
    assert [q.votes for q in read.questions] == [(3, 0, 0, 1), *[(0, 4, 0, 0)] * 29]


def test_what_is_said_is_not_looked_for(tmp_path: Path) -> None:
    names = [f"answer{i}" for i in range(1, 5)]
    said = marked(tmp_path, names, one_hot(1, 0), answer_style="zero")
    assert said.questions[0].votes == (3, 1, 0, 0)
    assert marked(tmp_path, names, one_hot(1, 0), answer_column="answer1", answer_style="zero").questions[0].votes is None


def test_choices_that_are_numbers_are_no_marks(tmp_path: Path) -> None:
    """answer1 to answer4 are the choices of this file, and their sum is always ten."""
    numbers = [",".join(map(str, random.Random(i).sample(range(1, 5), 4))) for i in range(9)]
    rows = "".join(f"{i},p,?,{cells},{'abcd'[i % 4]}\n" for i, cells in enumerate(numbers))
    (tmp_path / "train.csv").write_text(f"id,path,question,answer1,answer2,answer3,answer4,correct\n{rows}")
    read = read_questions(tmp_path / "train.csv", labelled=True)
    assert [q.answer for q in read.questions] == [i % 4 for i in range(9)] and read.columns["answer"] == "correct"


def test_shares_are_no_marks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="could not be interpreted"):
        marked(tmp_path, ["label1", "label2", "label3", "label4"], one_hot("0.7", "0.1"))
