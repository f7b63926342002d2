"""Room on the disk: really small and really read-only ones, before any training."""

import pytest

from mcvqa.base.files import DiskError
from mcvqa.config import ConfigError
from mcvqa.run.check import check_run
from mcvqa.run.dataset import read_data
from mcvqa.run.folds import split_rows
from mcvqa.run.project import RunStopped, open_project
from mcvqa.run.single import train_only
from mcvqa.run.space import disk_need
from tests.conftest import tiny_settings
from tests.faults import read_only, small_disk


def test_a_disk_that_is_too_small_is_said_before_any_training(dataset, tmp_path, capsys):
    """Its image features would have fit: they leave room for what cannot be made again."""
    config = tiny_settings(tmp_path / "small", data_dir=str(dataset), run_name="r", n_folds=2)
    with small_disk(tmp_path / "small", "12m"):
        assert not check_run(config)
        assert "! disk: 0.02 of 0.0 GiB free (trained weights 0.01, resume points 0.02, scores 0.00)" in capsys.readouterr().out
        with pytest.raises(RunStopped, match=r"has 0\.01 GiB free; training needs 0\.02: .*\nFree some space") as message:
            train_only(config)
        assert "--set output_dir=FOLDER" in str(message.value)
        paths = open_project(config).paths
        assert not paths.fold(0).exists() and (paths.outputs / "submission_ensemble.csv").exists(), "the prior's is there"


def test_the_disk_that_checkpoints_are_on_is_the_one_that_counts(dataset, tmp_path):
    """A link to a large disk, from a home folder that is full, was of no use."""
    config = tiny_settings(tmp_path / "small", data_dir=str(dataset), run_name="r", n_folds=2)
    (tmp_path / "large").mkdir()
    with small_disk(tmp_path / "small", "12m"):
        (tmp_path / "small" / "checkpoints").symlink_to(tmp_path / "large")
        train_only(config)
    assert {path.name for path in (tmp_path / "large" / "r").iterdir()} == {"fold0", "fold1"}


def test_a_full_disk_is_named_with_the_file_before_anything(dataset, tmp_path):
    """In Python, where no command explains it."""
    config = tiny_settings(tmp_path / "small", data_dir=str(dataset), run_name="r")
    with small_disk(tmp_path / "small", "64k"):
        (tmp_path / "small" / "other").write_bytes(bytes(65_536))
        with pytest.raises(DiskError, match=r"No space left on device: '.*small/"):
            train_only(config)


@pytest.mark.parametrize("folder", ["cache", "experiments", "checkpoints", "logs", "outputs"])
def test_a_folder_that_is_read_only_is_one_message(dataset, tmp_path, folder):
    """As when an earlier run of another user has made it."""
    (tmp_path / folder).mkdir()
    with read_only(tmp_path / folder), pytest.raises(DiskError, match=rf"{folder}.*'\. Allow access to it, or choose another"):
        train_only(tiny_settings(tmp_path, data_dir=str(dataset), run_name="r"))


@pytest.mark.parametrize("folder", ["experiments", "cache", "checkpoints", "outputs", "logs"])
@pytest.mark.parametrize("taken", [lambda path: path.symlink_to("nowhere"), lambda path: path.write_text("")])
def test_a_name_that_is_taken_is_one_message(dataset, tmp_path, folder, taken):
    """By a link that leads nowhere, or by a file."""
    taken(tmp_path / folder)
    with pytest.raises(DiskError, match=rf"{folder}.*'\. A folder is needed there, but a file or a broken link"):
        train_only(tiny_settings(tmp_path, data_dir=str(dataset), run_name="r"))


def test_what_is_needed_is_the_sum_of_its_parts(dataset, tmp_path):
    config = tiny_settings(tmp_path, data_dir=str(dataset), use_swa=True)
    data = split_rows(read_data(open_project(config)), config)
    need = disk_need(config, 1000, data, 3)
    assert need.weights == 4 * 3 * 4000, "best, last, and the two other kinds, of three folds"
    assert need.points == 4 * 5 * 4000, "weights, two moments, two averages"
    tta = disk_need(config.replace(use_tta=True, tta_orders=4), 1000, data, 3)
    several = [disk_need(config, 1000, data, 3, at_once).points for at_once in (1, 2, 3, 4)]
    assert [points // need.points for points in several] == [1, 2, 3, 3], "each fold that is being trained keeps its own"
    assert disk_need(config, 1000, data, 0, 2).points == 0, "nothing is left to train"
    assert tta.scores > need.scores > 0 and disk_need(config, 1000, data, 0).weights == 0


def test_folds_trained_side_by_side_need_more(dataset, tmp_path, capsys):
    """In `check`, and before training: one fold's points fit, those of two do not."""
    config = tiny_settings(tmp_path / "small", data_dir=str(dataset), run_name="r", n_folds=2, parallel_folds=2)
    with small_disk(tmp_path / "small", "28m"):
        assert check_run(config.replace(parallel_folds=1))
        assert not check_run(config)
        assert "! disk: 0.04 of 0.0 GiB free (trained weights 0.01, resume points 0.03" in capsys.readouterr().out
        with pytest.raises(RunStopped, match=r"has 0\.03 GiB free; training needs 0\.04"):
            train_only(config)


def test_a_read_only_folder_is_said_before_anything(dataset, tmp_path, capsys):
    config = tiny_settings(tmp_path, data_dir=str(dataset), run_name="r")
    with read_only(tmp_path):
        assert not check_run(config)
        assert "is not writable: choose another folder (--set output_dir=FOLDER)" in capsys.readouterr().out
        with pytest.raises(ConfigError, match=r"is not writable \(Read-only file system\)\. Choose another"):
            train_only(config)
    assert not list(tmp_path.iterdir())
