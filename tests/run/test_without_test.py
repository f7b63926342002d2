"""Training without a test file, as where a competition runs the code on a hidden one: everything but a submission, which comes
later without training again."""
import contextlib
import io
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mcvqa import run
from mcvqa.base.files import read_json
from mcvqa.config import Config
from mcvqa.data.table import DataError
from mcvqa.report.submission import validate_submission
from mcvqa.run.check import check_run
from mcvqa.run.dataset import RunData, read_data, read_form, weights_key
from mcvqa.run.folds import split_rows
from mcvqa.run.project import Project, open_project
from mcvqa.run.single import explore_only, predict_only, report_only, split_only
from mcvqa.run.steps import explore_data, make_folds
from mcvqa.run.train import train_task
from tests.conftest import make_dataset, tiny_settings

LATER = ("test.csv", "test", "sample_submission.csv")


def without_test(folder: Path, kept: Path) -> Path:
    """A data folder whose test files are moved to `kept`."""
    make_dataset(folder)
    kept.mkdir()
    for name in LATER:
        shutil.move(folder / name, kept / name)
    return folder


def put_back(folder: Path, kept: Path) -> None:
    for name in LATER:
        shutil.copytree(kept / name, folder / name) if (kept / name).is_dir() else shutil.copy(kept / name, folder / name)


def said_by(step, *args):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        result = step(*args)
    return result, said.getvalue()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two folds on training rows alone."""
    top = tmp_path_factory.mktemp("hidden")
    data = without_test(top / "data", top / "kept")
    config = tiny_settings(top / "out", data_dir=str(data), n_folds=2, run_name="r")
    outcome, said = said_by(run, config)
    return SimpleNamespace(config=config, outcome=outcome, said=said, top=top)


@pytest.fixture
def copied(trained, tmp_path) -> Config:
    """Settings that go on in a copy of the run and its data."""
    for name in ("out", "data"):
        shutil.copytree(trained.top / name, tmp_path / name)
    return trained.config.replace(output_dir=str(tmp_path / "out"), data_dir=str(tmp_path / "data"))


def attempts(config: Config) -> list[str]:
    records = open_project(config).records
    return [records.read(f"train fold {fold}")["attempt"] for fold in config.folds_to_train]


def test_the_run_ends_with_a_report_and_without_a_submission(trained):
    assert trained.outcome.submission is None and trained.outcome.submitted is None
    assert trained.outcome.accuracy == trained.outcome.metrics.overall.accuracy and trained.outcome.accuracy.n == 24
    assert trained.outcome.metrics.leaderboard is None
    assert not list(trained.top.glob("out/**/*submission*"))
    assert "submission  none: there is no test.csv" in trained.said
    for message in (trained.said, (trained.outcome.report.parent / "REPORT.md").read_text(encoding="utf-8")):
        assert "there is no test.csv, so no submission is written" in message
        assert "mcvqa predict r and mcvqa report r" in message


def test_each_step_by_itself_works_and_says_so(trained, tmp_path, capsys):
    config = trained.config.replace(output_dir=str(tmp_path), run_name="")
    assert "there is no test.csv" in explore_only(config)
    assert "fold 1: 12 validation rows" in split_only(config)[0]
    assert check_run(config)
    said = capsys.readouterr().out
    assert "· there is no test.csv, so no submission is written" in said and "24 training rows, 0 test rows" in said


def test_the_test_is_answered_later_without_training_again(trained, copied):
    before = attempts(copied)
    put_back(Path(copied.data_dir), trained.top / "kept")
    outcome, said = said_by(run, copied)
    assert attempts(copied) == before and said.count("already trained") == 2
    project = open_project(copied)
    assert outcome.submission == project.paths.outputs / "submission_ensemble.csv"
    assert not validate_submission(outcome.submission, *read_form(project)).problems
    assert outcome.metrics.overall.accuracy == trained.outcome.metrics.overall.accuracy


def test_predict_and_report_answer_it_too(trained, copied):
    before = attempts(copied)
    put_back(Path(copied.data_dir), trained.top / "kept")
    said_by(predict_only, copied)
    outcome, _ = said_by(report_only, copied)
    assert attempts(copied) == before and outcome.submission is not None
    assert not validate_submission(outcome.submission, *read_form(open_project(copied))).problems


def test_a_second_run_without_it_does_nothing_again(trained, copied):
    outcome, said = said_by(run, copied)
    assert said.count("already trained") == said.count("already scored") == 2
    assert outcome.accuracy == trained.outcome.accuracy


@pytest.mark.nightly
def test_within_a_time_budget(trained, tmp_path):
    """What fits is planned from training rows where there are no others."""
    config = trained.config.replace(output_dir=str(tmp_path), time_budget="10m", use_tta=True)
    outcome, said = said_by(run, config)
    assert outcome.submission is None and "time budget" in said
    assert read_json(tmp_path / "experiments/r/data.json")["test_rows"] == 0


@pytest.mark.nightly
def test_the_other_members_of_an_ensemble(trained, copied, tmp_path):
    """The prior and another run have out-of-fold scores; a friend's file speaks of test rows only, and waits for them."""
    (tmp_path / "friend.csv").write_text("id,answer\ntest_0000,a\n")
    other = copied.replace(run_name="other", seed=7)
    said_by(run, other)
    outcome, said = said_by(run, copied.replace(members=("prior", "other", str(tmp_path / "friend.csv"))))
    assert outcome.submission is None and "members: r (2 folds), prior, other" in said


