"""A run before any model: folds, broken photographs, the text-only prior, and what counts as another run."""
import csv
import dataclasses
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mcvqa.config import ConfigError
from mcvqa.data.folds import FoldError
from mcvqa.data.images import ImageFolder, near_duplicate_groups
from mcvqa.data.table import DataError
from mcvqa.report.submission import validate_submission, write_submission
from mcvqa.run.dataset import RunData, fit_text_prior, prior_of_train, read_data, require_photographs, weights_key
from mcvqa.run.folds import fold_summary, split_rows, write_folds
from mcvqa.run.project import Project, RunStopped, open_project, settle_settings
from mcvqa.run.score import score_task
from mcvqa.run.steps import explore_data, prior_note
from mcvqa.run.survey import survey_photographs
from mcvqa.run.train import train_task
from tests.conftest import make_dataset, tiny_settings
from tests.faults import read_only

ALIKE = ["train_0000", "train_0003", "train_0008", "train_0013", "train_0018", "train_0023"]


def project_on(data: Path, out: Path, **changes) -> Project:
    return open_project(tiny_settings(out, **dict(data_dir=str(data), n_folds=2, run_name="r") | changes))


def data_of(project: Project) -> RunData:
    return split_rows(read_data(project), project.config)


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


# %% where the photographs are
def notes_on_paths(data) -> list[str]:
    return [note for note in data.notes if "answers are" not in note]


@pytest.mark.parametrize("split_folders", [False, True])
def test_both_splits_may_use_the_same_names(data, tmp_path, split_folders):
    for split in ("train", "test"):
        rewrite(data / f"{split}.csv", lambda rows: [rows[0], *([row[0], row[1][-8:], *row[2:]] for row in rows[1:])])
        for file in (data / split).iterdir():
            file.rename(file.with_name(file.name[-8:]))
        if split_folders:
            (data / f"{split}.csv").rename(data / split / f"{split}.csv")
    found = data_of(project_on(data, tmp_path))
    assert found.files.root == data and not found.broken([*found.train, *found.test]) and len(found.test) == 9
    for split, questions in (("train", found.train), ("test", found.test)):
        assert {found.records[q.image].path.parent for q in questions} == {(data / split).resolve()}
    why = "(they are absolute, or exist in several folders)"
    assert notes_on_paths(found) == [
        f"{split}.csv: the image paths of 9 rows point into {split}/ {why}" for split in ("train", "test")]


def test_paths_as_the_competition_has_them_stay_as_they_are(data, tmp_path):
    """The rows of a trained run must not change: its keys depend on them."""
    found = data_of(project_on(data, tmp_path))
    assert found.train[0].image == "train/train_0000.jpg" and not notes_on_paths(found)


def test_photographs_still_packed_beside_the_tables(data, tmp_path, capsys):
    whole = data_of(project_on(data, tmp_path / "whole"))
    for split in ("train", "test"):
        shutil.make_archive(str(data / split), "zip", data / split)
        shutil.rmtree(data / split)
    project = project_on(data, tmp_path / "out")
    found = data_of(project)
    assert found.train_print == whole.train_print and found.test_print == whole.test_print
    archives = [f"photographs: {data / name}" for name in ("test.zip", "train.zip")]
    assert [note.split(" is unpacked")[0] for note in notes_on_paths(found)] == archives


def test_photographs_in_an_archive_that_is_not_unpacked_are_said_to_be_there(data, tmp_path):
    for split in ("train", "test"):
        shutil.make_archive(str(data / split), "gztar", data / split)
        shutil.rmtree(data / split)
    project = project_on(data, tmp_path)
    found = read_data(project)
    assert "photographs: 33 are not found; 'test.tar.gz' is a tar archive: unpack it" in "\n".join(found.notes)
    with pytest.raises(RunStopped, match=r"24 of 24 training photographs.*\n.*\n'test\.tar\.gz' is a tar.*train\.tar"):
        require_photographs(project, found)


