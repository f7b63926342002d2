"""Choices that are all in one column."""
import json
from pathlib import Path

import pandas as pd
import pytest

from mcvqa.data.own_letters import strip_own_letters
from mcvqa.data.questions import read_questions
from mcvqa.data.table import DataError


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "cells", [['["red", "blue"]', '["x", "y", "z"]'], ["['red', 'blue']", "('x', 'y', 'z')"],
              ['{"A": "red", "B": "blue"}', '{"A": "x", "B": "y", "C": "z"}'],
              ['{"text": ["red", "blue"], "label": ["A", "B"]}', '{"text": ["x", "y", "z"]}'],
              ["['red' 'blue']", "['x'\n 'y' 'z']"],  # as pandas writes NumPy's lists
              # the labels say which is which, not the order in which they are written
              ['{"B": "blue", "A": "red"}', '{"c": "z", "a": "x", "b": "y"}'],
              ['{"option_2": "blue", "option_1": "red"}', '{"1": "x", "2": "y", "3": "z", "4": null}'],
              ['{"text": ["blue", "red"], "label": ["B", "A"]}', '{"text": ["x", "z", "y"], "label": ["1", "3", "2"]}'],
              ['[{"label": "A", "text": "red"}, {"label": "B", "text": "blue"}]',
               '[{"text": "x", "label": "0"}, {"text": "z", "label": "2"}, {"text": "y", "label": "1"}]'],
              ['[{"text": "red"}, {"text": "blue"}]', '["x", "y", "z", null]']],
)
def test_choices_in_one_column_of_lists(tmp_path: Path, cells: list[str]) -> None:
    rows = [{"id": i, "image": "p.jpg", "question": "?", "choices": cell, "answer": "b"} for i, cell in enumerate(cells)]
    pd.DataFrame(rows).to_csv(tmp_path / "train.csv", index=False)
    table = read_questions(tmp_path / "train.csv")
    assert [q.choices for q in table.questions] == [("red", "blue"), ("x", "y", "z")]
    assert [q.answer for q in table.questions] == [1, 1]


def test_one_row_without_choices_does_not_hide_the_others(tmp_path: Path) -> None:
    rows = [{"id": i, "image": "p.jpg", "question": "?", "choices": cell} for i, cell in enumerate(('["red", "blue"]', None))]
    pd.DataFrame(rows).to_csv(tmp_path / "test.csv", index=False)
    assert [q.choices for q in read_questions(tmp_path / "test.csv").questions] == [("red", "blue"), ("", "")]


CELLS = [("red", "light blue", "grey"), ("x", "y, or z", "w"), ("3", "4", "5")]


@pytest.mark.parametrize("divider", ["|", " | ", "||", ";", "; ", " / ", "\n", "\r\n", "\t"])
def test_choices_divided_by_a_sign(tmp_path: Path, divider: str) -> None:
    joined = [divider.join(texts) for texts in CELLS]
    rows = [{"id": i, "path": "p", "question": "?", "보기": cell, "정답": "abc"[i]} for i, cell in enumerate(joined)]
    pd.DataFrame(rows).to_csv(tmp_path / "train.csv", index=False)
    read = read_questions(tmp_path / "train.csv")
    assert [q.choices for q in read.questions] == CELLS and [q.answer for q in read.questions] == [0, 1, 2]
    assert ", choices divided at " in read.read_as


@pytest.mark.parametrize("series", ["(a) (b) (c)", "A. B. C.", "a) b) c)", "① ② ③", "1. 2. 3.", "가. 나. 다.", "[A] [B] [C]"])
@pytest.mark.parametrize("divider", [" ", ", ", "\n", " | "])
def test_choices_divided_by_their_letters(tmp_path: Path, series: str, divider: str) -> None:
    cells = [divider.join(f"{sign} {text}" for sign, text in zip(series.split(), texts, strict=True)) for texts in CELLS]
    rows = [{"id": i, "path": "p", "question": "?", "options": cell, "answer": "abc"[i]} for i, cell in enumerate(cells)]
    pd.DataFrame(rows).to_csv(tmp_path / "train.csv", index=False)
    read = read_questions(tmp_path / "train.csv")
    assert [strip_own_letters(q.choices)[0] for q in read.questions] == CELLS and [q.answer for q in read.questions] == [0, 1, 2]


