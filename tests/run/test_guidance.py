"""Weights, a teacher and pseudo labels: what training rows get, where it comes from, and what is refused."""
import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from mcvqa import run
from mcvqa.answer.export import export_run
from mcvqa.base.files import read_json
from mcvqa.config import Config, ConfigError
from mcvqa.run.dataset import RunData, read_data, weights_key
from mcvqa.run.folds import split_rows
from mcvqa.run.project import RunStopped, open_project
from mcvqa.scoring.scores import load_scores
from tests.conftest import make_dataset, tiny_settings


def read(config: Config) -> RunData:
    return split_rows(read_data(open_project(config)), config)


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Config:
    """A finished run of two folds. The photograph of test_0000 is that of train_0000."""
    top = tmp_path_factory.mktemp("guidance")
    data = make_dataset(top / "data")
    shutil.copy(data / "train" / "train_0000.jpg", data / "test" / "test_0000.jpg")
    config = tiny_settings(top / "out", data_dir=str(data), n_folds=2, run_name="first")
    run(config)
    return config


@pytest.fixture
def second(first) -> Config:
    return first.replace(run_name="second")


# %% pseudo labels
def test_a_fold_learns_test_rows_as_its_own_model_answered_them(first, second):
    data = read(second.replace(pseudo="first", pseudo_min=0.0))
    plain = read(first)
    for fold in (0, 1):
        scores = load_scores(Path(first.output_dir) / f"experiments/first/scores/fold{fold}-test.npz")
        said = dict(zip(scores.ids.tolist(), scores.predictions().tolist(), strict=True))
        train, validation = data.fold_rows(fold)
        before, same = plain.fold_rows(fold)
        assert validation == same and train[: len(before)] == before
        pseudo = train[len(before):]
        assert all(q.source == "pseudo" and q.answer == said[q.id.removeprefix("pseudo:")] for q in pseudo)
        alike = "train_0000" in {q.id for q in validation}
        assert len(pseudo) == (8 if alike else 9) and (("pseudo:test_0000" in {q.id for q in pseudo}) is not alike)


def test_only_sure_answers_are_learned_hard_or_soft(second):
    every = read(second.replace(pseudo="first", pseudo_min=0.0, pseudo_targets="soft")).guidance.pseudo[0]
    sums = [sum(q.targets) for q in every]
    np.testing.assert_allclose(sums, 1.0, rtol=1e-5)
    least = float(np.median([max(q.targets) for q in every]))
    sure = read(second.replace(pseudo="first", pseudo_min=least)).guidance.pseudo[0]
    assert [q.id for q in sure] == [q.id for q in every if max(q.targets) >= least] and 0 < len(sure) < len(every)
    assert all(q.targets is None for q in sure)


