"""Files as people have them, all in one place: what each means is known, and `check`, `eda`, the labels that are read and the
submission that is written are compared with it. Each input stands for a kind; tests/data has the kinds in full."""
import base64
import contextlib
import csv
import importlib.util
import io
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mcvqa.config import Config
from mcvqa.data.locate import find_data
from mcvqa.data.table import DataError
from mcvqa.model.rows import training_orders
from mcvqa.model.text.prompt import chat_messages
from mcvqa.report.submission import SubmissionForm, validate_submission, write_submission
from mcvqa.run.check import check_run
from mcvqa.run.dataset import RunData, read_data
from mcvqa.run.project import open_project
from mcvqa.run.single import explore_only
from mcvqa.scoring.orders import question_orders
from tests.conftest import TINTS, tiny_settings

LETTERS = "abcd"
COLUMNS = ["id", "path", "question", *LETTERS]
Rows = list[dict[str, str]]


# %% inputs: rows whose right choice is known
def drawn_rows(split: str, count: int) -> Rows:
    """Rows as they should be, each with the index of its right choice under "right"."""
    draw, rows = random.Random(split), []
    for number in range(count):
        names, right = draw.sample(list(TINTS), 4), draw.randrange(4)
        name = f"{split}_{number:04d}"
        row = {"id": name, "path": f"{split}/{name}.png", "question": "What color is the picture?", "answer": LETTERS[right]}
        rows.append(row | dict(zip(LETTERS, names, strict=True)) | {"right": str(right), "shown": names[right]})
    return rows


def counting_rows(split: str, count: int, unit: str = "") -> Rows:
    """Choices are numbers of which none names its own position; the answer is a number."""
    draw, rows = random.Random(split), drawn_rows(split, count)
    for row in rows:
        numbers = next(n for n in iter(lambda: draw.sample(range(1, 9), 4), None) if all(n[i] != i + 1 for i in range(4)))
        row |= dict(zip(LETTERS, (f"{number}{unit}" for number in numbers), strict=True))
        row["answer"] = str(numbers[int(row["right"])])
    return rows


