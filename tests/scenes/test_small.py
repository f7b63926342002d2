"""The notebook's demo: answers are right as drawn, texts tell nothing, and nobody's data are overwritten."""
import csv
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from mcvqa.data.kinds import question_kind
from mcvqa.data.questions import read_questions
from mcvqa.scenes import small
from mcvqa.scenes.small import CELL_NAMES, PAINTS, SMALL_FORMS, paint, painted_shapes, small_questions, write_small_demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small, "SMALL_DEMO_ROWS", (240, 30))
        write_small_demo(folder, 5)
    return folder


def table(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def shapes_in(picture) -> list[tuple[str, str]]:
    """(color, cell) of each shape, read from the pixels of the nine cells."""
    cells = np.asarray(picture.convert("RGB")).astype(int).reshape(3, 32, 3, 32, 3).swapaxes(1, 2).reshape(9, -1, 3)
    alike = np.abs(cells[:, :, None] - np.array([*PAINTS.values()])).max(-1) < 12  # (cell, pixel, paint)
    seen = zip(CELL_NAMES, alike.sum(1), strict=True)
    return [([*PAINTS][counts.argmax()], cell) for cell, counts in seen if counts.max() > 20]


def test_what_is_painted_is_seen_where_and_in_the_color_that_it_is_said_to_have():
    rng = np.random.default_rng(0)
    for number in (1, 2, 3, 4) * 5:
        shapes = painted_shapes(rng, number)
        assert len({one.shape for one in shapes[:3]}) == 3 and len({one.shape for one in shapes[2:]}) == 1
        assert len(shapes) == number + 2 == len({one.color for one in shapes}) == len({one.cell for one in shapes})
        assert sorted(shapes_in(paint(rng, shapes))) == sorted((one.color, one.cell) for one in shapes)


def test_the_answers_are_those_of_what_is_painted():
    rng = np.random.default_rng(1)
    for number in (1, 2, 3, 4) * 5:
        shapes = painted_shapes(rng, number)
        slots = (3, 2, 1, 0)
        for form, slot, (text, *choices) in zip(SMALL_FORMS, slots, small_questions(rng, shapes, slots), strict=True):
            before, after = form.split("{}")
            about = text.removeprefix(before).removesuffix(after).split()
            meant = [one for one in shapes if {*about} <= {*one}]
            true = {one.color for one in meant}, {one.shape for one in meant}, {str(len(meant))}, {one.cell for one in meant}
            assert true[SMALL_FORMS.index(form)] == {choices[slot]} and len({*choices}) == 4


def test_the_files_say_what_the_pictures_show(demo):
    """Colors, numbers and positions, by the pixels."""
    right = Counter()
    for row in table(demo / "train.csv"):
        seen = shapes_in(Image.open(demo / row["path"]))
        form = next(i for i, f in enumerate(SMALL_FORMS) if row["question"].endswith(f.split("{}")[1]))
        answer = row[row["answer"]]
        if form == 0:
            assert answer in dict(seen)
        elif form == 2:
            assert answer == str(len(seen) - 2)
        elif form == 3:
            color = row["question"].split("나눌 때 ")[1].split()[0]
            assert (color, answer) in seen
        right[form] += 1
    assert right == {form: 60 for form in range(4)}


def test_letters_are_evenly_used_and_the_texts_alone_tell_nothing(demo):
    questions = read_questions(demo / "train.csv", labelled=True).questions
    assert Counter(q.answer for q in questions) == {letter: 60 for letter in range(4)}
    assert {question_kind(q) for q in questions} == {"color", "attribute", "counting", "location"}
    for kind in ("color", "attribute", "counting", "location"):
        of_kind = [q for q in questions if question_kind(q) == kind]
        answers, offered = (Counter(names) for names in (
            [q.choices[q.answer] for q in of_kind], [c for q in of_kind for c in q.choices]))
        assert max(answers[name] - count / 4 for name, count in offered.items()) < 4 * (60 * 3 / 16) ** 0.5, kind


def test_the_same_seed_gives_the_same_files_once(demo, tmp_path, monkeypatch):
    monkeypatch.setattr(small, "SMALL_DEMO_ROWS", (9, 5))
    for name in ("a", "b"):
        write_small_demo(tmp_path / name, 1)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 3 + 2 + 5 and all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
    before = (tmp_path / "a" / "train.csv").stat().st_mtime_ns
    write_small_demo(tmp_path / "a", 1)
    assert (tmp_path / "a" / "train.csv").stat().st_mtime_ns == before
    monkeypatch.setattr(small, "SMALL_DEMO_ROWS", (4, 2))
    write_small_demo(tmp_path / "a", 2)
    rows = {split: table(tmp_path / "a" / f"{split}.csv") for split in ("train", "test", "test_answers", "sample_submission")}
    assert [len(found) for found in rows.values()] == [4, 2, 2, 2] and "answer" not in rows["test"][0]
    assert {row["path"] for split in ("train", "test") for row in rows[split]} == {
        f"{path.parent.name}/{path.name}" for path in (tmp_path / "a").glob("t*/*.png")}


def test_another_train_csv_is_never_overwritten(tmp_path):
    (tmp_path / "train.csv").write_text("mine")
    with pytest.raises(FileExistsError, match="empty folder"):
        write_small_demo(tmp_path, 1)
    assert (tmp_path / "train.csv").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1
