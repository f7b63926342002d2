"""Rows from train.csv and dev.csv: who voted, what their texts give away, and which of them are validated with."""
import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mcvqa import run
from mcvqa.base.files import RunLog, read_json
from mcvqa.config import Config, ConfigError
from mcvqa.data.agreement import fleiss_kappa
from mcvqa.data.folds import LEFT_OUT, TRAINING_ONLY, FoldError
from mcvqa.data.images import ImageRecord
from mcvqa.data.labelled import rows_that_validate
from mcvqa.data.questions import Question
from mcvqa.data.table import DataError
from mcvqa.run.dataset import RunData, read_data, rows_key, weights_key
from mcvqa.run.folds import fold_summary, split_rows, write_folds
from mcvqa.run.project import open_project
from mcvqa.run.single import explore_only
from mcvqa.scoring.scores import load_scores
from tests.conftest import examples, make_dataset, tiny_settings
from tests.run.test_steps import said_by

VOTES = ("answer1", "answer2", "answer3", "answer4", "answer5")


def write_rows(file: Path, header: tuple[str, ...], rows: list[tuple]) -> None:
    with open(file, "w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([header, *rows])


def photograph(file: Path, seed: int) -> None:
    file.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (6, 6, 3)).astype(np.uint8)
    Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(file)


# %% a data set whose dev.csv is harder than its train.csv
def make_two_sources(folder: Path, n: int = 120) -> Path:
    """Two rows a photograph. In train.csv the answer is the longest choice, which nothing in dev.csv tells. Five annotators voted
    on dev.csv: of ten rows two are tied, one has two votes for its answer and one has none at all."""
    random = np.random.default_rng(3)
    folder.mkdir()
    for split, first in (("train", 0), ("dev", n), ("test", 2 * n)):
        rows: list[tuple] = []
        for i in range(n):
            name, answer = f"{split}/{i // 2}.png", int(random.integers(4))
            if i % 2 == 0:
                photograph(folder / name, first + i)
            right, *wrong = (str(word) for word in random.permutation(["빨간 컵", "파란 책", "검은 펜", "하얀 종이"]))
            choices = [*wrong[:answer], f"{right}{' 옆의 물건' if split == 'train' else ''}", *wrong[answer:]]
            mine, one, two = ("abcd"[(answer + k) % 4] for k in range(3))
            votes = {0: (mine, mine, one, one, two), 1: (mine, one, "", "", ""), 2: (mine, mine, one, two, ""), 3: ("",) * 5}
            label = {"train": (mine,), "dev": votes.get(i % 10, (mine, mine, mine, mine, one)), "test": ()}[split]
            rows.append((f"{split}_{i}", name, f"사진 {i}에서 무엇이 보이나요?", *choices, *label))
        extra = {"train": ("answer",), "dev": VOTES, "test": ()}[split]
        write_rows(folder / f"{split}.csv", ("id", "path", "question", "a", "b", "c", "d", *extra), rows)
    return folder


@pytest.fixture(scope="module")
def two_sources(tmp_path_factory) -> Path:
    return make_two_sources(tmp_path_factory.mktemp("two") / "data")


def settings(data: Path, out: Path, **changes) -> Config:
    return tiny_settings(out, **dict(data_dir=str(data), n_folds=2, run_name="r", use_dev=True) | changes)


def data_with(data: Path, out: Path, **changes) -> RunData:
    config = settings(data, out, **changes)
    return split_rows(read_data(open_project(config)), config)