def write_table(path: Path, rows: Rows, columns: list[str], encoding: str = "utf-8", delimiter: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding=encoding, newline="") as handle:
        writer = csv.DictWriter(handle, columns, extrasaction="ignore", delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


@dataclass
class Situation:
    """A data folder about to be written, and what is expected of it.

    Attributes:
        train, test: rows with the right choice under "right"; those of `train` without an answer are not expected.
        sample: rows of sample_submission.csv; None: there is no such file.
        style, header: how the submission is to be written.
        said: parts of what `check` prints.
    """

    root: Path
    train: Rows = field(default_factory=lambda: drawn_rows("train", 24))
    test: Rows = field(default_factory=lambda: drawn_rows("test", 6))
    sample: Rows | None = field(default_factory=lambda: [{"id": row["id"], "answer": "a"} for row in drawn_rows("test", 6)])
    columns: list[str] = field(default_factory=lambda: ["id", "answer"])
    style: str = "lower"
    header: tuple[str, ...] = ("id", "answer")
    said: tuple[str, ...] = ()

    def write(self, encoding: str = "utf-8", *, pictures: bool = True) -> None:
        for row in (*self.train, *self.test) if pictures else ():
            file = self.root / row["path"]
            file.parent.mkdir(parents=True, exist_ok=True)
            picture_of(row).save(file)
        write_table(self.root / "train.csv", self.train, [*COLUMNS, "answer"], encoding)
        write_table(self.root / "test.csv", self.test, COLUMNS, encoding)
        if self.sample is not None:
            write_table(self.root / "sample_submission.csv", self.sample, self.columns)


def picture_of(row: dict[str, str]) -> Image.Image:
    """Each row's own."""
    noise = np.random.default_rng(list(row["id"].encode())).integers(-25, 25, (6, 6, 3)).repeat(12, 0).repeat(12, 1)
    pixels = np.array(TINTS[row["shown"]]) + noise
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


# %% the situations
def capital_letters(its: Situation) -> None:
    for row in its.train:
        row["answer"] = row["answer"].upper()
    its.sample = [{"id": row["id"], "prediction": "A"} for row in its.test]
    its.columns, its.style, its.header = ["id", "prediction"], "upper", ("id", "prediction")
    its.write()


def positions(its: Situation) -> None:
    for row in its.train:
        row["answer"] = str(int(row["right"]) + 1)
    its.sample, its.style = [{"id": row["id"], "answer": "1"} for row in its.test], "one"
    its.write()


def positions_from_zero(its: Situation) -> None:
    for row in its.train:
        row["answer"] = row["right"]
    its.sample, its.style = None, "zero"
    its.write()


def texts(its: Situation) -> None:
    for row in its.train:
        row["answer"] = row["shown"]
    its.sample, its.style = None, "text"
    its.write()


def numbers_as_floats(its: Situation) -> None:
    its.train = counting_rows("train", 24)
    for row in its.train:
        row["answer"] += ".0"
    its.train[7]["answer"] = ""
    its.said, its.style = ("1 row is left out: no answer",), "text"
    its.write()


def numbers_with_units(its: Situation) -> None:
    for row in its.train:
        row["answer"] = row["shown"]
    counted = counting_rows("train", 24, unit="개")
    for number in range(0, 24, 3):
        its.train[number] = counted[number] | {"answer": counted[number]["answer"]}
    its.sample, its.style = None, "text"
    its.write()


def ids_of_pictures(its: Situation) -> None:
    for number, row in enumerate(its.train):
        row["id"] = f"img_{number // 3:04d}"
    its.write()


def western_text(its: Situation) -> None:
    for row in (*its.train, *its.test):
        row["question"] = "What’s the color of the man’s hat?"
    its.said = ("read as cp1252, for example 'What’s",)
    its.write("cp1252")


def korean_text(its: Situation) -> None:
    for row in (*its.train, *its.test):
        row["question"] = "사진의 색은 무엇입니까?"
    its.said = ("read as cp949",)
    its.write("cp949")


def stale_sample(its: Situation) -> None:
    assert its.sample is not None
    its.sample = its.sample[:4]
    its.said = ("does not match the test rows",)
    its.write()


def korean_sample(its: Situation) -> None:
    its.write()
    its.header = ("번호", "정답")
    rows = [{"번호": row["id"], "정답": "a"} for row in its.test]
    write_table(its.root / "sample_submission.csv", rows, [*its.header], "cp949", ";")


def tables_in_the_folders_of_their_splits(its: Situation) -> None:
    its.write()
    for split, rows in (("train", its.train), ("test", its.test)):
        (its.root / f"{split}.csv").unlink()
        bare = [row | {"path": Path(row["path"]).name} for row in rows]
        write_table(its.root / split / f"{split}.csv", bare, [*COLUMNS, "answer"] if split == "train" else COLUMNS)


def same_names_in_both_splits(its: Situation) -> None:
    for rows in (its.train, its.test):
        for number, row in enumerate(rows):
            row["path"] = f"{row['id'].partition('_')[0]}/{number:04d}.png"
    its.write()
    for split in ("train", "test"):
        table = its.root / f"{split}.csv"
        table.write_text(table.read_text("utf-8").replace(f"{split}/", ""), "utf-8")


def absolute_paths(its: Situation) -> None:
    its.write()
    for split in ("train", "test"):
        table = its.root / f"{split}.csv"
        table.write_text(table.read_text("utf-8").replace(f",{split}/", f",{its.root.absolute()}/{split}/"), "utf-8")


def choices_with_letters(its: Situation) -> None:
    for row in (*its.train, *its.test):
        row |= {letter: f"{letter.upper()}. {row[letter]}" for letter in LETTERS}
    its.said = ("begin with their own letters",)
    its.write()


def choices_about_choices(its: Situation) -> None:
    meant = ("All of the above", "위의 모든 것", "None of the above", "해당 없음")
    for number, row in enumerate((*its.train, *its.test)):
        row["d"] = meant[number % 4]
    its.said = ("30 rows have choices that refer to other choices and keep their position",)
    its.write()


def pictures_in_cells(its: Situation) -> None:
    for row in (*its.train, *its.test):
        content = io.BytesIO()
        picture_of(row).save(content, "PNG")
        row["path"] = base64.b64encode(content.getvalue() + b"\0" * 150_000).decode()  # more than a cell of CSV usually holds
    its.said = ("30 photographs are embedded in the tables",)
    its.write(pictures=False)


def tabs_and_a_sample_that_numbers_its_rows(its: Situation) -> None:
    its.write()
    (its.root / "test.csv").unlink()
    write_table(its.root / "test.tsv", its.test, COLUMNS, delimiter="\t")
    its.header = ("", "id", "answer")
    rows = [{"": str(number), "id": row["id"], "answer": "a"} for number, row in enumerate(its.test)]
    write_table(its.root / "sample_submission.csv", rows, [*its.header])


SITUATIONS: list[Callable[[Situation], None]] = [
    capital_letters, positions, positions_from_zero, texts, numbers_as_floats, numbers_with_units, ids_of_pictures, western_text,
    korean_text, stale_sample, korean_sample, tables_in_the_folders_of_their_splits, same_names_in_both_splits, absolute_paths,
    choices_with_letters, choices_about_choices, pictures_in_cells, tabs_and_a_sample_that_numbers_its_rows,
]


# %% what is made of them
def settings_of(data: Path, out: Path) -> Config:
    return tiny_settings(out, data_dir=str(data), n_folds=2)


def without_bars(step: Callable, *args: object) -> tuple[object, str]:
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(io.StringIO()):
        result = step(*args)
    return result, said.getvalue()


def submit(data: RunData, form: SubmissionForm, file: Path) -> list[str]:
    """Answer the i-th row with its i-th choice: the lines of the valid file."""
    write_submission(file, data.test, [i % len(q.choices) for i, q in enumerate(data.test)], form)
    assert not validate_submission(file, data.test, data.form).problems
    return file.read_text(encoding="utf-8").splitlines()


def require_own_convention(data: RunData, out: Path) -> None:
    """What is written is valid, and the same answers in another convention are refused."""
    submit(data, data.form, out / "own.csv")
    for style in {"lower", "upper", "one", "zero", "text"} - {data.form.style}:
        other = SubmissionForm(data.form.header, data.form.id_at, data.form.answer_at, style, data.form.delimiter)
        write_submission(out / f"{style}.csv", data.test, [0, 1, 2, 3, 0, 1][: len(data.test)], other)
        assert "Answers must be" in str(validate_submission(out / f"{style}.csv", data.test, data.form)), style


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.__name__)
def test_each_is_read_as_it_is_meant(tmp_path, situation):
    its = Situation(tmp_path / "data")
    situation(its)
    config = settings_of(its.root, tmp_path / "out")
    if its.said:  # the others have tests of their own for what is said; a check takes a second or two
        ready, said = without_bars(check_run, config)
        assert ready and all(words in said for words in its.said), said
    data = read_data(open_project(config))
    answered = [row for row in its.train if row["answer"]]
    assert [q.answer for q in data.train] == [int(row["right"]) for row in answered], "every label is right"
    assert [q.text for q in (*data.train, *data.test)] == [row["question"] for row in (*answered, *its.test)]
    assert [q.choices for q in data.test] == [tuple(row[letter] for letter in LETTERS) for row in its.test]
    assert not data.broken([*data.train, *data.test]), "each photograph is found"
    for question, row in zip((*data.train, *data.test), (*answered, *its.test), strict=True):
        with Image.open(data.records[question.image].path) as picture:
            assert np.array_equal(np.asarray(picture), np.asarray(picture_of(row))), "and it is the row's own"
    assert (data.form.style, data.form.header) == (its.style, its.header)
    assert [line.split(data.form.delimiter)[data.form.id_at] for line in submit(data, data.form, tmp_path / "s.csv")[1:]] == [
        row["id"] for row in its.test]
    require_own_convention(data, tmp_path)