# %% folds
def test_what_is_trained_on_never_meets_what_is_validated(data, tmp_path):
    """Invariant 4, with one photograph planted six times: saved again, smaller, brighter."""
    original = Image.open(data / "train" / f"{ALIKE[0]}.jpg").convert("RGB")
    for i, name in enumerate(ALIKE[1:]):
        smaller = original.resize((original.width - 4 * i, original.height - 3 * i))
        smaller.point(lambda v, i=i: min(255, v + i)).save(data / "train" / f"{name}.jpg", quality=90 - 8 * i)
    project = project_on(data, tmp_path, n_folds=3)
    known = data_of(project)
    assert len({known.image_groups[f"train/{name}.jpg"] for name in ALIKE}) == 1, "the copies must be seen as such"
    validated = []
    for fold in range(3):
        train, validation = known.fold_rows(fold)
        assert len(train) + len(validation) == 24 and validation
        assert not {q.id for q in train} & {q.id for q in validation}
        assert not {q.image for q in train} & {q.image for q in validation}
        groups = known.image_groups
        assert not {groups[q.image] for q in train} & {groups[q.image] for q in validation}
        validated += [q.id for q in validation]
    assert sorted(validated) == sorted(q.id for q in known.train)
    write_folds(project, known)
    with open(project.paths.experiment / "folds.csv", encoding="utf-8") as handle:
        folds = {row["id"]: row["fold"] for row in csv.DictReader(handle)}
    assert len({folds[name] for name in ALIKE}) == 1 and len(folds) == 24


def test_the_same_seed_gives_the_same_folds_in_another_folder(plain, dataset, tmp_path):
    again = project_on(dataset, tmp_path / "elsewhere")
    first, second, other = map(data_of, (plain, again, project_on(dataset, tmp_path / "third", seed=7)))
    np.testing.assert_array_equal(first.folds, second.folds)
    assert [weights_key(plain, first, f) for f in (0, 1)] == [weights_key(again, second, f) for f in (0, 1)]
    assert not np.array_equal(first.folds, other.folds)


def test_a_single_split_trains_on_everything_else(dataset, tmp_path):
    data = data_of(project_on(dataset, tmp_path, use_kfold=False, n_folds=4))
    train, validation = data.fold_rows(0)
    assert (len(train), len(validation)) == (18, 6)
    assert [q.id for q in validation] != [q.id for q in data.train][-6:], "not the file's tail"


def test_a_sample_is_part_of_the_rows_and_the_prior_learns_from_all(dataset, tmp_path):
    project = project_on(dataset, tmp_path, use_sample=True, sample_size=12)
    data = data_of(project)
    assert len(data.train) == 12 and len(data.all_train) == 24
    prior = fit_text_prior(project, data)
    assert prior.oof_logprobs.shape[0] == 24 and prior_of_train(data, prior).shape == (12, 4)
    assert {q.id for q in data.train} < {q.id for q in data.all_train}


