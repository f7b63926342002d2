"""JSON as people keep rows in it: read where it leaves no doubt, else named for what it is."""
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from mcvqa.data.questions import read_questions
from mcvqa.data.table import DataError, read_cells

RECORDS = [
    {"id": f"r{i}", "image": f"{i}.png", "question": "색은?", "a": "빨강", "b": "파랑", "answer": "ab"[i % 2]} for i in range(12)
]
FRAME = pd.DataFrame(RECORDS)


def saved(folder: Path, value: object, name: str = "train.json", **style: object) -> Path:
    (folder / name).write_text(value if isinstance(value, str) else json.dumps(value, **style), encoding="utf-8")
    return folder / name


@pytest.mark.parametrize(("value", "found"), [
    ({"data": RECORDS}, "rows under 'data'"), ({"train": RECORDS}, "rows under 'train'"),
    ({"version": 1, "info": {"year": 2025}, "questions": RECORDS, "licenses": []}, "rows under 'questions'"),
    (FRAME.to_json(), "by columns"), (FRAME.to_json(force_ascii=False, indent=2), "by columns"),
    (FRAME.to_json(orient="index"), "by row numbers"), (FRAME.to_json(orient="split"), "as of pandas, split"),
    (FRAME.to_json(orient="table"), "rows under 'data'"), (FRAME.to_dict("list"), "by columns"),
    (FRAME.to_json(orient="records", lines=True), ""), (FRAME.to_json(orient="records", indent=4), ""),
])
@pytest.mark.parametrize("name", ["train.json", "train.csv"])
def test_every_shape_without_doubt_gives_the_same_rows(tmp_path: Path, value: object, found: str, name: str) -> None:
    table = read_questions(saved(tmp_path, value, name))
    assert [(q.id, q.text, q.choices, q.answer) for q in table.questions] == [
        (r["id"], r["question"], (r["a"], r["b"]), "ab".index(r["answer"])) for r in RECORDS]
    assert table.read_as.endswith(f"JSON, {found}" if found else "JSON")


def test_columns_are_put_together_by_their_row_and_not_by_their_order(tmp_path: Path) -> None:
    columns = json.loads(FRAME.to_json())
    columns["a"] = dict(reversed(columns["a"].items()))
    assert read_cells(saved(tmp_path, columns)).records == read_cells(saved(tmp_path, FRAME.to_json())).records


def test_the_index_of_pandas_is_kept_where_it_says_something(tmp_path: Path) -> None:
    """A table with its ids as index loses them otherwise."""
    frame = FRAME.assign(id=range(100, 112)).set_index("id")
    for orient in ("columns", "index"):
        assert [q.id for q in read_questions(saved(tmp_path, frame.to_json(orient=orient))).questions][:2] == ["100", "101"]


def test_one_line_is_one_row(tmp_path: Path) -> None:
    row = {"id": 7, "image": "p.jpg", "question": "?", "choices": ["red", "blue"], "answer": 0}
    for name in ("train.jsonl", "train.json"):
        assert read_questions(saved(tmp_path, row, name)).questions[0].choices == ("red", "blue")


@pytest.mark.parametrize(("value", "message"), [
    ({"train": RECORDS, "test": RECORDS[:3]}, r"several lists of objects: 'train' \(12\), 'test' \(3\)\. Save each"),
    ({"images": [{"id": 1, "file_name": "p.jpg"}], "annotations": RECORDS}, r"'images' \(1\), 'annotations' \(12\)\. Join them:"),
    (FRAME.set_index("id").to_json(), r"objects under the keys 'image', 'question', 'a', .*each with the keys 'r0', 'r1'.*"
                                      r"which of them are rows is not clear.*orient='records'"),
    ({"data": {"train": RECORDS}}, "objects under the keys 'data', each with the keys 'train'"),
    ({"data": [], "errors": {}}, "holds one object with the keys 'data', 'errors', and no list of rows in it"),
    ({"a": {"0": "x", "1": "y"}, "b": {"0": "x"}}, "which of them are rows is not clear"),
    ([["id", "question"], ["1", "?"]], "holds a list where each row is an object"),
    ("7", "holds a number"), ({}, "holds an empty object"),
])
def test_what_leaves_a_doubt_is_named(tmp_path: Path, value: object, message: str) -> None:
    with pytest.raises(DataError, match=rf"train\.json .*{message}") as error:
        read_cells(saved(tmp_path, value))
    assert "Expected: a list of objects" in str(error.value) or re.search("Save each|Join them", str(error.value))