def test_eda_says_what_check_says(tmp_path):
    """How answers were read, with examples, and what is left out."""
    its = Situation(tmp_path / "data")
    numbers_as_floats(its)
    summary, _ = without_bars(explore_only, settings_of(its.root, tmp_path / "out"))
    assert "answers are the choices' texts: " in str(summary) and all(words in str(summary) for words in its.said)


def test_letters_that_choices_carry_are_never_shown_twice(tmp_path):
    its = Situation(tmp_path / "data")
    choices_with_letters(its)
    config = settings_of(its.root, tmp_path / "out")
    question = read_data(open_project(config)).train[0]
    shown = str(chat_messages(question, [2, 0, 3, 1], config, with_image=False))
    assert "A. " not in shown and f"(a) {its.train[0]['c'].removeprefix('C. ')}" in shown


def test_choices_about_choices_keep_their_position(tmp_path):
    its = Situation(tmp_path / "data")
    choices_about_choices(its)
    data = read_data(open_project(settings_of(its.root, tmp_path / "out")))
    for question in (*data.train, *data.test):
        learned = training_orders(question.choices, Config(), np.random.default_rng(0))
        for orders in (question_orders(question.choices, 4), learned):
            assert (orders[:, 3] == 3).all() and len(orders), "in scoring and in training"