def test_a_run_with_pseudo_labels_ends_with_a_submission(second, tmp_path, capsys):
    config = second.replace(pseudo="first", pseudo_min=0.0, run_name="with-pseudo", final_fit=True)
    outcome = run(config)
    said = capsys.readouterr().out
    assert "pseudo=first: fold 0 also trains on " in said
    page = (Path(config.output_dir) / "experiments/with-pseudo/REPORT.md").read_text(encoding="utf-8")
    assert all(note in page for note in read(config).guidance.notes), "and what they mean for the accuracy"
    assert "final model: trained on 24 labelled rows and 9 pseudo-labelled rows, so its accuracy cannot be measured" in said
    export_run(config, tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "trained on all of them. It was also trained on test rows with a model's answers (`pseudo`)." in card
    assert outcome.metrics.overall.accuracy.n == 24 and outcome.submission.exists(), "validated with labelled rows only"
    steps = {name: read_json(Path(config.output_dir) / f"checkpoints/{name}/fold0/result.json")["steps"]
             for name in ("first", "with-pseudo")}
    assert steps["with-pseudo"] > steps["first"]
    run(config)
    assert "already trained" in capsys.readouterr().out


def test_answers_from_a_file_are_learned_and_what_is_not_known_is_said(second, tmp_path, capsys):
    file = tmp_path / "answers.csv"
    file.write_text("id,answer\n" + "".join(f"test_{i:04d},b\n" for i in range(9)), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"no test row qualifies.* probability of 0\.8 .*, but pseudo_min is 0\.9: lower it"):
        read(second.replace(pseudo=str(file)))
    data = read(second.replace(pseudo=str(file), pseudo_min=0.8))
    assert {q.answer for rows in data.guidance.pseudo.values() for q in rows} == {1}
    assert "it is unknown what its model was trained on" in data.guidance.notes[0]
    file.write_text(file.read_text(encoding="utf-8") + "train_0003,a\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"answers\.csv has answers to 1 labelled row, such as 'train_0003': remove them"):
        read(second.replace(pseudo=str(file), pseudo_min=0.8))
    file.write_text("id,answer\ntest_0000,b\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"pseudo: .*answers\.csv has no prediction for 8 rows \(test_0001"):
        read(second.replace(pseudo=str(file)))
    with pytest.raises(ConfigError, match=r"pseudo=.*there is no such file"):
        read(second.replace(pseudo=str(tmp_path / "missing.csv")))


@pytest.mark.parametrize("setting", ["pseudo", "teacher"])
def test_a_run_whose_models_may_have_seen_validation_rows_is_refused(second, setting, tmp_path):
    with pytest.raises(ConfigError, match=rf"{setting}: row 'train_\d+' is in fold \d here but in fold \d of the run 'first'"):
        read(second.replace(**{setting: "first"}, seed=5))
    with pytest.raises(ConfigError, match=rf"{setting}: row .* fold 2 of the run|{setting}: row .* of the run 'first'"):
        read(second.replace(**{setting: "first"}, n_folds=3))
    with pytest.raises(ConfigError, match=rf"{setting}='second' names this run itself"):
        read(second.replace(**{setting: "second"}))
    with pytest.raises(RunStopped, match=rf"{setting}: the run 'nowhere' has no .*finish it first"):
        read(second.replace(**{setting: "nowhere"}))
    other = tmp_path / "data"
    shutil.copytree(second.data_dir, other)
    lines = (other / "train.csv").read_text(encoding="utf-8").splitlines()
    lines[1] = lines[1][:-1] + ("b" if lines[1][-1] != "b" else "c")
    (other / "train.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    refused = rf"{setting}: the run 'first' was trained on other rows, labels.* this run\. Now they differ in"
    with pytest.raises(ConfigError, match=rf"{refused} data_dir\.$"):
        read(second.replace(**{setting: "first"}, data_dir=str(other)))
    fixes = tmp_path / "fixes.csv"
    fixes.write_text(f"id,now,proposed,decision\ntrain_0002,{lines[3][-1]},,drop\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"{refused} fixes\.$"):
        read(second.replace(**{setting: "first"}, fixes=str(fixes)))


# %% a teacher
def test_targets_are_the_answer_and_the_teachers_probabilities(first, second):
    data = read(second.replace(teacher="first", teacher_weight=0.25, teacher_temperature=2.0))
    for fold in (0, 1):
        scores = load_scores(Path(first.output_dir) / f"experiments/first/scores/fold{1 - fold}-oof.npz")
        softened = np.exp(scores.mean() / 2)
        taught = dict(zip(scores.ids.tolist(), softened / softened.sum(-1, keepdims=True), strict=True))
        train, validation = data.fold_rows(fold)
        for question in train:
            own = np.eye(4)[question.answer]
            np.testing.assert_allclose(question.targets, 0.75 * own + 0.25 * taught[question.id], atol=1e-6)
        assert all(q.targets is None for q in validation)
    (note,) = data.guidance.notes
    assert note.startswith("teacher=first: 24 rows of 24 also learn from its out-of-fold probabilities") and "too high" in note


# %% weights
def weighted(config: Config, file: Path, *lines: str) -> RunData:
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read(config.replace(row_weights=str(file)))


def test_weights_are_read_from_a_file_and_have_the_mean_1(second, tmp_path):
    data = weighted(second, tmp_path / "w.csv", "id,weight", "train_0000,0", "train_0001,4", "other,7")
    train = {q.id: q.weight for fold in (0, 1) for q in data.fold_rows(fold)[0]}
    assert "train_0000" not in train, "a weight of 0 leaves a row out"
    mean = (0 + 4 + 22) / 24
    assert train["train_0001"] == pytest.approx(4 / mean) and train["train_0002"] == pytest.approx(1 / mean)
    assert all(q.weight == 1 for fold in (0, 1) for q in data.fold_rows(fold)[1])
    strange, note = data.guidance.notes
    assert strange == "w.csv: 1 id is not of rows that are trained on, such as 'other': not used"
    assert note.endswith("2 rows have a weight, from 0 to 3.7 where the mean is 1; 22 rows without one count as 1; 1 row is not "
                         "trained on: the weight is 0")
    changed = weighted(second, tmp_path / "w.csv", "id,weight", "train_0001,3")
    project = open_project(second.replace(row_weights=str(tmp_path / "w.csv")))
    assert weights_key(project, data, 0) != weights_key(project, changed, 0), "other weights are another training"


def test_a_fold_whose_rows_all_have_weight_0_is_refused(second, tmp_path):
    plain = read(second)
    lines = [f"{q.id},{int(fold == 0)}" for q, fold in zip(plain.train, plain.folds, strict=True)]
    with pytest.raises(ConfigError, match=r"row_weights=.*w\.csv: fold 0 has no rows to train on, as all .* weight 0"):
        weighted(second, tmp_path / "w.csv", "id,weight", *lines)


def test_a_row_of_weight_0_is_not_said_to_be_learned(second, tmp_path):
    data = weighted(second, tmp_path / "w.csv", "id,weight", "train_0000,0", "train_0001,0")
    config = second.replace(row_weights=str(tmp_path / "w.csv"), run_name="weighted", evidence="full")
    run(config)
    with open(Path(config.output_dir) / "experiments/weighted/evidence.csv", encoding="utf-8-sig", newline="") as handle:
        learned = {row["id"] for row in csv.DictReader(handle) if row["learned_of_truth"]}
    assert learned == {q.id for q in data.train} - {"train_0000", "train_0001"}


@pytest.mark.parametrize(("lines", "message"), [
    (("id,weight", "train_0001,much"), r"w\.csv, row 1 \(id 'train_0001'\), column weight: 'much' is not a number"),
    (("id,weight", "train_0000,1", "train_0001"), r"row 2 \(id 'train_0001'\), column weight: '' is not a number"),
    (("id,weight", "train_0001,-1"), "is not a number of at least 0"),
    (("id,weight", "train_0001,1", "train_0001,2"), r"row 2 .* 2, but an earlier row with this id has 1"),
    (("id,share", "train_0001,1"), "has no column weight or confidence"),
    (("id,weight", "elsewhere,1"), "has no column with the ids of training rows"),
])
def test_a_file_that_cannot_be_used_is_refused(second, tmp_path, lines, message):
    with pytest.raises(ConfigError, match=message):
        weighted(second, tmp_path / "w.csv", *lines)


def rewritten(config: Config, folder: Path, header: list[str], cells) -> Config:
    """The data with other last columns in train.csv. Args: cells: of a row's number and its answer."""
    shutil.copytree(config.data_dir, folder)
    with open(folder / "train.csv", encoding="utf-8") as handle:
        before, *rows = list(csv.reader(handle))
    with open(folder / "train.csv", "w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([
            [*before[:-1], *header], *([*row[:-1], *cells(i, row[-1])] for i, row in enumerate(rows))
        ])
    return config.replace(data_dir=str(folder))


def test_weights_of_a_column_of_the_training_file(second, tmp_path):
    config = rewritten(second, tmp_path / "data", ["answer", "confidence"], lambda i, answer: (answer, 1 + i % 2))
    weights = {int(q.id[-4:]) % 2: q.weight for q in read(config.replace(row_weights="confidence")).fold_rows(0)[0]}
    assert weights == {0: pytest.approx(1 / 1.5), 1: pytest.approx(2 / 1.5)}
    shutil.copy(tmp_path / "data" / "train.csv", tmp_path / "data" / "dev.csv")
    text = (tmp_path / "data" / "dev.csv").read_text(encoding="utf-8").replace(",2\n", ",50%\n").replace(",2\r\n", ",50%\r\n")
    (tmp_path / "data" / "dev.csv").write_text(text, encoding="utf-8")
    both = read(config.replace(row_weights="confidence", use_dev=True))
    weights = {(q.source, int(q.id[-4:]) % 2): q.weight for q in both.fold_rows(0)[0]}
    mean = (1 + 2 + 1 + 0.5) / 4
    assert weights == {("train", 0): pytest.approx(1 / mean), ("train", 1): pytest.approx(2 / mean), ("dev", 0): pytest.approx(
        1 / mean), ("dev", 1): pytest.approx(0.5 / mean)}, "rows of dev.csv have the ids of train.csv here"
    with pytest.raises(ConfigError, match="row_weights=votes: no training row has votes"):
        read(config.replace(row_weights="votes"))


def test_weights_of_votes(second, tmp_path):
    def votes(i: int, answer: str) -> tuple[str, ...]:
        return (answer, answer, answer, answer if i % 2 else ("b" if answer == "a" else "a"))

    config = rewritten(second, tmp_path / "data", ["answer1", "answer2", "answer3", "answer4"], votes)
    weights = {int(q.id[-4:]) % 2: q.weight for q in read(config.replace(row_weights="votes")).fold_rows(0)[0]}
    assert weights == {0: pytest.approx(0.75 / 0.875), 1: pytest.approx(1 / 0.875)}