# %% what eda says
def test_eda_says_what_texts_give_away_in_each_source_and_how_far_annotators_agree(two_sources, tmp_path):
    summary = explore_only(settings(two_sources, tmp_path))
    by_source = {line.split()[1]: line.split() for line in summary.splitlines() if line.startswith("from ")}
    assert float(by_source["train"][4]) > 0.9 and float(by_source["dev"][4]) < 0.5, "the accuracies of the generated files"
    assert by_source["dev"][2] == "84" and by_source["dev"][5] == "±" and by_source["dev"][7] == "(0.250)"
    assert "significantly more rows of one source than of another" in summary and "validate_on=SOURCE" in summary
    folder = tmp_path / "experiments" / "r" / "eda"
    (folder / "summary.txt").read_text(encoding="utf-8").index("from dev")
    with open(folder / "sources.csv", encoding="utf-8-sig") as handle:
        tables = {row["source"]: row for row in csv.DictReader(handle)}
    assert tables["train"]["train"] == "120" and 0 < float(tables["dev"]["low"]) < float(tables["dev"]["high"]) < 0.6
    votes = [q.votes for q in read_data(open_project(settings(two_sources, tmp_path))).tables[1].questions if q.votes]
    kappa = fleiss_kappa(votes, np.repeat(np.arange(60), 2)[[i for i in range(120) if i % 10 != 3]])
    assert f"dev.csv: 108 rows, votes a row: 2 to 5; Fleiss' kappa {kappa[0]:.3f} ± {kappa[1]:.3f}" in summary
    assert "4: 66.7%   2: 11.1%   tied: 22.2% (votes.csv)" in summary
    with open(folder / "votes.csv", encoding="utf-8-sig") as handle:
        assert sum(int(row["rows"]) for row in csv.DictReader(handle)) == 108


def test_one_source_is_not_compared_and_dev_is_named(two_sources, tmp_path):
    summary = explore_only(settings(two_sources, tmp_path, use_dev=False))
    assert "\nfrom " not in summary and "Votes" not in summary
    assert "dev.csv is not used; --set use_dev=true trains on its rows too" in summary


def test_dev_rows_that_are_asked_for_and_not_there_are_said(dataset, tmp_path):
    data = data_with(dataset, tmp_path)
    assert f"use_dev=true has no effect: there is no dev.csv in {dataset}" in data.notes and len(data.train) == 24
    assert not any("use_dev" in note for note in data_with(dataset, tmp_path, use_dev=False).notes)


def test_rows_without_a_winner_or_with_few_votes_are_counted_as_what_they_are(two_sources, tmp_path):
    plain, soft, few = (data_with(two_sources, tmp_path, **changes) for changes in (
        {}, {"soft_votes": True}, {"soft_votes": True, "min_votes": 3}
    ))
    tied, no_vote = "the annotators' votes are tied", "dev.csv: 12 rows are left out: no answer by any annotator"
    assert f"dev.csv: 24 rows are left out: {tied}" in plain.notes and no_vote in plain.notes
    assert f"dev.csv: 24 rows are trained on by vote shares, but never validated: {tied}" in soft.notes and no_vote in soft.notes
    assert not any("left out: the annotators' votes are tied" in note for note in (*soft.notes, *few.notes))
    assert "dev.csv: 36 rows are left out: fewer than min_votes=3 votes" in few.notes, "the ties too: two votes at most"
    assert not any("vote shares" in note for note in few.notes)
    assert [sum(q.source == "dev" for q in data.train) for data in (plain, soft, few)] == [84, 108, 72]
    assert all(max(q.votes) >= 3 for q in few.train if q.votes) and {q.source for q in few.train} == {"train", "dev"}


def test_votes_that_leave_no_row_and_votes_that_are_not_there_are_said(two_sources, dataset, tmp_path):
    voted = shutil.copytree(dataset, tmp_path / "data")
    header, *rows = (dataset / "train.csv").read_text(encoding="utf-8").splitlines()
    voters = [header.replace("answer", "answer1,answer2,answer3"), *(f"{row},{row[-1]},{row[-1]}" for row in rows)]
    (voted / "train.csv").write_text("\n".join(voters), encoding="utf-8")
    with pytest.raises(DataError, match=r"nothing to train on: train\.csv: 24 rows are left out: fewer than min_votes=4 votes"):
        data_with(voted, tmp_path, min_votes=4)
    assert "min_votes=2 has no effect: there are no votes" in data_with(dataset, tmp_path, min_votes=2).notes
    assert not any("no effect" in note for note in data_with(two_sources, tmp_path, min_votes=2).notes)