def test_dev_rows_are_trained_on_when_asked_and_no_two_rows_share_an_id(data, tmp_path):
    rows = list(csv.reader(io.StringIO((data / "train.csv").read_text(encoding="utf-8"))))
    dev = [
        [*rows[0][:-1], "answer1", "answer2", "answer3"],
        *([f"dev_{row[0]}", *row[1:-1], row[-1], row[-1], ""] for row in rows[1:4]),
        [*rows[5][:-1], "a", "a", "a"],  # an id that train.csv has already, of another row
        [f"dev_{rows[1][0]}", *rows[2][1:-1], "a", "a", "a"],  # an id that dev.csv has already, of another question
        [f"dev_{rows[1][0]}", *rows[2][1:-1], "a", "a", "a"],  # the same row once more
    ]
    with open(data / "dev.csv", "w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows(dev)
    assert len(read_data(project_on(data, tmp_path)).train) == 24
    with_dev = read_data(project_on(data, tmp_path, use_dev=True))
    assert [q.id for q in with_dev.train[24:]] == [
        "dev_train_0000", "dev_train_0001", "dev_train_0002", "dev:train_0004", "dev_train_0000#2"
    ]
    assert "1 row is left out: the same as an earlier one" in with_dev.notes
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
    known, broken = data_of(project), {"train_0002", "train_0005", "train_0009"}
    assert {q.id for q, fold in zip(known.train, known.folds, strict=True) if fold == -2} == broken
    for fold in (0, 1):
        train, validation = known.fold_rows(fold)
        assert len(train) + len(validation) == 21 and not {q.id for q in (*train, *validation)} & broken
    assert len(known.test) == 9 and [r.written for r in known.broken(known.test)] == ["test/test_0004.jpg"]
    assert "left out: 3 rows" in fold_summary(known, 2) and known.used == 21
    require_photographs(project, known)  # a few may be missing


def test_a_photograph_that_changes_is_looked_at_again(data, tmp_path):
    before = read_data(project_on(data, tmp_path))
    (data / "train" / "train_0001.jpg").write_bytes(b"")
    after = read_data(project_on(data, tmp_path))
    assert not before.broken(before.train) and [r.written for r in after.broken(after.train)] == ["train/train_0001.jpg"]
    assert before.train_print != after.train_print and before.test_print == after.test_print


def test_a_survey_without_looks_does_not_stand_in_for_one_with_them(data, tmp_path):
    written = ["train/train_0001.jpg", "train/train_0002.jpg", "train/gone.jpg"]
    (data / written[1]).write_bytes((data / written[1]).read_bytes()[:300])
    without, whole, again = (
        survey_photographs(tmp_path, ImageFolder(data), written, looks=looks) for looks in (False, True, False))
    assert whole[written[0]].thumbnail and near_duplicate_groups(whole) == dict(zip(written, range(3), strict=True))
    assert without == again == {name: dataclasses.replace(whole[name], dhash=0, thumbnail=b"") for name in written}
    assert [bool(record.problem) for record in without.values()] == [False, True, True]


@pytest.mark.parametrize(("split", "found"), [("train", "24 of 24 training"), ("test", "9 of 9 test")])
def test_without_photographs_the_run_stops_with_one_clear_message(data, tmp_path, split, found):
    for file in (data / split).iterdir():
        file.unlink()
    project = project_on(data, tmp_path)
    with pytest.raises(RunStopped) as stop:
        require_photographs(project, read_data(project), "Until then there is the prior.")
    message = str(stop.value)
    assert f"{found} photographs cannot be read" in message and f"'{split}/{split}_0000.jpg': no such file" in message
    assert str(data) in message and message.endswith("\nUntil then there is the prior.")


def test_without_any_photograph_folds_say_so(data, tmp_path):
    shutil.rmtree(data / "train")
    with pytest.raises(FoldError, match="None of the training photographs can be read"):
        data_of(project_on(data, tmp_path))


def test_a_data_folder_that_nobody_can_write_to_is_read_and_answered(data, tmp_path):
    """As Kaggle attaches it, with a sample that belongs to other rows: a warning, and the test file's ids."""
    (data / "sample_submission.csv").write_text("id,answer\nother_1,a\nother_2,b\n")
    with read_only(data):
        read = read_data(project_on(data, tmp_path / "out"))
        write_submission(tmp_path / "submission.csv", read.test, [0] * len(read.test), read.form)
    assert any("sample_submission.csv" in note for note in read.form.notes)
    assert not validate_submission(tmp_path / "submission.csv", read.test, read.form).problems


def test_a_missing_table_is_named(data, tmp_path):
    (data / "train.csv").unlink()
    with pytest.raises(DataError, match=r"train\.csv"):
        data_of(project_on(data, tmp_path))


# %% the prior
def test_the_prior_is_fitted_once(plain, dataset, tmp_path):
    prior, file = fit_text_prior(plain, data_of(plain)), plain.paths.scores / "prior-test.npz"
    written = file.stat().st_mtime_ns
    again = project_on(dataset, tmp_path)
    known = fit_text_prior(again, data_of(again))
    assert known.accuracy == prior.accuracy and file.stat().st_mtime_ns == written
    np.testing.assert_array_equal(known.test_logprobs.argmax(-1), prior.test_logprobs.argmax(-1))


def test_a_prior_of_too_few_rows_has_no_accuracy_to_be_shown(tmp_path, capsys):
    """12 answered rows: "accuracy no rows out of fold" was printed."""
    project = project_on(make_dataset(tmp_path / "few", n_train=12, n_test=1), tmp_path)
    _, prior = explore_data(project)
    said = capsys.readouterr().out
    assert "  first submission: the text-only prior's, 1 row\n" in said and "no rows" not in said
    assert prior_note(project, prior).endswith("holds the answers of the text-only prior.")


def test_a_damaged_record_or_survey_is_named_and_made_again(plain, capsys):
    fit_text_prior(plain, data_of(plain))
    record, survey = plain.records.file("prior"), next(plain.paths.cache.glob("pictures-*.json"))
    for file in (record, survey):
        file.write_text(file.read_text(encoding="utf-8")[:40], encoding="utf-8")
    fit_text_prior(plain, data_of(plain))
    said = capsys.readouterr().out
    assert f"{record} is damaged" in said and f"{survey} is damaged: the photographs are examined again" in said
    capsys.readouterr()
    fit_text_prior(plain, data_of(plain))
    assert "damaged" not in capsys.readouterr().out


# %% what counts as another run
def test_weights_depend_on_the_settings_and_data_they_are_made_from_and_on_nothing_else(plain, data, dataset, tmp_path):
    key = weights_key(plain, data_of(plain), 0)
    assert weights_key(plain, data_of(plain), 1) != key

    def with_settings(**changes) -> str:
        project = project_on(dataset, tmp_path, **changes)
        return weights_key(project, data_of(project), 0)

    def elsewhere() -> str:
        project = project_on(data, tmp_path / "copy")
        return weights_key(project, data_of(project), 0)

    assert with_settings(use_tta=True, ensemble="vote", eval_batch_size=3, batch_size=4, grad_accum_steps=2) == key
    assert with_settings(learning_rate=2e-3) != key and with_settings(batch_size=4) != key
    assert elsewhere() == key, "the same files in another folder"
    rewrite(data / "train.csv", lambda rows: [*rows[:-1], [*rows[-1][:2], "또 다른 질문입니까?", *rows[-1][3:]]])
    assert elsewhere() != key


def test_keys_change_where_choices_carry_letters_of_their_own_but_not_those_of_0_1(plain):
    data = data_of(plain)
    first = dataclasses.replace(data.train[0], choices=tuple(f"{'ABCD'[i]}. thing {i}" for i in range(4)))
    lettered = dataclasses.replace(data, train=(first, *data.train[1:]))  # with the same prints, so that only the rule differs
    before, now = (train_task(plain, rows, 0) for rows in (data, lettered))
    assert before.key != now.key and before.of_0_1 == now.of_0_1, "a fold that version 0.1 trained stays done"
    assert score_task(plain, data, plain.config, 0, "oof").key != score_task(plain, lettered, plain.config, 0, "oof").key


def test_keys_change_where_choices_keep_their_position_and_nowhere_else(plain):
    data, still = data_of(plain), project_on(Path(plain.config.data_dir), plain.paths.root, shuffle_choices=False)
    first = dataclasses.replace(data.train[0], choices=(*data.train[0].choices[:-1], "해당 없음"))
    meta = dataclasses.replace(data, train=(first, *data.train[1:]))  # with the same prints, so that only the rule differs
    before, now = (train_task(plain, rows, 0) for rows in (data, meta))
    assert before.key != now.key and before.of_0_1 == now.of_0_1, "a fold that version 0.1 trained stays done"
    assert train_task(still, data, 0).key == train_task(still, meta, 0).key, "no order changes"
    in_orders = plain.config.replace(use_tta=True)
    for config, split, same in ((in_orders, "oof", False), (in_orders, "test", True), (plain.config, "oof", True)):
        assert (score_task(plain, data, config, 0, split).key == score_task(plain, meta, config, 0, split).key) is same


def test_a_trained_run_is_not_overwritten_by_other_settings(plain):
    settle_settings(plain)
    settle_settings(open_project(plain.config.replace(learning_rate=0.5)))  # nothing is trained yet
    settle_settings(plain)
    plain.paths.fold(0).mkdir(parents=True)
    kept = (plain.paths.experiment / "config.yaml").read_text()
    with pytest.raises(ConfigError) as refusal:
        settle_settings(open_project(plain.config.replace(learning_rate=0.5, lora_r=4)))
    message = str(refusal.value)
    assert "learning_rate: was 0.001, now 0.5" in message and "lora_r: was 8, now 4" in message and "run_name" in message
    assert "num_epochs" not in message
    assert (plain.paths.experiment / "config.yaml").read_text() == kept
    settle_settings(open_project(plain.config.replace(use_tta=True, batch_size=4, grad_accum_steps=2)))


@pytest.mark.parametrize("damage", ["", "learning_rate: [", "- a\n- b\n", "\x00"])
def test_settings_of_a_trained_run_that_cannot_be_read_are_named(plain, damage):
    settle_settings(plain)
    plain.paths.fold(0).mkdir(parents=True)
    file = plain.paths.experiment / "config.yaml"
    file.write_text(damage)
    with pytest.raises(ConfigError, match=r"config\.yaml is damaged, .* Choose another name"):
        settle_settings(plain)
    assert file.read_text() == damage


def test_own_outputs_are_never_searched_for_input(data, tmp_path, monkeypatch):
    """`--data .` with an archive beside the outputs: the unpacked old data were found first, the new archive never opened."""
    monkeypatch.chdir(tmp_path)
    shutil.make_archive("data", "zip", data)
    shutil.rmtree(data)
    first = read_data(project_on(Path(), tmp_path))
    assert (tmp_path / "cache" / "data") in first.files.root.parents
    write_folds(project_on(Path(), tmp_path), split_rows(first, project_on(Path(), tmp_path).config))
    make_dataset(tmp_path / "other", n_train=30)
    shutil.make_archive("data", "zip", tmp_path / "other")
    shutil.rmtree(tmp_path / "other")
    second = read_data(project_on(Path(), tmp_path))
    assert (len(first.train), len(second.train)) == (24, 30)