@pytest.mark.parametrize(("sign", "read"), [(",", True), ("/", True), (" ", False)])
def test_signs_that_texts_hold_divide_only_into_as_many_choices_everywhere(tmp_path: Path, sign: str, read: bool) -> None:
    def table(*cells: str) -> Path:
        rows = [{"id": i, "path": "p", "question": "?", "choices": cell} for i, cell in enumerate(cells)]
        pd.DataFrame(rows).to_csv(tmp_path / "t.csv")
        return tmp_path / "t.csv"

    several, unequal = sign.join(("red", "blue", "grey")), sign.join(("red", "blue", "grey", "pink"))
    if read:
        assert read_questions(table(several, several)).questions[1].choices == ("red", "blue", "grey")
    for cells in ((several, unequal), (sign.join(("red", "blue")),) * 2) if read else ((several, several),):
        with pytest.raises(DataError, match="'choices' is read where each of its cells is a list"):
            read_questions(table(*cells))


@pytest.mark.parametrize("cell", ["red|blue;grey", "red; dark|blue; light", "red", "(a) red (c) blue"])
def test_what_may_be_divided_in_several_ways_or_in_none_is_said(tmp_path: Path, cell: str) -> None:
    path = written(tmp_path / "train.csv", f"id,path,question,choices\n1,p,?,{cell}\n".encode())
    with pytest.raises(DataError, match=r"'choices' is read where each of its cells is a list"):
        read_questions(path)


def test_a_passage_beside_the_choices_stays_what_it_is(tmp_path: Path) -> None:
    text = "id,path,question,보기,선택지1,선택지2,answer\n1,p,?,ㄱ. 산소 ㄴ. 수소,x,y,b\n2,p,?,ㄱ. 철 ㄴ. 금,z,w,a\n"
    read = read_questions(written(tmp_path / "train.csv", text.encode()))
    assert [q.choices for q in read.questions] == [("x", "y"), ("z", "w")] and [q.answer for q in read.questions] == [1, 0]


def test_a_sign_that_is_missing_in_one_cell_divides_none(tmp_path: Path) -> None:
    path = written(tmp_path / "train.csv", b"id,path,question,choices\n1,p,?,red|blue\n2,p,?,red\n")
    with pytest.raises(DataError, match=r"'choices' is read where"):
        read_questions(path)


def test_lists_and_numbers_of_json_are_cells(tmp_path: Path) -> None:
    rows = [{"id": 7, "image": "p.jpg", "question": "?", "options": ["red", 3, 2.5, None], "answer": 0}]
    rows += [{"id": 8.0, "image": "p.jpg", "question": "?", "options": ["x", "y", "z", "w"], "answer": 3}]
    table = read_questions(written(tmp_path / "train.json", json.dumps(rows).encode()))
    assert table.questions[0].choices == ("red", "3", "2.5") and [q.id for q in table.questions] == ["7", "8"]
    assert [q.answer for q in table.questions] == [0, 3]


@pytest.mark.parametrize("cell", [
    '{"text": ["red", "blue"], "label": ["A"]}', '{"text": ["red", "blue"], "label": ["A", "A"]}', '{"A": "red", "C": "blue"}',
    '{"first": "red", "second": "blue"}', '[{"value": "red"}, {"value": "blue"}]', '{"B": "red", "C": "blue"}', '"red"', "7",
])
def test_objects_whose_order_is_not_clear_are_never_guessed(tmp_path: Path, cell: str) -> None:
    pd.DataFrame([{"id": 1, "image": "p.jpg", "question": "?", "choices": cell, "answer": "b"}]).to_csv(tmp_path / "train.csv")
    with pytest.raises(DataError, match="'choices' is read where each of its cells is a list"):
        read_questions(tmp_path / "train.csv")
