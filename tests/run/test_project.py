"""A run before any model: folds, broken photographs, the prior's submission, and what counts as another run."""
import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mcvqa.config import ConfigError
from mcvqa.data.questions import DataError
from mcvqa.run.project import Project, RunStopped
from tests.conftest import make_dataset, tiny_settings

ALIKE = ["train_0000", "train_0003", "train_0008", "train_0013", "train_0018", "train_0023"]


def project_on(data: Path, out: Path, **changes) -> Project:
    return Project(tiny_settings(out, **dict(data_dir=str(data), n_folds=2, run_name="r") | changes))


def rewrite(file: Path, change) -> None:
    """Pass the rows of a CSV file, header included, through `change`."""
    rows = list(csv.reader(io.StringIO(file.read_text(encoding="utf-8"))))
    with open(file, "w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows(change(rows))


@pytest.fixture
def data(tmp_path) -> Path:
    return make_dataset(tmp_path / "data")


@pytest.fixture
def plain(dataset, tmp_path) -> Project:
    return project_on(dataset, tmp_path)


# %% folds
def test_what_is_trained_on_never_meets_what_is_validated(data, tmp_path):
    """Invariant 4, with one photograph planted six times: saved again, smaller, brighter."""
    original = Image.open(data / "train" / f"{ALIKE[0]}.jpg").convert("RGB")
    for i, name in enumerate(ALIKE[1:]):
        smaller = original.resize((original.width - 4 * i, original.height - 3 * i))
        smaller.point(lambda v, i=i: min(255, v + i)).save(data / "train" / f"{name}.jpg", quality=90 - 8 * i)
    project = project_on(data, tmp_path, n_folds=3)
    assert len({project.data.image_groups[f"train/{name}.jpg"] for name in ALIKE}) == 1, "the copies must be seen as such"
    validated = []
    for fold in range(3):
        train, validation = project.fold_rows(fold)
        assert len(train) + len(validation) == 24 and validation
        assert not {q.id for q in train} & {q.id for q in validation}
        assert not {q.image for q in train} & {q.image for q in validation}
        groups = project.data.image_groups
        assert not {groups[q.image] for q in train} & {groups[q.image] for q in validation}
        validated += [q.id for q in validation]
    assert sorted(validated) == sorted(q.id for q in project.data.train)
    with open(project.paths.experiment / "folds.csv", encoding="utf-8") as handle:
        folds = {row["id"]: row["fold"] for row in csv.DictReader(handle)}
    assert len({folds[name] for name in ALIKE}) == 1 and len(folds) == 24


def test_the_same_seed_gives_the_same_folds_in_another_folder(plain, dataset, tmp_path):
    again = project_on(dataset, tmp_path / "elsewhere")
    np.testing.assert_array_equal(plain.folds, again.folds)
    assert [plain.weights_key(f) for f in (0, 1)] == [again.weights_key(f) for f in (0, 1)]
    assert not np.array_equal(plain.folds, project_on(dataset, tmp_path / "third", seed=7).folds)


def test_a_single_split_trains_on_everything_else(dataset, tmp_path):
    project = project_on(dataset, tmp_path, use_kfold=False, n_folds=4)
    train, validation = project.fold_rows(0)
    assert (len(train), len(validation)) == (18, 6)
    assert [q.id for q in validation] != [q.id for q in project.data.train][-6:], "not the file's tail"


def test_a_sample_is_part_of_the_rows_and_the_prior_learns_from_all(dataset, tmp_path):
    project = project_on(dataset, tmp_path, use_sample=True, sample_size=12)
    assert len(project.data.train) == 12 and len(project.data.all_train) == 24
    assert project.prior.oof_logprobs.shape[0] == 24 and project.prior_of_train().shape == (12, 4)
    assert {q.id for q in project.data.train} < {q.id for q in project.data.all_train}


def test_dev_rows_are_trained_on_when_asked_and_no_two_rows_share_an_id(data, tmp_path):
    rows = list(csv.reader(io.StringIO((data / "train.csv").read_text(encoding="utf-8"))))
    dev = [
        [*rows[0][:-1], "answer1", "answer2", "answer3"],
        *([f"dev_{row[0]}", *row[1:-1], row[-1], row[-1], ""] for row in rows[1:4]),
        [*rows[5][:-1], "a", "a", "a"],  # an id that train.csv has already, of another row
        [f"dev_{rows[1][0]}", *rows[2][1:-1], "a", "a", "a"],  # an id that dev.csv has already
    ]
    with open(data / "dev.csv", "w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows(dev)
    assert len(project_on(data, tmp_path).data.train) == 24
    with_dev = project_on(data, tmp_path, use_dev=True).data
    assert [q.id for q in with_dev.train[24:]] == ["dev_train_0000", "dev_train_0001", "dev_train_0002", "dev:train_0004"]
    assert with_dev.train[27].answer == 0 and with_dev.train[24].text == with_dev.train[0].text


# %% photographs
def damage(data: Path) -> None:
    """Training: one missing, one cut off, one a web page. Test: one missing."""
    (data / "train" / "train_0002.jpg").unlink()
    cut = data / "train" / "train_0005.jpg"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (data / "train" / "train_0009.jpg").write_text("<!DOCTYPE html><html>not found</html>")
    (data / "test" / "test_0004.jpg").unlink()


def test_training_rows_without_photograph_are_left_out_and_test_rows_stay(data, tmp_path):
    damage(data)
    project = project_on(data, tmp_path)
    broken = {"train_0002", "train_0005", "train_0009"}
    assert {q.id for q, fold in zip(project.data.train, project.folds, strict=True) if fold == -2} == broken
    for fold in (0, 1):
        train, validation = project.fold_rows(fold)
        assert len(train) + len(validation) == 21 and not {q.id for q in (*train, *validation)} & broken
    assert len(project.data.test) == 9 and [r.written for r in project.data.broken(project.data.test)] == ["test/test_0004.jpg"]
    assert "left out: 3 rows" in project.fold_summary()
    project.require_photographs()  # a few may be missing


def test_a_photograph_that_changes_is_looked_at_again(data, tmp_path):
    before = project_on(data, tmp_path).data
    (data / "train" / "train_0001.jpg").write_bytes(b"")
    after = project_on(data, tmp_path).data
    assert not before.broken(before.train) and [r.written for r in after.broken(after.train)] == ["train/train_0001.jpg"]
    assert before.train_print != after.train_print and before.test_print == after.test_print


@pytest.mark.parametrize(("split", "found"), [("train", "24 of 24 training"), ("test", "9 of 9 test")])
def test_without_photographs_the_run_stops_with_one_clear_message(data, tmp_path, split, found):
    for file in (data / split).iterdir():
        file.unlink()
    project = project_on(data, tmp_path)
    project.submit_prior()
    with pytest.raises(RunStopped) as stop:
        project.require_photographs()
    told = str(stop.value)
    assert f"{found} photographs cannot be read" in told and f"'{split}/{split}_0000.jpg': no such file" in told
    assert str(data) in told and "submission_ensemble.csv holds the answers of the text-only prior" in told


@pytest.mark.parametrize("name", ["train.csv", "test.csv"])
def test_a_missing_table_is_named(data, tmp_path, name):
    (data / name).unlink()
    with pytest.raises(DataError, match=name):
        _ = project_on(data, tmp_path).data


# %% the first submission
def test_the_prior_answers_first_and_again_while_nothing_better_is_there(plain):
    report = plain.submit_prior()
    assert report.rows == 9 and not report.problems
    assert plain.submit_prior() is not None


def test_the_prior_never_replaces_a_better_submission(plain):
    plain.submit("ensemble", np.zeros(9, dtype=int), "a model")
    kept = (plain.paths.outputs / "submission_ensemble.csv").read_bytes()
    assert plain.submit_prior() is None
    assert (plain.paths.outputs / "submission_ensemble.csv").read_bytes() == kept


def test_a_submission_the_user_wrote_is_left_alone_and_one_for_other_rows_is_not(plain):
    file = plain.paths.outputs / "submission_ensemble.csv"
    file.parent.mkdir(parents=True)
    by_hand = "id,answer\n" + "".join(f"test_{i:04d},b\n" for i in range(9))
    file.write_text(by_hand)
    assert plain.submit_prior() is None and file.read_text() == by_hand
    file.write_text("id,answer\nanother_competition,a\n")
    assert not plain.submit_prior().problems and file.read_text().count("test_") == 9


def test_the_prior_is_fitted_once(plain, dataset, tmp_path):
    accuracy, file = plain.prior.accuracy, plain.paths.scores / "prior-test.npz"
    written = file.stat().st_mtime_ns
    again = project_on(dataset, tmp_path)
    assert again.prior.accuracy == accuracy and file.stat().st_mtime_ns == written
    np.testing.assert_array_equal(again.prior.test_logprobs.argmax(-1), plain.prior.test_logprobs.argmax(-1))


# %% what counts as another run
def test_weights_depend_on_the_settings_and_data_they_are_made_from_and_on_nothing_else(plain, data, dataset, tmp_path):
    key = plain.weights_key(0)
    assert plain.weights_key(1) != key

    def with_settings(**changes) -> str:
        return project_on(dataset, tmp_path, **changes).weights_key(0)

    assert with_settings(use_tta=True, ensemble="vote", eval_batch_size=3, batch_size=4, grad_accum_steps=2) == key
    assert with_settings(learning_rate=2e-3) != key and with_settings(batch_size=4) != key
    assert project_on(data, tmp_path / "copy").weights_key(0) == key, "the same files in another folder"
    rewrite(data / "train.csv", lambda rows: [*rows[:-1], [*rows[-1][:2], "또 다른 질문입니까?", *rows[-1][3:]]])
    assert project_on(data, tmp_path / "copy").weights_key(0) != key


def test_a_trained_run_is_not_overwritten_by_other_settings(plain):
    plain.settle()
    Project(plain.config.replace(learning_rate=0.5)).settle()  # nothing is trained yet
    plain.settle()
    plain.paths.fold(0).mkdir(parents=True)
    kept = (plain.paths.experiment / "config.yaml").read_text()
    with pytest.raises(ConfigError) as refusal:
        Project(plain.config.replace(learning_rate=0.5, lora_r=4)).settle()
    told = str(refusal.value)
    assert "learning_rate: was 0.001, now 0.5" in told and "lora_r: was 8, now 4" in told and "run_name" in told
    assert "num_epochs" not in told
    assert (plain.paths.experiment / "config.yaml").read_text() == kept
    Project(plain.config.replace(use_tta=True, batch_size=4, grad_accum_steps=2)).settle()