def with_voters(dataset: Path, folder: Path, of_row) -> Path:
    """The data with columns after the answer of train.csv. Args: of_row: votes by number of the row and its answer."""
    shutil.copytree(dataset, folder)
    with open(dataset / "train.csv", encoding="utf-8", newline="") as handle:
        header, *rows = list(csv.reader(handle))
    write_rows(folder / "train.csv", (*header, *VOTES[:3]), [(*row, *of_row(i, row[-1])) for i, row in enumerate(rows)])
    return folder


def test_beside_an_answer_only_votes_for_it_count(dataset, tmp_path):
    """An answer that is given decides, whatever most annotators said."""
    def votes(i: int, answer: str) -> tuple[str, ...]:
        other = "a" if answer != "a" else "b"
        return (other, other, other if i == 1 else answer) if i < 2 else (answer,) * 3

    voted = with_voters(dataset, tmp_path / "data", votes)
    few = data_with(voted, tmp_path, min_votes=2)
    assert "train.csv: 2 rows are left out: fewer than min_votes=2 votes" in few.notes
    assert {q.id for q in data_with(voted, tmp_path).train} - {q.id for q in few.train} == {"train_0000", "train_0001"}
    data = data_with(voted, tmp_path, row_weights="votes")
    weights = {q.id: q.weight for fold in (0, 1) for q in data.fold_rows(fold)[0]}
    mean = (1 / 3 + 0 + 22) / 24
    assert weights["train_0000"] == pytest.approx(1 / 3 / mean) and weights["train_0002"] == pytest.approx(1 / mean)
    assert "train_0001" not in weights, "nobody voted for its answer"


def test_an_id_of_several_rows_means_the_same_row_whatever_is_left_out(dataset, tmp_path):
    voted = with_voters(dataset, tmp_path / "data", lambda i, answer: (answer, answer, answer if i else ""))
    text = (voted / "train.csv").read_text(encoding="utf-8").replace("train_0001,", "train_0000,", 1)
    (voted / "train.csv").write_text(text, encoding="utf-8")
    plain, few = data_with(voted, tmp_path), data_with(voted, tmp_path, min_votes=3)
    assert [q.id for q in plain.train[:2]] == ["train_0000", "train_0000#2"]
    assert few.train[0] == plain.train[1]


def test_decisions_about_rows_that_are_left_out_are_refused_by_id(two_sources, tmp_path):
    def decided(*rows: tuple[str, str, str, str]) -> str:
        write_rows(tmp_path / "fixes.csv", ("id", "now", "proposed", "decision"), list(rows))
        return str(tmp_path / "fixes.csv")

    by_id = {q.id: q for q in data_with(two_sources, tmp_path).train}
    few = [name for name, q in by_id.items() if q.votes and max(q.votes) == 2]
    tied = [q.id for q in data_with(two_sources, tmp_path, soft_votes=True).train if q.answer is None]
    letters = {name: "abcd"[by_id[name].answer] for name in few}
    fixes = decided(
        (few[0], letters[few[0]], "b" if letters[few[0]] == "a" else "a", "fix"), (few[1], letters[few[1]], "", "keep"),
        (few[2], letters[few[2]], "", "drop"), (few[3], letters[few[3]], "", ""), (tied[0], "", "a", "fix"),
    )
    with pytest.raises(DataError) as error:
        data_with(two_sources, tmp_path, fixes=fixes, min_votes=3)
    assert str(error.value).split("applied:\n  ")[1].splitlines() == [
        f"2 decided rows are left out by min_votes=3 (delete these decisions, or lower min_votes): {few[0]!r}, {few[1]!r}",
        "  1 decided row is left out because the votes are tied (delete these decisions, or set soft_votes=true): "
        f"{tied[0]!r}",
    ]
    data = data_with(two_sources, tmp_path, min_votes=3, fixes=decided(
        ("train_0", "abcd"[by_id["train_0"].answer], "", "drop"),
        (few[2], letters[few[2]], "", "drop"), (few[3], letters[few[3]], "", ""),
    ))
    assert "fixes.csv: 0 labels fixed, 1 row dropped, 0 kept; 2 rows are left out anyway" in data.notes
    assert "train_0" not in {q.id for q in data.train}