def test_a_table_with_another_name_is_named(tmp_path):
    its = Situation(tmp_path / "data")
    its.write()
    (its.root / "train.csv").rename(its.root / "train (1).csv")
    with pytest.raises(DataError, match=r"'train \(1\)\.csv': the file name is not recognized"):
        read_data(open_project(settings_of(its.root, tmp_path / "out")))


def test_the_name_of_a_table_means_its_folder(tmp_path):
    its = Situation(tmp_path / "data")
    its.write()
    assert find_data(its.root / "train.csv", tmp_path).test == its.root / "test.csv"


# %% the inputs of the review that asked for this
REVIEW = Path(__file__).parents[2] / "../shared/cases/make.py"
WANTED = {  # name -> style and header of the submission; the right letters are in train.csv, or in train_truth.csv
    "answers-upper": ("upper", "id,prediction"), "answers-one": ("one", "id,answer"), "counting-floats": ("text", "id,answer"),
    "counting-units": ("text", "id,answer"), "repeated-id": ("lower", "id,answer"), "western-apostrophes": ("lower", "id,answer"),
    "sample-stale": ("lower", "id,answer"), "sample-korean-semicolon": ("lower", "번호;정답"),
    "layout-split": ("lower", "id,answer"), "paths-same-names": ("lower", "id,answer"), "base64-cells": ("lower", "id,answer"),
    "choices-lettered": ("lower", "id,answer"), "choices-meta": ("lower", "id,answer"),
}


def right_letters(folder: Path) -> list[str]:
    """Of all rows with an answer, from the truth beside the table where that is answered otherwise."""
    def records(name: str) -> Rows:
        file = folder / name
        return list(csv.DictReader(io.StringIO(file.read_text("latin-1")))) if file.exists() else []

    table = records("train.csv") or records("train/train.csv")
    truth = [row["truth"] for row in records("train_truth.csv")] or [row["answer"].lower() for row in table]
    message = [letter for letter, row in zip(truth, table, strict=True) if row["answer"]]
    return [LETTERS[int(letter) - 1] if letter.isdigit() else letter for letter in message]


@pytest.mark.skipif(not REVIEW.exists(), reason="the review's inputs are not beside this repository")
def test_the_inputs_of_the_review(tmp_path):
    csv.field_size_limit(2**24)
    spec = importlib.util.spec_from_file_location("cases", REVIEW)
    assert spec and spec.loader
    cases = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cases)
    for case in cases.CASES:
        case(tmp_path / "in")
    made = {folder.name: folder for folder in (tmp_path / "in").iterdir() if (folder / "EXPECT.txt").exists()}
    assert set(made) == {*WANTED, "named-otherwise"}, "each is compared"
    for name, (style, header) in WANTED.items():
        data = read_data(open_project(settings_of(made[name], tmp_path / "out" / name)))
        message = f"{name}: {(made[name] / 'EXPECT.txt').read_text('utf-8')}"
        assert [LETTERS[q.answer] for q in data.train if q.answer is not None] == right_letters(made[name]), message
        assert not data.broken([*data.train, *data.test]), message
        lines = submit(data, data.form, tmp_path / "submission.csv")
        assert (data.form.style, lines[0], len(lines)) == (style, header, 1 + len(data.test)), message
    with pytest.raises(DataError, match=r"'train \(1\)\.csv': the file name is not recognized"):
        read_data(open_project(settings_of(made["named-otherwise"], tmp_path / "out")))