def test_a_test_file_of_another_name_is_no_missing_one(tmp_path):
    data = make_dataset(tmp_path / "data")
    (data / "test.csv").rename(data / "test (1).csv")
    with pytest.raises(DataError, match=r"has no test\.csv\. There is 'test \(1\)\.csv': the file name is not recognized"):
        read_data(open_project(tiny_settings(tmp_path / "out", data_dir=str(data))))


def test_validate_asks_for_it(tmp_path):
    data = without_test(tmp_path / "data", tmp_path / "kept")
    with pytest.raises(DataError, match=r"has no test\.csv"):
        read_form(open_project(tiny_settings(tmp_path / "out", data_dir=str(data))))


# %% nothing that is trained depends on test rows
def keys_of(config: Config) -> tuple[Project, RunData, list[str]]:
    project = open_project(config)
    data = split_rows(read_data(project), config)
    return project, data, [train_task(project, data, fold).key for fold in range(2)]


def linked_by_a_test_photograph(data: Path) -> None:
    """Two training photographs that look like a test photograph each, and less like one another."""
    steps = [np.full((64, 64, 3), 120, np.int16) for _ in range(3)]
    for shade, pixels in enumerate(steps):
        pixels[:32] += 40
        pixels[:, 20:44] -= 30
        pixels[8:16, 8:16] += 18 * shade
    for name, pixels in zip(("train/train_0000", "test/test_0000", "train/train_0001"), steps, strict=True):
        (data / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(data / f"{name}.jpg", quality=95)


def with_bare_names(data: Path) -> None:
    """Both splits name their photographs alike, each in a folder of its own."""
    for split in ("train", "test"):
        for file in (data / split).glob("*.jpg"):
            file.rename(file.with_name(file.name.removeprefix(f"{split}_")))
        table = data / f"{split}.csv"
        table.write_text(table.read_text(encoding="utf-8").replace(f"{split}/{split}_", ""), encoding="utf-8")


@pytest.mark.parametrize("change", [lambda data: None, linked_by_a_test_photograph, with_bare_names])
def test_weights_do_not_depend_on_test_rows(tmp_path, change):
    data, kept = make_dataset(tmp_path / "data"), tmp_path / "kept"
    change(data)
    config = tiny_settings(tmp_path / "out", data_dir=str(data), n_folds=2, run_name="r")
    _, together, with_test = keys_of(config)
    kept.mkdir()
    for name in LATER:
        shutil.move(data / name, kept / name)
    project, alone, without = keys_of(config)
    assert len(together.test) == 9 and not alone.test
    assert with_test == without and weights_key(project, together, 0) == weights_key(project, alone, 0)
    if change is linked_by_a_test_photograph:
        groups = [together.image_groups[f"train/train_{i:04d}.jpg"] for i in range(2)]
        assert groups[0] == groups[1], "the test photograph links them, which the exploration shows"
        assert together.groups[0] != together.groups[1]


def test_steps_in_the_notebook_need_no_test_rows(tmp_path):
    """The cells call the steps one by one."""
    data = without_test(tmp_path / "data", tmp_path / "kept")
    project = open_project(tiny_settings(tmp_path / "out", data_dir=str(data), n_folds=2))
    (found, prior), said = said_by(explore_data, project)
    assert "first submission" not in said and len(prior.test_logprobs) == 0
    assert (make_folds(project, found, prior).folds >= 0).all()