def test_decisions_that_drop_every_row_are_named(dataset, tmp_path):
    with open(dataset / "train.csv", encoding="utf-8", newline="") as handle:
        rows = [f"{row['id']},{row['answer']},,drop" for row in csv.DictReader(handle)]
    (tmp_path / "fixes.csv").write_text("\n".join(["id,now,proposed,decision", *rows]), encoding="utf-8")
    with pytest.raises(DataError, match=r"has nothing to train on: fixes\.csv: 0 labels fixed, 24 rows dropped"):
        data_with(dataset, tmp_path, fixes=str(tmp_path / "fixes.csv"))


def test_ties_train_and_never_validate(two_sources, tmp_path):
    data = data_with(two_sources, tmp_path, soft_votes=True)
    ties = {q.id for q in data.train if q.answer is None}
    learned = [{q.id for q in data.fold_rows(fold)[0]} for fold in (0, 1)]
    assert len(ties) == 24 and ties <= learned[0] | learned[1]
    assert not any(q.id in ties for fold in (0, 1) for q in data.validation_rows(fold))
    assert "trained on, but never validated: 24 rows" in fold_summary(data, 2)


# %% which rows are validated with
@pytest.fixture(scope="module")
def template(tmp_path_factory) -> RunData:
    root = tmp_path_factory.mktemp("template")
    return read_data(open_project(tiny_settings(root, data_dir=str(make_dataset(root / "data", 8, 3)))))


ROWS = st.lists(st.tuples(
    st.sampled_from(["train", "dev"]), st.integers(0, 14), st.sampled_from([None, 0, 1, 2, 3]), st.booleans()
), min_size=1, max_size=60)


@examples(150)
@given(ROWS, st.integers(2, 4), st.sampled_from(["", "train", "dev"]), st.booleans())
def test_no_photograph_is_on_both_sides_and_one_source_validates(template, rows, n_folds, source, use_kfold):
    """Invariant 4 with rows that are never validated: they do not train in the fold that validates with their photograph."""
    questions = tuple(
        Question(str(i), f"{group}{'' if whole else ' broken'}.jpg", "?", ("가", "나", "다", "라"), answer,
                 (1, 1, 0, 0) if answer is None else None, origin)
        for i, (origin, group, answer, whole) in enumerate(rows)
    )
    records = {q.image: ImageRecord(q.image, problem="cut off" if "broken" in q.image else "") for q in questions}
    groups = np.array([group for _, group, _, _ in rows])
    config = Config(n_folds=n_folds, validate_on=source, use_kfold=use_kfold)
    try:
        validates = rows_that_validate(questions, source)
        data = split_rows(replace(template, train=questions, records=records, groups=groups, validates=validates), config)
    except (ConfigError, FoldError):
        return
    for fold in range(n_folds if use_kfold else 1):
        train, validation = data.fold_rows(fold)
        held = groups[[int(q.id) for q in validation]]
        assert validation and not set(held) & set(groups[[int(q.id) for q in train]])
        assert all(q.answer is not None and source in ("", q.source) and not records[q.image].problem for q in validation)
        assert len(train) + (data.folds == fold).sum() == data.used
    own = np.isin(groups, [g for (origin, g, _, whole) in rows if whole and source in ("", origin)])
    assert (data.folds[~own & (data.folds != LEFT_OUT)] == TRAINING_ONLY).all(), "learned from in every fold"
    if use_kfold:
        assert (data.folds[own & (data.folds != LEFT_OUT)] >= 0).all()


def test_folds_of_one_source_are_those_it_has_alone(two_sources, tmp_path):
    alone = data_with(two_sources, tmp_path, use_dev=False)
    beside = data_with(two_sources, tmp_path, validate_on="train")
    assert beside.folds[: len(alone.folds)].tolist() == alone.folds.tolist() and (beside.folds[len(alone.folds) :] == -1).all()
    assert "trained on, but never validated: 84 rows" in fold_summary(beside, 2)


def test_a_source_that_is_not_there_is_refused_by_name(two_sources, tmp_path):
    with pytest.raises(ConfigError, match=r"validate_on='devv'.* Sources: train and dev; .*use_dev=true"):
        data_with(two_sources, tmp_path, validate_on="devv")
    with pytest.raises(ConfigError, match=r"validate_on='dev'.* Sources: train; "):
        data_with(two_sources, tmp_path, validate_on="dev", use_dev=False)


