import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mcvqa.base.uncertainty import Accuracy
from mcvqa.data.explore import Exploration, _chance_shares, _draw_lengths, _row_table, explore
from mcvqa.data.folds import question_groups
from mcvqa.data.images import ImageFolder, ImageRecord, near_duplicate_groups, survey_images
from mcvqa.data.prior import fit_prior
from mcvqa.data.questions import SAME_TEXT, Problem, Question
from tests.figure_words import untranslated, words_of_figures

TRAIN = [
    Question("t1", "train/1.png", "이 음식은 무엇인가요?", ("김밥", "$\\frac 라면$", "None", "떡\n볶이"), 1),
    Question("t2", "train/2.png", "이 음식은  무엇인가요", ("김밥", "김밥", "우동", "$\\frac 라면$"), 2),
    Question("t3", "train/3.png", "몇 개인가요?", ("1개", "2개"), 0),
    Question("t4", "train/4.png", "Is it red?", ("yes", "no"), None),
]
TEST = [
    Question("t3", "test/1.png", "이 음식은 무엇인가요?", ("떡\n볶이", "None", "김밥", "$\\frac 라면$")),
    Question("s2", "test/2.png", "무슨 색인가요?", ("빨간색", "파란색")),
]


def photograph(path: Path, seed: int) -> None:
    path.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (6, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).resize((160, 120), Image.Resampling.BICUBIC).save(path)


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> Exploration:
    """train/1 and test/1 are one file, train/3 is truncated, train/4 and test/2 are missing."""
    root = tmp_path_factory.mktemp("photos")
    for name, seed in (("train/1", 1), ("train/2", 2), ("train/3", 3), ("test/1", 1)):
        photograph(root / f"{name}.png", seed)
    whole = (root / "train/3.png").read_bytes()
    (root / "train/3.png").write_bytes(whole[: len(whole) // 2])
    images = survey_images(ImageFolder(root), [q.image for q in (*TRAIN, *TEST)])
    groups = near_duplicate_groups(images)
    prior = fit_prior(TRAIN, TEST, question_groups(TRAIN, groups))
    problems = [
        Problem("train.csv", 2, "b", f"{SAME_TEXT} a: '김밥'", "t2"),
        Problem("train.csv", 4, "answer", "'e' is no letter of its choices", "t4"),
    ]
    return explore(TRAIN, TEST, problems, images, groups, prior, root / "out")


def members(found: Exploration, shared: str) -> set[str]:
    table = found.tables["duplicate_rows"]
    return {f"{row.split}:{row.value}" for row in table[table.shared == shared].itertuples()}


def test_figures_are_pictures_and_tables_can_be_read_back(found):
    assert len(found.figures) >= 4
    for path in found.figures:
        with Image.open(path) as picture:
            assert picture.format == "PNG" and min(picture.size) > 200
    for name, table in found.tables.items():
        again = pd.read_csv(found.out_dir / f"{name}.csv", keep_default_na=False)
        assert list(again.columns) == list(table.columns) and len(again) == len(table)


def test_every_word_of_the_figures_is_translated_and_the_texts_of_choices_stay(found, tmp_path):
    photographs = {f"{n}.png": ImageRecord(f"{n}.png", width=n, height=90) for n in (80, 90)}
    prior = fit_prior(TRAIN, TEST)
    with words_of_figures() as words:
        explore(TRAIN, TEST, [], photographs, None, prior, tmp_path)
    assert {"Kinds of questions", "chance", "Size of 2 photographs", "times offered"} <= words
    assert not untranslated(words) - {"\\$\\frac 라면\\$"}, "but for a choice"


def test_counts_by_kind(found):
    kinds = found.tables["kinds"].set_index("kind")
    assert kinds.train[kinds.train > 0].to_dict() == dict(counting=1, yesno=1, food=2)
    assert kinds.test["color"] == 1 and kinds.test.sum() == 2
    assert found.tables["letters"].set_index("kind").loc["all", ["a", "b", "c", "d"]].tolist() == [1, 1, 1, 0]


def test_duplicates_within_and_across_splits(found):
    counts = found.tables["duplicates"].set_index("shared")
    assert counts.loc["question"].tolist() == [1, 2, 1]
    assert counts.loc["question, normalised"].tolist() == [1, 3, 1]
    assert counts.loc["question and choices"].tolist() == [1, 2, 1]  # t1 and its shuffled copy in test
    assert counts.loc["id"].tolist() == [1, 2, 1]
    assert members(found, "photograph, content") == {"train:train/1.png", "test:test/1.png"}
    assert members(found, "photograph, alike") == {"train:train/1.png", "test:test/1.png"}
    assert members(found, "choice within its row") == {"train:김밥"}


def test_rows_with_the_same_text_can_be_looked_up(found):
    table = found.tables["same_text"]
    assert "Same text   2 in 1 group, of which 1 spans both splits (same_text.csv)" in found.summary()
    for what in ("question", "question and choices"):
        rows = table[table.shared == what]
        assert list(zip(rows.group, rows.split, rows.id, rows.image, rows.answer, strict=True)) == [
            (1, "train", "t1", "train/1.png", "b"), (1, "test", "t3", "test/1.png", ""),
        ]
    assert table.question.unique().tolist() == ["이 음식은 무엇인가요?"]


def test_options_are_counted_as_written(found):
    options = found.tables["options"].set_index("choice")
    assert options.loc["None", "offered"] == 1 and options.loc["김밥", "offered"] == 3 and options.loc["우동", "right"] == 1


def test_summary_names_what_is_wrong(found):
    text = found.summary()
    assert len(text.splitlines()) < 40
    for part in ("2 missing and 1 broken", "train/4.png", "train/3.png", "t2", "too few", str(found.out_dir)):
        assert part in text
    assert "duplicated in 1 row: t2" in text and "1 more with problems" in text
    fields = found.tables["problems"]
    assert {"train.csv", "train/3.png", "train/4.png", "test/2.png"} == set(fields.file)


def test_all_photographs_missing_is_said_once(tmp_path):
    images = {q.image: ImageRecord(q.image, problem="no such file") for q in (*TRAIN, *TEST)}
    text = explore(TRAIN, TEST, [], images, near_duplicate_groups(images), fit_prior(TRAIN, TEST), tmp_path).summary()
    assert text.count("Photographs") == 1 and "all 6" in text and "same file" not in text


def test_a_path_that_leaves_the_folder_is_refused_and_not_missing(tmp_path):
    photograph(tmp_path / "photos" / "1.png", 1)
    rows = [Question(str(i), name, "?", ("x", "y"), 0) for i, name in enumerate(("1.png", "../../etc/passwd", "gone.png"))]
    images = survey_images(ImageFolder(tmp_path / "photos"), [q.image for q in rows])
    text = explore(rows, [], [], images, None, fit_prior(rows, []), tmp_path / "out").summary()
    assert "1 missing and 0 broken; 1 refused" in text and "  refused   ../../etc/passwd" in text
    assert "all 160 x 120 pixels" in text and not (tmp_path / "out" / "images.png").exists()


def test_the_bin_that_holds_what_is_longer_says_so(tmp_path):
    rows = [Question(str(i), "", "x" * (10 + i % 40), ("x", "y"), 0) for i in range(400)]
    rows.append(Question("long", "", "x" * 900, ("x", "y"), 0))
    for questions, named in ((rows, True), (rows[:-1], False)):
        table = _row_table(questions, [], fit_prior(questions, []))
        left = _draw_lengths(table, questions).axes[0]
        assert any(label.get_text().endswith("+") for label in left.get_xticklabels()) is named


def test_chance_gives_a_letter_its_share_of_the_rows_that_have_it():
    questions = [Question("1", "", "?", ("x", "y"), 0), Question("2", "", "?", ("x", "y", "z", "w"), 2)]
    assert _chance_shares("ac", _row_table(questions, [], fit_prior(questions, []))) == [37.5, 12.5]


def test_without_images_or_rows(tmp_path):
    found = explore([], [], [], None, None, fit_prior([], []), tmp_path)
    assert "not examined" in found.summary()


def test_blind_accuracy_by_kind(tmp_path):
    random = np.random.default_rng(0)
    train = []
    for i in range(120):
        answer = int(random.integers(2))
        choices = ("노란 물건", "긴 설명이 붙은 물건") if answer else ("긴 설명이 붙은 물건", "노란 물건")
        text = "어디인가요?" if i % 2 else "몇 개인가요?"
        train.append(Question(str(i), f"{i}.png", text, choices, answer if i % 2 else int(random.integers(2))))
    prior = fit_prior(train, [])
    found = explore(train, [], [], None, None, prior, tmp_path)
    kinds = found.tables["kinds"].set_index("kind")
    assert kinds.blind_accuracy["location"] > 0.9 and kinds.blind_accuracy["counting"] < 0.75
    assert kinds.blind_right.sum() == prior.accuracy.right
    assert f"{kinds.blind_accuracy['location']:.3f} ±" in found.summary()
    assert (tmp_path / "blind.png").exists()
    right = int((prior.oof_logprobs[:30].argmax(-1) == [q.answer for q in train[:30]]).sum())
    sample = dataclasses.replace(prior, oof_logprobs=prior.oof_logprobs[:30])
    (line,) = [line for line in explore(train[:30], [], [], None, None, sample, tmp_path).lines if line.startswith("all ")]
    assert f" {right / 30:.3f} ± " in line and line.endswith("(n=30)")


@pytest.mark.nightly
def test_errors_in_the_summary_are_by_photograph_and_never_zero(tmp_path):
    """Forty photographs of three questions, all guessed right or all wrong."""
    train = [Question(f"t{i}", f"{i // 3}.png", "몇 개인가요?", ("2개", "3개"), i // 3 % 2) for i in range(120)]
    guess = np.log(np.tile([0.8, 0.2], (120, 1)))
    prior = dataclasses.replace(fit_prior(train, []), oof_logprobs=guess, accuracy=Accuracy(60, 120, 3.0, 40))
    alone = explore(train[::3], [], [], None, None, dataclasses.replace(prior, oof_logprobs=guess[::3]), tmp_path / "alone")
    found = explore(train, [], [], None, None, prior, tmp_path / "found")
    (one,), (three,) = (e.tables["kinds"].query("kind == 'counting'").standard_error for e in (alone, found))
    assert three == pytest.approx(one, rel=0.05)
    right = [dataclasses.replace(q, answer=0) for q in train]
    certain = explore(right, [], [], None, None, dataclasses.replace(prior, accuracy=Accuracy(120, 120)), tmp_path / "certain")
    assert "1.000 ± 0.0" in certain.summary() and "± 0.000" not in certain.summary()


@pytest.mark.parametrize("n", [4, 10, 14, 19])
def test_a_kind_of_question_guessed_all_right_is_drawn(tmp_path, n):
    """Ordinary data: all answers are "a", or the counting rows always say "2"."""
    train = [Question(f"t{i}", f"{i}.png", "몇 개인가요?", ("2개", "3개", "4개"), 0) for i in range(n)]
    prior = fit_prior(train, train[:2], np.arange(n))
    right = np.log(np.tile([0.8, 0.1, 0.1], (n, 1)))
    everything_right = dataclasses.replace(prior, oof_logprobs=right, accuracy=Accuracy(n, n))
    made = explore(train, train[:2], [], None, None, everything_right, tmp_path)
    assert "blind.png" in {path.name for path in made.figures}


def test_a_figure_that_fails_is_reported_and_the_others_are_made(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise ValueError("'yerr' must not contain negative values")

    monkeypatch.setattr("mcvqa.data.explore._draw_letters", fail)
    prior = fit_prior(TRAIN, TEST, np.arange(len(TRAIN)))
    made = explore(TRAIN, TEST, [], None, None, prior, tmp_path)
    assert "letters.png" not in {path.name for path in made.figures} and len(made.figures) >= 3
    assert capsys.readouterr().out == (
        "  the figure letters.png could not be made, continuing without it: ValueError: 'yerr' must not contain negative values\n"
    )