def test_too_few_photographs_of_the_source_are_refused(two_sources, tmp_path):
    """Of those 60 of dev.csv 24 have no row with three votes for its answer."""
    with pytest.raises(FoldError, match=r"50 folds need .*; rows to validate with: 72, in 36 groups"):
        data_with(two_sources, tmp_path, validate_on="dev", n_folds=50, min_votes=3)


def test_keys_change_with_what_is_validated_and_only_then(two_sources, tmp_path):
    def keys(**changes) -> tuple[str, str]:
        project = open_project(settings(two_sources, tmp_path, **changes))
        data = split_rows(read_data(project), project.config)
        return weights_key(project, data, 0), rows_key(data, 0)

    usual = keys()
    assert keys(min_votes=0, validate_on="") == usual
    others = [keys(validate_on="train"), keys(validate_on="dev"), keys(min_votes=3)]
    assert len({key for key, _ in (usual, *others)}) == len({key for _, key in (usual, *others)}) == 4
    assert Config(min_votes=0, validate_on="").run == Config().run != Config(validate_on="train").run


# %% all the way
@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """Twelve rows of dev.csv beside 24 of train.csv: six ask about photographs of train.csv, one of the others is tied."""
    folder = make_dataset(tmp_path_factory.mktemp("mixed") / "data")
    with open(folder / "train.csv", encoding="utf-8") as handle:
        rows = list(csv.reader(handle))[1:]
    dev = []
    for i, row in enumerate(rows[:12]):
        name = row[1] if i < 6 else f"dev/{i}.png"
        if i >= 6:
            photograph(folder / name, i)
        votes = ("a", "a", "b", "b") if i == 8 else (row[-1],) * 3 + ("a",)
        dev.append((f"dev_{i}", name, f"질문 {i}: 무엇입니까?", *row[3:7], *votes))
    write_rows(folder / "dev.csv", ("id", "path", "question", "a", "b", "c", "d", *VOTES[:4]), dev)
    return folder


@pytest.mark.nightly
def test_a_run_that_learns_from_both_and_is_judged_by_one(mixed, tmp_path):
    config = settings(mixed, tmp_path, validate_on="train", soft_votes=True, min_votes=2, members=("prior",))
    outcome, said = said_by(run, config)
    project = open_project(config)
    data = split_rows(read_data(project), config)
    train = {q.id for q in data.train if q.source == "train"}
    assert len(train) == 24 and len(data.train) == 36 and data.folds.tolist().count(TRAINING_ONLY) == 6
    validated = [set(load_scores(project.paths.scores / f"fold{fold}-oof.npz").ids.tolist()) for fold in (0, 1)]
    assert validated[0] | validated[1] == train and not validated[0] & validated[1]
    assert "trained on, but never validated: 12 rows" in said and "1 row is trained on by vote shares" in said
    epochs = RunLog(project.paths.log).events("epoch")
    assert {e["n"] for e in epochs if e["fold"] == 0} == {len(validated[0])}, "keep=best sees these rows only"
    metrics = read_json(project.paths.experiment / "metrics.json")["metrics"]
    assert metrics["overall"]["accuracy"]["n"] == 24 == outcome.accuracy.n and metrics["by_source"] == []
    with np.load(project.paths.experiment / "submission-rows.npz") as rows:
        assert set(rows["ids"].tolist()) == train, "nor does the prior bring other rows into the blend"
    report = (project.paths.experiment / "REPORT.md").read_text(encoding="utf-8")
    assert "Only rows of the source train are used for validation" in report
    write_folds(project, data)
    with open(project.paths.experiment / "folds.csv", encoding="utf-8") as handle:
        listed = {row["id"]: (row["source"], row["fold"], row["validated"]) for row in csv.DictReader(handle)}
    assert listed["dev_7"] == ("dev", "-1", "0") and listed["dev_0"] == ("dev", listed["train_0000"][1], "0")
    _, again = said_by(run, config)
    assert again.count("already trained") == 2 and again.count("already scored") == 2
